"""The manifest of an output folder: one JSON line per picture, appended, never rewritten.

The last line of an output counts. A run holds the manifest locked, so two runs on one folder do
not mix; the lock ends with the process, however it ends. Each part of a run has its manifest.
"""

from __future__ import annotations

import json
import os
from dataclasses import MISSING, asdict, dataclass, fields
from pathlib import Path
from typing import Any, Final, Literal, Self

from fcnkit.runtime.artifacts.precisions import full_name
from fcnkit.runtime.predict.history import History
from fcnkit.runtime.predict.identity import Origin, Stamp, check_replaces
from fcnkit.runtime.predict.manifest_file import begin_run
from fcnkit.runtime.predict.outputs import Format, read_size
from fcnkit.runtime.predict.overlays import OverlayStyle
from fcnkit.runtime.predict.parts import Part, manifests_in
from fcnkit.runtime.predict.video_out import VIDEO_SUFFIX, is_whole_video

__all__ = ["Manifest", "Options", "Record", "line_of"]


@dataclass(frozen=True, kw_only=True)
class Options:
    """What a result depends on besides the picture and the model."""

    format: Format
    cover: str
    tile: tuple[int, int] | None
    overlap: int | None
    """None where no tiles share pixels."""
    backend: str
    compute: str
    """The precision the backend computes in."""
    tta: str | None = None
    """Test-time augmentation."""
    classes: tuple[str, ...] | None = None
    """Names of the labels after ``map`` and ``keep``; None where both were left out."""
    labels: tuple[int, ...] | None = None
    """What ``map`` and ``keep`` make of each of the model's classes, 255 for void."""
    void_below: float | None = None
    """The confidence below which pixels became void."""
    confidence: bool = False
    """Whether the confidence was computed."""
    overlay: OverlayStyle | None = None
    """How an overlay looks; None for other formats."""


@dataclass(frozen=True, kw_only=True)
class Record:
    """What became of one picture: a line of the manifest."""

    input: str
    """Its path as it was given."""
    input_path: str
    """Its absolute path, links to folders resolved."""
    input_stamp: Stamp | None
    """Before it was read; None where there is no such file."""
    status: Literal["done", "partial", "failed", "skipped"]
    """``partial``: a video of which only some frames were labeled. ``skipped``: an earlier run did
    it; only handed out, not written."""
    output: str
    """Relative to the output folder; where the picture failed, no such file was written."""
    output_stamp: Stamp | None
    size: tuple[int, int] | None
    """Height and width; None where the picture could not be read."""
    milliseconds: float | None
    """Time of covering, model and labels, without decoding and writing."""
    error: str | None
    options: Options
    model_sha256: str
    pixels: dict[str, int] | None = None
    """How many pixels of the result have each class, by name; ``void`` for those that have none.
    Classes without pixels are left out. None where there is no result."""
    confidence: float | None = None
    """Mean of the confidence over all pixels, 0..1; None where it was not computed."""
    time_ns: int | None = None
    """When it was finished, since 1970; None in lines of older versions. Of two manifests, the one
    with the later line about an output counts."""


_LATER: Final[dict[str, Any]] = {
    field.name: field.default for field in fields(Options) if field.default is not MISSING
}
"""Options that the first manifests do not have."""


