"""Where frames come from: pictures, videos, cameras, streams."""

from __future__ import annotations

from cvmask.sources.base import Frame, Source
from cvmask.sources.camera import Camera
from cvmask.sources.images import Images, find_images, read_image
from cvmask.sources.newest import Newest
from cvmask.sources.opening import open_source
from cvmask.sources.video import Video

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
