"""Where frames come from: pictures, videos, cameras, streams."""

from __future__ import annotations

from cvmask.sources.base import Frame, Source
from cvmask.sources.images import Images, find_images, read_image
from cvmask.sources.video import Video

__all__ = ["Frame", "Images", "Source", "Video", "find_images", "read_image"]
