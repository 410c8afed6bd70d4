"""Results as a video: labels without loss, colors and overlays to look at.

The file is an MP4 of fragments. What was written plays at any moment, also if a full disk or a
kill ends the rest. Time stamps are those of the source, exactly.
"""

from __future__ import annotations

import contextlib
import io
from dataclasses import replace
from fractions import Fraction
from pathlib import Path
from typing import Any, Final

import numpy as np
from numpy.typing import NDArray

from fcnkit.runtime.artifacts.spec import ModelSpec
from fcnkit.runtime.pixels.palette import decode
from fcnkit.runtime.pixels.prediction import Prediction
from fcnkit.runtime.predict.outputs import Format
from fcnkit.runtime.predict.overlays import OverlayRows, OverlayStyle
from fcnkit.runtime.predict.video_in import load_av

__all__ = ["EXACT", "VIDEO_SUFFIX", "VideoOutput", "cut_to_whole", "is_whole_video"]

VIDEO_SUFFIX: Final = ".mp4"
"""Ending of results that are videos."""

EXACT: Final = ("labels", "confidence")
"""Formats whose numbers are kept without loss."""

_FLAGS: Final = "frag_keyframe+delay_moov+frag_discont"
"""A fragment per key frame. Without the other two the muxer moves the first time stamp to 0."""

_GROUP: Final = 30
"""Frames from one key frame to the next, of colors and overlays."""

_VIEWED: Final = {"crf": "18", "preset": "veryfast", "bf": "0", "g": str(_GROUP)}
"""Options of H.264: hardly any loss that the eye sees, and no frame refers to a later one."""


class VideoOutput:
    """A video that is written frame by frame."""

    def __init__(
        self,
        path: Path,
        size: tuple[int, int],
        spec: ModelSpec,
        *,
        format: Format,
        style: OverlayStyle | None,
        rate: int,
        aspect: Fraction | None,
    ) -> None:
        """Begin a video.

        Args:
            path: The file to make.
            size: Height and width of the frames.
            spec: The model's promises; its palette is used.
            format: Any but ``npy``.
            style: Of an overlay; None for the default.
            rate: Ticks of a second.
            aspect: Width of a pixel by its height; None where they are equal.

        Raises:
            MissingExtraError: PyAV is not installed.
            OSError: The file cannot be made.
        """
        av = self._av = load_av(f"the video {path.name}")
        self._spec, self._format = spec, format
        self._base = Fraction(1, rate)
        self._file = _Kept(path.open("wb", buffering=0))
        options = {"movflags": _FLAGS, "video_track_timescale": str(rate)}
        self._container = av.open(self._file, "w", format="mp4", options=options)
        codec, coding = ("ffv1", {"level": "3"}) if format in EXACT else ("libx264", _VIEWED)
        self._stream = self._container.add_stream(codec, options=coding)
        context = self._stream.codec_context
        self._style = replace(style or OverlayStyle(), legend=False)
        self._legend: OverlayRows | None = None
        height, width = size
        if format == "overlay":
            self._legend = OverlayRows(width, spec, style or OverlayStyle())
            height, width = height + len(self._legend.legend), self._legend.width
        self.is_padded = format not in EXACT and bool(height % 2 or width % 2)
        """Whether odd sides are one pixel longer."""
        if format in EXACT:
            context.pix_fmt = "gray"
        else:
            context.pix_fmt = "yuv420p"
            height, width = height + height % 2, width + width % 2
            context.colorspace = context.color_primaries = context.color_trc = 1  # BT.709
            context.color_range = 1
        context.height, context.width = height, width
        context.time_base = self._stream.time_base = self._base
        if aspect is not None:
            context.sample_aspect_ratio = self._stream.sample_aspect_ratio = aspect
        self.frames = 0

    def write(self, image_hwc: NDArray[np.uint8], rows: Prediction, ticks: int) -> None:
        """Add a frame.

        Args:
            image_hwc: RGB (H, W, 3).
            rows: Its labels (H, W), and the confidence for that format.
            ticks: Its time stamp, later than those before.

        Raises:
            OSError: It cannot be written.
        """
        frame = self._frame(image_hwc, rows)
        frame.pts, frame.time_base = ticks, self._base
        self._put(frame)
        self.frames += 1

    def _frame(self, image_hwc: NDArray[np.uint8], rows: Prediction) -> Any:
        make = self._av.VideoFrame.from_ndarray
        labels_hw = np.ascontiguousarray(rows.labels)
        if self._format in EXACT:
            shown = labels_hw if self._format == "labels" else rows.confidence
            assert shown is not None  # computed for that format
            return make(np.ascontiguousarray(shown), format="gray")
        if self._format == "color":
            shown = decode(labels_hw, self._spec.palette)
        else:
            shown = self._overlay(image_hwc, labels_hw)
        height, width = shown.shape[:2]
        if height % 2 or width % 2:  # colors are stored for 2x2 pixels
            shown = np.pad(shown, ((0, height % 2), (0, width % 2), (0, 0)), "edge")
        frame = make(shown, format="rgb24")
        return frame.reformat(format="yuv420p", dst_colorspace="ITU709", dst_color_range="MPEG")

    def _overlay(
        self, image_hwc: NDArray[np.uint8], labels_hw: NDArray[np.uint8]
    ) -> NDArray[np.uint8]:
        legend = self._legend
        assert legend is not None  # made for that format
        # New for each frame: outlines begin again at its first row.
        drawn = OverlayRows(labels_hw.shape[1], self._spec, self._style)
        shown = drawn.draw(image_hwc, labels_hw)
        wider = legend.width - shown.shape[1]
        shown = np.pad(shown, ((0, 0), (0, wider), (0, 0)), constant_values=255)
        return np.concatenate([shown, legend.legend])

    def _put(self, frame: Any) -> None:
        try:
            for packet in self._stream.encode(frame):
                self._container.mux(packet)
        finally:
            self._file.check()

    def close(self) -> None:
        """End the file.

        Raises:
            OSError: The rest cannot be written.
        """
        self._put(None)
        self._container.close()
        self._file.close()
        self._file.check()

    def abandon(self) -> None:
        """End the file after a failure: what was written stays and plays."""
        with contextlib.suppress(Exception):
            self._container.close()
        with contextlib.suppress(OSError):
            self._file.close()


