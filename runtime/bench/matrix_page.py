"""The page of ``fcnkit bench matrix``."""

from __future__ import annotations

from html import escape
from typing import Any

from fcnkit.runtime.bench.matrix_plots import MATRIX_PLOTS
from fcnkit.runtime.bench.matrix_report import matrix_overview, matrix_words, not_measured
from fcnkit.runtime.bench.page import environment_table, figures, heading, overview
from fcnkit.runtime.page import document, table

__all__ = ["matrix_page"]


def matrix_page(report: dict[str, Any]) -> str:
    """Write a matrix as a page: the recommendation, accuracy against latency, the table.

    Args:
        report: From ``matrix_report``.

    Returns:
        The HTML; plots are inside it, it loads nothing.
    """
    found, plots = report["recommendation"], list(figures(report, MATRIX_PLOTS))
    body = [heading("Which model, which backend, which precision?", report)]
    body.append(f'<p class="dim">{escape(scored_on(report))}</p>')
    if found:
        name, reason = escape(found["name"]), escape(found["reason"])
        body.append(f'<p class="fine"><strong>{name}</strong>: {reason}</p>')
    body += plots[:1]
    body += ["<h2>Every row</h2>", overview(matrix_overview(report)), *plots[1:]]
    if left := not_measured(report):
        body += ["<h2>Not measured</h2>", table(("row", "status", "why"), left, cards=True)]
    body.append(environment_table(report["environment"]))
    return document("fcnkit bench matrix", body)


def scored_on(report: dict[str, Any]) -> str:
    """Say what the scores and the latencies are of, in one line."""
    data = report["data"]
    of = "made-up images" if data["name"] is None else f"images of {data['name']}"
    split = f", split {data['split']}" if data["split"] else ""
    kind = matrix_words("mean_iou" if data["truth"] else "agreement")
    kind = kind[0].upper() + kind[1:]
    source = "" if data["truth"] else " with the baseline"
    return (
        f"{kind}{source} over {data['pictures']} {of}{split}. Latency is of "
        f"one image of {report['shape']}, from file to label file. Each row ran in its own "
        "process."
    )
