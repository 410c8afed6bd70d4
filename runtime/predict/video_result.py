"""The two forms of a labeled video: one video file, or one image file per frame."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator
from typing import Protocol

from fcnkit.errors import BadValueError, message
from fcnkit.runtime.artifacts.spec import ModelSpec
from fcnkit.runtime.pixels.prediction import Prediction
from fcnkit.runtime.predict.outputs import FORMATS, SUFFIX_OF, Format, OutputRequest
from fcnkit.runtime.predict.overlays import OverlayStyle
from fcnkit.runtime.predict.staging import Publishable, StagedFile, StagedOutput, Staging
from fcnkit.runtime.predict.video_in import Frame, VideoSource
from fcnkit.runtime.predict.video_out import VideoOutput, cut_to_whole

__all__ = [
    "FrameFiles",
    "OneVideo",
    "VideoResult",
    "check_video_format",
    "frame_name",
]


class VideoResult(Protocol):
    """What becomes of the labeled frames of one video."""

    unwritable: OSError | None
    """Why the result could not be written; None so far."""

    def writing(self) -> contextlib.AbstractContextManager[None]:
        """Remember an OSError of the block as ``unwritable``, and raise it."""

    def add(
        self, frame: Frame, rows: Prediction, source: VideoSource, index: int
    ) -> tuple[StagedOutput, str] | None:
        """Add a frame.

        Args:
            frame: The frame.
            rows: Its labels, and the confidence where it is wanted.
            source: Says rate and shape of the pixels.
            index: Number of the frame.

        Returns:
            Where a frame is a file: the file and its name. The caller publishes it.

        Raises:
            OSError: It cannot be written.
        """

    def end(self, *, rescue: bool) -> Publishable | None:
        """End the result.

        Args:
            rescue: Keep what can be kept after a failure, instead of raising.

        Returns:
            The file of all frames; None where there is none.

        Raises:
            OSError: The rest cannot be written, without ``rescue``.
        """

    def notes(self) -> list[str]:
        """Say what of the frames the result does not keep."""


class _Result:
    """What both forms share."""

    def __init__(
        self, staging: Staging, spec: ModelSpec, *, format: Format, style: OverlayStyle | None
    ) -> None:
        self._staging, self._spec, self._format, self._style = staging, spec, format, style
        self.unwritable: OSError | None = None

    @contextlib.contextmanager
    def writing(self) -> Iterator[None]:
        """Remember an OSError of the block; see ``VideoResult.writing``."""
        try:
            yield
        except OSError as error:
            self.unwritable = error
            raise


class OneVideo(_Result):
    """All frames as one video."""

    def __init__(
        self, staging: Staging, spec: ModelSpec, *, format: Format, style: OverlayStyle | None
    ) -> None:
        """Begin with no frame, and no file yet."""
        super().__init__(staging, spec, format=format, style=style)
        self._video: VideoOutput | None = None
        self._path = staging.path()

    def add(self, frame: Frame, rows: Prediction, source: VideoSource, index: int) -> None:
        """Add a frame; see ``VideoResult.add``."""
        del index
        with self.writing():
            if self._video is None:
                self._video = VideoOutput(
                    self._path,
                    rows.labels.shape,
                    self._spec,
                    format=self._format,
                    style=self._style,
                    rate=source.rate,
                    aspect=source.aspect,
                )
            self._video.write(frame.image_hwc, rows, frame.ticks)

    def end(self, *, rescue: bool) -> StagedFile | None:
        """End the video; see ``VideoResult.end``."""
        if self._video is None:
            return None
        if rescue:
            self._video.abandon()
            with contextlib.suppress(OSError):
                if cut_to_whole(self._path):
                    return StagedFile(self._staging, self._path)
            return None
        with self.writing():
            self._video.close()
        return StagedFile(self._staging, self._path)

    def notes(self) -> list[str]:
        """Say where frames grew; see ``VideoResult.notes``."""
        if self._video is None or not self._video.is_padded:
            return []
        return ["odd sides are one pixel longer: this kind of video has even sides"]


class FrameFiles(_Result):
    """A file per frame, each in the form of a labeled picture."""

    def add(
        self, frame: Frame, rows: Prediction, source: VideoSource, index: int
    ) -> tuple[StagedOutput, str]:
        """Write a frame; see ``VideoResult.add``."""
        del source
        with self.writing():
            request = OutputRequest(
                size=rows.labels.shape,
                spec=self._spec,
                format=self._format,
                style=self._style,
            )
            one = StagedOutput(self._staging, request)
            one.write(frame.image_hwc, rows)
            one.end()
        return one, frame_name(index, self._format)

    def end(self, *, rescue: bool) -> None:
        """Do nothing: every frame has its file."""
        del rescue

    def notes(self) -> list[str]:
        """Say nothing: images have any size."""
        return []


def frame_name(index: int, format: Format) -> str:
    """Return the name of the image of a frame."""
    return f"{index:06}{SUFFIX_OF[format]}"


def check_video_format(format: Format) -> None:
    """Refuse a format that has no form as a video.

    Raises:
        ValueError: It has none.
    """
    if not FORMATS[format].as_video:
        *names, last = (name for name, row in FORMATS.items() if row.as_video)
        rule = f"a video holds {', '.join(names)} or {last}"
        raise BadValueError(message("predict", rule, format, "pass --frames for a file per frame"))
