"""What a run does with each picture, decided as the pictures are found: label it or skip it.

The first pictures are decided before any of them is labeled. So a small run is refused as a whole
where one picture is wrong, and its number of pictures is known from the start. In a larger run,
pictures are found and checked while others are labeled, so that they need not be held.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from itertools import islice
from pathlib import Path
from typing import Final, Generic, TypeVar

from fcnkit.runtime.predict.jobs import Job, checked
from fcnkit.runtime.predict.manifest import Record
from fcnkit.runtime.predict.outputs import Format
from fcnkit.runtime.predict.parts import Part
from fcnkit.runtime.predict.region import Region, check_no_region
from fcnkit.runtime.predict.urls import Url
from fcnkit.runtime.predict.video_in import is_video
from fcnkit.runtime.predict.video_result import check_video_format

__all__ = ["LOOK_AHEAD", "Item", "Listed", "UntilError", "left_to_do", "together"]

LOOK_AHEAD: Final = 4096
"""Pictures that are found and checked before the first result is written."""

_TOGETHER: Final = 256
"""Records of earlier runs that are handed on at a time."""

A = TypeVar("A")

Item = Job | list[Record]
"""A picture to label, or what earlier runs recorded of pictures that they have labeled."""


@dataclass
class Listed:
    """How many pictures a run has found so far."""

    count: int = 0
    complete: bool = False
    """Whether these are all."""


class UntilError(Generic[A]):
    """Items up to an error, which waits until what was begun is finished."""

    def __init__(self, items: Iterable[A]) -> None:
        self._items = items
        self._error: Exception | None = None

    def __iter__(self) -> Iterator[A]:
        """Yield the items; an error ends them."""
        try:
            yield from self._items
        except Exception as error:  # whatever it is, it is raised later
            self._error = error

    def check(self) -> None:
        """Raise the error, if there was one."""
        if self._error is not None:
            raise self._error


def left_to_do(
    jobs: Iterable[Job],
    out: Path | Url,
    listed: Listed,
    *,
    earlier: Callable[[Job], Record | None],
    check: Callable[[Job], object],
    format: Format,
    frames: bool,
    fold: bool,
    part: Part | None,
    region: Region,
) -> Iterator[Job | Record]:
    """Decide about pictures as they are found.

    Args:
        jobs: The pictures of all parts, taken one by one.
        out: The output folder.
        listed: Counts the pictures of this part.
        earlier: Returns the record of an earlier run whose result still stands.
        check: Raises where a result would replace one of another picture.
        format: Of the results.
        frames: Whether each frame of a video has a result, in a folder with the video's name.
        fold: Whether names that differ in case alone are one name in the output folder.
        part: The part that is labeled; None for all pictures.
        region: Which pixels are labeled. Videos must have none.

    Yields:
        Pictures to label, and records of those that earlier runs have labeled, in order.

    Raises:
        ValueError: As for ``checked``, or the format or the region has no form as a video.
        DataError: A result would replace one of another picture.
    """

    def is_folder(job: Job) -> bool:
        return frames and is_video(job.input_name)

    def named(job: Job) -> str:
        return job.output.with_suffix("").as_posix() if is_folder(job) else job.output_name

    def decided() -> Iterator[Job | Record]:
        for found in checked(jobs, out, fold=fold, named=named):
            if part is not None and not part.holds(found.output):
                continue
            video = is_video(found.input_name)
            if video:
                check_no_region(region, "videos")
                if not frames:
                    check_video_format(format)
            as_folder = video and frames
            job = found.named(Path(named(found))) if as_folder else found
            record = earlier(job)
            if record is None and not as_folder:  # whose frames are checked one by one
                check(job)
            listed.count += 1
            yield record or job
        listed.complete = True

    return _ahead(decided(), LOOK_AHEAD)


def _ahead(items: Iterator[A], count: int) -> Iterator[A]:
    """Yield items; the first one when as many as ``count`` are known."""
    first = deque(islice(items, count))
    while first:
        yield first.popleft()
    yield from items


def together(items: Iterable[Job | Record]) -> Iterator[Item]:
    """Yield jobs, and records that follow each other in lists."""
    records: list[Record] = []
    for one in items:
        if isinstance(one, Record):
            records.append(one)
            if len(records) < _TOGETHER:
                continue
        if records:
            yield records
            records = []
        if isinstance(one, Job):
            yield one
    if records:
        yield records
