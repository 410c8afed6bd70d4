"""One HTML file that holds a whole report: figures, plots, environment. It loads nothing."""

from __future__ import annotations

import base64
from collections.abc import Iterator, Mapping, Sequence
from html import escape
from typing import TYPE_CHECKING, Any, Final

from fcnkit.runtime.bench.drawing import NARROW, Plot, draw, save_figure
from fcnkit.runtime.bench.plots import FOLDER_PLOTS, PLOTS
from fcnkit.runtime.bench.report import (
    Overview,
    case_titles,
    case_warnings,
    in_digits,
    latency_overview,
    stage_rows,
)
from fcnkit.runtime.bench.throughput import loads_overview, runs_overview
from fcnkit.runtime.page import document, table

if TYPE_CHECKING:
    from matplotlib.figure import Figure

__all__ = [
    "environment_table",
    "figures",
    "heading",
    "latency_page",
    "overview",
    "throughput_page",
]

_FIGURES: Final = ("p50", "p90", "p95", "p99", "p99_9", "max", "mean", "std", "min")


def latency_page(report: dict[str, Any]) -> str:
    """Write a latency report as a page.

    Args:
        report: In its JSON form.

    Returns:
        The HTML; plots are inside it, it loads nothing.
    """
    body = [heading("Latency", report), overview(latency_overview(report))]
    body += figures(report, PLOTS)
    body.append("<h2>Every stage</h2>")
    titled = zip(case_titles(report["cases"]), report["cases"], strict=True)
    body += [part for title, case in titled for part in _case(title, case)]
    body.append(environment_table(report["environment"]))
    return document("fcnkit bench latency", body)


def throughput_page(report: dict[str, Any]) -> str:
    """Write a throughput report as a page.

    Args:
        report: In its JSON form.

    Returns:
        The HTML; plots are inside it, it loads nothing.
    """
    body = [heading(f"Throughput of {report['model']} over {report['data']}", report)]
    if report["runs"]:
        body += ["<h2>As fast as it goes</h2>", overview(runs_overview(report))]
    if report["loads"]:
        body += ["<h2>Under load</h2>", overview(loads_overview(report))]
    body += figures(report, FOLDER_PLOTS)
    body.append(environment_table(report["environment"]))
    return document("fcnkit bench throughput", body)


def heading(title: str, report: dict[str, Any]) -> str:
    """Return the title of a page and the machine that its report is of."""
    machine = report["environment"]["cpu"]
    gpus = report["environment"]["gpus"]
    gpu = ", ".join(one["name"] for one in gpus) if gpus else "no GPU: its figures are missing"
    return (
        f"<h1>{escape(title)}</h1>"
        f'<p class="dim">{escape(machine["model"])}, {machine["usable_cores"]} of '
        f"{machine['cores']} cores, {escape(gpu)} · {escape(report['created'])} · fcnkit "
        f"{escape(report['environment']['packages'].get('fcnkit', '?'))}</p>"
        '<p class="dim">All samples count, nothing is clipped. Times are wall-clock '
        "milliseconds.</p>"
    )


def overview(found: Overview) -> str:
    """Return a table with the notes of each row below it."""
    return table(found.head, found.rows, notes=found.notes, cards=True)


def _case(title: str, case: dict[str, Any]) -> Iterator[str]:
    yield f"<h3>{escape(title)}</h3>"
    details = ", ".join(f"{key} {value}" for key, value in case["details"].items())
    yield (
        f'<p class="dim">{escape(case["architecture"])}, head {escape(case["head"])}, '
        f"{escape(case['precision'])}, cover {escape(case['cover'])}; {escape(details)}; the "
        f"backend is given {escape(case['compute_shape'])}; pictures {escape(case['picture'])}; "
        f"sha256 {escape(case['model_sha256'][:12])}</p>"
    )
    yield from _warnings(case_warnings(case))
    head = ("stage", "samples", *(name.replace("_", ".") for name in _FIGURES), "cv")
    rows = []
    for name, summary in stage_rows(case):
        words = "infer (backend alone)" if name == "infer" else name.replace("_", " ")
        if summary is None:
            rows.append((words, *(["missing"] + [""] * (len(head) - 2))))
            continue
        cells = [in_digits(summary[f"{figure}_ms"]) for figure in _FIGURES]
        rows.append((words, str(summary["samples"]), *cells, f"{summary['cv']:.3f}"))
    yield table(head, rows, strong=("end to end", "infer (backend alone)"))
    first = case["first_call"]
    imported = first["import_ms"]
    sizes = ", ".join(
        f"{name.replace('_', ' ')} {in_digits(size)}" for name, size in case["memory_mb"].items()
    )
    yield (
        f'<p class="dim">First call: import {in_digits(imported)} ms'
        f"{'' if imported is not None else ' (not timed by itself)'}, open "
        f"{in_digits(first['open_ms'])} ms, first inference {in_digits(first['infer_ms'])} ms. "
        f"Memory in MiB: {sizes}.</p>"
    )


def _warnings(lines: Sequence[str]) -> list[str]:
    if not lines:
        return ['<p class="fine">Stable: no warning.</p>']
    return [f'<p class="warn">{escape(line)}</p>' for line in dict.fromkeys(lines)]


def figures(report: dict[str, Any], plots: Mapping[str, Plot]) -> Iterator[str]:
    """Yield the plots of a report as HTML, each for wide and for narrow screens.

    Args:
        report: In its JSON form.
        plots: Name to plot.

    Yields:
        A figure per plot that the report has enough for.
    """
    narrow = draw(report, plots, width=NARROW)
    for name, wide in draw(report, plots).items():
        small, large = (_data(figure) for figure in (narrow[name], wide))
        words = escape(name.replace("-", " "))
        yield (
            f'<figure><picture><source media="(max-width: 40rem)" srcset="{small}">'
            f'<img alt="{words}" src="{large}"></picture></figure>'
        )


def _data(figure: Figure) -> str:
    """Return a figure as an address that holds it."""
    data = base64.b64encode(save_figure(figure, kind="svg")).decode("ascii")
    return f"data:image/svg+xml;base64,{data}"


def environment_table(environment: dict[str, Any]) -> str:
    """Return all that is known about the machine, at the end of a page."""
    rows = []
    for key, value in environment.items():
        if isinstance(value, dict):
            text = ", ".join(
                f"{name} {' '.join(held) if isinstance(held, list) else held}"
                for name, held in value.items()
            )
        elif isinstance(value, list):
            text = "; ".join(", ".join(f"{k} {v}" for k, v in one.items()) for one in value)
        else:
            text = "missing" if value is None else str(value)
        rows.append(f'<tr><td>{escape(key)}</td><td class="wide">{escape(text)}</td></tr>')
    return (
        f'<h2>Environment</h2><div class="scroll" tabindex="0"><table>{"".join(rows)}</table></div>'
    )
