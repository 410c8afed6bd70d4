"""Runs with pictures or results on object stores.

Pictures are copied into a temporary folder a few ahead of the model, labeled as files, and removed.
Results are written there too, and put into the store when they are whole.
"""

from __future__ import annotations

from collections.abc import Callable, Generator, Iterable, Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from itertools import count
from pathlib import Path
from typing import Final

from fcnkit.errors import message
from fcnkit.runtime.predict.file_task import Place, one_line
from fcnkit.runtime.predict.identity import Origin
from fcnkit.runtime.predict.job_stream import Item
from fcnkit.runtime.predict.jobs import Job
from fcnkit.runtime.predict.manifest import Record
from fcnkit.runtime.predict.pipeline import ahead_of
from fcnkit.runtime.predict.staging import Publishable, Staging
from fcnkit.runtime.predict.stamp import Stamp
from fcnkit.runtime.predict.store_manifest import StoreManifest, origin_of
from fcnkit.runtime.predict.stores import Store
from fcnkit.runtime.predict.urls import Url
from fcnkit.runtime.predict.video_records import FrameRecord

__all__ = ["Label", "label_on_stores"]

Label = Callable[[Iterable[Item], Place], Iterator[Record]]
"""Labels files as they come, and hands out a record of each."""

_TRANSFERS: Final = 8
"""Pictures that are copied from a store at a time, and as many wait for the model."""


def label_on_stores(
    label: Label, items: Iterable[Item], store: Store, manifest: StoreManifest, folder: Path
) -> Generator[Record, None, None]:
    """Label pictures that may be on a store, with results that may be on one.

    Args:
        label: Labels files of this machine.
        items: Taken as the run comes to them.
        store: The output folder.
        manifest: Of the run; gets every record before it is handed out.
        folder: A temporary folder for what is under way.

    Yields:
        The records.

    Raises:
        OSError: A result cannot be written.
    """
    transfer = _Transfer(store, folder / "in")
    with (
        ThreadPoolExecutor(_TRANSFERS, thread_name_prefix="fcnkit-store") as pool,
        Staging(folder) as staging,
    ):
        place = Place(staging=staging, publish=transfer.publish, keep=lambda _: None)
        files = ahead_of(pool, transfer.fetched, items, limit=_TRANSFERS)
        for record in label(files, place):
            told = record if record.status == "skipped" else transfer.told(record)
            manifest.keep(told)
            yield told


class _Transfer:
    """Copies pictures from stores and results to one, on any thread."""

    def __init__(self, store: Store, folder: Path) -> None:
        self._store, self._folder = store, folder
        self._numbers = count()
        self._sources: dict[str, tuple[Path | Url, Origin]] = {}
        """By the path of the file that is labeled in place of a picture."""
        self._errors: dict[str, str] = {}
        """Of pictures that could not be copied, by that path."""
        self._stamps: dict[str, Stamp | None] = {}
        """Of results that are written, by name."""

    def fetched(self, item: Item) -> Item:
        """Return a job on a file of this machine; records are handed on."""
        if not isinstance(item, Job):
            return item
        source, file = item.source, item.source
        if isinstance(source, Url):
            # The name is kept, because its ending says whether it is a video.
            file = self._folder / str(next(self._numbers)) / source.name
            try:
                Store(source.parent).fetch(source.name, file)
            except Exception as error:
                rule, got = "must be an object that can be read", one_line(error, Path(source.name))
                remedy = "check the address and your access"
                self._errors[str(file)] = message(str(source), rule, got, remedy)
        self._sources[str(file)] = source, origin_of(source)
        return Job(file, item.output)

    def publish(self, record: Record, result: Publishable) -> None:
        """Put a whole result into the store."""
        self._store.put(result.path, record.output)
        result.path.unlink()
        self._stamps[record.output] = self._store.stamp(record.output)

    def told(self, record: Record) -> Record:
        """Return what a record of a file says of its picture; the copy is removed."""
        file = record.input
        source, origin = self._sources[file]
        error = self._errors.get(file) or record.error
        if not isinstance(record, FrameRecord):  # the last of this picture
            del self._sources[file]
            self._errors.pop(file, None)
            if isinstance(source, Url):
                Path(file).unlink(missing_ok=True)
                Path(file).parent.rmdir()
        return replace(
            record,
            input=origin.input,
            input_path=origin.input_path,
            input_stamp=origin.input_stamp,
            output_stamp=self._stamps.pop(record.output, None),
            error=None if error is None else error.replace(file, str(source)),
        )
