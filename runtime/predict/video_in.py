"""Frames of video files, cameras and addresses, read with PyAV.

A frame comes as a player shows it: RGB, turned as the file says, with its time stamp.
"""

from __future__ import annotations

import os
import re
import sys
from collections.abc import Iterator
from dataclasses import dataclass
from fractions import Fraction
from pathlib import Path, PurePath
from typing import Any, Final

import numpy as np
from numpy.typing import NDArray

from fcnkit.errors import BadValueError, DataError, message, missing_extra, printable
from fcnkit.runtime.predict.urls import FILE, is_url

__all__ = [
    "VIDEO_SUFFIXES",
    "Frame",
    "VideoSource",
    "camera_of",
    "is_address",
    "is_video",
    "load_av",
    "name_of",
    "open_camera",
    "open_video",
    "safe_address",
    "upright",
]

VIDEO_SUFFIXES: Final = (
    ".3gp", ".asf", ".avi", ".flv", ".m2ts", ".m4v", ".mkv", ".mov", ".mp4", ".mpeg", ".mpg",
    ".mts", ".ogv", ".ts", ".webm", ".wmv",
)  # fmt: skip
"""Endings of the files that are taken for videos, in any case."""

_FORMATS: Final = "asf,avi,flv,matroska,webm,mov,mp4,m4a,3gp,3g2,mj2,mpeg,mpegts,mpegvideo,ogg"
"""FFmpeg's names of what such a file may hold, whatever its name says. FFmpeg also reads lists of
other files and addresses, which nobody expects from a video."""

_SCHEMES: Final = ("http", "https", "rtmp", "rtmps", "rtp", "rtsp", "rtsps", "srt", "tcp", "udp")
_NETWORK: Final = "crypto,http,httpproxy,https,rtmp,rtmps,rtp,rtsp,rtsps,srt,srtp,tcp,tls,udp"
"""What a stream of the network may open: no file of this machine."""

_PATIENCE: Final = (10.0, 10.0)
"""Seconds to wait for a camera or address: to open, and for data."""


@dataclass(frozen=True)
class Frame:
    """One frame of a video."""

    image_hwc: NDArray[np.uint8]
    """RGB (H, W, 3), upright, not used by anybody else."""
    ticks: int
    """Its time stamp, in parts of a second: ``1 / rate`` each, see ``VideoSource``."""


def is_video(path: PurePath | str) -> bool:
    """Whether a file is taken for a video: by its ending."""
    # Most files are pictures, and an ending is found faster in a string.
    ends = str(path).lower().endswith(VIDEO_SUFFIXES)
    return ends and PurePath(path).suffix.lower() in VIDEO_SUFFIXES


def is_address(text: str) -> bool:
    """Whether a string is an address such as ``rtsp://camera/stream``, not a path or an object."""
    if is_url(text) or text.startswith(FILE):
        return False
    return re.match(r"[a-zA-Z][a-zA-Z0-9+.-]+://", text) is not None


def safe_address(address: str) -> str:
    """Return an address without the name, password and query that may be in it."""
    scheme, _, rest = address.partition("://")
    host, slash, path = rest.partition("/")
    return f"{scheme}://{host.rpartition('@')[2]}{slash}{path.partition('?')[0]}"


def load_av(what: str) -> Any:
    """Import PyAV.

    Args:
        what: Who needs it, for the error.

    Raises:
        MissingExtraError: It is not installed.
    """
    try:
        import av
    except ImportError as error:
        raise missing_extra(what, "av", "video") from error
    return av


def open_video(path: Path) -> VideoSource:
    """Open a video file.

    Args:
        path: The file.

    Returns:
        The source; close it.

    Raises:
        MissingExtraError: PyAV is not installed.
        DataError: It is no video that can be read, or has no picture.
        OSError: It cannot be opened.
    """
    av = load_av(f"the video {path}")
    what = str(path)
    if not path.is_file():
        raise DataError(message(what, "must be a video file", "no such file", "check the path"))
    options = {"protocol_whitelist": "file", "format_whitelist": _FORMATS}
    try:
        # A name that looks like an address or a pattern would be taken for one.
        container = av.open(f"file:{path}", options=options)
    except (av.error.FFmpegError, UnicodeError) as error:
        remedy = "play it with another program, or convert it; an .mp4 that was cut off lost its "
        remedy += "index"
        raise DataError(message(what, "must be a video file", _reason(error), remedy)) from None
    return VideoSource(container, what, live=False)


