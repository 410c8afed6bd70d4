"""The manifest of an output folder: one JSON line per picture, appended, never rewritten.

The last line of an output counts. A run holds the manifest locked, so two runs on one folder do
not mix; the lock ends with the process, however it ends. Each part of a run has its manifest.
"""

from __future__ import annotations

import json
import os
import re
from dataclasses import MISSING, asdict, dataclass, fields, replace
from json.encoder import encode_basestring_ascii as quoted
from pathlib import Path
from typing import Any, Final, Literal

from fcnkit.runtime.artifacts.precisions import full_name
from fcnkit.runtime.closing import Closing
from fcnkit.runtime.predict.history import History, parsed
from fcnkit.runtime.predict.identity import Origin, RealFolders, check_replaces
from fcnkit.runtime.predict.manifest_file import begin_run
from fcnkit.runtime.predict.outputs import Format, look_at
from fcnkit.runtime.predict.overlays import OverlayStyle
from fcnkit.runtime.predict.parts import Part
from fcnkit.runtime.predict.region import Region, mask_stamp
from fcnkit.runtime.predict.stamp import Stamp
from fcnkit.runtime.predict.video_out import VIDEO_SUFFIX, is_whole_video

__all__ = ["Manifest", "Options", "Record", "is_wanted", "line_of", "record_of"]


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
    window: str | None = None
    """The part of every image that was labeled, ``y0:y1,x0:x1``."""
    nodata: str | None = None
    """The stored value that became void, or ``auto``."""
    mask: str | None = None
    """The file or folder of masks."""


@dataclass(kw_only=True, slots=True)  # not frozen: a run on what is done makes a million of them
class Record:
    """What became of one picture: a line of the manifest."""

    input: str
    """Its path as it was given."""
    input_path: str
    """Its absolute path, links to folders resolved."""
    input_stamp: Stamp | None
    """Before it was read; None where there is no such file."""
    status: Literal["done", "partial", "failed", "skipped", "begun"]
    """``partial``: a video of which only some frames were labeled. ``skipped``: an earlier run did
    it; only handed out, not written. ``begun``: a run into an object store may have written it;
    only written, not handed out."""
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
    input_sha256: str | None = None
    """Of the picture's bytes; None where the run did not tell pictures by them."""
    mask_stamp: Stamp | None = None
    """Of the mask before it was read; None where there was none."""


_LATER: Final[dict[str, Any]] = {
    field.name: field.default for field in fields(Options) if field.default is not MISSING
}
"""Options that the first manifests do not have."""

_SAID: Final = (
    b', "input_stamp": {"bytes": %d, "mtime_ns": %d}, "status": "done", "output": %b, '
    b'"output_stamp": {"bytes": %d, "mtime_ns": %d}, "size": ['
)
"""What a line says between the path of a picture and the size of its result in pixels."""

_MADE: Final = re.compile(
    rb'(\d+), (\d+)\], "milliseconds": (null|\d+(?:\.\d+)?(?:e[+-]?\d+)?), '
    rb'"error": null, "options": '
)
"""What a line says between the stamp of a result and the options, from its height on."""