class Manifest:
    """The manifest of one run, open and locked, and what all manifests of its folder say."""

    def __init__(
        self,
        out: Path,
        *,
        options: Options,
        model_sha256: str,
        resume: bool,
        part: Part | None = None,
    ) -> None:
        """Open or begin a manifest.

        Args:
            out: The output folder; it exists.
            options: Of this run.
            model_sha256: Of this run's model.
            resume: Whether results of earlier runs count as done.
            part: The part that this run labels; None for all pictures.

        Raises:
            DataError: Another run holds it.
            OSError: It cannot be read or written.
        """
        self._out, self._options, self._sha256 = out, options, model_sha256
        self._resume, self._wanted = resume, json.loads(json.dumps(asdict(options)))
        self._file = begin_run(out, part)
        try:
            self._history = History(manifests_in(out).values())
        except BaseException:
            self._file.close()
            raise

    def _is_wanted(self, data: dict[str, Any]) -> bool:
        """Whether a line tells of a result of this run's model and options."""
        if data.get("status") != "done" or data.get("model_sha256") != self._sha256:
            return False
        options = data.get("options")
        if not isinstance(options, dict):
            return False
        # Older lines say f32 and f16, and lack what came later.
        options = {**_LATER, **options, "compute": full_name(str(options.get("compute")))}
        if self._wanted["overlap"] is None:
            options["overlap"] = None  # older lines tell of one that was not used
        return bool(options == self._wanted)

    def check(self, source: Path, output: Path, claimed: Origin | None) -> None:
        """Refuse a picture whose result would replace another picture's; on any thread.

        Args:
            source: The picture.
            output: Name of its result.
            claimed: The picture that ``Predictor`` made the result from, where it did.

        Raises:
            DataError: See ``check_replaces``.
        """
        if not os.path.lexists(self._out / output):
            return
        listed = self._history.origins(self._out, output.as_posix())
        if self._history.torn and claimed is None and not listed:
            return  # a line that cannot be read may have told of it
        check_replaces(self._out / output, (*listed, claimed), Origin.of(source))

    def earlier(self, source: Path, output: Path) -> Record | None:
        """Return the record of an earlier run whose result still stands, as ``skipped``.

        It stands if picture, model and options are the same, the picture has not changed since,
        and the output is the file that was written: whole, and of the size in bytes and pixels.
        """
        if not self._resume:
            return None
        for told in self._history.told(output.as_posix()):
            before = Origin.read(told.line)
            if before is None or not (told.is_last and self._is_wanted(told.line)):
                continue
            now = Origin.of(source)
            unchanged = now.input_stamp is not None and now.input_stamp == before.input_stamp
            if not unchanged or not before.is_same_picture(now):
                continue
            record = _record(told.line, now, self._options, self._sha256)
            if self._stands(record):
                return record
        return None

    def _stands(self, record: Record) -> bool:
        path = self._out / record.output
        stamp = Stamp.of(path)
        # Size and time: another run may have written there without saying so here.
        if stamp is None or stamp != record.output_stamp:
            return False
        if path.suffix == VIDEO_SUFFIX:
            return record.size is not None and is_whole_video(path, record.size)
        size, found = record.size, read_size(path)
        if self._options.overlay is not None and size is not None and found is not None:
            # A legend makes an overlay larger than its picture.
            return found[0] >= size[0] and found[1] >= size[1]
        return size is not None and found == size

    def append(self, record: Record) -> None:
        """Write a line at once.

        Raises:
            OSError: It cannot be written; the manifest is as it was.
        """
        self._file.write(line_of(record))

    def close(self) -> None:
        """Unlock the manifest; closing twice is fine."""
        self._history.close()
        self._file.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()


def line_of(record: Record) -> bytes:
    """Return a record as a line of the manifest."""
    # Not asdict: it copies every value, which takes longer than all the rest of the line.
    return json.dumps(vars(record), default=vars).encode() + b"\n"


def _record(line: dict[str, Any], now: Origin, options: Options, sha256: str) -> Record:
    """Return what a line says of a result, told of the picture as it was given now."""
    size = line.get("size")
    return Record(
        input=now.input,
        input_path=now.input_path,
        input_stamp=now.input_stamp,
        status="skipped",
        output=str(line["output"]),
        output_stamp=Stamp.read(line.get("output_stamp")),
        size=(size[0], size[1]) if isinstance(size, list) and len(size) == 2 else None,
        milliseconds=line.get("milliseconds"),
        error=None,
        options=options,
        model_sha256=sha256,
        pixels=line.get("pixels"),
        confidence=line.get("confidence"),
        time_ns=line.get("time_ns"),
    )
