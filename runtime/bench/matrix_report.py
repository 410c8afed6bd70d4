"""The report of ``fcnkit bench matrix``: sorted rows, the frontier, and one recommendation."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, Final

from fcnkit.runtime.bench.report import Overview, in_digits, report_head, unique_names

__all__ = [
    "MATRIX_FORMAT",
    "frontier",
    "matrix_overview",
    "matrix_report",
    "matrix_words",
    "not_measured",
    "recommend",
    "score_text",
]

MATRIX_FORMAT: Final = "fcnkit-bench-matrix-1"
"""The form of docs/bench-matrix.schema.json; a test compares the two."""
_STATUS: Final = ("done", "failed", "not reached")
_NOISE: Final = 0.05
"""Rows whose medians are this close are equally fast: two runs of one row differ that much."""
_EQUAL: Final = 5e-5
"""Scores that are this close are equal: a table shows no difference, and sums of another order make
one."""


def matrix_report(
    rows: Sequence[Mapping[str, Any]],
    *,
    environment: dict[str, Any],
    data: Mapping[str, Any],
    shape: str,
    baseline: str | None,
    max_drop: float,
) -> dict[str, Any]:
    """Put rows into the report's form.

    Args:
        rows: Each with ``id``, ``title``, ``status`` (``done``, ``failed`` or ``not reached``) and
            ``reason``; those that are done also with what ``measure_row`` returned.
        environment: From ``describe_environment``.
        data: What was scored on: ``name``, ``split``, ``pictures``, ``truth``.
        shape: HxW of the pictures whose latency was measured.
        baseline: The id of the row that the others are compared with.
        max_drop: How much a recommended row may score below the baseline.

    Returns:
        Plain data for JSON. Done rows come first, the fastest at the top. No two have one name.
    """
    names = unique_names(str(row["title"]) for row in rows)
    named = [
        {"name": name, **{key: value for key, value in row.items() if key not in ("id", "title")}}
        for name, row in zip(names, rows, strict=True)
    ]
    base = next(
        (name for name, row in zip(names, rows, strict=True) if row["id"] == baseline), None
    )
    ranked = sorted(
        named,
        key=lambda row: (
            _STATUS.index(row["status"]),
            row["end_to_end"]["p50_ms"] if row["status"] == "done" else 0,
        ),
    )
    done = [row for row in ranked if row["status"] == "done"]
    found = next((row for row in done if row["name"] == base), None)
    return {
        **report_head(MATRIX_FORMAT, environment),
        "data": dict(data),
        "shape": shape,
        "max_drop": max_drop,
        "baseline": base if found else None,
        "recommendation": recommend(done, found, max_drop=max_drop),
        "frontier": frontier(done),
        "rows": ranked,
    }


def frontier(done: Sequence[Mapping[str, Any]]) -> list[str]:
    """Return the names of the rows than which none is both faster and better.

    Args:
        done: Rows that were measured, the fastest first.

    Returns:
        The names, the fastest first; each scores visibly higher than all before it.
    """
    found: list[str] = []
    best = float("-inf")
    for row in done:
        if row["score"]["value"] > best + _EQUAL:
            found.append(row["name"])
            best = row["score"]["value"]
    return found


def recommend(
    done: Sequence[Mapping[str, Any]], baseline: Mapping[str, Any] | None, *, max_drop: float
) -> dict[str, str] | None:
    """Choose a row: the fastest whose labels are good enough, and of equally fast ones the best.

    Args:
        done: Rows that were measured, the fastest first.
        baseline: The row that says what is good; the best score where it is missing.
        max_drop: How much lower a score may be.

    Returns:
        ``name`` and ``reason``; None where no row was measured.
    """
    if not done:
        return None
    base = baseline or max(done, key=lambda row: float(row["score"]["value"]))
    least = base["score"]["value"] - max_drop
    good = [row for row in done if row["score"]["value"] >= least]
    limit = (1 + _NOISE) * good[0]["end_to_end"]["p50_ms"]
    near = [row for row in good if row["end_to_end"]["p50_ms"] <= limit]
    best = max(row["score"]["value"] for row in near)
    chosen = next(row for row in near if row["score"]["value"] >= best - _EQUAL)
    worse = [row["name"] for row in done[: done.index(good[0])]]
    reason = _reason(chosen, base, max_drop=max_drop, near=len(near))
    if worse:
        reason += f" Faster, and worse by more than that: {'; '.join(worse)}."
    if chosen["warnings"]:
        reason += " Its figures carry warnings: measure again on an idle machine."
    return {"name": chosen["name"], "reason": reason}


def _reason(
    chosen: Mapping[str, Any], base: Mapping[str, Any], *, max_drop: float, near: int
) -> str:
    kind = chosen["score"]["kind"]
    words, own = matrix_words(kind), score_text(chosen["score"])
    least = f"{max_drop:g}" if kind == "mean_iou" else f"{100 * max_drop:g} %"
    median = f"{in_digits(chosen['end_to_end']['p50_ms'])} ms from file to label file"
    rank = "It is the fastest" if near == 1 else f"It scores best of the {near} fastest"
    of = f"of those whose {words} is at most {least} below"
    if chosen is base:
        return f"{rank} {of} its own {own}: {median}."
    speed = base["end_to_end"]["p50_ms"] / chosen["end_to_end"]["p50_ms"]
    compared = f"{speed:.2f}x as fast as {base['name']}"
    return f"{rank} {of} {score_text(base['score'])}: {own}, {median}, {compared}."


def matrix_words(kind: str) -> str:
    """Return what a kind of score is called."""
    return "mean IoU" if kind == "mean_iou" else "label agreement"


def score_text(score: Mapping[str, Any]) -> str:
    """Return a score with its digits: a mean IoU as a number, an agreement in percent."""
    value = score["value"]
    return f"{value:.4f}" if score["kind"] == "mean_iou" else f"{100 * value:.3f} %"


def matrix_overview(report: Mapping[str, Any]) -> Overview:
    """Put all measured rows into one table, the fastest first.

    Args:
        report: From ``matrix_report``.

    Returns:
        A row per measured row, with its warnings.
    """
    done = [row for row in report["rows"] if row["status"] == "done"]
    base = next((row for row in done if row["name"] == report["baseline"]), None)
    chosen = (report["recommendation"] or {}).get("name")
    rows = []
    for row in done:
        mark = " (recommended)" if row["name"] == chosen else ""
        mark += " (baseline)" if row is base else ""
        median = row["end_to_end"]["p50_ms"]
        speed = "" if base is None else f"{base['end_to_end']['p50_ms'] / median:.2f}x"
        cells = [in_digits(value) for value in (median, row["end_to_end"]["p99_ms"])]
        cells += [in_digits(row["infer"]["p50_ms"]), in_digits(row["images_per_second"])]
        memory = "missing" if row["peak_mb"] is None else f"{row['peak_mb']:.0f}"
        size, first = f"{row['bytes'] / 1e6:.1f}", f"{row['first_call']['total_ms']:.0f}"
        score = score_text(row["score"])
        rows.append((row["name"] + mark, score, speed, *cells, size, memory, first))
    kind = matrix_words("mean_iou" if report["data"]["truth"] else "agreement")
    times = ("p50 ms", "p99 ms", "infer p50 ms")
    sizes = ("images/s", "file MB", "memory MiB", "first call ms")
    head = ("model and way", kind, "speed", *times, *sizes)
    return Overview(head=head, rows=rows, warnings=[row["warnings"] for row in done])


def not_measured(report: Mapping[str, Any]) -> list[tuple[str, str, str]]:
    """Return name, status and reason of the rows that have no figures.

    Args:
        report: From ``matrix_report``.
    """
    rows = [row for row in report["rows"] if row["status"] != "done"]
    return [(row["name"], row["status"], row["reason"]) for row in rows]
