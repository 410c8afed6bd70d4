"""The stages are prediction's own, their times add up, and what is missing is missing."""

from __future__ import annotations

import csv
import io
import json
from pathlib import Path
from typing import Any

import jsonschema
import numpy as np
import pytest

from fcnkit.errors import ArtifactError
from fcnkit.runtime import Segmenter, open_backend
from fcnkit.runtime.artifacts.spec import Head
from fcnkit.runtime.bench.calls import Effort
from fcnkit.runtime.bench.latency import measure_case, measure_latency, open_timed
from fcnkit.runtime.bench.report import latency_report, read_report, to_csv
from fcnkit.runtime.bench.stages import (
    STAGES,
    PictureWork,
    example_batch,
    example_picture,
    plan_cover,
)
from fcnkit.runtime.predict.pictures import read_picture
from fcnkit.runtime.predict.staging import Staging
from tests.conftest import ROOT
from tests.refusal import refusal
from tests.runtime.bench.synthetic import Clock, DeviceBackend, SyntheticBackend
from tests.runtime.models import make_spec, write_model

SIZES = ((1, 20, 30), (1, 70, 20), (1, 33, 65), (1, 64, 32), (1, 100, 97), (3, 70, 90))


@pytest.mark.parametrize("head", ["logits", "scores", "labels", "scene"])
@pytest.mark.parametrize("shape", SIZES)
def test_the_stages_give_the_labels_of_the_segmenter(
    head: Head, shape: tuple[int, int, int], tmp_path: Path
) -> None:
    if head == "scene" and (shape[0] > 1 or min(shape[1:]) < 32):
        pytest.skip("a scene graph takes one picture from 32x32 on")
    count, height, width = shape
    files = [tmp_path / f"{number}.png" for number in range(count)]
    for number, file in enumerate(files):
        example_picture(height, width, seed=number).save(file)
    with Segmenter(open_backend(write_model(tmp_path / "m.onnx", make_spec(head)))) as segmenter:
        plan = plan_cover(segmenter, shape)
        work = PictureWork(segmenter, files, plan, Staging(out_of(tmp_path)))
        seconds = work()
        wanted = [segmenter(read_picture(file)) for file in files]
    assert len(seconds) == len(STAGES)
    for labels, expected, number in zip(work.labels, wanted, range(count), strict=True):
        assert np.array_equal(labels, expected)
        written = read_labels(tmp_path / "out" / f"{number}.png")
        assert np.array_equal(written, expected)


def out_of(folder: Path) -> Path:
    out = folder / "out"
    out.mkdir()
    return out


def read_labels(path: Path) -> np.ndarray[Any, Any]:
    from PIL import Image

    with Image.open(path) as picture:
        assert picture.mode == "P"
        return np.asarray(picture)


def test_a_batch_above_the_largest_legal_one_runs_in_parts(tmp_path: Path) -> None:
    spec = make_spec("logits", high=(2, 64, 64))
    files = [tmp_path / "a.png", tmp_path / "b.png"]
    for number, file in enumerate(files):
        example_picture(96, 64, seed=number).save(file)
    with Segmenter(open_backend(write_model(tmp_path / "m.onnx", spec))) as segmenter:
        plan = plan_cover(segmenter, (2, 96, 64))
        assert len(plan) == 2
        work = PictureWork(segmenter, files, plan, Staging(out_of(tmp_path)))
        work()
        for labels, file in zip(work.labels, files, strict=True):
            assert np.array_equal(labels, segmenter(read_picture(file)))
        # Two pictures of two tiles: two batches of two.
        case = measure_case(segmenter, (2, 96, 64), Effort(runs=1, warmup=0), opened=(None, 1.0))
    assert case.compute_shape == (2, 64, 64)


