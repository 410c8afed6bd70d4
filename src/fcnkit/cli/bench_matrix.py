"""``fcnkit bench matrix``: accuracy beside speed, for every backend and precision."""

from __future__ import annotations

import json
import tempfile
import time
from collections.abc import Sequence
from contextlib import ExitStack
from pathlib import Path
from typing import Annotated, Any, Final, get_args

import typer

from fcnkit.cli.bench_runs import write_report
from fcnkit.cli.documented import documented
from fcnkit.cli.options import Cover, Factory, Json, Threads, cover_request, parse_size
from fcnkit.cli.progress import progress_of
from fcnkit.cli.say import say
from fcnkit.errors import BadValueError, message
from fcnkit.runtime.artifacts.spec import Head, Precision
from fcnkit.runtime.checks import check_choice

__all__ = ["matrix"]

_MOST_MINUTES: Final = 10_000
"""A week; the operating system does not wait for a process much longer at a time."""


@documented
def matrix(
    sources: Annotated[
        list[Path],
        typer.Argument(
            metavar="SOURCE... [DATA]",
            help="best.pt, exported models, or a folder of them; then a folder in VOC layout, or "
            "one of pictures.",
        ),
    ],
    *,
    split: str | None = None,
    head: list[str] | None = None,
    precision: list[str] | None = None,
    backend: Annotated[
        list[str] | None, typer.Option("--backend", metavar="NAME[:COMPUTE]")
    ] = None,
    shape: str | None = None,
    threads: Threads = None,
    cover: Cover = None,
    factory: Factory = None,
    minutes: float | None = None,
    max_drop: float = 0.01,
    out: Annotated[Path | None, typer.Option("-o", "--out")] = None,
    plots: Annotated[bool, typer.Option("--plots/--no-plots")] = True,
    as_json: Json = False,
) -> None:
    """Score and time every backend and precision that runs here, and recommend one.

    Options:
        split: Which list of DATA is scored; val by default.
        head: Exported from a checkpoint; may be repeated. By default scores, or logits where the
            network has none, and labels.
        precision: The same; by default fp32, fp16 and int8.
        backend: Only these; may be repeated. By default all, in every faster precision too.
        shape: HxW of the picture whose latency is measured; the model's own.
        minutes: Stop then, and say what was not reached; exports take half at most.
        max_drop: How far below the source a recommended row may score.
        out: Folder for report.json, report.html, PNGs and exported models. A later run goes on
            where one stopped. Without it nothing is kept.
        plots: Draw PNGs and report.html; needs matplotlib.
    """
    from fcnkit.cli.bench_text import matrix_text
    from fcnkit.cli.matrix_run import MatrixRequest, run_matrix
    from fcnkit.runtime.bench.drawing import check_matplotlib
    from fcnkit.runtime.bench.matrix_page import matrix_page
    from fcnkit.runtime.bench.matrix_plots import MATRIX_PLOTS

    if out is not None and plots:
        check_matplotlib("fcnkit bench matrix --out")
    request = MatrixRequest(
        arguments=tuple(sources),
        split=split,
        heads=_named("--head", head, get_args(Head)) or (None, "labels"),
        precisions=_named("--precision", precision, get_args(Precision)) or get_args(Precision),
        backends=tuple(backend or ()),
        size=None if shape is None else parse_size(shape, "--shape"),
        threads=threads,
        cover=cover_request(cover),
        factory=factory,
        until=_deadline(minutes),
        max_drop=_share(max_drop),
    )
    with ExitStack() as stack:
        root = out or Path(stack.enter_context(tempfile.TemporaryDirectory()))
        advance = stack.enter_context(progress_of(unit="steps"))
        report = run_matrix(request, root, advance)
    if out is not None:
        page, drawn = (matrix_page, MATRIX_PLOTS) if plots else (None, {})
        write_report(report, out, csv=None, page=page, plots=drawn)
    say(json.dumps(report) if as_json else matrix_text(report))
    if not any(row["status"] == "done" for row in report["rows"]):
        raise typer.Exit(1)


def _named(option: str, names: Sequence[str] | None, known: Sequence[Any]) -> tuple[Any, ...]:
    return tuple(dict.fromkeys(check_choice(option, name, known) for name in names or ()))


def _deadline(minutes: float | None) -> float | None:
    """Return when the time is over, by ``time.monotonic``."""
    if minutes is None:
        return None
    if not 0 < minutes <= _MOST_MINUTES:
        rule, remedy = f"must be above 0 and at most {_MOST_MINUTES}", "write --minutes 15"
        raise BadValueError(message("--minutes", rule, minutes, remedy))
    return time.monotonic() + 60 * minutes


def _share(value: float) -> float:
    if not 0 <= value <= 1:
        rule, remedy = "must be a share from 0 to 1", "write --max-drop 0.01"
        raise BadValueError(message("--max-drop", rule, value, remedy))
    return value
