"""What is written where an encoding lacks characters, and that nothing fails for it."""

from __future__ import annotations

import ast
import json
import os
import subprocess
import sys
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import pytest
from PIL import Image

from tests.cli.shell import fcnkit
from tests.conftest import ROOT
from tests.runtime.models import make_spec, write_model

CLASSES = ("背景", "🌳", "caf\xe9", "дорога")
ENCODINGS = ("ascii", "cp1252", "utf-8", "cp1252:strict")


@pytest.fixture(scope="module")
def model(tmp_path_factory: pytest.TempPathFactory) -> Path:
    spec = replace(make_spec("labels"), classes=CLASSES)
    return write_model(tmp_path_factory.mktemp("models") / "猫.onnx", spec)


def in_bytes(*arguments: object, encoding: str, stdin: bytes = b"") -> tuple[int, bytes, bytes]:
    code = "from fcnkit.cli import main; main()"
    # As in a shell that knows no UTF-8 anywhere.
    environment = {**os.environ, "PYTHONIOENCODING": encoding, "COLUMNS": "200"}
    done = subprocess.run(
        [sys.executable, "-c", code, *map(str, arguments)],
        input=stdin,
        capture_output=True,
        check=False,
        env=environment,
    )
    return done.returncode, done.stdout, done.stderr


def escaped(text: str, encoding: str) -> bytes:
    return text.encode(encoding.partition(":")[0], "backslashreplace")


@pytest.mark.parametrize("encoding", ENCODINGS)
def test_class_names_that_cannot_be_written(model: Path, encoding: str) -> None:
    code, said, errors = in_bytes("info", model, encoding=encoding)
    assert (code, errors) == (0, b"")
    assert escaped(", ".join(CLASSES), encoding) in said
    assert said.splitlines()[0].startswith(escaped(str(model), encoding))


@pytest.mark.parametrize("encoding", ENCODINGS)
def test_pictures_whose_names_cannot_be_written(model: Path, tmp_path: Path, encoding: str) -> None:
    folder, out = tmp_path / "фото", tmp_path / "结果"
    folder.mkdir()
    names = ["猫.png", "🐈.png", os.fsdecode(b"caf\xe9.png")]
    for name in names:
        Image.new("RGB", (40, 33)).save(folder / name)
    broken = [folder / "坏.png", folder / os.fsdecode(b"\xff.png")]
    for path in broken:
        path.write_text("broken")
    (folder / "注.文本").touch()
    code, said, errors = in_bytes("predict", model, folder, "-o", out, encoding=encoding)
    assert code == 1
    assert said.startswith(b"3 done, 2 failed in ")
    manifest, passed_over = said.splitlines()
    assert manifest.endswith(escaped(f"; see {out}/manifest.jsonl", encoding))
    assert passed_over == escaped("passed over, not pictures: .文本 1", encoding)
    for path in broken:
        shown = path.name.replace("\udcff", "\\udcff")
        line = f"failed: {folder}/{shown}: must be a picture file, got something else"
        assert escaped(line, encoding) in errors
    assert b"Traceback" not in errors
    assert b"predict: 5 of 5 images" in errors
    assert {path.name for path in out.iterdir()} == {*names, "manifest.jsonl"}
    code, said, errors = in_bytes("predict", model, folder, "-o", out, "--json", encoding=encoding)
    summary = json.loads(said)
    assert (summary["skipped"], summary["passed_over"]) == (3, 1)
    assert summary["manifest"] == f"{out}/manifest.jsonl"


@pytest.mark.parametrize("encoding", ENCODINGS)
def test_a_list_on_standard_input_is_bytes(model: Path, tmp_path: Path, encoding: str) -> None:
    paths = [tmp_path / name for name in ("猫.png", os.fsdecode(b"caf\xe9\x81.png"))]
    for path in paths:
        Image.new("RGB", (40, 33)).save(path)
    listed = b"\n".join(map(os.fsencode, paths))
    out = tmp_path / "out"
    code, said, errors = in_bytes("predict", model, "-", "-o", out, encoding=encoding, stdin=listed)
    assert (code, said[:16]) == (0, b"2 done, 0 failed"), errors
    assert all((out / path.name).exists() for path in paths)


@pytest.mark.parametrize("encoding", ENCODINGS)
def test_errors_and_usage_that_cannot_be_written(tmp_path: Path, encoding: str) -> None:
    path = tmp_path / "没有.onnx"
    code, said, errors = in_bytes("info", path, encoding=encoding)
    line = f"error: {path}: must be a model file, got no such file; check the path\n"
    assert (code, said, errors) == (2, b"", escaped(line, encoding))
    code, said, errors = in_bytes("info", "--猫", encoding=encoding)
    assert (code, said) == (2, b"")
    assert b"Traceback" not in errors
    code, said, errors = in_bytes("--help", encoding=encoding)
    assert (code, errors) == (0, b"")
    said.decode(encoding.partition(":")[0])


@pytest.mark.parametrize("encoding", ["ascii", "cp1252"])
def test_a_terminal_that_lacks_characters(tmp_path: Path, encoding: str) -> None:
    """Bars are drawn where standard error is a terminal; this asks rich to believe it."""
    code = (
        "from fcnkit.cli.say import escape_unknown\n"
        "from fcnkit.cli.progress import progress_of\n"
        "escape_unknown()\n"
        "with progress_of(unit='图') as advance:\n"
        "    for done in range(5): advance('训练 🌳 \\udcff', done, 4)\n"
    )
    done = subprocess.run(
        [sys.executable, "-c", code],
        capture_output=True,
        check=False,
        env={**os.environ, "PYTHONIOENCODING": encoding, "FORCE_COLOR": "1", "COLUMNS": "120"},
    )
    assert done.returncode == 0, done.stderr
    assert rb"\u8bad\u7ec3 \U0001f333 \udcff" in done.stderr
    assert b"4/4" in done.stderr


def calls(path: Path) -> Iterator[str]:
    for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
        if isinstance(node, ast.Call):
            yield ast.unparse(node.func)


def test_every_verb_writes_through_say() -> None:
    """``typer.echo`` writes UTF-8 on an ASCII stream."""
    for path in sorted((ROOT / "src/fcnkit/cli").glob("*.py")):
        assert {"typer.echo", "click.echo", "typer.secho", "print"}.isdisjoint(calls(path)), path


def test_the_version_is_said() -> None:
    assert fcnkit("--version", PYTHONIOENCODING="ascii").stdout.startswith("fcnkit 0.")
