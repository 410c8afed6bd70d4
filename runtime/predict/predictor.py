"""Folder prediction as a plain callable, for engines that hand out work themselves.

Spark's ``mapPartitions``, Ray Data's ``map_batches`` and the like call a function with a share of
the paths, in their own process. ``Predictor`` is such a function: it can be pickled, opens the
model where it runs and keeps it open for the next share, and returns plain values. There is no
manifest, and the folder is not locked: the engine tracks which shares are done. A small file per
result says which image it was made from, so that no other image replaces it.
"""

from __future__ import annotations

import atexit
import json
import os
import secrets
import threading
from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import closing, contextmanager
from dataclasses import asdict, dataclass, fields
from pathlib import Path
from typing import Any, Final, overload

from fcnkit.errors import BadValueError, message
from fcnkit.runtime.artifacts.spec import Tta
from fcnkit.runtime.backends.settings import Compute
from fcnkit.runtime.files import sha256_of
from fcnkit.runtime.predict.claims import Claims
from fcnkit.runtime.predict.covering import Cover
from fcnkit.runtime.predict.folder import run_into
from fcnkit.runtime.predict.identity import real_path, relative_path
from fcnkit.runtime.predict.inputs import Job
from fcnkit.runtime.predict.manifest import Record
from fcnkit.runtime.predict.outputs import SUFFIX_OF, Format
from fcnkit.runtime.predict.overlays import OverlayStyle
from fcnkit.runtime.predict.parts import PARTIAL
from fcnkit.runtime.predict.picture_file import MAX_PIXELS
from fcnkit.runtime.predict.region import Region
from fcnkit.runtime.predict.results import ResultRequest
from fcnkit.runtime.predict.run import RunRequest
from fcnkit.runtime.predict.segmenter import Segmenter
from fcnkit.runtime.predict.staging import Staging
from fcnkit.runtime.predict.stamp import Stamp
from fcnkit.runtime.predict.urls import is_url

__all__ = ["Predictor"]

_OPENED_WITH: Final = (
    *("backend", "threads", "compute", "options", "spec"),
    *("cover", "tile", "overlap", "tta"),
)
"""The fields that are options of ``load``."""

_LABELED_WITH: Final = ("format", "wanted", "overlay", "region", "batch", "max_pixels")
"""The fields that a ``RunRequest`` has too."""


