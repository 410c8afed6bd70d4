"""Every file that a fuzz target starts from, or that once made one fail, is read again."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.fuzz.targets import SEEDS, TARGETS

FILES = [(name, path) for name, folder in SEEDS.items() for path in sorted(folder.iterdir())]


@pytest.mark.parametrize(("name", "path"), FILES, ids=[f"{n}-{p.name}" for n, p in FILES])
def test_file(name: str, path: Path) -> None:
    TARGETS[name](path.read_bytes())


def test_every_target_has_files() -> None:
    assert {name for name, _ in FILES} == set(TARGETS)
