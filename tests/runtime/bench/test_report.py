"""Tables of whole reports: sorted, every row with its own name and its warnings."""

from __future__ import annotations

import copy
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from fcnkit.cli.bench_text import comparison_text, latency_text, live_text, throughput_text
from fcnkit.runtime.bench.compare import compare_reports
from fcnkit.runtime.bench.page import latency_page
from fcnkit.runtime.bench.report import (
    case_titles,
    latency_overview,
    short_titles,
    unique_names,
    unique_rows,
)
from tests.runtime.bench.test_page import folder_report

SPOILED = "medians of ten windows lie 40 % apart: the speed drifted"


@pytest.fixture
def spoiled(report: dict[str, Any]) -> dict[str, Any]:
    """The report with times that are made up, and a warning in its fourth case."""
    made = copy.deepcopy(report)
    for number, case in enumerate(made["cases"]):
        for loop in case["stability"].values():
            loop["warnings"] = []
        for stage in case["stages"]:
            if stage["summary"]:
                stage["summary"] |= {"p50_ms": 10.0 - number, "p99_ms": 20.0 - number}
    made["cases"][3]["stability"]["infer"]["warnings"] = [SPOILED]
    return made


@given(st.lists(st.sampled_from(["a", "b", "a (number 2)", "a (number 3)", ""])))
def test_names_are_unique_and_the_first_of_a_kind_stays(names: list[str]) -> None:
    found = unique_names(names)
    assert len(set(found)) == len(found) == len(names)
    for place, (name, unique) in enumerate(zip(names, found, strict=True)):
        assert unique.startswith(name)
        if name not in found[:place]:
            assert unique == name


def test_rows_of_one_title_and_rate_are_numbered() -> None:
    rows = [{"title": "a", "rate": 1}, {"title": "a", "rate": 2}, {"title": "a", "rate": 1}]
    assert [row["title"] for row in unique_rows(rows, key="rate")] == ["a", "a", "a (number 2)"]
    assert rows[2]["title"] == "a"


def test_cases_of_one_file_name_are_told_apart(report: dict[str, Any]) -> None:
    case = report["cases"][0]
    other = {**case, "model_sha256": "1234567890"}
    title = "labels.onnx, onnxruntime fp32, 1 threads, 1x40x50, cover pad"
    assert case_titles([case, other, case]) == [
        f"{title}, sha256 00000000",
        f"{title}, sha256 12345678",
        f"{title}, sha256 00000000 (number 2)",
    ]
    assert case_titles([case]) == [title]
    # Plots leave out what all cases have in common.
    assert short_titles(report["cases"][:4]) == [
        "labels.onnx, 1x40x50",
        "labels.onnx, 2x40x50",
        "labels.onnx, 1x64x96",
        "logits.onnx, 1x40x50",
    ]
    assert short_titles([case, other]) == [
        "labels.onnx, onnxruntime fp32, sha256 00000000",
        "labels.onnx, onnxruntime fp32, sha256 12345678",
    ]
    assert short_titles([case]) == [title]


def test_a_latency_report_ends_with_one_table(spoiled: dict[str, Any]) -> None:
    lines = latency_text(spoiled).splitlines()
    place = lines.index("all cases, the fastest of each shape first:")
    table = lines[place + 1 :]
    assert table[0].split()[:3] == ["case", "speed", "infer"]
    # Six cases and one warning, right below the case that it is about.
    assert len(table) == 1 + 6 + 1
    assert table[1].startswith("logits.onnx, onnxruntime fp32, 1 threads, 1x40x50, cover pad")
    assert table[2] == f"  warning: infer: {SPOILED}"
    assert table[3].startswith("labels.onnx, onnxruntime fp32, 1 threads, 1x40x50, cover pad")
    # Logits took 7 ms and labels, measured first, 10 ms.
    assert (table[1].split()[8], table[3].split()[8]) == ("1.43x", "1.00x")
    found = latency_overview(spoiled)
    assert [len(lines) for lines in found.warnings] == [1, 0, 0, 0, 0, 0]
    single = {**spoiled, "cases": spoiled["cases"][3:4]}
    text = latency_text(single)
    assert "all cases" not in text
    # Above what follows from the spoiled numbers, not at the end.
    assert text.index(SPOILED) < text.index("images/s")


def test_a_page_marks_the_rows_that_a_warning_is_about(spoiled: dict[str, Any]) -> None:
    page = latency_page(spoiled)
    head, body = page.index("<tbody>"), page.index("</tbody>")
    rows = page[head:body].split("<tr")[1:]
    assert [' class="note"' in row for row in rows] == [False, True] + [False] * 5
    assert SPOILED in rows[1]


def test_a_comparison_ends_with_one_table(spoiled: dict[str, Any]) -> None:
    slower = copy.deepcopy(spoiled)
    for stage in slower["cases"][0]["stages"]:
        stage["samples_ms"] = [3 * value for value in stage["samples_ms"]]
    lines = comparison_text(compare_reports(spoiled, slower), [], None).splitlines()
    place = lines.index("all cases:")
    table = lines[place + 1 : place + 9]
    assert table[0].split() == ["case", "infer", "B/A", "end", "to", "end", "B/A"]
    assert table[1].split()[-4:] == ["3.000", "slower", "3.000", "slower"]
    assert table[2].split()[-4:] == ["1.000", "same", "1.000", "same"]
    assert table[5:7] == [f"  warning: {side}: infer: {SPOILED}" for side in "AB"]


def test_warnings_of_a_folder_stand_below_their_rows(report: dict[str, Any]) -> None:
    codecs = {"jpeg": "Pillow"}
    host = {"images_per_second": 100.0, "processor_ms": 10.0, "codecs": codecs}
    held = {**folder_report(report), "model_sha256": "0" * 64, "host": host}
    held["runs"][0]["warnings"] = ["the rounds lie 30 % apart", "the machine was not idle"]
    held["runs"][1]["images_per_second"] = 60.0
    lines = throughput_text(held).splitlines()
    # The fastest first; the speed is that of the run that was measured first.
    assert lines[4].startswith("onnxruntime fp32, 2 streams of 1 thread")
    assert "1.26x" in lines[4]
    assert lines[5].startswith("openvino fp32, 1 stream of 2 threads")
    assert lines[6] == "  warning: the rounds lie 30 % apart; 1 more in report.json"
    assert lines[-1] == "  warning: the queue grew"
    assert " 39.00 " in lines[-2]


def test_warnings_of_frames_stand_below_their_rows(report: dict[str, Any]) -> None:
    ages = {f"{name}_ms": 1.0 for name in ("p50", "p95", "p99", "max")}
    run = {"title": "a", "frames": 9, "results": 9, "dropped": 0, "results_per_second": 1.0}
    run |= {"jitter_ms": 1.0, "age": ages}
    runs = [{**run, "rate": 10, "warnings": ["late"]}, {**run, "rate": 20, "warnings": []}]
    held = {"environment": report["environment"], "model": "m", "shape": "1x1", "runs": runs}
    lines = live_text(held).splitlines()
    assert lines[-2] == "  warning: late"
    assert lines[-1].startswith("20")