class _Kept:
    """A file that remembers why it could not be written, and writes nothing more then.

    FFmpeg calls it from its own code, where errors of Python are lost or change their kind.
    """

    def __init__(self, file: io.FileIO) -> None:
        self._file, self.name = file, file.name
        self._error: OSError | None = None

    def write(self, content: bytes) -> int:
        left = memoryview(content)
        try:
            while left and self._error is None:
                left = left[self._file.write(left) :]
        except OSError as error:
            self._error = error
        return len(content)

    def seek(self, offset: int, whence: int = 0) -> int:
        return self._file.seek(offset, whence)

    def tell(self) -> int:
        return self._file.tell()

    def check(self) -> None:
        """Raise what went wrong, if anything did."""
        if self._error is not None:
            raise self._error

    def close(self) -> None:
        self._file.close()


def cut_to_whole(path: Path) -> int:
    """Cut a file that could not be written further after its last whole fragment.

    Args:
        path: A file of ``VideoOutput``.

    Returns:
        Bytes that are left; 0 where nothing in it plays.
    """
    size, end, at, kinds = path.stat().st_size, 0, 0, set[bytes]()
    with path.open("r+b") as file:
        while at + 8 <= size:
            file.seek(at)
            head = file.read(8)
            length, kind = int.from_bytes(head[:4], "big"), head[4:]
            if length < 8 or at + length > size:
                break
            at += length
            kinds.add(kind)
            if kind == b"mdat" and b"moov" in kinds:
                end = at
        file.truncate(end)
    return end


def is_whole_video(path: Path, size: tuple[int, int]) -> bool:
    """Whether a result can be opened as a video of frames of a size.

    Args:
        path: A file that ``VideoOutput`` made, or anything else.
        size: Height and width of the frames at least: a legend or an odd side adds to it.
    """
    av = load_av(f"the video {path}")
    try:
        with av.open(f"file:{path}", options={"protocol_whitelist": "file"}) as container:
            context = container.streams.video[0].codec_context
            return bool(context.height >= size[0] and context.width >= size[1])
    except (av.error.FFmpegError, IndexError, UnicodeError):
        return False
