"""Small clips of every kind, written with PyAV."""

from __future__ import annotations

from collections.abc import Sequence
from fractions import Fraction
from pathlib import Path

import av
import numpy as np
from numpy.typing import NDArray

RATE = Fraction(1, 15360)
"""Time base of the clips."""


def drawn(number: int, size: tuple[int, int]) -> NDArray[np.uint8]:
    """A smooth frame that differs from the others."""
    y, x = np.mgrid[: size[0], : size[1]]
    planes = (y * 5 + number * 9, x * 4 + number * 7, (x + y) * 3 + number * 11)
    return np.stack([plane % 256 for plane in planes], axis=2).astype(np.uint8)


def write_clip(
    path: Path,
    count: int = 12,
    size: tuple[int, int] = (40, 64),
    *,
    ticks: Sequence[int] | None = None,
    codec: str = "libx264",
    pixels: str = "yuv420p",
    degrees: int = 0,
    sound: bool = False,
    options: dict[str, str] | None = None,
) -> Path:
    """Write a clip of drawn frames; ``ticks`` are their time stamps, 30 per second by default."""
    with av.open(str(path), "w", options=options or {}) as out:
        stream = out.add_stream(codec, rate=30)
        context = stream.codec_context
        context.height, context.width, context.pix_fmt = *size, pixels
        context.time_base = stream.time_base = RATE
        if degrees:
            stream.set_display_rotation(degrees)
        noise = out.add_stream("aac", rate=16000) if sound else None
        for number in range(count):
            frame = av.VideoFrame.from_ndarray(drawn(number, size), format="rgb24")
            frame.pts, frame.time_base = ticks[number] if ticks else 512 * number, RATE
            out.mux(stream.encode(frame))
        out.mux(stream.encode(None))
        if noise is not None:
            silence = np.zeros((1, 1024), np.float32)
            for number in range(8):
                block = av.AudioFrame.from_ndarray(silence, format="fltp", layout="mono")
                block.sample_rate, block.pts = 16000, 1024 * number
                out.mux(noise.encode(block))
            out.mux(noise.encode(None))
    return path


def write_sound(path: Path) -> Path:
    """Write a file of sound alone."""
    with av.open(str(path), "w") as out:
        noise = out.add_stream("aac", rate=16000)
        for number in range(8):
            silence = np.zeros((1, 1024), np.float32)
            block = av.AudioFrame.from_ndarray(silence, format="fltp", layout="mono")
            block.sample_rate, block.pts = 16000, 1024 * number
            out.mux(noise.encode(block))
        out.mux(noise.encode(None))
    return path


def frames_in(path: Path) -> tuple[list[NDArray[np.uint8]], list[Fraction]]:
    """Return the frames of a clip as RGB, as they are stored, and their times in seconds."""
    with av.open(str(path)) as clip:
        frames = list(clip.decode(video=0))
        times = [frame.pts * frame.time_base for frame in frames]
        return [frame.to_ndarray(format="rgb24") for frame in frames], times


def labels_in(path: Path) -> tuple[list[NDArray[np.uint8]], list[Fraction]]:
    """Return the frames of a label video, and their times in seconds."""
    with av.open(str(path)) as clip:
        frames = list(clip.decode(video=0))
        assert {frame.format.name for frame in frames} <= {"gray"}
        times = [frame.pts * frame.time_base for frame in frames]
        return [frame.to_ndarray() for frame in frames], times
