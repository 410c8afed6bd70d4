"""The plots of a report, drawn with matplotlib; each function returns a figure, or None.

None means that the report holds too little for this plot, such as one batch size only.
"""

from __future__ import annotations

import io
from collections.abc import Callable, Mapping
from typing import TYPE_CHECKING, Any, Final

import numpy as np

from fcnkit.errors import missing_extra
from fcnkit.runtime.bench.report import case_title

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

__all__ = ["PLOTS", "check_matplotlib", "draw", "save_figure"]

_COLORS: Final = (
    "#2f6fb5", "#d9822b", "#2a9d6f", "#b5457a", "#7a5cc0", "#8a8f98", "#c0a020", "#1fa6b8",
)  # fmt: skip
_LINES: Final = ("-", "--", ":", "-.")
_STAGE_COLORS: Final = {
    "decode": "#8fb8de",
    "cover": "#5b8fc7",
    "host_to_device": "#c9b458",
    "compute": "#d9822b",
    "device_to_host": "#b59a3a",
    "stitch": "#2a9d6f",
    "encode": "#7a5cc0",
}
_PARTS: Final = tuple(_STAGE_COLORS)


def check_matplotlib(what: str) -> None:
    """Refuse to go on without matplotlib, before time is spent on measuring.

    Args:
        what: The command, for the error.

    Raises:
        MissingExtraError: matplotlib is not installed.
    """
    try:
        import matplotlib.figure  # noqa: F401
    except ImportError:
        raise missing_extra(what, "matplotlib", "plots") from None


def _figure(rows: int, *, width: float = 9.0, row_height: float = 3.4) -> Figure:
    from matplotlib.figure import Figure as New

    return New(figsize=(width, row_height * rows), layout="constrained")


def _style(axes: Axes, *, title: str, x: str, y: str) -> None:
    axes.set_title(title, loc="left", fontsize=11, fontweight="bold")
    axes.set(xlabel=x, ylabel=y)
    axes.grid(visible=True, color="#e3e6ea", linewidth=0.8)
    axes.set_axisbelow(True)
    for side in ("top", "right"):
        axes.spines[side].set_visible(False)


def _samples(case: dict[str, Any], name: str) -> list[float]:
    held = [stage["samples_ms"] for stage in case["stages"] if stage["name"] == name]
    return list(held[0]) if held else []


def _headline(report: dict[str, Any]) -> tuple[str, str]:
    """Return the stage that the plots are about and what it is called in words."""
    whole = all(_samples(case, "end_to_end") for case in report["cases"])
    return ("end_to_end", "end to end") if whole else ("infer", "backend alone")


def distribution(report: dict[str, Any]) -> Figure | None:
    """Draw latency against percentile, with the tail stretched so that every outlier shows."""
    name, words = _headline(report)
    figure = _figure(1, row_height=4.6)
    axes = figure.subplots()
    deepest = 0.5
    for number, case in enumerate(report["cases"]):
        times = np.sort(_samples(case, name))
        beyond = 1 - (np.arange(len(times)) + 0.5) / len(times)
        deepest = min(deepest, float(beyond[-1]))
        color, line = _COLORS[number % len(_COLORS)], _LINES[number // len(_COLORS) % len(_LINES)]
        title = case_title(case)
        axes.step(1 / beyond, times, where="post", color=color, linestyle=line, label=title)
        axes.plot(1 / beyond[-1], times[-1], "o", color=color, markersize=4)
    ticks = {1: "min", 2: "p50", 10: "p90", 20: "p95", 100: "p99", 1000: "p99.9", 10_000: "p99.99"}
    shown = {at: text for at, text in ticks.items() if at <= 1.2 / deepest}
    axes.set_xscale("log")
    axes.set_xticks(list(shown), list(shown.values()))
    axes.minorticks_off()
    axes.set_ylim(bottom=0)
    _style(axes, title=f"Latency by percentile, {words}", x="percentile", y="milliseconds per call")
    _legend(figure, axes)
    return figure


def over_time(report: dict[str, Any]) -> Figure | None:
    """Draw every sample in the order of measuring: drift and disturbances show."""
    name, words = _headline(report)
    cases = report["cases"][:6]
    figure = _figure(len(cases), row_height=1.9)
    for number, case in enumerate(cases):
        axes = figure.add_subplot(len(cases), 1, number + 1)
        times = _samples(case, name)
        color = _COLORS[number % len(_COLORS)]
        axes.plot(times, ".", color=color, markersize=3, alpha=0.7)
        axes.axhline(float(np.median(times)), color="#30343a", linewidth=0.8)
        axes.set_ylim(0, 1.05 * max(times))
        last = number == len(cases) - 1
        _style(axes, title=case_title(case), x="sample" if last else "", y="ms")
        axes.title.set_fontsize(9)
    figure.suptitle(f"Every sample in order, {words}; the line is the median", fontsize=11, x=0.3)
    return figure


def stages(report: dict[str, Any]) -> Figure | None:
    """Draw the mean of each stage as one bar per case; means add up, medians do not."""
    cases = [case for case in report["cases"] if _samples(case, "end_to_end")]
    if not cases:
        return None
    figure = _figure(1, row_height=1.5 + 0.55 * len(cases))
    axes = figure.subplots()
    left = np.zeros(len(cases))
    pictures = [int(case["shape"].split("x")[0]) for case in cases]
    widths = {
        part: np.array([float(np.mean(_samples(case, part) or [0])) for case in cases]) / pictures
        for part in _PARTS
    }
    longest = float(sum(widths.values()).max())  # type: ignore[union-attr]  # not empty, so no int
    for part, width in widths.items():
        if width.any():
            words = part.replace("_", " ")
            axes.barh(range(len(cases)), width, left=left, color=_STAGE_COLORS[part], label=words)
            for row, value in enumerate(width):
                if value > 0.06 * longest:
                    at = (left[row] + value / 2, row)
                    axes.annotate(f"{value:.1f}", at, ha="center", va="center", fontsize=8)
        left += width
    axes.set_yticks(range(len(cases)), [case_title(case) for case in cases], fontsize=8)
    axes.invert_yaxis()
    _style(axes, title="Where a picture's time goes", x="milliseconds per picture, mean", y="")
    _legend(figure, axes, columns=5)
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
    lines: dict[str, dict[float, float]], *, title: str, x: str, log: bool = False
) -> Figure | None:
    if not lines:
        return None
    figure = _figure(1, row_height=4.4)
    axes = figure.subplots()
    for number, (label, points) in enumerate(lines.items()):
        places = sorted(points)
        color = _COLORS[number % len(_COLORS)]
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
    _style(axes, title=title, x=x, y="images per second")
    _legend(figure, axes)
    return figure


