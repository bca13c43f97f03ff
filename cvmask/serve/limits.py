"""Limits for clients."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True)
class Limits:
    """Limits for clients; a request beyond one gets an error that names it.

    One client may have half of the connections, cameras, queue, clips and held bytes, and at least one.

    Attributes
    ----------
    picture_bytes, clip_bytes
        Size of an upload.
    pixels
        Pixels of a picture or a frame, as its header states them; checked before decoding.
    clip_frames
        Frames of a clip.
    connections
        Open at the same time, those of the live page included.
    cameras
        Browsers that show their own camera at the same time.
    order_bytes, frame_bytes
        Size of a WebSocket message: an order of the page, a picture of a browser's camera.
    queue
        Pictures that wait for a worker.
    clips
        Clips that are being sent, waiting or processed.
    held_bytes
        Bytes of all pictures that are being sent, waiting or processed, and of WebSocket messages.
    head_s, body_s, clip_s, answer_s
        Seconds that a client may take to send the head of a request, its body or the body of a clip, and to
        receive a part of the answer.
    work_s
        Seconds that a picture may take from arrival to answer.
    kept_s, kept_clips
        For how many seconds the results of a clip are kept, and for how many of the latest clips.
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
