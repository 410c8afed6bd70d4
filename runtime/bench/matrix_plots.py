"""The plots of ``fcnkit bench matrix``: accuracy against latency first, then bars."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any, Final

from fcnkit.runtime.bench.drawing import Plot, bars, figure_of, legend, style
from fcnkit.runtime.bench.matrix_report import matrix_words

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

__all__ = ["MATRIX_PLOTS"]

_ON: Final = "#2f6fb5"
_OFF: Final = "#aab4c0"
_CHOSEN: Final = "#d9822b"
_SIDES: Final = ((0, 1), (1, 0), (0, -1), (-1, 0), (1, 1), (1, -1), (-1, -1), (-1, 1))
"""Where the number of a point may stand."""


def _done(report: dict[str, Any]) -> list[dict[str, Any]]:
    return [row for row in report["rows"] if row["status"] == "done"]


def _color(row: Mapping[str, Any], report: dict[str, Any]) -> str:
    if row["name"] == (report["recommendation"] or {}).get("name"):
        return _CHOSEN
    return _ON if row["name"] in report["frontier"] else _OFF


def pareto(report: dict[str, Any], width: float) -> Figure | None:
    """Draw each row by latency and score; numbers are those of the legend, fastest first."""
    rows = _done(report)
    if not rows:
        return None
    figure = figure_of(width, 3.6)
    axes = figure.subplots()
    times = {row["name"]: row["end_to_end"]["p50_ms"] for row in rows}
    scores = {row["name"]: _shown(row) for row in rows}
    edge = report["frontier"]
    axes.step(
        [*(times[name] for name in edge), 1.05 * max(times.values())],
        [*(scores[name] for name in edge), scores[edge[-1]]],
        where="post",
        color=_ON,
        linewidth=1,
        alpha=0.6,
    )
    for number, row in enumerate(rows, start=1):
        name, color = row["name"], _color(row, report)
        label = f"{number}  {name}"
        axes.plot(times[name], scores[name], "o", color=color, markersize=7, label=label)
    axes.set_xlim(0, 1.08 * max(times.values()))
    _limit_scores(axes, list(scores.values()), least=2 * report["max_drop"], rows=rows)
    _number_points(axes, [(times[row["name"]], scores[row["name"]]) for row in rows])
    axes.yaxis.set_major_formatter("{x:g}")
    kind = rows[0]["score"]["kind"]
    unit = "" if kind == "mean_iou" else ", %"
    title = "Up and left is better. Blue: the frontier. Orange: recommended"
    x = "milliseconds from file to label file, p50"
    style(axes, title=title, x=x, y=f"{matrix_words(kind)}{unit}")
    legend(figure, axes, columns=2)
    return figure


def _shown(row: Mapping[str, Any]) -> float:
    value = float(row["score"]["value"])
    return value if row["score"]["kind"] == "mean_iou" else 100 * value


def _limit_scores(
    axes: Axes, scores: Sequence[float], *, least: float, rows: Sequence[Mapping[str, Any]]
) -> None:
    """Show at least a span that matters: a difference of nothing must not look large."""
    scale = 1 if rows[0]["score"]["kind"] == "mean_iou" else 100
    low, high = min(scores), max(scores)
    span = max(high - low, least * scale, 1e-3 * scale)
    middle = (low + high) / 2
    axes.set_ylim(middle - 0.6 * span, middle + 0.6 * span)


def _number_points(axes: Axes, points: Sequence[tuple[float, float]]) -> None:
    """Write each point's number beside it, on the side where fewest others are."""
    spans = [high - low for low, high in (axes.get_xlim(), axes.get_ylim())]
    taken = [(x / spans[0], y / spans[1]) for x, y in points]
    for number, (x, y) in enumerate(points, start=1):
        at = x / spans[0], y / spans[1]
        places = [(at[0] + 0.03 * dx, at[1] + 0.06 * dy) for dx, dy in _SIDES]
        room = [min(_apart(place, other) for other in taken) for place in places]
        best = room.index(max(room))
        taken.append(places[best])
        dx, dy = _SIDES[best]
        axes.annotate(
            str(number),
            (x, y),
            xytext=(9 * dx, 9 * dy),
            textcoords="offset points",
            ha="center",
            va="center",
            fontsize=8,
        )


def _apart(a: tuple[float, float], b: tuple[float, float]) -> float:
    return abs(a[0] - b[0]) / 0.03 + abs(a[1] - b[1]) / 0.06


def latency(report: dict[str, Any], width: float) -> Figure | None:
    """Draw the median of each row, the fastest at the top."""
    rows = _done(report)
    if not rows:
        return None
    return bars(
        [row["name"] for row in rows],
        [row["end_to_end"]["p50_ms"] for row in rows],
        width,
        title="Latency of one picture",
        x="milliseconds from file to label file, p50",
        colors=[_color(row, report) for row in rows],
    )


def rates(report: dict[str, Any], width: float) -> Figure | None:
    """Draw the images per second of each row, the most at the top."""
    rows = sorted(_done(report), key=lambda row: -float(row["images_per_second"]))
    if not rows:
        return None
    return bars(
        [row["name"] for row in rows],
        [row["images_per_second"] for row in rows],
        width,
        title="Many pictures, files to files",
        x="images per second",
        colors=[_color(row, report) for row in rows],
    )


MATRIX_PLOTS: Final[Mapping[str, Plot]] = {"pareto": pareto, "latency": latency, "rates": rates}
"""File name without suffix to plot, in the order of the page."""
