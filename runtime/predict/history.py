"""What the manifests of an output folder say about its results.

A folder may hold a million results. So only the place of every line is kept, 17 bytes each, and
the line is read again when its output is looked up.
"""

from __future__ import annotations

import json
import os
import re
import threading
from array import array
from bisect import bisect_left
from collections import Counter
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from json.encoder import encode_basestring_ascii as quoted
from pathlib import Path
from typing import IO, Any, Final

import numpy as np
from numpy.typing import NDArray

from fcnkit.errors import DataError, message
from fcnkit.runtime.closing import Closing
from fcnkit.runtime.predict.identity import Origin
from fcnkit.runtime.predict.parts import is_manifest
from fcnkit.runtime.predict.stamp import Stamp

__all__ = [
    "HAS_RESULT",
    "History",
    "Told",
    "check_separate",
    "is_results_folder",
    "parsed",
]

HAS_RESULT: Final = ("done", "partial", "begun")
"""Each status of a line whose output was written, or may have been."""
_OFFSET: Final = 44
"""Bits of a place that hold the offset in its file; the bits above say which file."""
_DECODE: Final = json.JSONDecoder().raw_decode
_STRING: Final = rb'"[^"\\]*(?:\\.[^"\\]*)*"'
_STAMP: Final = rb'(?:null|\{"bytes": \d+, "mtime_ns": -?\d+\})'
_BEGIN: Final = re.compile(
    rb'\{"input": %b, "input_path": %b, "input_stamp": %b, "status": "(\w+)", "output": (%b), '
    % (_STRING, _STRING, _STAMP, _STRING)
)
"""How this version begins a line. A whole line takes five times as long to parse."""
_MOST_OPEN: Final = 64
"""Files that are open at a time; a folder may have more manifests than a process may open."""


@dataclass(frozen=True)
class Told:
    """What one manifest says about a result."""

    number: int
    """Of the manifest, in the order in which they were given, from 0."""
    line: dict[str, Any]
    """The last line that says from which picture it was made."""
    is_last: bool
    """Whether no line about this result follows, such as one of a failure."""


class History(Closing):
    """The lines of several manifests, found by the name of the result; for any thread."""

    def __init__(self, paths: Iterable[Path]) -> None:
        """Read manifests. Lines that are written later are not seen.

        Args:
            paths: Of regular files.

        Raises:
            DataError: One is a link or no regular file.
            OSError: One cannot be read.
        """
        self.torn: Counter[Path] = Counter()
        """How many lines of each manifest cannot be read: a power cut tore them."""
        self._unreadable: set[int] = set()
        """Places of lines that began well."""
        self._using = threading.Lock()
        self._paths: list[Path] = []
        self._open: dict[int, IO[bytes]] = {}
        keys, places, made = array("q"), array("Q"), array("B")
        for number, path in enumerate(paths):
            check_separate(path)
            self._paths.append(path)
            with path.open("rb") as file:
                for offset, found in _numbered_lines(file):
                    if found is None:
                        self.torn[path] += 1
                    elif isinstance(found[0], str):
                        keys.append(hash(found[0]))
                        places.append(number << _OFFSET | offset)
                        made.append(found[1] in HAS_RESULT)
        order = np.argsort(np.frombuffer(keys, np.int64), kind="stable")
        self._keys = np.frombuffer(keys, np.int64)[order]
        self._places = np.frombuffer(places, np.uint64)[order]
        self._is_made = np.frombuffer(made, np.uint8)[order]
        self._sorted = self._keys.data
        """The keys, ten times as fast to look at one by one."""
        self._has_pairs = bool((self._keys[1:] == self._keys[:-1]).any())
        """Whether an output has several lines."""
        self._next = 0
        """Place of the line behind the one that was looked up last."""

    def only_line(self, output: str) -> bytes | None:
        """Return the line about a result that was made, None where there is none or several.

        Args:
            output: Its name relative to the output folder. The line may be about another one
                whose name has the same hash.
        """
        # Most runs come to the pictures in the order in which the manifest lists them.
        line = b"" if self._has_pairs or not self._paths else self._bytes_at(self._next)
        if b', "status": "done", "output": %b, ' % quoted(output).encode() in line:
            return line
        keys, key = self._sorted, hash(output)
        at = bisect_left(keys, key)
        if at == len(keys) or keys[at] != key or not self._is_made[at]:
            return None
        several = at + 1 < len(keys) and keys[at + 1] == key
        return None if several else self._bytes_at(int(self._places[at]))

    def told(self, output: str) -> list[Told]:
        """Return what each manifest says about a result, where one says that it was made.

        Args:
            output: Its name relative to the output folder.
        """
        key = np.int64(hash(output))
        begin = int(np.searchsorted(self._keys, key, "left"))
        end = int(np.searchsorted(self._keys, key, "right"))
        found: dict[int, Told] = {}
        later: set[int] = set()
        """Manifests with a line about this result behind the one that is looked at."""
        for at in reversed(range(begin, end)):
            number = int(self._places[at]) >> _OFFSET
            if number in found:
                continue
            line = self._line_at(int(self._places[at]))
            if line is None or line.get("output") != output:
                continue  # another name with the same hash
            if self._is_made[at]:
                found[number] = Told(number, line, is_last=number not in later)
            later.add(number)
        return list(found.values())

    def _line_at(self, place: int) -> dict[str, Any] | None:
        data = parsed(self._bytes_at(place))
        if data is None and place not in self._unreadable:
            self._unreadable.add(place)
            self.torn[self._paths[place >> _OFFSET]] += 1
        return data

    def _bytes_at(self, place: int) -> bytes:
        number, offset = divmod(place, 1 << _OFFSET)
        with self._using:
            file = self._reader(number)
            file.seek(offset)
            line = file.readline()
            self._next = place + len(line)
            return line

    def _reader(self, number: int) -> IO[bytes]:
        if number not in self._open:
            if len(self._open) == _MOST_OPEN:
                self._open.pop(next(iter(self._open))).close()
            self._open[number] = self._paths[number].open("rb")
        return self._open[number]

    def origins(self, out: Path, output: str) -> list[Origin]:
        """Return the pictures that a result may have been made from.

        Several manifests may name several, if pictures moved between runs. The one that lists the
        file as it is now is right.

        Args:
            out: The output folder.
            output: Name of the result in it.
        """
        lines = [told.line for told in self.told(output)]
        stamp = Stamp.of(out / output)
        exact = [line for line in lines if Stamp.read(line.get("output_stamp")) == stamp]
        origins = map(Origin.read, (exact if stamp else []) or lines)
        return [origin for origin in origins if origin is not None]

    def last_lines(self) -> Iterator[dict[str, Any]]:
        """Yield the last line about every output, in the order of the manifests.

        Within a manifest the order of lines decides, between manifests their time.
        """
        for place in np.sort(np.array(self._last_places(), np.uint64)):
            line = self._line_at(int(place))
            if line is not None:
                yield line

    def _last_places(self) -> Iterable[int]:
        begins, ends = self._groups()
        single = ends - begins == 1
        places: list[int] = self._places[begins[single]].tolist()
        for begin, end in zip(begins[~single].tolist(), ends[~single].tolist(), strict=True):
            lasts: dict[str, dict[int, tuple[int, int]]] = {}
            for place in self._places[begin:end].tolist():
                line, number = self._line_at(place) or {}, place >> _OFFSET
                time = line.get("time_ns")
                when = time if isinstance(time, int) else 0
                lasts.setdefault(str(line.get("output")), {})[number] = (when, place)
            places += [max(of_one.values())[1] for of_one in lasts.values()]
        return places

    def _groups(self) -> tuple[NDArray[np.intp], NDArray[np.intp]]:
        """Return where the lines of each output begin and end."""
        changes = np.flatnonzero(self._keys[1:] != self._keys[:-1]) + 1
        bounds = np.concatenate([[0], changes, [len(self._keys)]]).astype(np.intp)
        if not len(self._keys):
            bounds = bounds[:1]
        return bounds[:-1], bounds[1:]

    def shared(self) -> Iterator[str]:
        """Yield the outputs that several manifests have lines about."""
        begins, ends = self._groups()
        numbers = self._places >> np.uint64(_OFFSET)
        several = numbers[begins] != numbers[ends - 1]
        for begin, end in zip(begins[several].tolist(), ends[several].tolist(), strict=True):
            lines = [self._line_at(place) for place in self._places[begin:end].tolist()]
            yield from sorted({str(line["output"]) for line in lines if line is not None})

    def close(self) -> None:
        """Close the files; closing twice is fine."""
        while self._open:
            self._open.popitem()[1].close()


