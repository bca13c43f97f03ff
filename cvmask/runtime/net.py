"""Loads and runs networks in OpenCV 4 and 5. Only this module knows how they differ."""

from __future__ import annotations

import os
import re
from collections.abc import Mapping, Sequence
from typing import Any, cast

import cv2
import numpy as np
from numpy.typing import NDArray

from cvmask.errors import ModelError

# These versions keep the paddings and the algorithm of each convolution's first run for all later sizes.
# "SAME" padding depends on the size, so results of a network that first saw another size can be clearly wrong.
KEEPS_FIRST_RUN = tuple(int(number) for number in re.findall(r"\d+", cv2.__version__)[:2]) < (4, 13)
_FORCED = "OPENCV_FORCE_DNN_ENGINE"  # takes precedence over `engine=`


class Net:
    """A network in cv2.dnn with named inputs and outputs. Not safe from several threads.

    Parameters
    ----------
    graph
        The bytes of a binary GraphDef, shape (n,). Several nets may share them.
    text
        The text graph that picks nodes from it.
    outputs
        Names of the outputs of `forward`, in this order.
    origin
        Name of the model in messages.

    Raises
    ------
    ModelError
        If OpenCV cannot load it.
    """

    def __init__(self, graph: NDArray[np.uint8], text: str, outputs: Sequence[str], origin: str) -> None:
        if not text.strip() or not graph.size:  # OpenCV 5.0 crashes the process on an empty text graph
            raise ModelError(f"{origin}: the {'graph' if text.strip() else 'text graph'} is empty")
        if not _has_importer():
            lack = missing_importer() or f"OpenCV {cv2.__version__} has no TensorFlow importer"
            raise ModelError(f"{origin}: {lack}")
        self._outputs = list(outputs)
        self._origin = origin
        try:
            self.cv = cv2.dnn.readNetFromTensorflow(
                graph, np.frombuffer(text.encode(), np.uint8), **_engine()
            )
        except cv2.error as error:
            raise self._model_error(error) from None

    def forward(self, inputs: Mapping[str, NDArray[np.float32]]) -> list[NDArray[np.float32]]:
        """Run once: one fresh array for each output.

        Raises
        ------
        ModelError
            If OpenCV cannot run the network.
        """
        try:
            for name, blob in inputs.items():
                self.cv.setInput(blob, name)
            return cast("list[NDArray[np.float32]]", list(self.cv.forward(self._outputs)))
        except cv2.error as error:
            raise self._model_error(error) from None

    def _model_error(self, error: cv2.error) -> ModelError:
        if _engine() and _FORCED in os.environ:
            return ModelError(
                f"{self._origin}: OpenCV {cv2.__version__} cannot run this model with the engine that "
                f"{_FORCED}={os.environ[_FORCED]} requests: remove it from the environment"
            )
        return ModelError(f"{self._origin}: OpenCV {cv2.__version__} cannot run this model: {reason(error)}")


class OnnxNet:
    """An ONNX network in OpenCV 5's engine with named inputs and outputs, on the CPU. Not safe from several threads.

    Parameters
    ----------
    model
        The bytes of the ONNX model.
    outputs
        Names of the outputs of `forward`, in this order.
    origin
        Name of the model in messages.

    Raises
    ------
    ModelError
        If OpenCV cannot load it.
    """

    def __init__(self, model: bytes, outputs: Sequence[str], origin: str) -> None:
        self._outputs, self._origin = list(outputs), origin
        try:
            self.cv = cv2.dnn.readNetFromONNX(np.frombuffer(model, np.uint8))
        except cv2.error as error:
            raise self._model_error(error) from None

    def forward(self, inputs: Mapping[str, NDArray[np.float32]]) -> list[NDArray[np.float32]]:
        """Run once: one fresh array for each output. ModelError if OpenCV cannot run the network."""
        try:
            for name, blob in inputs.items():
                self.cv.setInput(blob, name)
            return cast("list[NDArray[np.float32]]", list(self.cv.forward(self._outputs)))
        except cv2.error as error:
            raise self._model_error(error) from None

    def _model_error(self, error: cv2.error) -> ModelError:
        return ModelError(f"{self._origin}: OpenCV {cv2.__version__} cannot run this model as ONNX: {reason(error)}")


class OnnxRuntimeNet:
    """Like `OnnxNet`, run by the package onnxruntime, on the CPU, with as many threads as OpenCV has.

    Raises
    ------
    ModelError
        If ONNX Runtime cannot be imported, or cannot load the network.
    """

    def __init__(self, model: bytes, outputs: Sequence[str], origin: str) -> None:
        self._model, self._outputs, self._origin = model, list(outputs), origin
        self._open()

    def _open(self) -> None:
        self._threads = cv2.getNumThreads()
        try:
            import onnxruntime  # takes a while, and is an extra

            options = onnxruntime.SessionOptions()
            options.intra_op_num_threads = max(1, self._threads)
            options.log_severity_level = 3
            # There are three networks: the threads of one must not keep a core busy while another one runs.
            options.add_session_config_entry("session.intra_op.allow_spinning", "0")
            self._session = onnxruntime.InferenceSession(self._model, options, providers=["CPUExecutionProvider"])
        except Exception as error:  # its exceptions have no class in common
            raise self._model_error(error) from None

    def forward(self, inputs: Mapping[str, NDArray[np.float32]]) -> list[NDArray[np.float32]]:
        """Run once: one fresh array for each output. ModelError if ONNX Runtime cannot run the network."""
        if self._threads != cv2.getNumThreads():  # a session keeps the number that it was made with
            self._open()
        try:
            return cast("list[NDArray[np.float32]]", self._session.run(self._outputs, dict(inputs)))
        except Exception as error:
            raise self._model_error(error) from None

    def _model_error(self, error: Exception) -> ModelError:
        return ModelError(f"{self._origin}: ONNX Runtime cannot run this model: {' '.join(str(error).split())}")


