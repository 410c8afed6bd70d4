"""What ``fcnkit predict`` shows while it runs, and what it counts."""

from __future__ import annotations

from collections.abc import Iterable
from operator import itemgetter
from typing import TYPE_CHECKING, Any

from fcnkit.cli.progress import Advance, progress_of
from fcnkit.cli.say import say
from fcnkit.errors import printable

if TYPE_CHECKING:
    from fcnkit.runtime.predict.job_stream import Listed
    from fcnkit.runtime.predict.manifest import Record
    from fcnkit.runtime.predict.video_records import VideoRecord

__all__ = ["Tally", "Totals"]


class Totals:
    """Pixels per class and mean confidence of all results together, those of earlier runs too."""

    def __init__(self) -> None:
        self._pixels: dict[str, int] = {}
        self._sure = 0.0
        self._counted = 0

    def add(self, record: Record) -> None:
        """Count an image."""
        for name, count in (record.pixels or {}).items():
            self._pixels[name] = self._pixels.get(name, 0) + count
        if record.confidence is not None and record.size is not None:
            pixels = record.size[0] * record.size[1]
            self._sure += record.confidence * pixels
            self._counted += pixels

    def facts(self) -> dict[str, Any]:
        """Return both for the summary."""
        mean = round(self._sure / self._counted, 6) if self._counted else None
        most_first = sorted(self._pixels.items(), key=itemgetter(1), reverse=True)
        return {"pixels": dict(most_first), "confidence": mean}


class Tally:
    """Counts what became of the inputs of one run."""

    def __init__(self, listed: Listed) -> None:
        """Begin.

        Args:
            listed: How many inputs there are, as far as that is known.
        """
        self.listed = listed
        self.counts = {"done": 0, "failed": 0, "skipped": 0}
        self.videos: dict[str, int] = {}
        """Counts of the videos: ``partial``, and ``frames`` that are labeled; empty without any."""
        self.totals = Totals()
        self._under_way: dict[str, int] = {}
        """Frames of the videos under way; several processes label several of them at once."""
        self._advance: Advance | None = None

    @property
    def labeled(self) -> int:
        """Pictures and frames that this run has labeled."""
        # Skipped and failed pictures do not count: they say nothing about the speed of this run.
        return self.counts["done"] + self.videos.get("frames", 0) + sum(self._under_way.values())

    def on_frame(self, name: str, labeled: int, total: int | None) -> None:
        """Show how far a video is; see ``OnFrame``."""
        self._under_way[name] = labeled
        if self._advance is not None and name == next(iter(self._under_way)):
            self._advance(printable(name), labeled, total)

    def consume(self, records: Iterable[Record]) -> None:
        """Do the work, showing progress, and count its records."""
        with progress_of(unit="images", finished=lambda: self.labeled) as self._advance:
            for record in records:
                if record.status == "skipped":  # of a million pictures, maybe all
                    self.counts["skipped"] += 1
                    self.totals.add(record)
                else:
                    self._count(record)

    def _count(self, record: Record) -> None:
        from fcnkit.runtime.predict.video_records import FrameRecord, VideoRecord

        if isinstance(record, FrameRecord):
            return  # counted with its video
        self.totals.add(record)
        if isinstance(record, VideoRecord):
            self._count_video(record)
        if record.status != "partial":
            self.counts[record.status] += 1
        if record.status in ("failed", "partial"):
            name, why = printable(" ".join(record.input.split())), record.error or ""
            say(f"{record.status}: {why if name in why else f'{name}: {why}'}", err=True)
        if not isinstance(record, VideoRecord):
            done, skipped = self.counts["done"] + self.counts["failed"], self.counts["skipped"]
            total = self.listed.count - skipped if self.listed.complete else None
            assert self._advance is not None
            self._advance("predict", done, total)

    def _count_video(self, record: VideoRecord) -> None:
        self._under_way.pop(record.input, None)
        for key, more in {
            "partial": int(record.status == "partial"),
            "frames": record.frames,
            "dropped": record.dropped,
        }.items():
            self.videos[key] = self.videos.get(key, 0) + more
        for note in record.notes:
            say(f"note: {printable(record.input)}: {note}", err=True)
