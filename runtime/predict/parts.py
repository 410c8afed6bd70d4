"""Shares of a run: which pictures a part labels, and the names of its manifest and its folder.

Parts need no coordinator: the name of a result decides which part makes it.
"""

from __future__ import annotations

import hashlib
import os
import re
import unicodedata
from dataclasses import dataclass
from pathlib import Path
from typing import Final, Self

from fcnkit.errors import BadTypeError, BadValueError, message

__all__ = [
    "MANIFEST",
    "PARTIAL",
    "PIECES",
    "Found",
    "Part",
    "found_in",
    "is_manifest",
    "manifest_name",
    "partial_name",
    "piece_name",
]

MANIFEST: Final = "manifest.jsonl"
"""Name of the manifest of a run without parts."""

PARTIAL: Final = ".fcnkit-partial"
"""Name of the folder in which a run without parts writes its results until they are whole."""

_NUMBERS: Final = r"([1-9][0-9]{0,8})-of-([1-9][0-9]{0,8})"
_MANIFESTS: Final = re.compile(rf"manifest(?:\.{_NUMBERS})?\.jsonl")
_PIECE: Final = "manifest.at-"
PIECES: Final = f"{_PIECE}*.jsonl"
"""Pattern of the names of ``piece_name``."""
_PIECES: Final = re.compile(rf"{re.escape(_PIECE)}[0-9]{{20}}-[0-9a-f]{{8}}-[0-9]{{8}}\.jsonl")
_PARTIALS: Final = re.compile(rf"{re.escape(PARTIAL)}(?:-{_NUMBERS})?")
_BEGINS: Final = ("manifest", PARTIAL)
"""How the names of all of these begin."""
_REMEDY: Final = "pass 1/8 to 8/8 for eight parts"


@dataclass(frozen=True, order=True)
class Part:
    """One of several shares of the same pictures, ``number`` from 1 to ``count``."""

    count: int
    number: int

    @classmethod
    def parse(cls, text: object) -> Self:
        """Return the part that ``I/N`` names.

        Raises:
            TypeError: It is not a str.
            ValueError: It is not two integers, or I is not from 1 to N.
        """
        rule = "--part must be I/N with I from 1 to N"
        if not isinstance(text, str):
            got = type(text).__name__
            raise BadTypeError(message("predict", rule, got, _REMEDY))
        found = re.fullmatch(r"([1-9][0-9]{0,8})/([1-9][0-9]{0,8})", text)
        if found is None or int(found[1]) > int(found[2]):
            raise BadValueError(message("predict", rule, repr(text), _REMEDY))
        return cls(count=int(found[2]), number=int(found[1]))

    def __str__(self) -> str:
        return f"{self.number}/{self.count}"

    def holds(self, output: Path) -> bool:
        """Whether this part makes a result.

        The name without its ending decides. So a part has the same pictures in every format, and
        two pictures that compete for one name belong to the same part.

        Args:
            output: Name of the result, relative to the output folder.
        """
        # Some systems store accents as separate characters.
        name = unicodedata.normalize("NFC", output.with_suffix("").as_posix())
        digest = hashlib.blake2b(name.encode("utf-8", "surrogatepass"), digest_size=8).digest()
        return int.from_bytes(digest, "big") % self.count == self.number - 1


def _numbered(part: Part | None, before: str) -> str:
    return "" if part is None else f"{before}{part.number}-of-{part.count}"


def manifest_name(part: Part | None) -> str:
    """Return the name of the manifest of a part, or of a run without parts."""
    return f"manifest{_numbered(part, '.')}.jsonl"


def piece_name(time_ns: int, run: str, number: int) -> str:
    """Return the name of a piece of the manifest of a run into a store, which cannot append.

    In order of name, pieces are in order of time.

    Args:
        time_ns: When the run began, since 1970.
        run: Eight hexadecimal digits, other ones for every run.
        number: Of the piece in its run.
    """
    return f"{_PIECE}{time_ns:020}-{run}-{number:08}.jsonl"


def is_manifest(name: str) -> bool:
    """Whether a file in an output folder is a manifest, or a piece of one."""
    return bool(_MANIFESTS.fullmatch(name) or _PIECES.fullmatch(name))


def partial_name(part: Part | None) -> str:
    """Return the name of the folder in which a part, or a run without parts, writes its results."""
    return f"{PARTIAL}{_numbered(part, '-')}"


@dataclass(frozen=True)
class Found:
    """What runs wrote into an output folder besides results."""

    manifests: dict[Part | None, Path]
    """That of runs without parts first."""
    pieces: list[Path]
    """Pieces of manifests, in order of time: of runs with pictures on a store."""
    partials: dict[Part | None, Path]
    """Folders in which runs write, or wrote before they were killed."""

    @property
    def readable(self) -> list[Path]:
        """All that has lines about results."""
        return [*self.manifests.values(), *self.pieces]


def found_in(folder: Path) -> Found:
    """Look through an output folder, once: it may hold a million results.

    Args:
        folder: It exists.

    Raises:
        OSError: It cannot be listed.
    """
    with os.scandir(folder) as entries:
        names = sorted(entry.name for entry in entries if entry.name.startswith(_BEGINS))
    return Found(
        manifests=_by_part(folder, names, _MANIFESTS),
        pieces=[folder / name for name in names if _PIECES.fullmatch(name)],
        partials=_by_part(folder, names, _PARTIALS),
    )


def _by_part(folder: Path, names: list[str], pattern: re.Pattern[str]) -> dict[Part | None, Path]:
    found: dict[Part | None, Path] = {}
    for name in names:
        named = pattern.fullmatch(name)
        if named is None:
            continue
        if named[1] is None:
            found[None] = folder / name
        elif int(named[1]) <= int(named[2]):
            found[Part(count=int(named[2]), number=int(named[1]))] = folder / name
    numbered = sorted(part for part in found if part is not None)
    first = [None] if None in found else []
    return {part: found[part] for part in [*first, *numbered]}