@pytest.mark.parametrize("count", [1, 3])
def test_images_that_go_in_bands_are_timed_too(tmp_path: Path, count: int) -> None:
    """200x210 takes 8x8 tiles, more than share a batch: a row of 8 is run after the other."""
    files = [tmp_path / f"{number}.png" for number in range(count)]
    for number, file in enumerate(files):
        example_picture(200, 210, seed=number).save(file)
    shape = (count, 200, 210)
    backend = open_backend(write_model(tmp_path / "m.onnx", make_spec("logits")))
    with Segmenter(backend, tile=(32, 32), overlap=5) as segmenter:
        plan = plan_cover(segmenter, shape)
        assert (len(plan.tops), len(plan.lefts)) == (8, 8)
        work = PictureWork(segmenter, files, plan, Staging(out_of(tmp_path)))
        seconds = dict(zip(STAGES, work(), strict=True))
        for number, (labels, file) in enumerate(zip(work.labels, files, strict=True)):
            expected = segmenter(read_picture(file))
            assert np.array_equal(labels, expected)
            assert np.array_equal(read_labels(tmp_path / "out" / f"{number}.png"), expected)
        case = measure_case(segmenter, shape, Effort(runs=1, warmup=0), opened=(None, 1.0))
    total = seconds.pop("end_to_end")
    assert np.nansum([*seconds.values()]) == pytest.approx(total)
    assert case.compute_shape == (8 * min(count, 2), 32, 32)  # 16 at most
    assert case.infer_pictures == min(count, 2) / 8


def test_stages_add_up_on_a_clock_of_our_own(tmp_path: Path) -> None:
    clock = Clock()
    backend = SyntheticBackend(clock, iter(lambda: 0.004, None))
    case = measure_case(
        Segmenter(backend), (1, 40, 50), Effort(runs=5, warmup=1), opened=(1.0, 2.0), clock=clock
    )
    assert case.compute_shape == (1, 64, 64)
    assert case.pipeline is not None
    compute = case.pipeline.of("compute")
    assert compute is not None
    assert compute.tolist() == pytest.approx([0.004] * 5)
    total = case.pipeline.of("end_to_end")
    assert total is not None
    assert total.tolist() == pytest.approx([0.004] * 5)
    assert case.first_call.infer_ms == pytest.approx(4.0)
    for name in ("host_to_device", "device_to_host"):
        assert case.pipeline.of(name) is None


def test_a_device_tells_its_transfers(tmp_path: Path) -> None:
    clock = Clock()
    segmenter = Segmenter(DeviceBackend(clock))
    case = measure_case(
        segmenter, (1, 32, 32), Effort(runs=3, warmup=0), opened=(None, 1.0), clock=clock
    )
    report = latency_report([(Path("m.engine"), "0", case)], {})
    means = {stage["name"]: stage["summary"]["mean_ms"] for stage in report["cases"][0]["stages"]}
    assert means["host_to_device"] == pytest.approx(1)
    assert means["compute"] == pytest.approx(5)
    assert means["device_to_host"] == pytest.approx(2)
    assert means["end_to_end"] == pytest.approx(8)


