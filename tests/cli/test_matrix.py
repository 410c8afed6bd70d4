"""``fcnkit bench matrix`` as a shell sees it."""

from __future__ import annotations

import json
import shutil
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import jsonschema
import numpy as np
import pytest
from PIL import Image

from fcnkit.runtime import open_backend
from fcnkit.runtime.files import sha256_of
from fcnkit.runtime.predict.segmenter import Segmenter
from fcnkit.train.data.shapes import SHAPES
from tests.cli.shell import called, fcnkit, refused
from tests.conftest import ROOT
from tests.runtime.models import make_spec, write_model
from tests.runtime.pictures import write_pictures

ONE = ("--threads", 1)
BACKENDS = ("--backend", "onnxruntime", "--backend", "openvino")
LATE = 300.0
"""Seconds in which even a very busy machine measures a row."""


@pytest.fixture(scope="module")
def models(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Two heads of one tiny network."""
    folder = tmp_path_factory.mktemp("models")
    for head in ("labels", "logits"):
        write_model(folder / f"{head}.onnx", make_spec(head))  # type: ignore[arg-type]
    return folder


@pytest.fixture(scope="module")
def out(
    run_folder: Path, shapes_folder: Path, tmp_path_factory: pytest.TempPathFactory
) -> tuple[Path, dict[str, Any], str]:
    """A checkpoint with truth: the folder, the report and the text."""
    folder = tmp_path_factory.mktemp("matrix") / "out"
    options = ("--precision", "fp32", "--head", "labels", *ONE, "--shape", "64x64")
    ways = (*BACKENDS, "--backend", "torch", "-o", folder)
    done = fcnkit("bench", "matrix", run_folder / "best.pt", shapes_folder, *options, *ways)
    assert done.returncode == 0, done.stderr
    return folder, json.loads((folder / "report.json").read_text()), done.stdout


def valid(report: dict[str, Any]) -> dict[str, dict[str, Any]]:
    """Check a report against the schema and return its rows by name."""
    schema = json.loads((ROOT / "docs" / "bench-matrix.schema.json").read_text("utf-8"))
    jsonschema.Draft202012Validator.check_schema(schema)
    jsonschema.Draft202012Validator(schema).validate(report)
    rows = {row["name"]: row for row in report["rows"]}
    assert len(rows) == len(report["rows"])
    return rows


def test_a_checkpoint_is_exported_scored_and_timed(
    out: tuple[Path, dict[str, Any], str], run_folder: Path, shapes_folder: Path
) -> None:
    folder, report, text = out
    rows = valid(report)
    exported = folder / "models" / "best-labels-fp32.onnx"
    names = [f"{exported.name} onnxruntime", f"{exported.name} openvino", "best.pt torch"]
    assert sorted(rows) == sorted(names)
    assert report["baseline"] == "best.pt torch"
    assert report["data"] == {"name": "shapes", "split": "val", "pictures": 4, "truth": True}
    # The scores are those of eval, to the last digit.
    for name, path in (("onnxruntime", exported), ("torch", run_folder / "best.pt")):
        done = fcnkit("eval", path, shapes_folder, "--backend", name, *ONE, "--json")
        told = json.loads(done.stdout)
        row = rows[f"{path.name} {name}"]
        assert row["score"]["value"] == told["mean_iou"]
        assert row["score"]["pixel_accuracy"] == told["pixel_accuracy"]
        assert row["model_sha256"] == sha256_of(path)
        assert row["bytes"] == path.stat().st_size
    for row in rows.values():
        assert row["first_call"]["open_ms"] > 0
        assert row["end_to_end"]["p50_ms"] > row["infer"]["p50_ms"] / 2
        assert row["images_per_second"] > 0
    assert {path.name for path in folder.iterdir()} == {
        ".lock",
        "models",
        "rows.jsonl",
        "report.json",
        "report.html",
        "pareto.png",
        "latency.png",
        "rates.png",
    }
    lines = text.splitlines()
    assert lines[1].startswith("Mean IoU over 4 images of shapes, split val. Latency is of one")
    assert lines[-2] == f"recommended: {report['recommendation']['name']}"
    assert lines[-1] == report["recommendation"]["reason"]


def test_finished_rows_are_kept(
    out: tuple[Path, dict[str, Any], str], run_folder: Path, shapes_folder: Path, tmp_path: Path
) -> None:
    """Rows that an earlier run finished are not measured again; the others are."""
    folder, report, _ = out
    copy = tmp_path / "out"
    shutil.copytree(folder, copy)
    lines = (copy / "rows.jsonl").read_bytes().splitlines(keepends=True)
    kept = [json.loads(line) for line in lines]
    lost = next(n for n, line in enumerate(kept) if line["row"].get("head") == "logits")
    (copy / "rows.jsonl").write_bytes(b"".join(lines[:lost] + lines[lost + 1 :]))
    options = ("--precision", "fp32", "--head", "labels", *ONE, "--shape", "64x64", "--no-plots")
    ways = (*BACKENDS, "--backend", "torch", "-o", copy)
    done = fcnkit("bench", "matrix", run_folder / "best.pt", shapes_folder, *options, *ways)
    assert done.returncode == 0, done.stderr
    again = valid(json.loads((copy / "report.json").read_text()))
    before = valid(report)
    assert again.keys() == before.keys()
    for name, row in before.items():
        assert (again[name] == row) == (name != "best.pt torch")
    assert len((copy / "rows.jsonl").read_bytes().splitlines()) == len(lines)


def test_without_data_labels_are_compared_with_the_source(models: Path) -> None:
    options = ("--shape", "40x50", *ONE, "--json")
    done = fcnkit("bench", "matrix", models, *options)
    assert done.returncode == 0, done.stderr
    report = json.loads(done.stdout)
    rows = valid(report)
    assert report["data"]["truth"] is False
    assert report["baseline"] == "labels.onnx onnxruntime"
    measured = {name: row for name, row in rows.items() if row["status"] == "done"}
    for head in ("labels", "logits"):
        for way in ("onnxruntime", "openvino"):
            row = measured[f"{head}.onnx {way}"]
            assert row["score"]["kind"] == "agreement"
            assert row["score"]["value"] >= 0.999
            assert row["shape"] == "1x40x50"
    assert rows["labels.onnx onnxruntime"]["score"]["value"] == 1
    # A backend that does not run here is one row, with the reason that opening gives.
    absent = rows["any ONNX file onnxruntime-tensorrt"]
    assert absent["status"] == "failed"
    with pytest.raises(Exception, match=r".") as caught:
        open_backend(models / "labels.onnx", backend="onnxruntime-tensorrt")
    assert absent["reason"] == " ".join(str(caught.value).split())
    assert "logits.onnx onnxruntime-tensorrt" not in rows


def test_agreement_is_the_share_of_equal_labels(models: Path, tmp_path: Path) -> None:
    """A model with other weights agrees as often as counting by hand says."""
    other = tmp_path / "other.onnx"
    other.write_bytes(changed_weights((models / "labels.onnx").read_bytes()))
    pictures = write_pictures(tmp_path / "pictures", 3, side=64)
    given = (models / "labels.onnx", other, pictures)
    done = fcnkit("bench", "matrix", *given, "--backend", "onnxruntime", *ONE, "--json")
    assert done.returncode == 0, done.stderr
    rows = valid(json.loads(done.stdout))
    labels = []
    for path in given[:2]:
        with Segmenter(open_backend(path, backend="onnxruntime", threads=1)) as segmenter:
            images = [np.asarray(Image.open(file)) for file in sorted(pictures.iterdir())]
            labels.append(np.concatenate([segmenter(image).ravel() for image in images]))
    expected = (labels[0] == labels[1]).mean()
    assert 0 < expected < 1
    assert rows["other.onnx onnxruntime"]["score"]["value"] == expected
    assert rows["labels.onnx onnxruntime"]["score"]["value"] == 1


def changed_weights(model: bytes) -> bytes:
    import onnx
    from onnx import numpy_helper

    loaded = onnx.load_from_string(model)
    tensor = max(loaded.graph.initializer, key=lambda one: len(one.raw_data))
    values = numpy_helper.to_array(tensor)
    tensor.raw_data = np.ascontiguousarray(values[::-1]).tobytes()
    return bytes(loaded.SerializeToString())


def test_what_the_time_does_not_reach_is_said(models: Path) -> None:
    done = fcnkit("bench", "matrix", models, "--minutes", 0.0001, *ONE)
    assert done.returncode == 1
    lines = done.stdout.splitlines()
    assert "not reached: labels.onnx onnxruntime: the source's labels: the time was over" in lines
    assert sum(line.startswith("not reached: ") for line in lines) == 12


def test_a_killed_run_goes_on(models: Path, tmp_path: Path) -> None:
    folder = tmp_path / "out"
    words = ["bench", "matrix", models, *BACKENDS, *ONE, "--shape", "64x64", "-o", folder]
    words += ["--no-plots", "--json"]
    code = "from fcnkit.cli import main; main()"
    command = [sys.executable, "-c", code, *map(str, words)]
    first = subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    try:
        rows, end = folder / "rows.jsonl", time.monotonic() + LATE
        while not rows.is_file() or b"\n" not in rows.read_bytes():
            assert first.poll() is None
            assert time.monotonic() < end
            time.sleep(0.05)
    finally:
        first.kill()
        first.wait()
    [kept, *_] = [json.loads(line) for line in rows.read_bytes().splitlines()]
    done = fcnkit(*words)
    assert done.returncode == 0, done.stderr
    found = valid(json.loads(done.stdout))
    assert len(found) == 4
    assert any({**row, **kept["row"]} == row for row in found.values())
    assert not list(folder.glob(".work*"))


def test_files_of_one_name_have_their_own_rows(models: Path, tmp_path: Path) -> None:
    other = tmp_path / "labels.onnx"
    other.write_bytes(changed_weights((models / "labels.onnx").read_bytes()))
    given = (models / "labels.onnx", other, other)
    done = fcnkit("bench", "matrix", *given, "--backend", "onnxruntime", *ONE, "--json")
    assert done.returncode == 0, done.stderr
    assert sorted(valid(json.loads(done.stdout))) == sorted(
        f"labels.onnx (sha256 {sha256_of(path)[:8]}) onnxruntime" for path in given[:2]
    )


def test_it_refuses(models: Path, shapes_folder: Path, tmp_path: Path) -> None:
    model, empty = models / "labels.onnx", tmp_path / "empty"
    empty.mkdir()
    for arguments, text in (
        (
            (tmp_path / "no.onnx",),
            f"every SOURCE and DATA must exist, got {tmp_path}/no.onnx; check the path",
        ),
        (
            (empty,),
            f"there must be a model to measure, got {empty}; give best.pt, an exported model, or "
            "a folder with exported models",
        ),
        (
            (model, empty, shapes_folder),
            f"takes one folder of data, got {empty}, {shapes_folder}; give one of them",
        ),
    ):
        refused(called("bench", "matrix", *arguments), f"bench matrix: {text}")
    for options, text in (
        (
            ("--minutes", 0),
            "--minutes: must be above 0 and at most 10000, got 0.0; write --minutes 15",
        ),
        (
            ("--minutes", "nan"),
            "--minutes: must be above 0 and at most 10000, got nan; write --minutes 15",
        ),
        (
            ("--max-drop", 2),
            "--max-drop: must be a share from 0 to 1, got 2.0; write --max-drop 0.01",
        ),
        (
            ("--backend", "auto"),
            "--backend: takes the name of a backend, got auto; leave --backend out for all of them",
        ),
        (
            ("--backend", "tensorrt"),
            "--backend: must run one of the files, got tensorrt; leave it out, or give a file that "
            "it runs",
        ),
        (
            ("--split", "val"),
            "--split: is a list of a folder in VOC layout, got val of no folder; leave it out, or "
            "give such a folder as DATA",
        ),
        (
            ("--head", "labls"),
            "--head: must be one of logits, scores, labels, scene, got labls; choose one of these",
        ),
    ):
        refused(called("bench", "matrix", model, *options), text)
    classes = ", ".join(make_spec("labels").classes)
    refused(
        called("bench", "matrix", model, shapes_folder),
        f"{shapes_folder}: the data's classes must be the model's, {classes}, got "
        f"{', '.join(SHAPES.classes)}; give the data it was trained for",
    )


def test_int8_needs_pictures(run_folder: Path) -> None:
    ways = ("--precision", "int8", "--head", "labels", "--backend", "torch", *ONE, "--json")
    done = fcnkit("bench", "matrix", run_folder / "best.pt", *ways, "--shape", "32x32")
    assert done.returncode == 0, done.stderr
    rows = valid(json.loads(done.stdout))
    assert rows["best.pt, head labels, int8"]["reason"] == (
        "export: int8 needs pictures to find the ranges of activations, got no DATA; "
        "give the training data"
    )
    assert rows["best.pt torch"]["score"] == {"kind": "agreement", "value": 1, "pictures": 8}
