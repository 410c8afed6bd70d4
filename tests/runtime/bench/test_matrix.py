"""The matrix: its ways, its kept rows, its order, its frontier and its recommendation."""

from __future__ import annotations

import copy
import json
import os
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from fcnkit.runtime.bench.environment import describe_environment
from fcnkit.runtime.bench.matrix import ways_of
from fcnkit.runtime.bench.matrix_folder import (
    files_key,
    key_of,
    machine_facts,
    open_folder,
)
from fcnkit.runtime.bench.matrix_report import (
    frontier,
    matrix_overview,
    matrix_report,
    not_measured,
    recommend,
)
from tests.refusal import refusal
from tests.runtime.bench.matrix_rows import done_row, whole_report
from tests.runtime.engines import make_sidecar, rtx_plan, write_engine
from tests.runtime.models import make_spec, write_model


def test_every_backend_and_faster_precision_is_tried(tmp_path: Path) -> None:
    path = write_model(tmp_path / "m.onnx", make_spec("labels"))
    gpu = ["onnxruntime-cuda", "onnxruntime-tensorrt"]
    every = ["onnxruntime", *gpu, "openvino", "openvino:bf16", "openvino:fp16"]
    assert [way.name for way in ways_of(path, "fp32")] == every
    assert [way.name for way in ways_of(path, "int8")] == every
    # A float16 file is the choice of a faster precision already.
    assert [way.name for way in ways_of(path, "fp16")] == every[:4]
    assert [way.name for way in ways_of(tmp_path / "best.pt", "fp32")] == ["torch", "torch:bf16"]
    plan = rtx_plan()
    write_engine(tmp_path / "m.engine", plan, make_sidecar(plan))
    assert [way.name for way in ways_of(tmp_path / "m.engine", "fp32")] == [
        "tensorrt-rtx cuda graphs on",
        "tensorrt-rtx cuda graphs off",
    ]


@given(st.lists(st.tuples(st.integers(1, 6), st.integers(0, 5)), min_size=1, max_size=12))
def test_the_frontier_is_what_nothing_beats(points: list[tuple[int, int]]) -> None:
    ordered = sorted(points)
    rows = [
        done_row(str(number), p50=p50, value=score / 5)
        for number, (p50, score) in enumerate(ordered)
    ]
    found = [ordered[int(name)] for name in frontier(rows)]

    def beaten(a: tuple[int, int]) -> bool:
        return any(b[0] <= a[0] and b[1] >= a[1] and b != a for b in ordered)

    # Equally fast rows stand in any order, so that a first one may be beaten by the next.
    assert {point for point in ordered if not beaten(point)} <= set(found)
    assert [score for _, score in found] == sorted({score for _, score in found})


def test_the_recommendation_is_the_fastest_that_is_good_enough() -> None:
    base = done_row("torch", p50=60, value=0.6)
    bad, good = done_row("int8", p50=20, value=0.5), done_row("bf16", p50=30, value=0.595)
    assert recommend([bad, good, base], base, max_drop=0.01) == {
        "name": "bf16",
        "reason": "It is the fastest of those whose mean IoU is at most 0.01 below 0.6000: 0.5950, "
        "30.00 ms from file to label file, 2.00x as fast as torch. Faster, and worse by more than "
        "that: int8.",
    }
    assert (recommend([bad, good, base], base, max_drop=0.2) or {})["name"] == "int8"
    assert recommend([bad, good, base], base, max_drop=0.001) == {
        "name": "torch",
        "reason": "It is the fastest of those whose mean IoU is at most 0.001 below its own "
        "0.6000: 60.00 ms from file to label file. Faster, and worse by more than that: int8; "
        "bf16.",
    }
    assert recommend([], None, max_drop=0.01) is None


def test_of_equally_fast_rows_the_better_one_is_recommended() -> None:
    base = done_row("fp32", p50=60, value=1.0, kind="agreement")
    rows = [
        done_row("a", p50=30, value=0.992, kind="agreement"),
        done_row("b", p50=31, value=0.999, kind="agreement", warnings=["infer: drifted"]),
        done_row("c", p50=33, value=1.0, kind="agreement"),
        base,
    ]
    assert recommend(rows, base, max_drop=0.01) == {
        "name": "b",
        "reason": "It scores best of the 2 fastest of those whose label agreement is at most 1 % "
        "below 100.000 %: 99.900 %, 31.00 ms from file to label file, 1.94x as fast as fp32. Its "
        "figures carry warnings: measure again on an idle machine.",
    }


