"""How much anybody on the network may ask for."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True)
class Limits:
    """How much anybody on the network may ask for; beyond it the answer is an error that says so.

    One client may have half of the connections, cameras, queue, clips and held bytes, and at least one.

    Attributes
    ----------
    picture_bytes, clip_bytes
        Of an upload, in bytes.
    pixels
        Of a picture or of a frame, as its header states them: looked at before decoding.
    clip_frames
        Of a clip.
    connections
        Open at the same time, those of the live page included.
    cameras
        Browsers that show their own camera at the same time.
    order_bytes, frame_bytes
        Of a WebSocket message: an order of the page, a picture of a browser's camera.
    queue
        Pictures that wait for a worker.
    clips
        Clips that are sent, wait or are worked on.
    held_bytes
        Of all pictures together that are being sent, wait or are worked on, and of WebSocket messages.
    head_s, body_s, clip_s, answer_s
        Seconds that a client may take for the head of a request, for its body, for that of a clip, and
        to take a part of the answer.
    work_s
        Seconds that a picture may take from arrival to answer.
    kept_s, kept_clips
        Seconds that the results of a clip can be downloaded, and of how many clips: those that came last.
    lost_s
        Seconds without a frame after which the page says that the source is lost.
    recording_s
        Length of a recording; it is finished then.
    """

    picture_bytes: int = 32 << 20
    clip_bytes: int = 512 << 20
    held_bytes: int = 256 << 20
    order_bytes: int = 16 << 10
    frame_bytes: int = 2 << 20
    pixels: int = 40_000_000
    clip_frames: int = 50_000
    connections: int = 100
    cameras: int = 4
    queue: int = 64
    clips: int = 4
    head_s: float = 10.0
    body_s: float = 60.0
    clip_s: float = 600.0
    answer_s: float = 30.0
    work_s: float = 60.0
    kept_s: float = 1800.0
    kept_clips: int = 8
    lost_s: float = 2.5
    recording_s: float = 1800.0
