"""The lines of the manifest that tell of videos."""

from __future__ import annotations

from dataclasses import dataclass

from fcnkit.runtime.predict.manifest import Record

__all__ = ["FrameRecord", "VideoRecord"]


@dataclass(kw_only=True)
class FrameRecord(Record):
    """What became of one frame of a video, where each has an image."""

    frame: int
    """Its number, from 0."""
    seconds: float
    """Its time stamp."""


@dataclass(kw_only=True)
class VideoRecord(Record):
    """What became of a video, or of what a camera showed."""

    frames: int
    """Frames that have labels."""
    dropped: int
    """Frames of a camera that came while others were labeled."""
    seconds: float | None
    """From the first labeled frame to the last; None where there is none."""
    notes: tuple[str, ...]
    """What of the video the result does not keep."""