@dataclass(frozen=True, kw_only=True)
class Predictor:
    """Labels the pictures of a share of paths; see ``fcnkit.runtime.load`` for the options.

    Example:
        >>> predictor = Predictor(model="m.onnx", root="/photos", out="/labels")  # doctest: +SKIP
        >>> rdd.mapPartitions(predictor)  # doctest: +SKIP
    """

    model: str
    """An exported model that every process can read."""
    root: str
    """The results mirror the tree below this folder."""
    out: str
    """The output folder; one for all processes."""
    format: Format = "labels"
    overlay: OverlayStyle | None = None
    backend: str = "auto"
    threads: int | None = None
    compute: Compute = "auto"
    options: Mapping[str, str] | None = None
    spec: str | None = None
    cover: Cover | None = None
    tile: tuple[int, int] | None = None
    overlap: int | None = None
    tta: Tta | None = None
    wanted: ResultRequest | None = None
    region: Region | None = None
    batch: int | None = None
    max_pixels: int = MAX_PIXELS

    @overload
    def __call__(  # type: ignore[overload-overlap]  # a mapping iterates over its keys
        self, paths: Mapping[str, Any]
    ) -> dict[str, list[Any]]: ...

    @overload
    def __call__(self, paths: Iterable[str]) -> Iterator[dict[str, Any]]: ...

    def __call__(
        self, paths: Mapping[str, Any] | Iterable[str]
    ) -> dict[str, list[Any]] | Iterator[dict[str, Any]]:
        """Label pictures.

        Args:
            paths: Files below ``root``; or, as Ray Data has them, columns by name: the column
                ``path``, or the only one, holds the files.

        Returns:
            One dictionary per picture, as a line of the manifest. For columns, columns: the same
            keys, and what is neither str nor number as JSON.

        Raises:
            ArtifactError: The model cannot be read.
            DataError: A result would replace one of another picture.
            ValueError: A path lies outside ``root``, two of this share would have the same
                result, ``out`` is ``root``, an option does not fit, or no column holds files.
            OSError: A result cannot be written.
        """
        if self.format not in SUFFIX_OF:
            rule = f"format must be one of {', '.join(SUFFIX_OF)}"
            raise BadValueError(message("Predictor", rule, self.format, "leave it out for labels"))
        _check_here(self.root)
        _check_here(self.out)
        if isinstance(paths, Mapping):
            return _as_columns(self._records(_file_column(paths)))
        return self._records(paths)

    def _records(self, paths: Iterable[str]) -> Iterator[dict[str, Any]]:
        out = Path(self.out)
        out.mkdir(parents=True, exist_ok=True)
        # Its own name: other processes write into the same folder.
        name = f"{PARTIAL}-{os.getpid()}-{secrets.token_hex(4)}"
        seen: dict[Path, str] = {}
        with (
            _KEPT.lent(self._model_key(), self._open) as model,
            closing(Claims(out)) as claims,
            Staging(out, name=name) as staging,
        ):
            jobs = (self._job(path, seen, claims) for path in paths)
            request = RunRequest(model_sha256=model.sha256, **self._given(_LABELED_WITH))
            for record in run_into(model.segmenter, jobs, staging, claims, request):
                yield asdict(record)

    def _model_key(self) -> tuple[object, ...]:
        """Return what an open model depends on; a fork does not have the threads of its library."""
        given = json.dumps(self._given(_OPENED_WITH), sort_keys=True, default=str)
        return os.getpid(), self.model, Stamp.of(Path(self.model)), given

    def _open(self) -> _Model:
        from fcnkit.runtime.predict.opening import load

        sha256 = sha256_of(Path(self.model))
        return _Model(load(self.model, **self._given(_OPENED_WITH)), sha256)

    def _given(self, names: Iterable[str]) -> dict[str, Any]:
        return {name: getattr(self, name) for name in names}

    def _job(self, path: str, seen: dict[Path, str], claims: Claims) -> Job:
        """Name the result of a picture; ``seen`` holds the names that this share has given."""
        _check_here(path)
        source, root = Path(path), Path(self.root)
        relative = relative_path(source, root)
        if relative is None:
            rule = f"every picture must lie below root {self.root}"
            raise BadValueError(message("Predictor", rule, path, "pass a root that holds them all"))
        output, real = relative.with_suffix(SUFFIX_OF[self.format]), real_path(source)
        same = os.path.realpath(self.out) == os.path.realpath(root)
        if same or ".." in source.parts or seen.setdefault(output, real) != real:
            rule = "a result must lie in a folder apart from root, under its own name"
            raise BadValueError(
                message("Predictor", rule, path, "choose another out or rename one")
            )
        claims.check(source, output)
        return Job(source, output)


def _check_here(place: str) -> None:
    if is_url(place):
        rule, remedy = "takes files of this machine", "mount the store, or run fcnkit predict"
        raise BadValueError(message("Predictor", rule, place, remedy))


@dataclass(frozen=True)
class _Model:
    segmenter: Segmenter
    sha256: str


class _Kept:
    """The model that was used last in this process, still open."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._kept: tuple[tuple[object, ...], _Model] | None = None

    @contextmanager
    def lent(self, key: tuple[object, ...], open_it: Callable[[], _Model]) -> Iterator[_Model]:
        """Give the model to one user at a time, or open another one.

        Args:
            key: What it depends on.
            open_it: Opens it.
        """
        kept = self._swapped(None)
        if kept is None or kept[0] != key:
            if kept is not None and kept[0][0] == key[0]:
                kept[1].segmenter.close()
            kept = (key, open_it())
        try:
            yield kept[1]
        except BaseException:
            kept[1].segmenter.close()
            raise
        before = self._swapped(kept)
        if before is not None:
            before[1].segmenter.close()

    def _swapped(
        self, kept: tuple[tuple[object, ...], _Model] | None
    ) -> tuple[tuple[object, ...], _Model] | None:
        with self._lock:
            before, self._kept = self._kept, kept
        return before

    def close(self) -> None:
        """Close what is kept."""
        kept = self._swapped(None)
        if kept is not None and kept[0][0] == os.getpid():
            kept[1].segmenter.close()


_KEPT: Final = _Kept()
atexit.register(_KEPT.close)


def _file_column(columns: Mapping[str, Any]) -> list[str]:
    name = "path" if "path" in columns else next(iter(columns), None)
    if name is None or (name != "path" and len(columns) > 1):
        rule, got = "a batch has a column path, or one column", ", ".join(columns) or "none"
        raise BadValueError(message("Predictor", rule, got, "select the column of the files"))
    return [str(path) for path in columns[name]]


def _as_columns(records: Iterable[dict[str, Any]]) -> dict[str, list[Any]]:
    rows = list(records)
    return {field.name: [_plain(row[field.name]) for row in rows] for field in fields(Record)}


def _plain(value: object) -> object:
    """Return a value that a table of any engine can hold."""
    return value if value is None or isinstance(value, str | int | float) else json.dumps(value)
