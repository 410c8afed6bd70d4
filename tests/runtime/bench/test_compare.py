"""Intervals that hold what they promise, and verdicts that follow from them."""

from __future__ import annotations

import copy
import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from fcnkit.cli.bench_text import comparison_text
from fcnkit.runtime.bench.compare import (
    Comparison,
    Interval,
    compare_reports,
    compare_samples,
    parse_limit,
)
from fcnkit.runtime.bench.report import read_report
from tests.refusal import refusal


def noisy(median: float, seed: int, count: int = 200) -> np.ndarray[Any, Any]:
    """Log-normal times whose neighbors resemble each other, as those of a busy machine."""
    random = np.random.default_rng(seed)
    noise = np.zeros(count)
    for number in range(1, count):
        noise[number] = 0.5 * noise[number - 1] + random.normal()
    return median * np.exp(0.05 * noise)


def test_the_interval_holds_the_true_ratio_as_often_as_it_says() -> None:
    held = 0
    for seed in range(100):
        _, _, ratio = compare_samples(noisy(10, 2 * seed), noisy(11, 2 * seed + 1), seed=seed)
        held += ratio.low <= 1.1 <= ratio.high
    # 95 are promised; a block bootstrap of 200 dependent samples falls a little short of it.
    assert 85 <= held <= 100


def test_medians_are_exact_and_intervals_narrow_with_samples() -> None:
    few, many = noisy(10, 1, count=50), noisy(10, 1, count=5000)
    a, b, ratio = compare_samples(few, many)
    assert (a.estimate, b.estimate) == (np.median(few), np.median(many))
    assert ratio.estimate == pytest.approx(b.estimate / a.estimate)
    assert b.high - b.low < (a.high - a.low) / 4
    assert a.low <= a.estimate <= a.high
    again = compare_samples(few, many)
    assert again == (a, b, ratio)


def test_one_sample_is_not_enough() -> None:
    text = "bench compare: each side must have at least 2 samples, got 1; measure with more --runs"
    with refusal(ValueError, text):
        compare_samples([1.0], [1.0, 2.0])


def row(low: float, estimate: float, high: float) -> Comparison:
    interval = Interval(estimate=estimate, low=low, high=high)
    return Comparison(
        case="c", stage="infer", a=interval, b=interval, ratio=interval, samples=(2, 2)
    )


@pytest.mark.parametrize(
    ("ratio", "differs", "slower"),
    [
        ((1.04, 1.06, 1.08), True, True),
        ((0.99, 1.06, 1.13), False, False),  # above the limit, but noise
        ((1.02, 1.04, 1.06), True, False),  # no noise, but below the limit
        ((0.80, 0.85, 0.90), True, False),
    ],
)
def test_slower_is_more_than_the_limit_and_more_than_noise(
    ratio: tuple[float, float, float], differs: bool, slower: bool
) -> None:
    assert row(*ratio).differs == differs
    assert row(*ratio).slower_than(0.05) == slower


def slowed(report: dict[str, Any], factor: float) -> dict[str, Any]:
    other = copy.deepcopy(report)
    for case in other["cases"]:
        for stage in case["stages"]:
            stage["samples_ms"] = [factor * value for value in stage["samples_ms"]]
    return other


def test_a_report_against_a_slower_one(report: dict[str, Any]) -> None:
    compared = compare_reports(report, slowed(report, 1.5))
    assert len(compared.rows) == 7 * len(report["cases"])
    for found in compared.rows:
        assert found.ratio.estimate == pytest.approx(1.5)
    assert compared.missing == []
    assert not [note for note in compared.notes if note.startswith("only in")]
    assert not any(found.differs for found in compare_reports(report, report).rows)


def test_a_report_with_the_older_names_of_precisions_is_compared(
    report: dict[str, Any], tmp_path: Path
) -> None:
    older, newer = tmp_path / "older.json", tmp_path / "newer.json"
    newer.write_text(json.dumps(report))
    older.write_text(json.dumps(report).replace('"compute": "fp32"', '"compute": "f32"'))
    assert older.read_text() != newer.read_text()
    compared = compare_reports(read_report(older), read_report(newer))
    assert len(compared.rows) == 7 * len(report["cases"])
    assert compared.missing == []
    assert all(" fp32, " in row.case for row in compared.rows)


