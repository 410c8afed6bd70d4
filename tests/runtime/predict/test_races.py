"""Processes that write into one output folder at the same time: no result replaces another's."""

from __future__ import annotations

import json
import subprocess
import sys
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from fcnkit.errors import DataError
from fcnkit.runtime import Segmenter, find_jobs, predict_files
from fcnkit.runtime.predict.claims import Claims, read_claim
from fcnkit.runtime.predict.identity import Origin
from fcnkit.runtime.predict.predictor import Predictor
from fcnkit.runtime.predict.staging import Staging
from tests.refusal import refusal

COUNT = 12
LABEL = """
import json, pathlib, sys, time
from fcnkit.errors import DataError
from fcnkit.runtime.predict.claims import Claims
from fcnkit.runtime.predict.identity import Origin
from fcnkit.runtime.predict.staging import Staging
from fcnkit.runtime.predict.predictor import Predictor

model, root, out, mine, other = sys.argv[1:]
publish = Staging.publish

def slowly(*args, **options):
    # The gap between the claim and the result, as wide as on a slow disk.
    time.sleep(0.05)
    publish(*args, **options)

Staging.publish = slowly
Claims.check = lambda *_: None  # both have looked before either wrote: the race itself
predictor = Predictor(model=model, root=root, out=out, threads=1)
pathlib.Path(mine).touch()
while not pathlib.Path(other).exists():
    time.sleep(0.001)
for path in sorted(pathlib.Path(root).iterdir()):
    try:
        (record,) = predictor([str(path)])
        print(json.dumps([path.name, record["status"]]))
    except DataError as error:
        print(json.dumps([path.name, str(error)]))
"""


def save(path: Path, seed: int) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    pixels = np.random.default_rng(seed).integers(0, 256, (40, 48, 3), np.uint8)
    Image.fromarray(pixels).save(path)
    return path


def labels_in(path: Path) -> np.ndarray[Any, Any]:
    with Image.open(path) as picture:
        return np.asarray(picture)


def refused(out: Path, before: Path, now: Path, root: Path) -> str:
    return (
        f"{out / now.name}: a result replaces only results of the same picture, "
        f"got one of {before} and now {now}; choose another output folder or remove that result, "
        f"or pass --root {root}"
    )


def test_of_two_processes_one_is_refused_by_name(
    tmp_path: Path, model: Path, segmenter: Segmenter
) -> None:
    """Each process labels another folder whose images have the same names."""
    roots = [tmp_path / "a", tmp_path / "b"]
    for seed, root in enumerate(roots):
        for number in range(COUNT):
            save(root / f"{number:02}.png", 100 * seed + number)
    out, ready = tmp_path / "out", [tmp_path / "ready-a", tmp_path / "ready-b"]
    processes = [
        subprocess.Popen(
            [sys.executable, "-c", LABEL, *map(str, (model, root, out, mine, other))],
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
        )
        for root, mine, other in zip(roots, ready, reversed(ready), strict=True)
    ]
    said = []
    for process in processes:
        answer, errors = process.communicate(timeout=300)
        assert process.returncode == 0, errors
        said.append(dict(json.loads(line) for line in answer.splitlines()))
    for number in range(COUNT):
        name = f"{number:02}.png"
        winner = [lines[name] for lines in said].index("done")
        won, lost = roots[winner] / name, roots[1 - winner] / name
        assert said[1 - winner][name] == refused(out, won, lost, tmp_path)
        with Image.open(won) as image:
            assert np.array_equal(labels_in(out / name), segmenter(np.asarray(image)))
        claim = read_claim(out, Path(name))
        assert claim is not None
        assert claim.input == str(won)
    assert not list(out.glob(".fcnkit-partial*"))


def meanwhile(monkeypatch: pytest.MonkeyPatch, act: Callable[[], object]) -> None:
    """Do something once, just before the next result comes under its name."""
    publish = Staging.publish

    def later(self: Staging, *args: Any, **options: Any) -> None:
        monkeypatch.setattr(Staging, "publish", publish)
        act()
        publish(self, *args, **options)

    monkeypatch.setattr(Staging, "publish", later)


def test_predict_does_not_replace_what_a_predictor_writes_meanwhile(
    tmp_path: Path, model: Path, segmenter: Segmenter, monkeypatch: pytest.MonkeyPatch
) -> None:
    a, b, out = save(tmp_path / "a/x.png", 1), save(tmp_path / "b/x.png", 2), tmp_path / "out"
    predictor = Predictor(model=str(model), root=str(a.parent), out=str(out), threads=1)
    meanwhile(monkeypatch, lambda: list(predictor([str(a)])))
    run = predict_files(segmenter, find_jobs([b], out), out, model_sha256="ab")
    with refusal(DataError, refused(out, a, b, tmp_path)):
        list(run)
    with Image.open(a) as image:
        assert np.array_equal(labels_in(out / "x.png"), segmenter(np.asarray(image)))


def test_nobody_replaces_a_file_that_appears_meanwhile(
    tmp_path: Path, model: Path, segmenter: Segmenter, monkeypatch: pytest.MonkeyPatch
) -> None:
    a, out = save(tmp_path / "a/x.png", 1), tmp_path / "out"
    mask = out / "x.png"
    text = (
        f"{mask}: a result replaces no file of unknown origin, got a file that no manifest lists; "
        "remove it or choose another folder"
    )
    out.mkdir()
    jobs = find_jobs([a], out)
    meanwhile(monkeypatch, lambda: mask.write_bytes(b"mine"))
    with refusal(DataError, text):
        list(predict_files(segmenter, jobs, out, model_sha256="ab"))
    mask.unlink()
    predictor = Predictor(model=str(model), root=str(a.parent), out=str(out), threads=1)
    meanwhile(monkeypatch, lambda: mask.write_bytes(b"mine"))
    with refusal(DataError, text):
        list(predictor([str(a)]))
    assert mask.read_bytes() == b"mine"
    assert read_claim(out, Path("x.png")) is None  # what was refused claims nothing
    mask.unlink()
    assert [record["status"] for record in predictor([str(a)])] == ["done"]


@pytest.mark.parametrize("links", [True, False])
def test_a_file_system_without_hard_links_is_written_to(
    tmp_path: Path, segmenter: Segmenter, monkeypatch: pytest.MonkeyPatch, links: bool
) -> None:
    def refuse(*_: object) -> None:
        raise PermissionError(1, "Operation not permitted")

    if not links:
        monkeypatch.setattr("os.link", refuse)
    a, out = save(tmp_path / "a/x.png", 1), tmp_path / "out"
    for _ in range(2):
        run = predict_files(segmenter, find_jobs([a], out), out, model_sha256="ab", resume=False)
        assert [record.status for record in run] == ["done"]
    assert sorted(path.name for path in out.iterdir()) == ["manifest.jsonl", "x.png"]


def test_a_claim_that_a_kill_left_half_written_is_read(tmp_path: Path) -> None:
    """The new line was written over a longer one, and the end was not cut off."""
    origin = Origin.of(save(tmp_path / "x.png", 1))
    path = tmp_path / ".fcnkit-inputs" / "x.png.json"
    path.parent.mkdir()
    line = json.dumps({"input": "x.png", "input_path": origin.input_path, "input_stamp": None})
    path.write_text(f'{line}\nof a longer line"}}')
    assert read_claim(tmp_path, Path("x.png")) == replace(origin, input="x.png", input_stamp=None)
    with refusal(DataError, refused(tmp_path, Path("x.png"), tmp_path / "b/x.png", tmp_path)):
        Claims(tmp_path).check(save(tmp_path / "b/x.png", 2), Path("x.png"))
