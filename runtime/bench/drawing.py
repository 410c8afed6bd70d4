"""What the plots of all benchmarks share: sizes, look, names of bars, legends, files."""

from __future__ import annotations

import io
import textwrap
from collections.abc import Callable, Mapping, Sequence
from typing import TYPE_CHECKING, Any, Final

from fcnkit.errors import missing_extra

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

__all__ = [
    "COLORS",
    "NARROW",
    "WIDE",
    "Plot",
    "bars",
    "check_matplotlib",
    "draw",
    "figure_of",
    "legend",
    "name_bars",
    "save_figure",
    "style",
    "wrapped",
]

Plot = Callable[[dict[str, Any], float], "Figure | None"]
"""Draws a report at a width in inches."""

WIDE: Final = 9.0
"""Inches, for pages on a screen and for PNGs."""
NARROW: Final = 4.2
"""Inches, for pages on a phone: the letters keep their size."""
COLORS: Final = (
    "#2f6fb5", "#d9822b", "#2a9d6f", "#b5457a", "#7a5cc0", "#8a8f98", "#c0a020", "#1fa6b8",
)  # fmt: skip


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


def figure_of(width: float, height: float) -> Figure:
    """Return an empty figure of a size in inches."""
    from matplotlib.figure import Figure as New

    return New(figsize=(width, height), layout="constrained")


def style(axes: Axes, *, title: str, x: str, y: str) -> None:
    """Give axes their title, their words and the look that all plots share."""
    width = axes.figure.bbox.width / axes.figure.dpi
    axes.set_title(textwrap.fill(title, int(7 * width)), loc="left", fontsize=11, fontweight="bold")
    axes.set(xlabel=textwrap.fill(x, int(8 * width)), ylabel=y)
    axes.grid(visible=True, color="#e3e6ea", linewidth=0.8)
    axes.set_axisbelow(True)
    for side in ("top", "right"):
        axes.spines[side].set_visible(False)


def bars(
    names: Sequence[str],
    values: Sequence[float],
    width: float,
    *,
    title: str,
    x: str,
    colors: Sequence[str] | None = None,
) -> Figure:
    """Draw one bar per name, with its value behind it.

    Args:
        names: From the top.
        values: As many.
        width: In inches.
        title: Above the bars.
        x: What the values are.
        colors: As many; one color for all by default.

    Returns:
        The figure.
    """
    figure = figure_of(width, 1.4 + 0.45 * len(names))
    axes = figure.subplots()
    axes.barh(range(len(names)), values, color=colors or COLORS[0])
    for row, value in enumerate(values):
        axes.annotate(f" {value:.1f}", (value, row), va="center", fontsize=9)
    axes.set_xlim(right=1.15 * max(values))
    axes.set_ylim(-0.6, len(names) - 0.4)
    name_bars(axes, names, width)
    style(axes, title=title, x=x, y="")
    return figure


def name_bars(axes: Axes, names: Sequence[str], width: float) -> None:
    """Write names beside horizontal bars, the first one at the top.

    Args:
        axes: Where the bars are.
        names: One per bar.
        width: Of the figure, in inches.
    """
    shown = [wrapped(name, 0.45 * width) for name in names]
    axes.set_yticks(range(len(names)), shown, fontsize=8)
    axes.invert_yaxis()


def wrapped(text: str, width: float) -> str:
    """Break small letters into lines that fit into a width in inches."""
    return textwrap.fill(text, max(12, int(10 * width)))


def legend(figure: Figure, axes: Axes, *, columns: int = 1) -> None:
    """Put the legend below the axes and make the figure higher by it.

    Args:
        figure: The figure.
        axes: Its only axes.
        columns: Of the legend on a wide screen; a narrow one has fewer.
    """
    handles, labels = axes.get_legend_handles_labels()
    width = figure.get_figwidth()
    columns = max(1, int(columns * width / WIDE))
    labels = [wrapped(label, width / columns) for label in labels]
    # The legend adds to the height of the figure, so that many cases do not flatten the plot.
    lines = sum(label.count("\n") + 1 for label in labels)
    figure.set_figheight(figure.get_figheight() + 0.19 * -(-lines // columns))
    figure.legend(
        handles, labels, loc="outside lower left", ncols=columns, fontsize=8, frameon=False
    )


def draw(
    report: dict[str, Any], plots: Mapping[str, Plot], *, width: float = WIDE
) -> dict[str, Figure]:
    """Draw all plots that the report has enough for.

    Args:
        report: A report in its JSON form.
        plots: Such as ``PLOTS``.
        width: In inches.

    Returns:
        Name to figure.
    """
    drawn = {name: plot(report, width) for name, plot in plots.items()}
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