def test_what_has_no_partner_is_named(report: dict[str, Any]) -> None:
    fewer = {**report, "cases": report["cases"][:2]}
    compared = compare_reports(fewer, report)
    assert len(compared.rows) == 7 * 2
    assert compared.missing == []  # what only B has is new, not lost
    assert [note for note in compared.notes if note.startswith("only in")] == [
        f"only in B: {name}.onnx, onnxruntime fp32, 1 threads, {shape}, cover {cover}"
        for name, shape, cover in (
            ("labels", "1x64x96", "pad"),
            ("logits", "1x40x50", "pad"),
            ("logits", "2x40x50", "pad"),
            ("logits", "1x64x96", "pad"),
        )
    ]


def test_single_cases_are_compared_whatever_they_are(report: dict[str, Any]) -> None:
    one, other = ({**report, "cases": [report["cases"][at]]} for at in (0, 3))
    compared = compare_reports(one, other)
    assert len(compared.rows) == 7
    assert compared.notes[0] == (
        "comparing labels.onnx, onnxruntime fp32, 1 threads, 1x40x50, cover pad "
        "with logits.onnx, onnxruntime fp32, 1 threads, 1x40x50, cover pad"
    )
    assert compared.missing == ["labels.onnx, onnxruntime fp32, 1 threads, 1x40x50, cover pad"]
    apart = compare_reports({**report, "cases": report["cases"][:2]}, other)
    assert (apart.rows, len(apart.missing)) == ([], 2)


def test_what_b_lacks_is_named(report: dict[str, Any]) -> None:
    fewer = copy.deepcopy({**report, "cases": report["cases"][1:]})
    for stage in fewer["cases"][0]["stages"]:
        if stage["name"] in ("end_to_end", "decode"):  # as with --no-stages
            stage["samples_ms"] = []
    assert compare_reports(report, fewer).missing == [
        "labels.onnx, onnxruntime fp32, 1 threads, 1x40x50, cover pad",
        "end_to_end of labels.onnx, onnxruntime fp32, 1 threads, 2x40x50, cover pad",
    ]
    nothing = compare_reports(report, {**report, "cases": []})
    assert (nothing.rows, len(nothing.missing)) == ([], len(report["cases"]))
    text = "bench compare: the earlier report must have a case, got none; measure it again"
    with refusal(ValueError, text):
        compare_reports({**report, "cases": []}, report)


def test_cases_of_one_name_are_compared_in_their_order(report: dict[str, Any]) -> None:
    once = {**report, "cases": report["cases"][:1]}
    twice = {**once, "cases": once["cases"] + slowed(once, 2.0)["cases"]}
    compared = compare_reports(twice, twice)
    assert len(compared.rows) == 2 * 7
    assert not any(row.differs for row in compared.rows)
    assert len(compare_reports(twice, once).missing) == 1
    title = "labels.onnx, onnxruntime fp32, 1 threads, 1x40x50, cover pad"
    assert list(dict.fromkeys(row.case for row in compared.rows)) == [title, f"{title} (number 2)"]


def test_each_cover_of_a_case_has_its_own_table(report: dict[str, Any]) -> None:
    """The rows of a table are the stages of one case, whatever the cases have in common."""
    case = next(case for case in report["cases"] if case["head"] == "logits")
    covers = [{**case, "cover": cover} for cover in ("pad", "average")]
    both = {**report, "cases": covers}
    text = comparison_text(compare_reports(both, slowed(both, 2.0)), [], None)
    tables = [block.splitlines() for block in text.split("\n\n")]
    title = "logits.onnx, onnxruntime fp32, 1 threads, 1x40x50"
    assert [table[0] for table in tables[:2]] == [f"{title}, cover pad", f"{title}, cover average"]
    lines = [[line for line in table if "warning: " not in line] for table in tables[:2]]
    assert [len(table) for table in lines] == [2 + 7] * 2


def test_other_machines_and_versions_are_named(report: dict[str, Any]) -> None:
    other = copy.deepcopy(report)
    other["environment"]["cpu"]["model"] = "Another"
    other["environment"]["packages"]["onnxruntime"] = "0.1"
    notes = compare_reports(report, other).notes
    model = report["environment"]["cpu"]["model"]
    assert f"different processors: {model} and Another" in notes
    version = report["environment"]["packages"]["onnxruntime"]
    assert f"onnxruntime {version} in A, 0.1 in B" in notes


def test_limits() -> None:
    assert parse_limit("5%", "--fail-over") == pytest.approx(0.05)
    assert parse_limit("0.05", "--fail-over") == pytest.approx(0.05)
    assert parse_limit(" 0 % ", "--fail-over") == 0
    for text in ("five", "-1%", "", "%", "inf", "nan"):
        refused = f"--fail-over: is a percentage or fraction, got {text!r}; write 5%"
        with refusal(ValueError, refused):
            parse_limit(text, "--fail-over")