ENGINES = ("auto", "importer", "onnx")
ENGINE_SETTING = "CVMASK_ENGINE"


def engine() -> str:
    """Return what runs frozen graphs: OpenCV's TensorFlow "importer", or networks written as "onnx".

    The importer is used if this OpenCV has it: it is as fast, and runs on OpenCL. The environment variable
    ``CVMASK_ENGINE`` (auto, importer, onnx) selects one.

    Raises
    ------
    ModelError
        If the variable is invalid, or this OpenCV supports neither the selected engine nor any.
    """
    wanted = os.environ.get(ENGINE_SETTING, "auto")
    if wanted not in ENGINES:
        raise ModelError(f"{ENGINE_SETTING} is {wanted!r}: needed one of {', '.join(ENGINES)}")
    if wanted == "onnx" and not _has_onnx():
        raise ModelError(
            f"{ENGINE_SETTING}=onnx: OpenCV {cv2.__version__} cannot run these networks, 5.0 and newer can: unset it"
        )
    if wanted == "importer" and not _has_importer():
        raise ModelError(f"{ENGINE_SETTING}=importer: OpenCV {cv2.__version__} has no TensorFlow importer: unset it")
    if lack := missing_importer():
        raise ModelError(lack)
    return wanted if wanted != "auto" else "importer" if _has_importer() else "onnx"


def kept_text(keep: bool, target: str = "cpu") -> tuple[bool, str]:
    """Whether a text graph that contradicts the frozen graph runs as it is, if that is asked for; why not."""
    if not keep or (engine() == "importer" and target != "onnxruntime"):
        return keep, ""
    return False, (
        "the text graph cannot be kept: ONNX networks are made from the frozen graph, "
        "and only OpenCV's TensorFlow importer runs a text graph as it is"
    )


def engine_text() -> str:
    """Describe what runs frozen graphs here, or why nothing does."""
    try:
        return {"importer": "OpenCV's TensorFlow importer", "onnx": "ONNX networks made from them"}[engine()]
    except ModelError as error:
        return f"nothing: {error}"


def missing_importer() -> str:
    """Return why this OpenCV can run TensorFlow graphs neither itself nor as ONNX, with the cure; "" if it can.

    OpenCV announced that releases after 5.0 drop the TensorFlow importer and the engine that runs it.
    """
    if _has_importer() or _has_onnx():
        return ""
    return f"OpenCV {cv2.__version__} cannot load TensorFlow graphs: {install_opencv()}"


WHEELS = ("opencv-python", "opencv-python-headless", "opencv-contrib-python", "opencv-contrib-python-headless")


def installed_wheels() -> dict[str, str]:
    """Give the wheels of OpenCV that are installed, and their versions; they share one folder."""
    from importlib import metadata  # takes 20 ms to import, and few ask

    return {name: metadata.version(name) for name in WHEELS if any(metadata.distributions(name=name))}


def install_opencv() -> str:
    """Give the command that installs an OpenCV that runs here: of the kind that is installed."""
    return f"pip install '{next(iter(installed_wheels()), WHEELS[0])}>=4.8,<5.1'"


def _has_importer() -> bool:
    dnn = getattr(cv2, "dnn", None)
    only_new_engine = hasattr(dnn, "ENGINE_NEW") and not hasattr(dnn, "ENGINE_CLASSIC")
    return hasattr(dnn, "readNetFromTensorflow") and not only_new_engine


def _has_onnx() -> bool:
    """Return True for the engine of OpenCV 5: that of 4 lacks dynamic sizes, and RoiAlign in these modes."""
    dnn = getattr(cv2, "dnn", None)
    return hasattr(dnn, "ENGINE_NEW") and hasattr(dnn, "readNetFromONNX")


def reason(error: cv2.error) -> str:
    """Return the message of an OpenCV exception, without its source file, code and function."""
    text = " ".join(str(error).split())
    text = re.sub(r"^OpenCV\([^)]*\) \S+ error: \([^)]*\) ", "", text)
    return re.sub(r" in function '[^']*'$", "", text)


def _engine() -> dict[str, Any]:
    # OpenCV 5's new engine runs on the CPU only, gives other buffers than those asked for and is slower.
    classic = getattr(cv2.dnn, "ENGINE_CLASSIC", None)
    return {} if classic is None else {"engine": classic}