class Manifest(Closing):
    """The manifest of one run, open and locked, and what all manifests of its folder say."""

    def __init__(
        self,
        out: Path,
        *,
        options: Options,
        model_sha256: str,
        resume: bool,
        part: Part | None = None,
        hashed: bool = False,
    ) -> None:
        """Open or begin a manifest.

        Args:
            out: The output folder; it exists.
            options: Of this run.
            model_sha256: Of this run's model.
            resume: Whether results of earlier runs count as done.
            part: The part that this run labels; None for all pictures.
            hashed: Whether pictures are told by their hash.

        Raises:
            DataError: Another run holds it.
            OSError: It cannot be read or written.
        """
        self._out, self._options, self._sha256 = out, options, model_sha256
        self._resume, self._wanted = resume, json.loads(json.dumps(asdict(options)))
        self._hashed = hashed
        self._masks = Region.of_masks(options.mask)
        self._last: Origin | None = None
        head = f'{json.dumps(self._wanted)}, "model_sha256": {json.dumps(model_sha256)}, '
        self._wanted_bytes = head.encode()
        """How the lines of this run say its options and model."""
        self._folders = RealFolders()
        self._file, found = begin_run(out, part)
        try:
            self._history = History(found.readable)
        except BaseException:
            self._file.close()
            raise

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
        now = self._origin(source)
        check_replaces(self._out / output, (*listed, claimed), now)

    def _origin(self, source: Path) -> Origin:
        last = self._last
        # The frames of a video have one file, which is not to be read for each of them.
        if last is not None and last.input == str(source) and last.input_stamp == Stamp.of(source):
            return last
        now = Origin.of(source, hashed=self._hashed)
        self._last = now if self._hashed else None
        return now

    def earlier(self, source: str | Path, output: str | Path) -> Record | None:
        """Return the record of an earlier run whose result still stands, as ``skipped``.

        It stands if picture, model and options are the same, the picture has not changed since,
        and the output is the file that was written: whole, and of the size in bytes and pixels.
        """
        if not self._resume:
            return None
        name = output if isinstance(output, str) else output.as_posix()
        line = None if self._hashed else self._history.only_line(name)
        # Most lines hold the same bytes that this run would write about these files.
        record = None if line is None else self._kept(line, str(source), name)
        return record or self._earlier_of_several(Path(source), name)

    def _kept(self, line: bytes, given: str, output: str) -> Record | None:
        """Return what a line records, if it describes the files as they are now.

        None says nothing: a line of an older version has other bytes.
        """
        path = f"{self._out}{os.sep}{output}"
        try:
            read, looked = os.stat(given), look_at(path)  # noqa: PTH116 - of every picture
        except (OSError, ValueError):
            return None
        if looked is None:
            return None
        before = Stamp(read.st_size, read.st_mtime_ns)
        made, size = looked
        after = Stamp(made.st_size, made.st_mtime_ns)
        said = _SAID % (
            *(read.st_size, read.st_mtime_ns),
            quoted(output).encode(),
            *(made.st_size, made.st_mtime_ns),
        )
        at = line.find(said)  # no string in a line holds these quotes as they are
        facts = _MADE.match(line, at + len(said)) if at > 0 else None
        if facts is None or not line.startswith(self._wanted_bytes, facts.end()):
            return None
        real = self._folders.path(given)
        rest = line[facts.end() + len(self._wanted_bytes) :]
        others = parsed(b"{" + rest)
        if others is None or not _is_of(line[:at], real, before):
            return None
        if Stamp.read(others.get("mask_stamp")) != mask_stamp(self._masks, output):
            return None
        record = Record(
            input=given,
            input_path=real,
            input_stamp=before,
            status="skipped",
            output=output,
            output_stamp=after,
            size=(int(facts[1]), int(facts[2])),
            milliseconds=None if facts[3] == b"null" else float(facts[3]),
            error=None,
            options=self._options,
            model_sha256=self._sha256,
            pixels=others.get("pixels"),
            confidence=others.get("confidence"),
            time_ns=others.get("time_ns"),
            input_sha256=others.get("input_sha256"),
            mask_stamp=Stamp.read(others.get("mask_stamp")),
        )
        return record if self._is_whole(record, path, size) else None

    def _earlier_of_several(self, source: Path, output: str) -> Record | None:
        """Return what ``earlier`` returns, from all lines about a result."""
        for told in self._history.told(output):
            before = Origin.read(told.line)
            wanted = is_wanted(told.line, self._wanted, self._sha256)
            if before is None or not (told.is_last and wanted):
                continue
            now = self._origin(source)
            if not (before.is_unchanged(now) and before.is_same_picture(now)):
                continue
            if Stamp.read(told.line.get("mask_stamp")) != mask_stamp(self._masks, output):
                continue
            record = record_of(told.line, now, self._options, self._sha256)
            if self._stands(record):
                return record
        return None

    def _stands(self, record: Record) -> bool:
        path = f"{self._out}{os.sep}{record.output}"
        looked = look_at(path)
        if looked is None:
            return False
        made, size = looked
        # Size and time: another run may have written there without saying so here.
        stamp = Stamp(made.st_size, made.st_mtime_ns)
        return stamp == record.output_stamp and self._is_whole(record, path, size)

    def _is_whole(self, record: Record, path: str, found: tuple[int, int] | None) -> bool:
        """Whether a result is whole; ``found`` is its height and width in pixels."""
        size = record.size
        if path.endswith(VIDEO_SUFFIX):
            return size is not None and is_whole_video(Path(path), size)
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


def _is_of(begin: bytes, path: str, stamp: Stamp) -> bool:
    """Whether a line that begins like this, up to the path of its picture, is of this picture.

    The stamp of the picture is known to be the same.
    """
    if begin.endswith(b', "input_path": %b' % quoted(path).encode()):
        return True
    before = Origin.read(parsed(begin + b"}") or {})
    now = Origin(input=path, input_path=path, input_stamp=stamp)
    return before is not None and replace(before, input_stamp=stamp).is_same_picture(now)


def line_of(record: Record) -> bytes:
    """Return a record as a line of the manifest."""
    # Not asdict: it copies every value, which takes longer than all the rest of the line.
    return json.dumps(_shallow(record), default=_shallow).encode() + b"\n"


def _shallow(one: Any) -> dict[str, Any]:
    return {name: getattr(one, name) for name in one.__dataclass_fields__}


def is_wanted(line: dict[str, Any], wanted: dict[str, Any], sha256: str) -> bool:
    """Whether a line tells of a result of a model and of options.

    Args:
        line: Of a manifest.
        wanted: The options, as JSON gives them back.
        sha256: Of the model.
    """
    if line.get("status") != "done" or line.get("model_sha256") != sha256:
        return False
    options = line.get("options")
    if not isinstance(options, dict):
        return False
    # Older lines say f32 and f16, and lack what came later.
    options = {**_LATER, **options, "compute": full_name(str(options.get("compute")))}
    if wanted["overlap"] is None:
        options["overlap"] = None  # older lines tell of one that was not used
    return bool(options == wanted)


def record_of(line: dict[str, Any], now: Origin, options: Options, sha256: str) -> Record:
    """Return what a line says of a result, told of the picture as it was given now."""
    size = line.get("size")
    return Record(
        input=now.input,
        input_path=now.input_path,
        input_stamp=now.input_stamp,
        input_sha256=now.input_sha256,
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
        mask_stamp=Stamp.read(line.get("mask_stamp")),
        time_ns=line.get("time_ns"),
    )
