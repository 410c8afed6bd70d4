"""A short share of ``python -m tests.faults``, and that its page says what it tries."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.faults import PROMISES
from tests.faults.commands import ROOT
from tests.faults.table import Setting, tried


@pytest.mark.parametrize("key", PROMISES)
def test_promise(key: str, tmp_path: Path) -> None:
    counts, broken = tried(PROMISES[key], Setting(folder=tmp_path, seconds=2, full=False))
    assert broken == []
    assert counts["kept"] > 0


def test_the_page_states_every_promise() -> None:
    page = (ROOT / "docs" / "reliability.md").read_text(encoding="utf-8")
    words = " ".join(page.split())
    assert [key for key, found in PROMISES.items() if found.text not in words] == []
    assert [key for key in PROMISES if f"`{key}`" not in words] == []
