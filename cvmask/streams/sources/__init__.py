"""Where frames come from: pictures, videos, cameras, streams."""

from __future__ import annotations

from cvmask.streams.sources.image_source import Images, find_images, read_image
from cvmask.streams.sources.live import Camera, Newest
from cvmask.streams.sources.opening import open_source
from cvmask.streams.sources.source import Frame, Source
from cvmask.streams.sources.video_source import Video

__all__ = [
    "Camera",
    "Frame",
    "Images",
    "Newest",
    "Source",
    "Video",
    "find_images",
    "open_source",
    "read_image",
]
