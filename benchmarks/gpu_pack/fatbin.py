"""Keep one GPU generation in a shared library that holds code for many.

A library built by CUDA's compiler holds containers ("fatbins"), each with one entry per GPU
generation. ``prune`` keeps the entries of one generation and fills the rest with zeros, so the
file keeps its size and layout, loads as before, and compresses to a fraction.
"""

from __future__ import annotations

import mmap
import struct
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from fcnkit.errors import message

__all__ = ["Pruned", "prune"]

_MAGIC = struct.pack("<I", 0xBA55ED50)
_HEADER = struct.Struct("<IHHQ")
"""A container's magic number, version, length of this header, and length of what follows."""
_ENTRY = struct.Struct("<HHIQ")
"""An entry's kind, version, length of its header, and length of what follows."""
_GENERATION_AT = 28
"""Where an entry's header holds its generation: 90 for compute capability 9.0."""
_MACHINE_CODE = 2
_KINDS = frozenset((1, 2, 4, 8, 16, 32, 64))


@dataclass(frozen=True, kw_only=True)
class Pruned:
    """What was found and what was left, in bytes of machine code by generation."""

    before: dict[int, int]
    kept: int
    containers: int


@dataclass(frozen=True, kw_only=True)
class _Entry:
    kind: int
    generation: int
    start: int
    size: int


def prune(library: Path, generation: int) -> Pruned:
    """Keep one generation's machine code in a shared library, in place.

    Args:
        library: The shared library; changed in place, same size.
        generation: Such as 90 for compute capability 9.0.

    Returns:
        What was found and kept.

    Raises:
        ValueError: The library holds no machine code for that generation; it is left as it was.
        OSError: It cannot be read or written.
    """
    with library.open("r+b") as file, mmap.mmap(file.fileno(), 0) as memory:
        found = list(_containers(memory))
        before: Counter[int] = Counter()
        for _, entries in found:
            for entry in entries:
                if entry.kind == _MACHINE_CODE:
                    before[entry.generation] += entry.size
        if generation not in before:
            rule = f"must hold machine code for GPU generation {generation}"
            got = ", ".join(map(str, sorted(before))) or "none"
            raise ValueError(message(str(library), rule, got, "choose one of them with --arch"))
        for start, entries in found:
            _keep(memory, start, entries, generation)
    return Pruned(before=dict(before), kept=before[generation], containers=len(found))


def _keep(memory: mmap.mmap, start: int, entries: list[_Entry], generation: int) -> None:
    """Move the entries to be kept to the container's front and state the shorter length."""
    mine = [e for e in entries if e.kind == _MACHINE_CODE and e.generation == generation]
    kept = b"".join(memory[e.start : e.start + e.size] for e in mine)
    body, end = start + _HEADER.size, entries[-1].start + entries[-1].size
    memory[body:end] = kept + bytes(end - body - len(kept))
    struct.pack_into("<Q", memory, start + 8, len(kept))


def _containers(memory: mmap.mmap) -> Iterator[tuple[int, list[_Entry]]]:
    """Give each container's offset and entries; a magic number by chance has no valid entries."""
    start = memory.find(_MAGIC)
    while start >= 0:
        entries = _entries(memory, start)
        if entries:
            yield start, entries
        after = entries[-1].start + entries[-1].size if entries else start + len(_MAGIC)
        start = memory.find(_MAGIC, after)


def _entries(memory: mmap.mmap, start: int) -> list[_Entry]:
    if start + _HEADER.size > len(memory):
        return []
    _, _, header, length = _HEADER.unpack_from(memory, start)
    at, end = start + header, start + header + length
    if header != _HEADER.size or end > len(memory):
        return []
    found = []
    while at < end:
        if at + 48 > end:
            return []
        kind, _, head, size = _ENTRY.unpack_from(memory, at)
        if kind not in _KINDS or head < 48 or at + head + size > end:
            return []
        (generation,) = struct.unpack_from("<I", memory, at + _GENERATION_AT)
        found.append(_Entry(kind=kind, generation=generation, start=at, size=head + size))
        at += head + size
    return found