def check_separate(path: Path) -> None:
    """Refuse a manifest through which another file would be written, or that never ends.

    Raises:
        DataError: It is a link, or no regular file.
    """
    if path.is_symlink() or (path.exists() and not path.is_file()):
        # A link would be written through, and opening a pipe waits for a reader.
        rule, remedy = "must be a separate file", "remove it, or choose another folder"
        raise DataError(message(str(path), rule, "a link or no regular file", remedy))


def _numbered_lines(file: IO[bytes]) -> Iterator[tuple[int, tuple[object, object] | None]]:
    """Yield where each line of a manifest begins, and its output and status; None for a torn line.

    Args:
        file: Read from its start. A last line without an end may be under way: it is left out
            where it cannot be read.
    """
    offset = 0
    for line in file:
        found = _output_and_status(line)
        if found is not None or (line.endswith(b"\n") and not line.isspace()):
            yield offset, found
        offset += len(line)


def _output_and_status(line: bytes) -> tuple[object, object] | None:
    begin = _BEGIN.match(line)
    # After a power cut a line may hold zeros or end early. Other damage shows when it is used.
    if begin is not None and line.endswith(b"}\n") and b"\0" not in line:
        status, name = begin.groups()
        try:
            output = json.loads(name) if b"\\" in name else name[1:-1].decode()
        except ValueError:
            pass
        else:
            return output, status.decode()
    data = parsed(line)
    return None if data is None else (data.get("output"), data.get("status"))


def parsed(line: bytes) -> dict[str, Any] | None:
    """Return the object that a line holds; None where it was torn by a power cut, or made so."""
    try:
        text = line.strip().decode()
        data, end = _DECODE(text)
    except (ValueError, RecursionError):
        return None
    return data if isinstance(data, dict) and end == len(text) else None


def is_results_folder(folder: Path) -> bool:
    """Whether a folder holds a manifest that a run wrote."""
    try:
        with os.scandir(folder) as entries:
            names = [entry.name for entry in entries if entry.name.startswith("manifest")]
        return any(_begins_as_manifest(folder / name) for name in filter(is_manifest, names))
    except OSError:
        return False


def _begins_as_manifest(path: Path) -> bool:
    if not path.is_file():
        return False
    with path.open("rb") as file:
        data = parsed(file.readline(1 << 16))
    return data is not None and {"input", "output", "model_sha256"} <= data.keys()