def test_a_difference_of_rounding_decides_nothing() -> None:
    base = done_row("fp32", p50=60, value=0.6)
    rows = [done_row("a", p50=30, value=0.6), done_row("b", p50=31, value=0.6 + 1e-7), base]
    assert frontier(rows) == ["a"]
    assert (recommend(rows, base, max_drop=0.01) or {})["name"] == "a"


def test_rows_are_sorted_named_once_and_carry_their_warnings() -> None:
    report = whole_report()
    names = [row["name"] for row in report["rows"]]
    assert len(set(names)) == len(names) == 6
    assert [row["status"] for row in report["rows"]] == ["done"] * 4 + ["failed", "not reached"]
    times = [row["end_to_end"]["p50_ms"] for row in report["rows"][:4]]
    assert times == sorted(times)
    table = matrix_overview(report)
    assert [row[0] for row in table.rows] == [
        "m.onnx openvino:bf16 (recommended)",
        "m.onnx openvino",
        "m.onnx openvino (number 2)",
        "best.pt torch (baseline)",
    ]
    assert table.warnings == [["infer: the machine was not idle"], [], [], []]
    assert [row[2] for row in table.rows] == ["2.00x", "1.50x", "1.20x", "1.00x"]
    assert [name for name, _, _ in not_measured(report)] == [
        "any ONNX file onnxruntime-cuda",
        "int8.onnx openvino",
    ]


def test_a_baseline_without_figures_is_none() -> None:
    facts: dict[str, Any] = {"environment": describe_environment(), "shape": "32x32"}
    facts |= {"data": {"truth": True}, "max_drop": 0.01}
    row = {"id": "a", "title": "a", "status": "failed", "reason": "it is broken"}
    report = matrix_report([row], baseline="a", **facts)
    assert (report["baseline"], report["recommendation"], report["frontier"]) == (None, None, [])
    assert matrix_overview(report).rows == []


def test_finished_rows_outlive_a_kill(tmp_path: Path) -> None:
    with open_folder(tmp_path / "out") as folder:
        folder.keep("a", {"value": 1})
        (folder.work / "left").write_text("x")
        rule = "bench matrix: one run may use a folder at a time"
        text = f"{rule}, got {folder.root}; wait for it, or give another -o"
        with refusal(ValueError, text), open_folder(tmp_path / "out"):
            pass
    rows = tmp_path / "out" / "rows.jsonl"
    rows.write_bytes(rows.read_bytes() + b'{"key": "b", "row": {"val')  # killed while it wrote
    with open_folder(tmp_path / "out") as folder:
        assert list(folder.work.iterdir()) == []
        assert (folder.finished("a"), folder.finished("b")) == ({"value": 1}, None)
        folder.keep("b", {"value": 2})
        folder.keep("a", {"value": 3})
    with open_folder(tmp_path / "out") as folder:
        assert (folder.finished("a"), folder.finished("b")) == ({"value": 3}, {"value": 2})
    assert not (tmp_path / "out" / ".work").exists()


def test_a_key_changes_with_files_machine_and_libraries_alone(tmp_path: Path) -> None:
    path = tmp_path / "a.png"
    path.write_bytes(b"one")
    before = files_key([path])
    assert files_key([path]) == before
    path.write_bytes(b"other")
    assert files_key([path]) != before
    environment = describe_environment()
    same = copy.deepcopy(environment)
    same["cpu"] |= {"mhz": 1.0, "load_average": 99.0}
    assert machine_facts(same) == machine_facts(environment)
    for part, change in (
        ("packages", {"onnxruntime": "0.1"}),
        ("cpu", {"model": "another"}),
        ("variables", {"OMP_NUM_THREADS": "7"}),
    ):
        other = copy.deepcopy(environment)
        other[part] |= change
        assert key_of(machine=machine_facts(other)) != key_of(machine=machine_facts(environment))
    json.dumps(machine_facts(environment))


@pytest.mark.parametrize("change", ["size", "content"])
def test_a_key_sees_what_a_file_holds(tmp_path: Path, change: str) -> None:
    path = tmp_path / "mask.png"
    path.write_bytes(b"aaaa")
    before = files_key([path])
    path.write_bytes(b"aaaaa" if change == "size" else b"bbbb")
    # Clocks of file systems are coarse, and no user is as fast as this test.
    changed = path.stat().st_mtime_ns + (10**9 if change == "content" else 0)
    os.utime(path, ns=(changed, changed))
    assert files_key([path]) != before
