"""What goes in and out over HTTP, for the OpenAPI."""

from typing import Any, Literal, Optional

from pydantic import BaseModel, ConfigDict, Field

from cvmask.results.classes import split_names
from cvmask.serve.view import EFFECT_NAMES, Controls
from cvmask.streams.follow import Every

_STAR: dict[str, Any] = {
    "class_id": 3,
    "label": "star",
    "score": 0.9871,
    "box": [12.5, 40.25, 80.0, 110.75],
    "rle": {"size": [480, 640], "counts": "ZQ64T>5N2N3M2O0O1"},
}
FOUND: dict[str, Any] = {
    "width": 640,
    "height": 480,
    "score_threshold": 0.5,
    "mask_threshold": 0.5,
    "inference_ms": 34.1,
    "warnings": [],
    "detections": [_STAR],
}
CLIP: dict[str, Any] = {
    "id": "q1w2e3r4t5y6u7i8",
    "state": "working",
    "message": "",
    "frames": 17,
    "length": 250,
    "found": 51,
    "most": 4,
    "video_type": None,
    "video": None,
    "detections": None,
}


class Look(BaseModel):
    """Parameters of a request about pixels; what is left out is as the server was started."""

    model_config = ConfigDict(extra="forbid")

    score_threshold: Optional[float] = Field(None, ge=0, le=1, description="Keep detections with a higher score.")
    mask_threshold: Optional[float] = Field(None, ge=0, le=1, description="The edge of a mask in its soft values.")
    classes: Optional[str] = Field(
        None, max_length=2000, description="Names or ids to keep, with commas between.", examples=["0,1"]
    )
    opacity: Optional[float] = Field(None, ge=0, le=1, description="Of masks in the annotated picture.")
    color_by: Optional[Literal["class", "instance"]] = Field(None, description="Of the annotated picture.")
    effect: Optional[str] = Field(
        None,
        description="Of the annotated picture, in place of drawing.",
        json_schema_extra={"enum": list(EFFECT_NAMES)},
    )
    shown_width: Optional[int] = Field(
        None, ge=50, le=10_000, description="Pixels that the annotated picture gets on a screen: labels fit that."
    )

    def controls(self, base: Controls, labels: tuple[str, ...]) -> Controls:
        """Give `base` with what was asked for; ValueError names what is wrong."""
        fields: dict[str, Any] = {
            name: getattr(self, name)
            for name in ("score_threshold", "mask_threshold", "opacity", "color_by", "effect")
            if getattr(self, name) is not None
        }
        if self.classes is not None:
            if not self.classes.replace(",", "").strip():
                raise ValueError("classes needs names or ids with commas between, got none")
            fields["classes"] = split_names(self.classes, labels)
        return base.changed(fields, labels)


class DetectQuery(Look):
    """Parameters of `POST /v1/detect`."""

    format: Literal["rle", "polygons", "none"] = Field("rle", description="How the JSON gives masks.")


class ClipQuery(Look):
    """Parameters of `POST /v1/clips`."""

    detect_every: str = Field(
        "1",
        pattern="^(auto|[1-9]|[1-5][0-9]|60)$",
        description="Find objects in every N-th frame, 1 to 60, and carry them along the motion; auto: where needed.",
        examples=["5"],
    )

    @property
    def every(self) -> Every:
        """As `annotate` takes it."""
        return "auto" if self.detect_every == "auto" else int(self.detect_every)


class Rle(BaseModel):
    """COCO's compressed run-length encoding of a mask of the whole picture."""

    size: list[int] = Field(description="Height and width.", min_length=2, max_length=2)
    counts: str


class PolygonModel(BaseModel):
    """One connected part of a mask: rings of pixels, x and y."""

    outline: list[list[int]]
    holes: list[list[list[int]]]


class Found(BaseModel):
    """One object."""

    class_id: int = Field(description="0-based into the labels.")
    label: str
    score: float
    box: list[float] = Field(
        description="Left, top, right, bottom in pixels; right and bottom exclusive.", min_length=4, max_length=4
    )
    rle: Optional[Rle] = None
    polygons: Optional[list[PolygonModel]] = None


class Answer(BaseModel):
    """What was found in a picture, best first."""

    model_config = ConfigDict(json_schema_extra={"examples": [FOUND]})

    width: int
    height: int
    score_threshold: float
    mask_threshold: float
    inference_ms: float = Field(description="In the network, in milliseconds.")
    warnings: list[str] = Field(description="What is wrong or special with the picture.")
    detections: list[Found]


class ClipStatus(BaseModel):
    """How far a clip is."""

    model_config = ConfigDict(json_schema_extra={"examples": [CLIP]})

    id: str
    state: Literal["waiting", "working", "done", "failed"]
    message: str = Field(description="Why it failed, or what was wrong with it although it is done.")
    frames: int = Field(description="Frames that are done.")
    length: Optional[int] = Field(description="Frames that the file says it has.")
    found: int = Field(description="Objects in all frames together: one that is in ten frames counts ten times.")
    most: int = Field(description="Objects in the frame that has most of them.")
    video_type: Optional[str] = Field(description="Of the annotated video: video/mp4, or video/webm without PyAV.")
    video: Optional[str] = Field(description="Where the annotated video is, once it is done.")
    detections: Optional[str] = Field(description="Where the JSON lines are, once it is done.")


class Target(BaseModel):
    """Where the network runs."""

    requested: str
    effective: str
    device: str
    reason: str


class ModelInfo(BaseModel):
    """What runs here."""

    name: str
    cvmask: str
    opencv: str
    classes: int
    target: Target
    workers: int
    live: bool = Field(description="Whether the server has a source of its own.")
    controls: dict[str, Any] = Field(description="What requests get that do not say otherwise.")
    effects: list[str]
    limits: dict[str, float]


class ProblemModel(BaseModel):
    """An error (RFC 9457) with a cure."""

    model_config = ConfigDict(
        json_schema_extra={
            "examples": [
                {
                    "type": "about:blank",
                    "title": "Content Too Large",
                    "status": 413,
                    "detail": "20000x20000 pixels, the limit is 40000000",
                    "cure": "scale it down: the network works on a smaller one anyway",
                }
            ]
        }
    )

    type: str
    title: str
    status: int
    detail: str
    cure: str


def problems(*statuses: int) -> dict[Any, dict[str, Any]]:
    """Give the part of the OpenAPI for these errors."""
    texts = {
        400: "The request cannot be read.",
        401: "No token, or a wrong one.",
        403: "From a page of another origin.",
        404: "There is no such thing, or it is gone.",
        406: "Accept names nothing that there is.",
        408: "The body came too slowly.",
        413: "Too many bytes or pixels.",
        415: "Not of a kind that is read here.",
        421: "Called by a name that is not this server's.",
        422: "A parameter or the picture is wrong.",
        503: "Too much to do; Retry-After says when to try again.",
        504: "It took too long.",
    }
    content = {"application/problem+json": {"schema": {"$ref": "#/components/schemas/ProblemModel"}}}
    return {
        status: {"description": texts[status], "content": content} for status in sorted({401, 403, 421, 503, *statuses})
    }