@pytest.mark.parametrize("head", ["logits", "scores", "labels", "scene"])
def test_example_batches_are_what_the_model_takes(tmp_path: Path, head: Head) -> None:
    with open_backend(write_model(tmp_path / "m.onnx", make_spec(head))) as opened:
        batch = example_batch(opened.spec, (1, 64, 32))
        stride = opened.spec.stride
        assert opened.infer(batch).shape[-2:] == (64 // stride, 32 // stride)
    assert np.array_equal(batch, example_batch(opened.spec, (1, 64, 32)))


def test_wrong_shapes() -> None:
    backend = SyntheticBackend(Clock(), [0.0])
    text = "bench latency: this model takes at most 16 pictures at once, got 17; give --batch 16"
    with refusal(ValueError, text):
        measure_case(Segmenter(backend), (17, 32, 32), Effort(runs=1), opened=(None, 1.0))
    text = (
        "synthetic.infer: the model takes NxHxW from 1x32x32 to 16x2048x2048 with sides in "
        "steps of 32, got 1x320x481; the nearest legal shape is 1x320x512"
    )
    with refusal(ValueError, text):
        measure_latency(backend, (1, 320, 481), Effort(runs=1, warmup=0))


def test_opening_is_timed_apart_from_importing() -> None:
    clock = Clock()
    segmenter = Segmenter(SyntheticBackend(clock, []))

    def load() -> Segmenter:
        clock.sleep(0.25)
        return segmenter

    found, imported, opened = open_timed("synthetic", load, clock=clock)
    assert found is segmenter
    assert imported is None
    assert opened == pytest.approx(250)


# --- the report ----------------------------------------------------------------------------------


def test_the_report_is_what_its_schema_says(report: dict[str, Any]) -> None:
    schema = json.loads((ROOT / "docs" / "bench-report.schema.json").read_text("utf-8"))
    jsonschema.Draft202012Validator.check_schema(schema)
    plain = json.loads(json.dumps(report, allow_nan=False))
    jsonschema.Draft202012Validator(schema).validate(plain)
    plain["cases"][0]["surprise"] = 1
    with pytest.raises(jsonschema.ValidationError):
        jsonschema.Draft202012Validator(schema).validate(plain)


def test_the_report_says_what_ran(report: dict[str, Any]) -> None:
    case = report["cases"][0]
    assert (case["model"], case["shape"], case["compute_shape"]) == (
        "labels.onnx",
        "1x40x50",
        "1x64x64",
    )
    assert case["details"]["provider"] == "CPUExecutionProvider"
    assert case["details"]["threads"] == 1
    assert [stage["name"] for stage in case["stages"]] == ["infer", *STAGES]
    for stage in case["stages"]:
        missing = stage["name"] in ("host_to_device", "device_to_host")
        assert (stage["summary"] is None) == missing
        assert len(stage["samples_ms"]) == (0 if missing else 30)
    parts = [
        stage["summary"]["mean_ms"]
        for stage in case["stages"]
        if stage["summary"] and stage["name"] not in ("infer", "end_to_end")
    ]
    total = case["stages"][-1]["summary"]["mean_ms"]
    assert sum(parts) == pytest.approx(total, rel=1e-6)
    assert case["images_per_second"]["end_to_end"] == pytest.approx(1000 / total)


def test_csv_has_a_line_per_stage(report: dict[str, Any]) -> None:
    rows = list(csv.DictReader(io.StringIO(to_csv(report))))
    assert len(rows) == 9 * len(report["cases"])
    first = rows[0]
    summary = report["cases"][0]["stages"][0]["summary"]
    assert first["stage"] == "infer"
    assert float(first["p99_9_ms"]) == summary["p99_9_ms"]
    assert first["library"].startswith("onnxruntime 1.")
    missing = next(row for row in rows if row["stage"] == "host_to_device")
    assert (missing["p50_ms"], missing["samples"]) == ("", "")


def test_what_is_no_report(tmp_path: Path) -> None:
    path = tmp_path / "a.json"
    remedy = "write one with fcnkit bench latency -o FOLDER"
    with refusal(ArtifactError, f"{path}: must be a report, got no file; {remedy}"):
        read_report(path)
    path.write_text("[1]")
    rule = "must be a report of format fcnkit-bench-latency-1"
    with refusal(ArtifactError, f"{path}: {rule}, got other JSON; {remedy}"):
        read_report(path)
    path.write_text('{"format": "fcnkit-bench-latency-0"}')
    with refusal(ArtifactError, f"{path}: {rule}, got format 'fcnkit-bench-latency-0'; {remedy}"):
        read_report(path)
    path.write_text('{"format": "fcnkit-bench-latency-1"}')
    with refusal(ArtifactError, f"{path}: must be a report, got no key environment; {remedy}"):
        read_report(path)
    for cases in ("1", "[1]", "[{}]", '[{"details": {}}]', '[{"details": 1}]'):
        path.write_text(
            f'{{"format": "fcnkit-bench-latency-1", "environment": {{}}, "cases": {cases}}}'
        )
        got = "a case without the key details.compute"
        with refusal(ArtifactError, f"{path}: must be a report, got {got}; {remedy}"):
            read_report(path)
    path.write_text("{")
    with pytest.raises(ArtifactError, match=r"must be a report, got Expecting"):
        read_report(path)
