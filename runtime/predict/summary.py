"""What the manifests of an output folder say together: counts, failures, what is odd."""

from __future__ import annotations

import os
from array import array
from collections import Counter
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from itertools import combinations
from pathlib import Path, PurePosixPath
from tempfile import TemporaryDirectory
from typing import Any

import numpy as np

from fcnkit.errors import DataError, message
from fcnkit.runtime.predict.history import HAS_RESULT, History, Told
from fcnkit.runtime.predict.identity import Origin
from fcnkit.runtime.predict.inputs import Job
from fcnkit.runtime.predict.outputs import SUFFIX_OF
from fcnkit.runtime.predict.parts import Part, found_in, is_manifest
from fcnkit.runtime.predict.store_manifest import ResultStamps, fetch_manifests
from fcnkit.runtime.predict.stores import Store
from fcnkit.runtime.predict.urls import Url

__all__ = ["Summary", "last_lines", "summarize"]


@dataclass(frozen=True, kw_only=True)
class Summary:
    """What became of the pictures of an output folder; the last line of an output counts."""

    manifests: list[str]
    """Names of the manifests."""
    done: int
    """Results that are listed and there."""
    failed: dict[str, int]
    """How many failed, by reason."""
    missing: list[str]
    """Results that are listed as done, and not there."""
    duplicates: list[str]
    """Results that two parts list as done, or that are of two pictures, and pictures that have two
    results; in words."""
    left: list[str] | None
    """Pictures without a result of any format; None where the pictures are not known."""
    torn: dict[str, int]
    """How many lines cannot be read, by manifest."""


@dataclass(frozen=True, kw_only=True)
class _Folder:
    """An output folder on this machine or on a store, with its manifests open."""

    manifests: list[str]
    parts: list[Part | None]
    """Of the manifests."""
    history: History
    exists: Callable[[str], bool]
    """Whether a result is there."""


@contextmanager
def _opened(out: Path | Url) -> Iterator[_Folder]:
    if isinstance(out, Url):
        with TemporaryDirectory() as name, _on_store(out, Path(name)) as folder:
            yield folder
        return
    if not out.is_dir():
        rule, remedy = "must be an output folder of fcnkit predict", "name the folder given to -o"
        raise DataError(message(str(out), rule, "no folder", remedy))
    written = found_in(out)
    paths = written.readable
    if not paths:
        raise _none(out)
    with History(paths) as history:
        yield _Folder(
            manifests=[path.name for path in paths],
            parts=[*written.manifests, *(None for _ in written.pieces)],
            history=history,
            exists=lambda output: os.path.lexists(out / output),
        )


@contextmanager
def _on_store(out: Url, folder: Path) -> Iterator[_Folder]:
    store = Store(out)
    manifest = fetch_manifests(store, folder)
    if manifest is None:
        raise _none(out)
    results = ResultStamps(store)
    with History([manifest]) as history:
        yield _Folder(
            manifests=[name for name in store.folder("")[1] if is_manifest(name)],
            parts=[None],
            history=history,
            exists=lambda output: results.stamp(Path(output)) is not None,
        )


def _none(out: Path | Url) -> DataError:
    rule, remedy = "must hold a manifest of fcnkit predict", "name the folder given to -o"
    return DataError(message(str(out), rule, "none", remedy))


def last_lines(out: Path | Url) -> Iterator[dict[str, Any]]:
    """Yield the last line about every output of a folder, from all its manifests.

    Args:
        out: The output folder, or its address on a store. Runs may write there meanwhile.

    Raises:
        DataError: It holds no manifest; from the iterator.
        OSError: A manifest cannot be read; from the iterator.
    """
    with _opened(out) as folder:
        yield from folder.history.last_lines()


def summarize(out: Path | Url, jobs: Iterable[Job] | None = None) -> Summary:
    """Read all manifests of an output folder, and look whether their results are there.

    Args:
        out: As for ``last_lines``.
        jobs: Pictures that are to be labeled, from ``find_jobs`` with the same root as those runs.

    Raises:
        DataError: It holds no manifest.
        OSError: A manifest cannot be read.
    """
    with _opened(out) as folder:
        failed: Counter[str] = Counter()
        missing: list[str] = []
        done = 0
        pictures = array("q")
        for line in folder.history.last_lines():
            key = 0
            if line.get("status") not in HAS_RESULT:
                failed[_reason(line)] += 1
            elif folder.exists(line["output"]):
                done, key = done + 1, hash(_picture(line))
            else:
                missing.append(line["output"])
            pictures.append(key)
        history = folder.history
        made_twice = _made_twice(folder.parts, history)
        return Summary(
            manifests=folder.manifests,
            done=done,
            failed=dict(failed.most_common()),
            missing=missing,
            duplicates=sorted([*made_twice, *_two_results(history, pictures)]),
            left=None if jobs is None else [str(job.source) for job in _left(folder, jobs)],
            torn={path.name: count for path, count in history.torn.items()},
        )


def _left(folder: _Folder, jobs: Iterable[Job]) -> Iterator[Job]:
    suffixes = sorted(set(SUFFIX_OF.values()))
    for job in jobs:
        outputs = [job.output.with_suffix(suffix).as_posix() for suffix in suffixes]
        if not any(_is_there(folder, output) for output in outputs):
            yield job


def _is_there(folder: _Folder, output: str) -> bool:
    listed = any(told.is_last for told in folder.history.told(output))
    return listed and folder.exists(output)


def _reason(line: dict[str, Any]) -> str:
    """Return the rule that a picture broke, without what differs from picture to picture."""
    error = str(line.get("error"))
    return error.removeprefix(f"{line.get('input')}: ").partition(", got ")[0]


def _picture(line: dict[str, Any]) -> tuple[str, str, str]:
    """Return what one result belongs to; results of two formats, and frames, are not duplicates."""
    origin = Origin.read(line)
    path = "" if origin is None else origin.input_path
    return path, PurePosixPath(line["output"]).suffix, str(line.get("frame"))


def _made_twice(parts: list[Part | None], history: History) -> Iterator[str]:
    for output in history.shared():
        for one, other in combinations(sorted(history.told(output), key=_number), 2):
            first, second = parts[one.number], parts[other.number]
            if first is not None and second is not None and first.count == second.count:
                yield f"{output} is listed as done by parts {first} and {second}"
            elif not _are_of_one_picture(one, other):
                names = " and ".join(str(told.line.get("input")) for told in (one, other))
                yield f"{output} is listed as the result of {names}"


def _number(told: Told) -> int:
    return told.number


def _are_of_one_picture(one: Told, other: Told) -> bool:
    before, after = Origin.read(one.line), Origin.read(other.line)
    return before is None or after is None or before.is_same_picture(after)


def _two_results(history: History, pictures: array[int]) -> Iterator[str]:
    """Yield the pictures with two results; ``pictures`` has a hash per last line, 0 for none."""
    keys, counts = np.unique(np.frombuffer(pictures, np.int64), return_counts=True)
    repeated = set(keys[(counts > 1) & (keys != 0)].tolist())
    if not repeated:
        return
    results: dict[tuple[str, str, str], list[str]] = {}
    for line, key in zip(history.last_lines(), pictures, strict=True):
        if key in repeated:
            results.setdefault(_picture(line), []).append(line["output"])
    for (path, _, _), outputs in results.items():
        if len(outputs) > 1:
            yield f"{' and '.join(sorted(outputs))} are results of {path}"
