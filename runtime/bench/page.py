"""One HTML file that holds a whole report: figures, plots, environment. It loads nothing."""

from __future__ import annotations

import base64
from collections.abc import Iterator, Sequence
from html import escape
from typing import TYPE_CHECKING, Any, Final

from fcnkit.runtime.bench.plots import FOLDER_PLOTS, PLOTS, draw, save_figure
from fcnkit.runtime.bench.report import case_title, stage_rows
from fcnkit.runtime.page import document, table

if TYPE_CHECKING:
    from matplotlib.figure import Figure

__all__ = ["latency_page", "throughput_page"]

_FIGURES: Final = ("p50", "p90", "p95", "p99", "p99_9", "max", "mean", "std", "min")


def latency_page(report: dict[str, Any]) -> str:
    """Write a latency report as a page.

    Args:
        report: In its JSON form.

    Returns:
        The HTML; plots are inside it, it loads nothing.
    """
    body = [_heading("Latency", report), _overview(report["cases"])]
    body += _figures(draw(report, PLOTS))
    body.append("<h2>Every stage</h2>")
    body += [part for case in report["cases"] for part in _case(case)]
    body.append(_environment(report["environment"]))
    return document("fcnkit bench latency", body)


def throughput_page(report: dict[str, Any]) -> str:
    """Write a throughput report as a page.

    Args:
        report: In its JSON form.

    Returns:
        The HTML; plots are inside it, it loads nothing.
    """
    body = [_heading(f"Throughput of {report['model']} over {report['data']}", report)]
    if report["runs"]:
        head = ("way", "pictures", "images/s", "seconds of each round")
        rows = [
            (
                run["title"],
                str(run["pictures"]),
                f"{run['images_per_second']:.2f}",
                " ".join(f"{value:.2f}" for value in run["seconds"]),
            )
            for run in report["runs"]
        ]
        body += ["<h2>As fast as it goes</h2>", table(head, rows)]
        body += _warnings([line for run in report["runs"] for line in run["warnings"]])
    if report["loads"]:
        body += ["<h2>Under load</h2>", _loads(report["loads"])]
        body += _warnings([line for row in report["loads"] for line in row["warnings"]])
    body += _figures(draw(report, FOLDER_PLOTS))
    body.append(_environment(report["environment"]))
    return document("fcnkit bench throughput", body)


def _loads(loads: Sequence[dict[str, Any]]) -> str:
    head = (
        "requests/s",
        "way",
        "requests",
        "busy",
        "p50 ms",
        "p95",
        "p99",
        "p99.9",
        "max",
        "keeps up",
    )
    rows = []
    for row in loads:
        times = row["latency"]
        cells = [f"{times[f'{name}_ms']:.1f}" for name in ("p50", "p95", "p99", "p99_9", "max")]
        busy, fits = f"{100 * row['busy']:.0f} %", "yes" if row["keeps_up"] else "no"
        rows.append((f"{row['rate']:.2f}", row["title"], str(row["requests"]), busy, *cells, fits))
    return table(head, rows)


def _heading(title: str, report: dict[str, Any]) -> str:
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


def _overview(cases: Sequence[dict[str, Any]]) -> str:
    head = ("case", "infer p50", "p99", "end to end p50", "p99", "images/s", "first call", "memory")
    rows = []
    for case in cases:
        times = dict(stage_rows(case))
        cells = [
            _number((times.get(name) or {}).get(f"{figure}_ms"))
            for name in ("infer", "end_to_end")
            for figure in ("p50", "p99")
        ]
        rates = case["images_per_second"]
        first = case["first_call"]
        cold = (first["import_ms"] or 0) + first["open_ms"] + first["infer_ms"]
        rate = _number(rates.get("end_to_end", rates["infer"]))
        memory = case["memory_mb"]["host_peak"]
        size = "missing" if memory is None else f"{memory:.0f} MiB"
        rows.append((case_title(case), *cells, rate, f"{cold:.0f} ms", size))
    return table(head, rows)


def _case(case: dict[str, Any]) -> Iterator[str]:
    yield f"<h3>{escape(case_title(case))}</h3>"
    details = ", ".join(f"{key} {value}" for key, value in case["details"].items())
    yield (
        f'<p class="dim">{escape(case["architecture"])}, head {escape(case["head"])}, '
        f"{escape(case['precision'])}, cover {escape(case['cover'])}; {escape(details)}; the "
        f"backend is given {escape(case['compute_shape'])}; pictures {escape(case['picture'])}; "
        f"sha256 {escape(case['model_sha256'][:12])}</p>"
    )
    lines = [
        f"{name}: {line}" for name, loop in case["stability"].items() for line in loop["warnings"]
    ]
    yield from _warnings(lines)
    head = ("stage", "samples", *(name.replace("_", ".") for name in _FIGURES), "cv")
    rows = []
    for name, summary in stage_rows(case):
        words = "infer (backend alone)" if name == "infer" else name.replace("_", " ")
        if summary is None:
            rows.append((words, *(["missing"] + [""] * (len(head) - 2))))
            continue
        cells = [_number(summary[f"{figure}_ms"]) for figure in _FIGURES]
        rows.append((words, str(summary["samples"]), *cells, f"{summary['cv']:.3f}"))
    yield table(head, rows, strong=("end to end", "infer (backend alone)"))
    first, memory = case["first_call"], case["memory_mb"]
    imported = first["import_ms"]
    yield (
        f'<p class="dim">First call: import {_number(imported)} ms'
        f"{'' if imported is not None else ' (not timed by itself)'}, open "
        f"{_number(first['open_ms'])} ms, first inference {_number(first['infer_ms'])} ms. "
        f"Memory in MiB: {', '.join(f'{k} {_number(v)}' for k, v in memory.items())}.</p>".replace(
            "_", " "
        )
    )


def _warnings(lines: Sequence[str]) -> list[str]:
    if not lines:
        return ['<p class="fine">Stable: no warning.</p>']
    return [f'<p class="warn">{escape(line)}</p>' for line in dict.fromkeys(lines)]


def _figures(figures: dict[str, Figure]) -> Iterator[str]:
    for name, figure in figures.items():
        data = base64.b64encode(save_figure(figure, kind="svg")).decode("ascii")
        words = escape(name.replace("-", " "))
        yield f'<figure><img alt="{words}" src="data:image/svg+xml;base64,{data}"></figure>'


def _environment(environment: dict[str, Any]) -> str:
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
    return f'<h2>Environment</h2><div class="scroll"><table>{"".join(rows)}</table></div>'


def _number(value: float | None) -> str:
    if value is None:
        return "missing"
    return f"{value:.3f}" if value < 10 else f"{value:.2f}" if value < 100 else f"{value:.1f}"
