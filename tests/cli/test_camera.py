"""Videos, cameras and budgets as a shell sees them."""

from __future__ import annotations

import json
import signal
import time
from pathlib import Path

import jsonschema
import pytest

from tests.cli.shell import called, refused
from tests.conftest import ROOT
from tests.faults.commands import PATIENCE, finish, start_fcnkit
from tests.runtime.clips import labels_in, write_clip
from tests.runtime.models import make_spec, write_model
from tests.runtime.pictures import manifest_of


@pytest.fixture(scope="module")
def model(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_model(tmp_path_factory.mktemp("model") / "m.onnx", make_spec("logits"))


def test_a_clip_and_a_cut_one(model: Path, tmp_path: Path) -> None:
    whole, cut = write_clip(tmp_path / "a.mp4", sound=True), write_clip(tmp_path / "b.mkv", 60)
    cut.write_bytes(cut.read_bytes()[: cut.stat().st_size // 2])
    done = called("predict", model, whole, cut, "-o", tmp_path / "out", "--json")
    summary = json.loads(done.stdout)
    assert done.returncode == 1
    assert (summary["found"], summary["done"], summary["partial"]) == (2, 1, 1)
    assert summary["frames"] == 12 + len(labels_in(tmp_path / "out" / "b.mp4")[0])
    assert f"note: {whole}: the sound is not kept" in done.stderr.splitlines()
    told = [line for line in done.stderr.splitlines() if line.startswith("partial: ")]
    assert len(told) == 1
    assert told[0].startswith(f"partial: {cut}: a video must be whole, got an end after ")


def test_an_interrupt_leaves_a_video_that_plays(model: Path, tmp_path: Path) -> None:
    clip, out = write_clip(tmp_path / "a.mp4", 300, (320, 480)), tmp_path / "out"
    process = start_fcnkit("predict", model, clip, "-o", out, "--threads", 1)
    deadline = time.monotonic() + PATIENCE
    while not any(one.stat().st_size > 10_000 for one in out.glob(".fcnkit-partial*/*")):
        assert process.poll() is None
        assert time.monotonic() < deadline
        time.sleep(0.005)
    process.send_signal(signal.SIGINT)
    done = finish(process)
    assert (done.code, "Traceback" in done.err) == (130, False), done.err
    [line] = manifest_of(out)
    assert (line["status"], 0 < line["frames"] < 300) == ("partial", True)
    labels, _ = labels_in(out / "a.mp4")
    assert len(labels) == line["frames"]
    assert sorted(path.name for path in out.iterdir()) == ["a.mp4", "manifest.jsonl"]


def test_a_camera_stands_alone(model: Path, tmp_path: Path) -> None:
    refused(
        called("predict", model, "0", tmp_path, "-o", tmp_path / "out"),
        "predict: a camera is the only INPUT, got 2 inputs; run fcnkit predict for each, with its "
        "own OUT",
    )
    refused(
        called("predict", model, tmp_path, "-o", tmp_path / "out", "--seconds", 3),
        f"predict: --seconds needs a camera or an address, got {tmp_path}; leave it out",
    )


def test_a_budget(tmp_path: Path) -> None:
    model = write_model(tmp_path / "s.onnx", make_spec("logits", high=(1, 128, 256)))
    options = ("--shape", "32x64", "--runs", 20, "--warmup", 1, "--no-stages", "--threads", 1)
    done = called("bench", "latency", model, *options, "--budget", "100s", "--json")
    assert done.returncode == 0, done.stderr
    report = json.loads(done.stdout)
    schema = json.loads((ROOT / "docs" / "bench-report.schema.json").read_text())
    jsonschema.validate(report, schema)
    [case] = report["cases"]
    assert [stage["name"] for stage in case["stages"]] == ["infer", "array_to_labels"]
    answer = case["budget"]
    assert (answer["fits"], answer["percentile"], answer["samples"]) == (True, 99.0, 20)
    assert answer["measured_ms"] == pytest.approx(case["stages"][1]["summary"]["p99_ms"])
    assert answer["largest"]["shape"] == "128x256"  # the largest legal one of these proportions
    refused(
        called("bench", "latency", model, *options, "--budget", "33"),
        "--budget: a budget is a number and us, ms or s, got '33'; write 33ms",
    )
    refused(
        called("bench", "latency", model, *options, "--percentile", 90),
        "--percentile: needs --budget, got 90.0; add --budget 33ms",
    )
    refused(
        called("bench", "latency", model, *options, "--batch", 2, "--budget", "33ms"),
        "--budget: a budget is for one frame, got --batch 2; leave --batch out",
    )


def test_a_live_rate(model: Path) -> None:
    options = ("--rate", 50, "--duration", 0.2, "--shape", "32x32", "--json")
    done = called("bench", "live", model, *options)
    assert done.returncode == 0, done.stderr
    [run] = json.loads(done.stdout)["runs"]
    assert run["frames"] == 10 == run["results"] + run["dropped"]
    assert run["age"]["samples"] == run["results"]
