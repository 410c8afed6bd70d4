from __future__ import annotations

import io
import json
from typing import TYPE_CHECKING

from rich.console import Console
from typer.testing import CliRunner

from fcnkit.cli import data, progress
from fcnkit.errors import DataError
from fcnkit.train.data import download
from fcnkit.train.data.check import check_folder
from tests.train.folders import make_folder

if TYPE_CHECKING:
    from pathlib import Path

    import pytest

run = CliRunner().invoke


def test_shapes_then_check(tmp_path: Path) -> None:
    out = tmp_path / "d"
    args = ["shapes", str(out), "--train", "20", "--val", "8", "--seed", "5"]
    result = run(data.app, args)
    assert result.exit_code == 0
    assert result.stdout == f"{out}: 20 train, 8 val pictures\n"
    assert result.stderr.startswith("draw: 1 of 28\ndraw: 3 of 28\n")
    assert result.stderr.endswith(f"draw: 28 of 28\nnext: fcnkit train {out} -o run\n")
    assert run(data.app, args).stdout == f"{out}: 20 train, 8 val pictures, already there\n"
    checked = run(data.app, ["check", str(out)])
    assert checked.exit_code == 0
    lines = checked.stdout.splitlines()
    assert lines[0].startswith("train: 20 pictures, heights 1")
    assert lines[-1] == "ok"


def test_shapes_with_test_pictures(tmp_path: Path) -> None:
    args = ["shapes", str(tmp_path), "--train", "1", "--val", "1", "--test", "2"]
    assert run(data.app, args).stdout == f"{tmp_path}: 1 train, 1 val, 2 test pictures\n"


def test_check_says_what_is_wrong_and_exits_with_1(tmp_path: Path) -> None:
    root = make_folder(tmp_path / "d[red]", train=["a", "b"], val=["b"])
    (root / "JPEGImages/a.jpg").unlink()
    result = run(data.app, ["check", str(root)])
    assert result.exit_code == 1
    assert result.stdout.splitlines() == [
        "train: 2 pictures, heights 6..6, widths 8..8",
        "train: background 0 pixels 0.00%",
        "train: cat 96 pixels 100.00%",
        "train: dog 0 pixels 0.00%",
        "train: void 0 pixels",
        (
            f"train: missing: {root}/JPEGImages/a: must be one file, "
            "got none with .jpg, .jpeg, .png, .tif, .tiff; add it, or take the name off the list"
        ),
        "val: 1 pictures, heights 6..6, widths 8..8",
        "val: background 0 pixels 0.00%",
        "val: cat 48 pixels 100.00%",
        "val: dog 0 pixels 0.00%",
        "val: void 0 pixels",
        "train and val share 1 names: b",
        (
            f"warning: {root}: train: every class should have pixels to be learned, got none of "
            "background, dog, only cat; list pictures in train.txt that show it"
        ),
        "problems: 2, warnings: 1",
    ]


def test_check_answers_with_json(tmp_path: Path) -> None:
    root = make_folder(tmp_path / "d", train=["a"])
    (root / "JPEGImages/a.jpg").unlink()
    result = run(data.app, ["check", str(root), "--json"])
    assert result.exit_code == 1
    assert json.loads(result.stdout) == json.loads(json.dumps(check_folder(root).to_dict()))


def test_check_shows_some_problems_of_many(tmp_path: Path) -> None:
    root = make_folder(tmp_path / "d", train=[f"p{n}" for n in range(25)])
    for path in (root / "JPEGImages").iterdir():
        path.unlink()
    lines = run(data.app, ["check", str(root)]).stdout.splitlines()
    assert "train: and 5 more problems; --json lists all" in lines
    assert lines[-1] == "problems: 25, warnings: 2"


def test_on_a_terminal_the_classes_are_a_table(tmp_path: Path) -> None:
    root = make_folder(tmp_path / "d", train=["a"])
    screen = io.StringIO()
    console = Console(file=screen, force_terminal=True, width=80, color_system=None)
    data._print_report(check_folder(root), console)
    text = screen.getvalue()
    assert "│ cat        │     48 │ 100.00% │" in text
    assert text.endswith("warnings: 2\n")


def test_errors_are_left_to_the_caller(tmp_path: Path) -> None:
    result = run(data.app, ["check", str(tmp_path / "none")])
    assert isinstance(result.exception, DataError)


def test_voc2012_prints_the_folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def fake(out: Path, *, progress: progress.Advance) -> Path:
        progress("download", 0, 4_000_000)
        progress("download", 4_000_000, 4_000_000)
        return out / "VOCdevkit/VOC2012"

    monkeypatch.setattr(download, "download_voc2012", fake)
    result = run(data.app, ["voc2012", str(tmp_path)])
    assert result.stdout == f"{tmp_path}/VOCdevkit/VOC2012\n"
    assert result.stderr == (
        "download: 0.0 MB of 4.0 MB\ndownload: 4.0 MB of 4.0 MB\n"
        f"next: fcnkit train {tmp_path}/VOCdevkit/VOC2012 -o run\n"
    )


def test_bars_on_a_terminal(monkeypatch: pytest.MonkeyPatch) -> None:
    screen = io.StringIO()
    console = Console(file=screen, force_terminal=True, width=100)
    monkeypatch.setattr(progress, "Console", lambda stderr: console)
    with progress.progress_of(in_bytes=True) as advance:
        advance("download", 0, None)
        advance("download", 5, 10)
        advance("verify", 10, 10)
    assert "download" in screen.getvalue()
    assert "verify" in screen.getvalue()
