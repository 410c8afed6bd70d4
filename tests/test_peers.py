"""The benchmarks against others: that all do the same task, and what the verdicts mean."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import pytest

from benchmarks.adopt_sources import CLASSES
from benchmarks.bare_engine import agreement as bare_engine
from benchmarks.figures import PAGE, PARTS
from benchmarks.peers import Timed, on_gpu, tables, verdicts
from benchmarks.peers_ways import Way
from fcnkit.export.to_onnx import export_onnx
from tests.conftest import ROOT
from tests.runtime.models import make_spec, write_model


def timed(group: str, engine: str, compute: str, seconds: list[float]) -> Timed:
    way = Way(
        group=group,
        name=f"{group} {engine}",
        engine=engine,
        compute=compute,
        cover="pad",
        work=lambda _pictures, _out: None,
    )
    return Timed(way, seconds=seconds, cpu_seconds=seconds)


def test_rows_on_a_gpu_compute_what_they_say() -> None:
    """Both libraries take TensorFloat-32 unless they are told not to."""
    told = {}
    for _, name, _, compute, _, build in on_gpu(Path("plain.onnx"), 2, (320, 480)):
        keywords = build.keywords  # type: ignore[attr-defined]
        told[name, compute] = keywords.get("tf32", keywords.get("options"))
    assert told == {
        ("PyTorch, CUDA graph", "fp32"): False,
        ("PyTorch, CUDA graph", "tf32"): True,
        ("ONNX Runtime script, CUDA", "fp32"): {"use_tf32": "0"},
        ("ONNX Runtime script, CUDA", "tf32"): {"use_tf32": "1"},
    }


def test_verdicts_compare_like_with_like() -> None:
    rows = [
        timed("a", "torch", "fp32", [8.0, 8.0, 8.0]),
        timed("c", "onnxruntime", "fp32", [3.0, 3.0, 3.0]),
        timed("d", "openvino", "bf16", [2.0, 2.2, 2.0]),
        timed("fcnkit", "onnxruntime", "fp32", [4.0, 4.0, 4.0]),
        timed("fcnkit", "openvino", "bf16", [1.0, 1.0, 1.0]),
    ]
    found = {verdict["case"]: verdict["ratio"] for verdict in verdicts(rows)}
    assert found == {
        "(a) a torch: same engine, precision and cover": None,
        "(c) c onnxruntime: same engine, precision and cover": pytest.approx(0.75),
        "(d) d openvino: same engine, precision and cover": pytest.approx(2.0),
        "fcnkit openvino bf16 over (a), a torch": pytest.approx(8.0),
        "fcnkit openvino bf16 over the best of (b)-(e), d openvino": pytest.approx(2.0),
    }


def test_the_bare_engine_is_read_out_of_benchmark_app(tmp_path: Path) -> None:
    pytest.importorskip("openvino", reason="OpenVINO is not installed")
    model = write_model(tmp_path / "m.onnx", make_spec("labels"))
    row = bare_engine(model, (1, 64, 64), threads=1, compute="fp32", rounds=1, seconds=1)
    assert 0.1 < row["ratio"] < 10
    assert row["ratio"] == row["ours_median_ms"] / row["benchmark_app_median_ms"]


@pytest.mark.parametrize(
    ("source", "missing"),
    [
        ("best.pt", set()),
        ("benchmarks.adopt_sources:lraspp", set()),
        ("logits.onnx", {"a, d2l.ai chapter's loop", "e, MONAI sliding window"}),
    ],
)
def test_every_way_gives_the_same_labels(
    source: str, missing: set[str], run_folder: Path, shapes_folder: Path, tmp_path: Path
) -> None:
    pytest.importorskip("openvino", reason="OpenVINO is not installed")
    pytest.importorskip("monai", reason="MONAI is not installed")
    result = tmp_path / "peers.json"
    only = [word for letter in "acdeg" for word in ("--only", letter)]
    if source == "logits.onnx":  # only an exported file
        export_onnx(run_folder / "best.pt", tmp_path / source, head="logits")
    given = {"best.pt": run_folder, "logits.onnx": tmp_path}.get(source)
    named = (source, "--classes", CLASSES) if given is None else (given / source,)
    options = ("--limit", 2, "--rounds", 1, "--no-limit", "--compute", "fp32", "--threads", 1)
    command = ("-m", "benchmarks.peers", *named[:1], shapes_folder / "JPEGImages", *named[1:])
    done = subprocess.run(
        [sys.executable, *map(str, (*command, *only, *options, "--json", result))],
        capture_output=True,
        text=True,
        check=False,
        cwd=ROOT,
    )
    assert done.returncode == 0, done.stderr
    found = json.loads(result.read_text())
    assert tables(found) in done.stdout
    groups = [row["group"] for row in found["rows"]]
    assert set(groups) == {"a", "c", "d", "e", "fcnkit"} - {name[0] for name in missing}
    assert missing <= set(found["missing"])
    for row in found["rows"]:
        if row["compute"] == "fp32":
            assert row["label_agreement"] > 0.999, row
        assert row["images_per_second"] > 0
    assert any(name.startswith("g, ") for name in found["missing"])


def test_the_page_has_a_place_for_every_part() -> None:
    page = PAGE.read_text(encoding="utf-8")
    for part in PARTS:
        assert page.count(f"<!-- {part} -->") == 1, part
    assert page.count("<!-- end -->") == len(PARTS)
