"""The manifest of a run into an object store, which can neither lock a file nor append to one.

It is a row of objects, the pieces, each written once. Before results are written, a piece says of
which picture each will be, with the status ``begun``. So a kill leaves no result of unknown origin.
"""

from __future__ import annotations

import json
import secrets
import time
from collections.abc import Iterable, Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import asdict
from functools import lru_cache
from itertools import islice
from pathlib import Path
from typing import Any, Final

from fcnkit.runtime.closing import Closing
from fcnkit.runtime.predict.history import History
from fcnkit.runtime.predict.identity import Origin, refuse_another
from fcnkit.runtime.predict.jobs import Job
from fcnkit.runtime.predict.manifest import Options, Record, is_wanted, line_of, record_of
from fcnkit.runtime.predict.parts import is_manifest, piece_name
from fcnkit.runtime.predict.region import Region, mask_stamp
from fcnkit.runtime.predict.stamp import Stamp
from fcnkit.runtime.predict.stores import Store
from fcnkit.runtime.predict.urls import Url

__all__ = ["ResultStamps", "StoreManifest", "fetch_manifests", "origin_of"]

_TOGETHER: Final = 1024
"""Lines of a piece; a kill may lose as many."""
_SECONDS: Final = 60.0
"""After this time a piece is written even if it is small."""
_FOLDERS: Final = 16
"""Folders of results whose listings are kept."""


def origin_of(source: Path | Url) -> Origin:
    """Return the origin that a result of this picture has now.

    Raises:
        OSError: The store does not answer.
    """
    if not isinstance(source, Url):
        return Origin.of(source)
    if source.stamp is None:  # of a list
        source.stamp = Store(source.parent).stamp(source.name)
    return Origin(input=str(source), input_path=str(source), input_stamp=source.stamp)


def fetch_manifests(store: Store, folder: Path) -> Path | None:
    """Copy all manifests and pieces of an output folder into one file, in order of time.

    Args:
        store: The output folder.
        folder: A folder for the file, and for the pieces until they are in it.

    Returns:
        The file; None where there is no manifest.

    Raises:
        OSError: They cannot be copied.
    """
    names = [name for name in store.folder("")[1] if is_manifest(name)]
    if not names:
        return None
    whole = folder / "manifest.jsonl"
    with ThreadPoolExecutor(8) as pool, whole.open("wb") as file:
        paths = [folder / "pieces" / name for name in names]
        for path, _ in zip(paths, pool.map(store.fetch, names, paths), strict=True):
            content = path.read_bytes()
            file.write(content if content.endswith(b"\n") else content + b"\n")
            path.unlink()
    return whole


class ResultStamps:
    """The stamps of results on a store, folder by folder."""

    def __init__(self, store: Store) -> None:
        self._listed = lru_cache(_FOLDERS)(lambda name: store.folder(name)[1])

    def stamp(self, output: Path) -> Stamp | None:
        """Return the stamp of a result when its folder was looked at, None where there is none.

        Raises:
            OSError: The store does not answer.
        """
        folder = output.parent.as_posix()
        return self._listed("" if folder == "." else folder).get(output.name)


class StoreManifest(Closing):
    """The manifest of one run, and what those of earlier runs say."""

    def __init__(
        self, store: Store, folder: Path, *, options: Options, model_sha256: str, resume: bool
    ) -> None:
        """Read the manifests of an output folder.

        Args:
            store: The output folder.
            folder: A temporary folder for their lines.
            options: Of this run.
            model_sha256: Of this run's model.
            resume: Whether results of earlier runs count as done.

        Raises:
            OSError: They cannot be read.
        """
        self._store, self._options, self._sha256 = store, options, model_sha256
        self._resume, self._wanted = resume, json.loads(json.dumps(asdict(options)))
        manifest = fetch_manifests(store, folder)
        self._history = History([] if manifest is None else [manifest])
        self._results = ResultStamps(store)
        self._began, self._run, self._number = time.time_ns(), secrets.token_hex(4), 0
        self._lines: list[bytes] = []
        self._written = time.monotonic()

    def earlier(self, job: Job) -> Record | None:
        """Return the record of an earlier run whose result still stands; see ``Manifest``.

        A store has whole objects only. So size and time prove that it is the one that was written.
        """
        stamp = self._results.stamp(job.output) if self._resume else None
        if stamp is None:
            return None
        now = origin_of(job.source)
        for told in self._history.told(job.output_name):
            before = Origin.read(told.line)
            if before is None or not (told.is_last and self._is_wanted(told.line)):
                continue
            stands = Stamp.read(told.line.get("output_stamp")) == stamp
            mask = mask_stamp(Region.of_masks(self._options.mask), job.output)
            stands = stands and Stamp.read(told.line.get("mask_stamp")) == mask
            if before.is_unchanged(now) and stands and before.is_same_picture(now):
                return record_of(told.line, now, self._options, self._sha256)
        return None

    def _is_wanted(self, line: dict[str, Any]) -> bool:
        return is_wanted(line, self._wanted, self._sha256)

    def check(self, job: Job) -> None:
        """Refuse a picture whose result would replace another picture's.

        Raises:
            DataError: See ``check_replaces``.
        """
        if self._results.stamp(job.output) is None:
            return
        lines = [told.line for told in self._history.told(job.output_name)]
        target = self._store.place / job.output
        refuse_another(target, map(Origin.read, lines), origin_of(job.source))

    def announced(self, items: Iterable[Job | Record]) -> Iterator[Job | Record]:
        """Yield items; of pictures to label, the store has lines that say so before."""
        left = iter(items)
        while some := list(islice(left, _TOGETHER)):
            lines = [self._begun(one) for one in some if isinstance(one, Job)]
            if lines:
                self._put(lines)
            yield from some

    def _begun(self, job: Job) -> bytes:
        now = origin_of(job.source)
        record = Record(
            input=now.input,
            input_path=now.input_path,
            input_stamp=now.input_stamp,
            status="begun",
            output=job.output_name,
            output_stamp=None,
            size=None,
            milliseconds=None,
            error=None,
            options=self._options,
            model_sha256=self._sha256,
            time_ns=time.time_ns(),
        )
        return line_of(record)

    def keep(self, record: Record) -> None:
        """Keep a record until there are enough for a piece.

        Raises:
            OSError: The piece cannot be written.
        """
        if record.status == "skipped":  # it has a line
            return
        self._lines.append(line_of(record))
        if len(self._lines) >= _TOGETHER or time.monotonic() - self._written > _SECONDS:
            self._flush()

    def _flush(self) -> None:
        if self._lines:
            self._put(self._lines)
            self._lines = []
        self._written = time.monotonic()

    def _put(self, lines: list[bytes]) -> None:
        self._number += 1
        self._store.write(b"".join(lines), piece_name(self._began, self._run, self._number))

    def close(self) -> None:
        """Write what is left.

        Raises:
            OSError: It cannot be written.
        """
        self._history.close()
        self._flush()