def open_camera(source: int | str) -> VideoSource:
    """Open a camera of this machine or a stream of the network.

    Args:
        source: Number of a camera, from 0, or an address.

    Returns:
        The source; close it.

    Raises:
        MissingExtraError: PyAV is not installed.
        ValueError: The scheme of the address is unknown.
        DataError: It cannot be opened or has no picture.
    """
    if isinstance(source, int):
        what, (target, format) = f"camera {source}", _device(source)
        options, remedy = {}, "connect it, or try another number"
    else:
        what, target, format = safe_address(source), source, None
        if source.partition("://")[0].lower() not in _SCHEMES:
            rule = f"an address begins with {', '.join(_SCHEMES[:-1])} or {_SCHEMES[-1]}, then ://"
            raise BadValueError(message("live", rule, what, "write rtsp://HOST/STREAM, or a path"))
        options = {"protocol_whitelist": _NETWORK, "rtsp_transport": "tcp"}
        remedy = "check that the address plays in another program"
    av = load_av(what)
    try:
        container = av.open(target, format=format, options=options, timeout=_PATIENCE)
    except (av.error.FFmpegError, ValueError) as error:
        rule = "must be a camera or stream that can be opened"
        raise DataError(message(what, rule, _reason(error), remedy)) from None
    return VideoSource(container, what, live=True)


def _device(number: int) -> tuple[str, str]:
    """Return how FFmpeg names a camera, and the format that reads it."""
    if sys.platform == "darwin":
        return str(number), "avfoundation"
    if sys.platform == "win32":
        rule = "a camera has a number on Linux and macOS"
        remedy = "give segmenter.live an iterable of frames, such as those of OpenCV"
        raise BadValueError(message("live", rule, f"camera {number} on Windows", remedy))
    return f"/dev/video{number}", "v4l2"


def _reason(error: Exception) -> str:
    """Return why FFmpeg refuses, without the address, which may hold a password."""
    return str(getattr(error, "strerror", None) or error).lower()


class VideoSource:
    """An open video, camera or stream: gives its frames once."""

    def __init__(self, container: Any, what: str, *, live: bool) -> None:
        """Take an open container, which ``close`` closes.

        Raises:
            DataError: It has no picture.
        """
        self._container, self._what, self.is_live = container, what, live
        if not container.streams.video:
            sound = "sound alone" if container.streams.audio else "nothing that can be decoded"
            container.close()
            rule, remedy = "must hold pictures", "give a video"
            raise DataError(message(what, rule, sound, remedy))
        stream = self._stream = container.streams.video[0]
        stream.thread_type = "AUTO"
        self._base: Fraction = stream.time_base or Fraction(1, 90_000)
        # All of it now: once the container is closed, the stream must not be asked any more.
        self.rate = self._base.denominator
        """Ticks of a second."""
        self.stored_size: tuple[int, int] = (stream.height, stream.width)
        """Height and width of the frames as they are stored, before they are turned."""
        ratio = stream.sample_aspect_ratio
        self.aspect = None if not ratio or ratio == 1 else Fraction(ratio)
        """Width of a pixel by its height; None where they are equal or nothing is said."""
        self.expected: int | None = stream.frames or None
        """Frames that the file promises; None where it does not say."""
        self._promised = _promised_end(stream, self._base)
        self._last: Fraction | None = None
        self._length = Fraction(0)
        """How long the last frame is shown, in seconds; 0 where it is not said."""
        self._step = max(1, round(1 / (self._base * (stream.guessed_rate or 25))))
        self.has_sound = bool(container.streams.audio)
        self.frames = 0
        """Frames that were read so far."""
        self.damaged = 0
        """Packets and frames that could not be decoded so far."""
        self.guessed = 0
        """Frames without a time stamp, or with one that is not later than the frame before."""

    def read(self) -> Iterator[Frame]:
        """Yield the frames in the order they are shown, and close the source after the last.

        What cannot be decoded is counted.

        Raises:
            DataError: A frame is turned by no multiple of 90 degrees, or a live stream fails.
        """
        try:
            for decoded in self._decoded():
                image_hwc = upright(decoded.to_ndarray(format="rgb24"), self._matrix(decoded))
                self.frames += 1
                yield Frame(image_hwc, self._ticks(decoded))
        finally:
            self.close()

    def _decoded(self) -> Iterator[Any]:
        errors = load_av(self._what).error
        packets = self._container.demux(self._stream)
        while True:
            try:
                packet = next(packets, None)
                if packet is None:
                    return
                frames = [] if packet.is_corrupt and not self.is_live else packet.decode()
                self.damaged += packet.is_corrupt and not self.is_live
            except errors.InvalidDataError:
                self.damaged += 1
                continue
            except errors.FFmpegError as error:
                rule, remedy = "must give data", "check the connection"
                raise DataError(message(self._what, rule, _reason(error), remedy)) from None
            for frame in frames:
                self.damaged += frame.is_corrupt
                if not frame.is_corrupt:
                    yield frame

    def _matrix(self, decoded: Any) -> NDArray[np.int32] | None:
        from av.sidedata.sidedata import Type

        held = decoded.side_data.get(Type.DISPLAYMATRIX)
        if held is None:
            return None
        matrix = np.frombuffer(bytes(held), np.int32).reshape(3, 3)[:2, :2]
        turned = matrix != 0
        if not ((turned.sum(0) == 1).all() and (turned.sum(1) == 1).all()):
            rule = "a video is turned by multiples of 90 degrees"
            remedy = "turn it upright with a video editor"
            got = f"{decoded.rotation} degrees"
            raise DataError(message(self._what, rule, got, remedy))
        return matrix

    def _ticks(self, decoded: Any) -> int:
        """Return the time stamp, later than the one before."""
        numerator = self._base.numerator
        before = None if self._last is None else int(self._last * self.rate)
        least = 0 if before is None else before + 1
        if decoded.pts is None:
            ticks = 0 if before is None else before + self._step * numerator
        else:
            ticks = decoded.pts * numerator
        if decoded.pts is None or (before is not None and ticks < least):
            self.guessed += 1
            ticks = max(ticks, least)
        self._last = Fraction(ticks, self.rate)
        self._length = (decoded.duration or 0) * self._base
        return ticks

    def missing(self) -> str | None:
        """Say, after the last frame, what of the video could not be read; None if nothing."""
        found = []
        if self.damaged:
            found.append(f"{self.damaged} damaged parts")
        end, promised = self._end(), self._promised
        if end is not None and promised is not None:
            step = self._step * self._base
            if promised - end > max(Fraction(1, 10), step, self._length):
                found.append(f"an end after {float(end):.2f} of {float(promised):.2f} s")
        return " and ".join(found) or None

    def _end(self) -> Fraction | None:
        if self._last is None:
            return None
        return self._last + max(self._length, self._step * self._base)

    def close(self) -> None:
        """Close the file or camera; closing twice is fine."""
        self._container.close()


