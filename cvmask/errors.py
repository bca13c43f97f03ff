"""What can go wrong, in five classes. Every message is one line that names the thing and the cure."""

from __future__ import annotations


class CvmaskError(Exception):
    """Anything that a user can mend: the command line prints it as one line and exits with 1."""


class ModelError(CvmaskError):
    """A model file that is missing, damaged, of another kind, or that does not fit its text graph."""


class TargetError(CvmaskError):
    """A target that is unknown, or that strict_target asked for and that does not run here."""


class SourceError(CvmaskError):
    """A picture, video, camera or stream that cannot be opened or read."""


class SinkError(CvmaskError):
    """An output that cannot be written."""
