"""What a resumed run finds in its folder."""

from __future__ import annotations

import re
from dataclasses import replace
from pathlib import Path

import pytest

from fcnkit.errors import ArtifactError
from tests.train.tiny import RECIPE, train_tiny


def test_a_torn_list_of_epochs_is_refused(shapes_folder: Path, tmp_path: Path) -> None:
    run = tmp_path / "run"
    train_tiny(shapes_folder, run, replace(RECIPE, epochs=1))
    path = run / "metrics.jsonl"
    whole = path.read_bytes()
    torn = (whole[:-10], b"\xff\xfe", b'{"epoch": "1"}\n', b"3\n", b'{"loss": 1.0}\n', b"[" * 9999)
    for content in torn:
        path.write_bytes(content)
        rule = re.escape(f"{path}: must hold a line per epoch, got ")
        remedy = "; start a new run with another -o"
        with pytest.raises(ArtifactError, match=rf"\A{rule}[^\n]+{remedy}\Z"):
            train_tiny(shapes_folder, run, RECIPE, resume=True)
        assert path.read_bytes() == content
    path.write_bytes(whole)
    assert len(train_tiny(shapes_folder, run, replace(RECIPE, epochs=1), resume=True)) == 1
