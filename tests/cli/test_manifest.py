"""Parts at once in processes that are killed, and what ``fcnkit manifest`` says of them."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import time
from pathlib import Path

import pytest

from tests.cli.shell import called, refused
from tests.conftest import ROOT
from tests.runtime.models import make_spec, write_model
from tests.runtime.pictures import write_pictures

COUNT, PARTS = 160, 8


@pytest.fixture(scope="module")
def model(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_model(tmp_path_factory.mktemp("models") / "m.onnx", make_spec("labels"))


def start(model: Path, source: Path, out: Path, number: int) -> subprocess.Popen[str]:
    code = "from fcnkit.cli import main; main()"
    arguments = ["predict", model, source, "-o", out, "--threads", 1, "--part", f"{number}/{PARTS}"]
    return subprocess.Popen(
        [sys.executable, "-c", code, *map(str, arguments)],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )


def test_parts_at_once_three_of_them_killed(model: Path, tmp_path: Path) -> None:
    source, out = write_pictures(tmp_path / "in", COUNT, side=200), tmp_path / "out"
    running = {number: start(model, source, out, number) for number in range(1, PARTS + 1)}
    for number in (2, 5, 7):
        manifest = out / f"manifest.{number}-of-{PARTS}.jsonl"
        while running[number].poll() is None and not (
            manifest.exists() and b"\n" in manifest.read_bytes()
        ):
            time.sleep(0.002)
        running[number].kill()
        running[number].communicate()
        running[number] = start(model, source, out, number)
    for process in running.values():
        errors = process.communicate(timeout=300)[1]
        assert process.returncode == 0, errors
    done = called("manifest", out)
    told = f"{out}: {COUNT} done, 0 failed, 0 missing, 0 duplicates; manifests: {PARTS}\n"
    assert (done.returncode, done.stdout) == (0, told)
    whole = tmp_path / "whole"
    assert called("predict", model, source, "-o", whole, "--threads", 1).returncode == 0
    pictures = {path.name: path.read_bytes() for path in whole.glob("*.png")}
    assert {path.name: path.read_bytes() for path in out.glob("*.png")} == pictures
    lines = [json.loads(line) for line in called("manifest", out, "--lines").stdout.splitlines()]
    assert sorted(line["output"] for line in lines) == sorted(pictures)
    assert not list(out.glob(".fcnkit-partial*"))


def test_the_slurm_script_of_the_docs(model: Path, tmp_path: Path) -> None:
    """Three local processes with the variables that Slurm sets, one after the other."""
    source, out = write_pictures(tmp_path / "in", 12), tmp_path / "out"
    page = (ROOT / "docs" / "scale.md").read_text(encoding="utf-8")
    script = page.partition("\n## Slurm\n")[2].partition("```sh\n")[2].partition("```")[0]
    assert script.startswith("#!/bin/bash\n#SBATCH --array=1-40\n")
    for theirs, ours in {"/models/m.onnx": model, "/photos": source, "/labels": out}.items():
        script = script.replace(theirs, str(ours))
    command = f"'{sys.executable}' -c 'from fcnkit.cli import main; main()' \"$@\""
    script = f"fcnkit() {{ {command}; }}\n{script.replace('/40', '/3')}"
    for number in (1, 2, 3):
        task = {"SLURM_ARRAY_TASK_ID": str(number), "SLURM_CPUS_PER_TASK": "1"}
        done = subprocess.run(
            ["bash", "-c", script],
            env={**os.environ, **task},
            capture_output=True,
            text=True,
            check=False,
        )
        assert done.returncode == 0, done.stderr
    done = called("manifest", out, source)
    told = f"{out}: 12 done, 0 failed, 0 missing, 0 duplicates, 0 left; manifests: 3\n"
    assert (done.returncode, done.stdout) == (0, told)


def test_failures_and_missing_results_are_named(model: Path, tmp_path: Path) -> None:
    source, out = write_pictures(tmp_path / "in", 4), tmp_path / "out"
    (source / "00001.png").write_text("broken")
    assert called("predict", model, source, "-o", out, "--threads", 1).returncode == 1
    (out / "00002.png").unlink()
    done = called("manifest", out)
    told = (
        f"{out}: 2 done, 1 failed, 1 missing, 0 duplicates; manifests: 1\n"
        "failed, 1: must be a picture file\n"
        "missing: 00002.png\n"
    )
    assert (done.returncode, done.stdout, done.stderr) == (1, told, "")
    done = called("manifest", out, "--json")
    assert done.returncode == 1
    assert json.loads(done.stdout) == {
        "manifests": ["manifest.jsonl"],
        "done": 2,
        "failed": {"must be a picture file": 1},
        "missing": ["00002.png"],
        "duplicates": [],
        "left": None,
        "torn": {},
    }
    done = called("manifest", out, source)
    counts, *named = done.stdout.splitlines()
    assert counts.endswith(": 2 done, 1 failed, 1 missing, 0 duplicates, 2 left; manifests: 1")
    assert named[2:] == [f"left: {source}/00001.png", f"left: {source}/00002.png"]
    write_pictures(source, 5)
    assert called("predict", model, source, "-o", out, "--threads", 1).returncode == 0
    done = called("manifest", out, source / "*.png", "--root", tmp_path)
    assert done.stdout.splitlines()[1:] == [f"left: {path}" for path in sorted(source.iterdir())]
    done = called("manifest", out, source / "*.png", "--root", source)
    told = f"{out}: 5 done, 0 failed, 0 missing, 0 duplicates, 0 left; manifests: 1\n"
    assert (done.returncode, done.stdout) == (0, told)


def test_options_of_the_manifest_that_do_not_fit(tmp_path: Path) -> None:
    out = tmp_path
    refused(
        called("manifest", out, "--json", "--lines"),
        "fcnkit manifest: takes --lines or --json, got both; "
        "leave one out; --lines prints JSON already",
    )
    refused(
        called("manifest", out, "--root", "x"),
        "fcnkit manifest: --root goes with INPUT, got --root x alone; "
        "name what predict labels, or leave --root out",
    )
    refused(
        called("manifest", out, "x", "--lines"),
        "fcnkit manifest: --lines goes without INPUT, got x; leave one out",
    )


def test_a_part_of_a_list_needs_a_root(model: Path, tmp_path: Path) -> None:
    """The same picture under several spellings is one picture of one part."""
    source, out = write_pictures(tmp_path / "in", 6), tmp_path / "out"
    spellings = [f"{source}/{n:05}.png" for n in range(6)]
    spellings += [f"{source}/./{n:05}.png" for n in range(3)]
    spellings += [f"{tmp_path}/in/../in/{n:05}.png" for n in range(3)]
    (tmp_path / "list.txt").write_text("\n".join(spellings))
    arguments = ("predict", model, f"@{tmp_path}/list.txt", "-o", out, "--threads", 1)
    refused(
        called(*arguments, "--part", "1/2"),
        f"predict: --part of a list needs --root, got @{tmp_path}/list.txt; "
        "pass the folder that holds every picture",
    )
    found = 0
    for part in ("1/2", "2/2"):
        done = called(*arguments, "--root", source, "--part", part, "--json")
        assert done.returncode == 0, done.stderr
        summary = json.loads(done.stdout)
        assert summary["found"] == summary["done"]
        assert summary["manifest"] == f"{out}/manifest.{part.replace('/', '-of-')}.jsonl"
        found += summary["found"]
    assert found == 6
    assert called("manifest", out).stdout.startswith(f"{out}: 6 done, 0 failed, 0 missing, 0 dup")
