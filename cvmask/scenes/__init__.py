"""Made-up scenes of eight shapes with exact ground truth, still or moving.

The bundled model is trained on them, `cvmask demo` shows them, and the tests take their truth from
them. The same seed gives the same scene on every machine with the same NumPy and OpenCV.
"""

from cvmask.scenes.making import make_scene, moving_scene
from cvmask.scenes.outlines import LABELS
from cvmask.scenes.rendered import Scene
from cvmask.scenes.things import MAX_SIDE, MIN_SIDE

__all__ = ["LABELS", "MAX_SIDE", "MIN_SIDE", "Scene", "make_scene", "moving_scene"]