def against_batch(report: dict[str, Any]) -> Figure | None:
    """Draw images per second against the batch size."""
    lines = _rates(report, along=lambda n, height, width: (float(n), f"{height}x{width}"))
    words = _headline(report)[1]
    return _draw_rates(lines, title=f"Throughput by batch, {words}", x="pictures per batch")


def against_shape(report: dict[str, Any]) -> Figure | None:
    """Draw images per second against the size of the pictures."""
    lines = _rates(report, along=lambda n, height, width: (height * width / 1e6, f"batch {n}"))
    words = _headline(report)[1]
    return _draw_rates(
        lines, title=f"Throughput by picture size, {words}", x="megapixels", log=True
    )


def load_curve(report: dict[str, Any]) -> Figure | None:
    """Draw the median and p99 of the latency against the offered load, a color per way."""
    rows = sorted(report.get("loads", []), key=lambda row: float(row["rate"]))
    if not rows:
        return None
    figure = _figure(1, row_height=4.4)
    axes = figure.subplots()
    for number, title in enumerate(dict.fromkeys(row["title"] for row in rows)):
        own = [row for row in rows if row["title"] == title]
        rates = [row["rate"] for row in own]
        for name, line in (("p50", "-"), ("p99", ":")):
            times = [row["latency"][f"{name}_ms"] for row in own]
            color = _COLORS[number % len(_COLORS)]
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
    _style(axes, title="Latency against load, Poisson arrivals", x=x, y=y)
    _legend(figure, axes, columns=2)
    return figure


def throughput(report: dict[str, Any]) -> Figure | None:
    """Draw images per second of each way to run the folder."""
    rows = report.get("runs", [])
    if not rows:
        return None
    figure = _figure(1, row_height=1.4 + 0.45 * len(rows))
    axes = figure.subplots()
    rates = [row["images_per_second"] for row in rows]
    axes.barh(range(len(rows)), rates, color=_COLORS[0])
    for row, rate in enumerate(rates):
        axes.annotate(f" {rate:.1f}", (rate, row), va="center", fontsize=9)
    axes.set_yticks(range(len(rows)), [row["title"] for row in rows], fontsize=8)
    axes.invert_yaxis()
    _style(axes, title="Picture files to label files", x="images per second", y="")
    return figure


def _legend(figure: Figure, axes: Axes, *, columns: int = 1) -> None:
    handles, labels = axes.get_legend_handles_labels()
    # Below the axes and on top of their height: many cases must not press the plot flat.
    figure.set_figheight(figure.get_figheight() + 0.19 * -(-len(labels) // columns))
    figure.legend(
        handles, labels, loc="outside lower left", ncols=columns, fontsize=8, frameon=False
    )


PLOTS: Final[Mapping[str, Callable[[dict[str, Any]], Figure | None]]] = {
    "distribution": distribution,
    "stages": stages,
    "throughput-batch": against_batch,
    "throughput-shape": against_shape,
    "over-time": over_time,
}
"""File name without suffix to plot, in the order of the page."""

FOLDER_PLOTS: Final[Mapping[str, Callable[[dict[str, Any]], Figure | None]]] = {
    "throughput": throughput,
    "load": load_curve,
}
"""The same for ``bench throughput``."""


def draw(
    report: dict[str, Any], plots: Mapping[str, Callable[[dict[str, Any]], Figure | None]]
) -> dict[str, Figure]:
    """Draw all plots that the report has enough for.

    Args:
        report: A report in its JSON form.
        plots: PLOTS or FOLDER_PLOTS.

    Returns:
        Name to figure.
    """
    drawn = {name: plot(report) for name, plot in plots.items()}
    figures = {name: figure for name, figure in drawn.items() if figure is not None}
    for figure in figures.values():
        # Each drawing would lay the axes out again, from where the last one left them and with the
        # text sizes of the format: the same figure, saved twice, moves by a fraction of a point
        figure.draw_without_rendering()
        figure.set_layout_engine("none")
    return figures


def save_figure(figure: Figure, *, kind: str) -> bytes:
    """Return a figure as a file.

    Args:
        figure: What to draw.
        kind: ``png`` or ``svg``.

    Returns:
        The file's bytes.
    """
    file = io.BytesIO()
    # A date or a random id would make every page differ from the last.
    metadata = {"Date": None} if kind == "svg" else {"Software": None}
    from matplotlib import rc_context

    with rc_context({"svg.hashsalt": "fcnkit", "svg.fonttype": "path"}):
        figure.savefig(file, format=kind, dpi=120, metadata=metadata)
    return file.getvalue()