def upright(image_hwc: NDArray[np.uint8], matrix: NDArray[np.int32] | None) -> NDArray[np.uint8]:
    """Turn a frame as a player does.

    Args:
        image_hwc: (H, W, 3), as it is stored.
        matrix: (2, 2), one number of each row and column not 0; None leaves the frame as it is.
            A pixel (x, y) is shown at (x, y) times the matrix.

    Returns:
        (H, W, 3) or (W, H, 3), C-contiguous.
    """
    if matrix is None:
        return image_hwc
    if matrix[0, 0]:
        to_right, down = matrix[0, 0], matrix[1, 1]
    else:
        image_hwc = image_hwc.transpose(1, 0, 2)
        to_right, down = matrix[1, 0], matrix[0, 1]
    return np.ascontiguousarray(image_hwc[:: 1 if down > 0 else -1, :: 1 if to_right > 0 else -1])


def name_of(source: int | str) -> str:
    """Return a file name, without an ending, for what a camera or address shows."""
    if isinstance(source, int):
        return f"camera-{source}"
    rest = safe_address(source).partition("://")[2]
    return re.sub(r"[^A-Za-z0-9._-]+", "-", printable(rest)).strip("-.")[:80] or "stream"


def camera_of(text: str) -> int | str | None:
    """Return the camera or address that a word of the command line names; None for a path.

    Args:
        text: As typed. The name of a file that exists is a path, digits are a camera.
    """
    if os.path.lexists(text):
        return None
    if text.isascii() and text.isdigit() and len(text) < 4:
        return int(text)
    return text if is_address(text) else None


def _promised_end(stream: Any, base: Fraction) -> Fraction | None:
    """Return when a file says that its last frame ends, in seconds; None where it does not."""
    if stream.duration is not None:
        return Fraction((stream.start_time or 0) + stream.duration) * base
    text = stream.metadata.get("DURATION", "")  # of Matroska
    found = re.fullmatch(r"(\d+):(\d\d):(\d\d(?:\.\d{1,9})?)", text.strip("\0"))
    if found is None:
        return None
    return int(found[1]) * 3600 + int(found[2]) * 60 + Fraction(found[3])
