"""``fcnkit bench`` as a shell sees it."""

from __future__ import annotations

import copy
import json
from pathlib import Path
from typing import Any

import jsonschema
import pytest

from fcnkit.runtime.bench.report import read_report
from fcnkit.runtime.bench.stages import example_picture
from fcnkit.runtime.files import sha256_of
from tests.cli.shell import called, fcnkit, refused
from tests.conftest import ROOT
from tests.runtime.models import make_spec, write_model

QUICK = ("--threads", 1, "--warmup", 1, "--runs", 25)


@pytest.fixture(scope="module")
def model(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_model(tmp_path_factory.mktemp("model") / "m.onnx", make_spec("labels"))


@pytest.fixture(scope="module")
def pictures(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("pictures")
    for number in range(4):
        example_picture(40, 50, seed=number).save(folder / f"{number}.jpg")
    return folder


@pytest.fixture(scope="module")
def measured(model: Path) -> dict[str, Any]:
    """A report of two shapes, to be compared with changed copies of it."""
    shapes = ("--shape", "64x64", "--shape", "32x64")
    done = called("bench", "latency", model, *shapes, *QUICK, "--json")
    report: dict[str, Any] = json.loads(done.stdout)
    return report


def one_case(measured: dict[str, Any]) -> dict[str, Any]:
    return copy.deepcopy({**measured, "cases": measured["cases"][:1]})


def test_latency(model: Path, tmp_path: Path) -> None:
    out = tmp_path / "out"
    sweep = ("--shape", "32x64", "--shape", "40x50", "--batch", 1, "--batch", 2)
    backends = ("--backend", "onnxruntime", "--backend", "openvino:f32")  # also accepted
    done = called("bench", "latency", model, *sweep, *backends, *QUICK, "-o", out, "--json")
    assert done.returncode == 0, done.stderr
    report = json.loads(done.stdout)
    assert report == read_report(out / "report.json")
    cases = report["cases"]
    assert [(case["backend"], case["shape"]) for case in cases] == [
        (name, shape)
        for name in ("onnxruntime", "openvino")
        for shape in ("1x32x64", "2x32x64", "1x40x50", "2x40x50")
    ]
    assert {case["model_sha256"] for case in cases} == {sha256_of(model)}
    assert all(case["stages"][0]["summary"]["samples"] == 25 for case in cases)
    assert {path.name for path in out.iterdir()} == {
        "report.json",
        "report.csv",
        "report.html",
        "distribution.png",
        "stages.png",
        "over-time.png",
        "throughput-batch.png",
        "throughput-shape.png",
    }
    assert len((out / "report.csv").read_text().splitlines()) == 1 + 9 * len(cases)


def test_latency_as_text(model: Path) -> None:
    arguments = ("--shape", "40x50", "--backend", "onnxruntime")
    done = fcnkit("bench", "latency", model, *arguments, *QUICK)
    assert done.returncode == 0, done.stderr
    # What the stability checks say depends on what else the machine does.
    lines = [line for line in done.stdout.splitlines() if not line.startswith("warning: ")]
    assert lines[2] == (f"{model.name} (sha256 {sha256_of(model)[:12]}), conv5, head labels, fp32")
    assert lines[3].endswith("on CPUExecutionProvider, compute fp32, 1 threads")
    assert lines[4] == ("1x40x50, cover pad, the backend is given 1x64x64; milliseconds per call:")
    stages = [line.split("  ")[0] for line in lines[5:15]]
    assert stages == [
        "stage",
        "infer",
        "decode",
        "cover",
        "host to device",
        "compute",
        "device to host",
        "stitch",
        "encode",
        "end to end",
    ]
    assert lines[5].split()[1:] == [
        "samples",
        "p50",
        "p90",
        "p95",
        "p99",
        "p99.9",
        "max",
        "mean",
        "std",
        "min",
        "cv",
    ]
    assert lines[15].startswith("infer: ")
    assert lines[15].endswith(" images/s")
    assert lines[17].startswith("first call: import ")


def test_no_stages_and_no_plots(model: Path, tmp_path: Path) -> None:
    block = "import sys; sys.modules['matplotlib'] = None\n"
    options = ("--shape", "32x32", *QUICK, "--no-stages", "-o", tmp_path / "out")
    refused(
        fcnkit("bench", "latency", model, *options, before=block),
        "fcnkit bench latency --out: needs the package matplotlib, got no such package; "
        "pip install 'fcnkit[plots]'",
    )
    done = fcnkit("bench", "latency", model, *options, "--no-plots", before=block)
    assert done.returncode == 0, done.stderr
    assert {path.name for path in (tmp_path / "out").iterdir()} == {"report.json", "report.csv"}
    report = read_report(tmp_path / "out" / "report.json")
    assert [stage["name"] for stage in report["cases"][0]["stages"]] == ["infer"]


def test_latency_refuses(model: Path) -> None:
    refused(
        called("bench", "latency", model, "--shape", "320"),
        "--shape: a size is written HxW, got '320'; write 320x480",
    )
    refused(
        called("bench", "latency", model, "--shape", "32x4000", *QUICK),
        "Segmenter: one pass of this model covers at most 1x2048x2048, "
        "got a picture of 32x4000; make the picture smaller, or use a model with head scores or "
        "logits",
    )
    refused(
        called("bench", "latency", model, "--backend", "onnxruntime:f8", *QUICK),
        "--backend NAME:COMPUTE: must be one of auto, fp32, bf16, fp16, got f8; "
        "choose one of these",
    )
    refused(
        called("bench", "latency", model, "--runs", 3, "--duration", 1),
        "bench: runs and duration exclude each other, got 3 and 1.0; give one of them",
    )


def test_compare(measured: dict[str, Any], tmp_path: Path) -> None:
    a, b = tmp_path / "a.json", tmp_path / "b.json"
    report = one_case(measured)
    a.write_text(json.dumps(report))
    for stage in report["cases"][0]["stages"]:
        stage["samples_ms"] = [1.2 * value for value in stage["samples_ms"]]
    b.write_text(json.dumps(report))
    done = called("bench", "compare", a, a, "--fail-over", "5%")
    assert done.returncode == 0, done.stderr
    assert done.stdout.splitlines()[-1] == "B is not slower than A by more than 5 %"
    # 20 % more of every sample; whether noise can explain it, the intervals say.
    plain = json.loads(called("bench", "compare", a, b, "--json").stdout)
    rows = {row["stage"]: row for row in plain["rows"]}
    assert rows["infer"]["ratio"]["estimate"] == pytest.approx(1.2)
    assert rows["infer"]["ratio"]["low"] <= 1.2 <= rows["infer"]["ratio"]["high"]


def test_compare_fails_over_a_limit(measured: dict[str, Any], tmp_path: Path) -> None:
    report = one_case(measured)
    reports = {}
    for name, factor in (("a", 1.0), ("b", 1.2)):
        for stage in report["cases"][0]["stages"]:
            stage["samples_ms"] = [factor * (10 + number % 5 / 10) for number in range(100)]
        reports[name] = tmp_path / f"{name}.json"
        reports[name].write_text(json.dumps(report))
    done = called("bench", "compare", reports["a"], reports["b"], "--fail-over", "5%")
    assert done.returncode == 1
    lines = done.stdout.splitlines()
    title = "m.onnx, onnxruntime fp32, 1 threads, 1x64x64, cover pad"
    assert lines[-3:] == [
        f"slower: infer of {title}: 20.0 %",
        f"slower: end_to_end of {title}: 20.0 %",
        "B is slower than A by more than 5 %, 2 times",
    ]
    assert called("bench", "compare", reports["a"], reports["b"]).returncode == 0
    limit = ("--fail-over", "25%")
    assert called("bench", "compare", reports["a"], reports["b"], *limit).returncode == 0
    faster = called("bench", "compare", reports["b"], reports["a"], "--fail-over", "0%")
    assert faster.returncode == 0
    refused(
        called("bench", "compare", reports["a"], tmp_path / "no.json"),
        f"{tmp_path}/no.json: must be a report, got no file; "
        "write one with fcnkit bench latency -o FOLDER",
    )
    refused(
        called("bench", "compare", reports["a"], reports["b"], "--fail-over", "lots"),
        "--fail-over: is a percentage or fraction, got 'lots'; write 5%",
    )


def write_reports(folder: Path, report: dict[str, Any], **cases: list[int]) -> list[Path]:
    """Write reports with some of the cases of one."""
    paths = [folder / f"{name}.json" for name in cases]
    for path, places in zip(paths, cases.values(), strict=True):
        held = [report["cases"][place] for place in places]
        path.write_text(json.dumps({**report, "cases": held}))
    return paths


def test_compare_fails_where_b_lacks_a_case(measured: dict[str, Any], tmp_path: Path) -> None:
    both, one, other, none = write_reports(
        tmp_path, measured, both=[0, 1], one=[0], other=[1], none=[]
    )
    gate = ("--fail-over", "900%")
    lost = "missing in B: m.onnx, onnxruntime fp32, 1 threads, 1x32x64, cover pad"
    last = "B lacks what A has, 1 times: the comparison fails"
    done = called("bench", "compare", both, one, *gate)
    assert (done.returncode, done.stdout.splitlines()[-2:]) == (1, [lost, last])
    assert called("bench", "compare", one, both, *gate).returncode == 0
    assert called("bench", "compare", both, one).returncode == 0  # without a gate nothing fails
    # No case in common, one of each or none at all.
    done = called("bench", "compare", other, one, *gate)
    assert (done.returncode, done.stdout.splitlines()[-2:]) == (1, [lost, last])
    done = called("bench", "compare", other, none, *gate, "--json")
    assert done.returncode == 1
    assert json.loads(done.stdout)["missing"] == [lost.removeprefix("missing in B: ")]
    refused(
        called("bench", "compare", both, none),
        "bench compare: the reports must have a case in common, got 2 and 0 cases without one; "
        "measure the same models and shapes",
    )


def test_throughput(model: Path, pictures: Path, tmp_path: Path) -> None:
    out = tmp_path / "out"
    options = ("--streams", 1, "--streams", 2, "--threads", 1, "--rounds", 2)
    options += ("--batch", 1, "--batch", 2, "--workers", 1)
    load = ("--load", 30, "--load", "50%", "--duration", 0.5)
    done = called("bench", "throughput", model, pictures, *options, *load, "-o", out)
    assert done.returncode == 0, done.stderr
    report = json.loads((out / "report.json").read_text())
    assert [(run["streams"], run["batch"]) for run in report["runs"]] == [
        (1, 1),
        (1, 2),
        (2, 1),
        (2, 2),
    ]
    assert {(run["pictures"], run["workers"]) for run in report["runs"]} == {(4, 1)}
    schema = json.loads((ROOT / "docs" / "bench-throughput.schema.json").read_text("utf-8"))
    jsonschema.Draft202012Validator.check_schema(schema)
    jsonschema.Draft202012Validator(schema).validate(report)
    assert [row["rate"] for row in report["loads"]][::2] == [30, 30]
    half = max(run["images_per_second"] for run in report["runs"][:2]) / 2
    assert report["loads"][1]["rate"] == pytest.approx(half)
    names = {"report.json", "report.html", "throughput.png", "load.png"}
    assert {path.name for path in out.iterdir()} == names
    lines = done.stdout.splitlines()
    assert lines[3].split()[:2] == ["way", "pictures"]
    ranked = sorted(report["runs"], key=lambda run: -float(run["images_per_second"]))
    shown = [line for line in lines[4:] if "warning: " not in line][:4]
    for run, line in zip(ranked, shown, strict=True):
        assert line.startswith(f"{run['title']}  ")
    titles = {run["title"] for run in report["runs"]}
    assert "onnxruntime fp32, 1 stream of 1 threads, batch 1, 1 workers" in titles
    assert "latency from arrival to file, Poisson arrivals:" in lines
    host = report["host"]
    assert host["pictures"] == 4
    told = f"one process without a model: {host['images_per_second']:.2f} images/s, "
    told += f"{host['processor_ms']:.2f} ms of processor time per image; "
    told += f"JPEG by {host['codecs']['jpeg']}"
    assert told in lines
    assert sorted(path.name for path in pictures.iterdir()) == [f"{n}.jpg" for n in range(4)]


def test_throughput_refuses(model: Path, pictures: Path) -> None:
    refused(
        called("bench", "throughput", model, pictures, "--load", "0"),
        "--load: is requests per second above 0, or a percentage, got 0; write 20 or 80%",
    )
    refused(
        called("bench", "throughput", model, pictures, "--streams", 0),
        "--streams: must be at least 1, got 0; give 1 or 2",
    )
    threads = ("--streams", 1, "--threads", 1, "--threads", 2)
    refused(
        called("bench", "throughput", model, pictures, *threads),
        "--threads: is given once or per --streams, got 2 for 1; match them",
    )
