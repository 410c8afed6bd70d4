"""The plots of a report, drawn with matplotlib; each function returns a figure, or None.

None means that the report holds too little for this plot, such as one batch size only.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import TYPE_CHECKING, Any, Final

import numpy as np

from fcnkit.runtime.bench.drawing import (
    COLORS,
    Plot,
    bars,
    figure_of,
    legend,
    name_bars,
    style,
    wrapped,
)
from fcnkit.runtime.bench.report import short_titles

if TYPE_CHECKING:
    from matplotlib.figure import Figure

__all__ = ["FOLDER_PLOTS", "PLOTS"]

_LINES: Final = ("-", "--", ":", "-.")
_STAGECOLORS: Final = {
    "decode": "#8fb8de",
    "cover": "#5b8fc7",
    "host_to_device": "#c9b458",
    "compute": "#d9822b",
    "device_to_host": "#b59a3a",
    "stitch": "#2a9d6f",
    "encode": "#7a5cc0",
}
_PARTS: Final = tuple(_STAGECOLORS)


def _samples(case: dict[str, Any], name: str) -> list[float]:
    held = [stage["samples_ms"] for stage in case["stages"] if stage["name"] == name]
    return list(held[0]) if held else []


def _headline(report: dict[str, Any]) -> tuple[str, str]:
    """Return the stage that the plots are about and what it is called in words."""
    whole = all(_samples(case, "end_to_end") for case in report["cases"])
    return ("end_to_end", "end to end") if whole else ("infer", "backend alone")


def distribution(report: dict[str, Any], width: float) -> Figure | None:
    """Draw latency against percentile, with the tail stretched so that every outlier shows."""
    name, words = _headline(report)
    figure = figure_of(width, 4.6)
    axes = figure.subplots()
    deepest = 0.5
    titles = short_titles(report["cases"])
    for number, (title, case) in enumerate(zip(titles, report["cases"], strict=True)):
        times = np.sort(_samples(case, name))
        beyond = 1 - (np.arange(len(times)) + 0.5) / len(times)
        deepest = min(deepest, float(beyond[-1]))
        color, line = COLORS[number % len(COLORS)], _LINES[number // len(COLORS) % len(_LINES)]
        axes.step(1 / beyond, times, where="post", color=color, linestyle=line, label=title)
        axes.plot(1 / beyond[-1], times[-1], "o", color=color, markersize=4)
    ticks = {1: "min", 2: "p50", 10: "p90", 20: "p95", 100: "p99", 1000: "p99.9", 10_000: "p99.99"}
    shown = {at: text for at, text in ticks.items() if at <= 1.2 / deepest}
    axes.set_xscale("log")
    axes.set_xticks(list(shown), list(shown.values()))
    axes.minorticks_off()
    axes.set_ylim(bottom=0)
    style(axes, title=f"Latency by percentile, {words}", x="percentile", y="milliseconds per call")
    legend(figure, axes)
    return figure


def over_time(report: dict[str, Any], width: float) -> Figure | None:
    """Draw every sample in the order of measuring: drift and disturbances show."""
    name, words = _headline(report)
    cases, titles = report["cases"][:6], short_titles(report["cases"])
    figure = figure_of(width, 1.9 * len(cases))
    for number, case in enumerate(cases):
        axes = figure.add_subplot(len(cases), 1, number + 1)
        times = _samples(case, name)
        color = COLORS[number % len(COLORS)]
        axes.plot(times, ".", color=color, markersize=3, alpha=0.7)
        axes.axhline(float(np.median(times)), color="#30343a", linewidth=0.8)
        axes.set_ylim(0, 1.05 * max(times))
        last = number == len(cases) - 1
        style(axes, title=titles[number], x="sample" if last else "", y="ms")
        axes.title.set_fontsize(9)
    title = f"Every sample in order, {words}; the line is the median"
    figure.suptitle(wrapped(title, width), fontsize=11, x=0.02, ha="left")
    return figure


def stages(report: dict[str, Any], width: float) -> Figure | None:
    """Draw the mean of each stage as one bar per case; means add up, medians do not."""
    titles = short_titles(report["cases"])
    places = [n for n, case in enumerate(report["cases"]) if _samples(case, "end_to_end")]
    cases = [report["cases"][place] for place in places]
    if not cases:
        return None
    figure = figure_of(width, 1.5 + 0.55 * len(cases))
    axes = figure.subplots()
    left = np.zeros(len(cases))
    pictures = [int(case["shape"].split("x")[0]) for case in cases]
    widths = {
        part: np.array([float(np.mean(_samples(case, part) or [0])) for case in cases]) / pictures
        for part in _PARTS
    }
    longest = float(sum(widths.values()).max())  # type: ignore[union-attr]  # not empty, so no int
    for part, lengths in widths.items():
        if lengths.any():
            words = part.replace("_", " ")
            axes.barh(range(len(cases)), lengths, left=left, color=_STAGECOLORS[part], label=words)
            for row, value in enumerate(lengths):
                if value > 0.06 * longest:
                    at = (left[row] + value / 2, row)
                    axes.annotate(f"{value:.1f}", at, ha="center", va="center", fontsize=8)
        left += lengths
    name_bars(axes, [titles[place] for place in places], width)
    style(axes, title="Where a picture's time goes", x="milliseconds per picture, mean", y="")
    legend(figure, axes, columns=5)
    return figure


def _rates(
    report: dict[str, Any], *, along: Callable[[int, int, int], tuple[float, str]]
) -> dict[str, dict[float, float]]:
    """Group images per second into lines: what is held fixed names the line."""
    name, _ = _headline(report)
    lines: dict[str, dict[float, float]] = {}
    for case in report["cases"]:
        batch, height, width = map(int, case["shape"].split("x"))
        at, rest = along(batch, height, width)
        details = case["details"]
        graphs = f" CUDA graphs {details['cuda_graphs']}" if "cuda_graphs" in details else ""
        way = f"{case['backend']} {details.get('compute', '')}{graphs}"
        line = f"{case['model']}, {way}, {rest}"
        lines.setdefault(line, {})[at] = case["images_per_second"][name]
    return {line: points for line, points in lines.items() if len(points) > 1}


def _draw_rates(
    lines: dict[str, dict[float, float]], width: float, *, title: str, x: str, log: bool = False
) -> Figure | None:
    if not lines:
        return None
    figure = figure_of(width, 4.4)
    axes = figure.subplots()
    for number, (label, points) in enumerate(lines.items()):
        places = sorted(points)
        color = COLORS[number % len(COLORS)]
        axes.plot(places, [points[at] for at in places], "o-", color=color, label=label)
    ticks = sorted({at for points in lines.values() for at in points})
    if log:
        # The time grows with the pixels: a straight line, where linear axes show a cliff.
        axes.set(xscale="log", yscale="log")
        axes.yaxis.set_major_formatter("{x:g}")
        axes.yaxis.set_minor_formatter("{x:g}")
        axes.tick_params(axis="y", which="minor", labelsize=7)
        axes.xaxis.minorticks_off()
    else:
        axes.set_ylim(bottom=0)
    axes.set_xticks(ticks, [f"{at:.3g}" for at in ticks])
    style(axes, title=title, x=x, y="images per second")
    legend(figure, axes)
    return figure


def against_batch(report: dict[str, Any], width: float) -> Figure | None:
    """Draw images per second against the batch size."""
    lines = _rates(report, along=lambda n, height, width: (float(n), f"{height}x{width}"))
    words = _headline(report)[1]
    return _draw_rates(lines, width, title=f"Throughput by batch, {words}", x="pictures per batch")


def against_shape(report: dict[str, Any], width: float) -> Figure | None:
    """Draw images per second against the size of the pictures."""
    lines = _rates(report, along=lambda n, height, width: (height * width / 1e6, f"batch {n}"))
    words = _headline(report)[1]
    return _draw_rates(
        lines, width, title=f"Throughput by picture size, {words}", x="megapixels", log=True
    )


def load_curve(report: dict[str, Any], width: float) -> Figure | None:
    """Draw the median and p99 of the latency against the offered load, a color per way."""
    rows = sorted(report.get("loads", []), key=lambda row: float(row["rate"]))
    if not rows:
        return None
    figure = figure_of(width, 4.4)
    axes = figure.subplots()
    for number, title in enumerate(dict.fromkeys(row["title"] for row in rows)):
        own = [row for row in rows if row["title"] == title]
        rates = [row["rate"] for row in own]
        for name, line in (("p50", "-"), ("p99", ":")):
            times = [row["latency"][f"{name}_ms"] for row in own]
            color = COLORS[number % len(COLORS)]
            axes.plot(rates, times, f"o{line}", color=color, label=f"{title}, {name}")
        late = [row for row in own if not row["keeps_up"]]
        axes.plot(
            [row["rate"] for row in late],
            [row["latency"]["p99_ms"] for row in late],
            linestyle="none",
            marker="x",
            markersize=12,
            color="#c0392b",
        )
    axes.set_yscale("log")
    axes.yaxis.set_major_formatter("{x:g}")
    axes.yaxis.set_minor_formatter("{x:g}")
    axes.tick_params(which="minor", labelsize=7)
    x = "requests per second offered (crossed: the machine does not keep up)"
    y = "milliseconds, waiting in it"
    style(axes, title="Latency against load, Poisson arrivals", x=x, y=y)
    legend(figure, axes, columns=2)
    return figure


def throughput(report: dict[str, Any], width: float) -> Figure | None:
    """Draw images per second of each way to run the folder."""
    rows = report.get("runs", [])
    if not rows:
        return None
    ranked = sorted(rows, key=lambda row: -float(row["images_per_second"]))
    return bars(
        [row["title"] for row in ranked],
        [float(row["images_per_second"]) for row in ranked],
        width,
        title="Picture files to label files",
        x="images per second",
    )


PLOTS: Final[Mapping[str, Plot]] = {
    "distribution": distribution,
    "stages": stages,
    "throughput-batch": against_batch,
    "throughput-shape": against_shape,
    "over-time": over_time,
}
"""File name without suffix to plot, in the order of the page."""

FOLDER_PLOTS: Final[Mapping[str, Plot]] = {
    "throughput": throughput,
    "load": load_curve,
}
"""The same for ``bench throughput``."""
