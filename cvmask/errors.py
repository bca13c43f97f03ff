"""The exceptions of cvmask. Every message is one line that names the thing and the cure."""

from __future__ import annotations


class CvmaskError(Exception):
    """An error that a user can correct; the command line prints it as one line and exits with 1."""


class ModelError(CvmaskError):
    """A model file that is missing, damaged, of another kind, or that does not fit its text graph."""


class TargetError(CvmaskError):
    """A target that is unknown, or that was required with strict_target and does not run here."""


class SourceError(CvmaskError):
    """A picture, video, camera or stream that cannot be opened or read."""


class SinkError(CvmaskError):
    """An output that cannot be written."""


# What each extra installs. Messages name these packages and not the extra: pip would put opencv-python over
# opencv-python-headless for `pip install 'cvmask[av]'`, and a copied folder has no extras to install.
_PACKAGES = {
    "av": "av",
    "eval": "pycocotools",
    "heif": "pillow pillow-heif",
    "onnxruntime": "onnxruntime",
    "pillow": "pillow",
    "progress": "tqdm",
    "ray": "'ray[client,data]' pyarrow",
    "serve": "fastapi uvicorn websockets python-multipart",
    "supervision": "supervision",
    "text": "pillow",
    "virtualcam": "pyvirtualcam",
}


def install(extra: str) -> str:
    """Give the command that installs the packages of an extra: "pip install av"."""
    return f"pip install {_PACKAGES[extra]}"
