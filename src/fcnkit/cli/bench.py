"""``fcnkit bench``: how fast a model runs here."""

from __future__ import annotations

import json
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from fcnkit.cli.options import Backend, Json, Threads

if TYPE_CHECKING:
    from fcnkit.runtime.bench import LatencyReport

__all__ = ["app"]

app = typer.Typer(no_args_is_help=True, help="Measure how fast a model runs here.")


@app.callback()
def _bench() -> None:
    # Without a callback typer would take the only command for the whole app.
    pass


@app.command()
def latency(
    model: Annotated[Path, typer.Argument(help="best.pt, or a model that was exported.")],
    *,
    shape: Annotated[str, typer.Option(help="HxW, such as 320x480.")],
    batch: Annotated[int, typer.Option(help="Pictures per call.")] = 1,
    backend: Backend = "auto",
    threads: Threads = None,
    warmup: Annotated[int, typer.Option(help="Calls before the first sample.")] = 10,
    runs: Annotated[
        int | None, typer.Option(help="Samples; 100 unless --duration is given.")
    ] = None,
    duration: Annotated[float | None, typer.Option(help="Seconds to measure for.")] = None,
    as_json: Json = False,
) -> None:
    """Time single calls of the backend on one prepared batch."""
    import fcnkit
    from fcnkit.runtime.bench import measure_latency
    from fcnkit.runtime.files import sha256_of
    from fcnkit.runtime.spec import parse_shape

    full_shape = parse_shape(f"{batch}x{shape}", "--batch x --shape")
    with fcnkit.load(model, backend=backend, threads=threads) as segmenter:
        report = measure_latency(
            segmenter.backend, full_shape, warmup=warmup, runs=runs, duration=duration
        )
    sha256 = sha256_of(model)
    if as_json:
        typer.echo(json.dumps({"model": str(model), "model_sha256": sha256, **report.to_dict()}))
    else:
        _print(f"{model} (sha256 {sha256[:12]})", report)


def _print(model: str, report: LatencyReport) -> None:
    about = report.environment
    typer.echo(f"{model}, {report.shape}, {about['precision']}")
    typer.echo(
        f"{about['library']} on {about['provider']}, compute {about['compute']}, "
        f"{about['threads']} threads, {about['cpu']}"
    )
    typer.echo(f"{report.samples} samples after {report.warmup} calls to warm up")
    for name in ("mean", "min", "p50", "p90", "p95", "p99", "max"):
        typer.echo(f"{name:>5} {getattr(report, f'{name}_ms'):9.3f} ms")
    typer.echo(f"{report.images_per_second:.2f} images/s")
