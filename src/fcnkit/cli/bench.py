"""``fcnkit bench``: how fast a model runs here."""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated

import typer

from fcnkit.cli.common import Backend, Json, Threads, echo_json, open_segmenter

if TYPE_CHECKING:
    from fcnkit.runtime.bench import LatencyReport

app = typer.Typer(help="Measure how fast a model runs here.", no_args_is_help=True)


@app.callback()
def _bench() -> None:
    """Keep ``latency`` a sub-command although it is the only one."""


@app.command("latency")
def latency(
    model: Annotated[str, typer.Argument(help="An ONNX file that fcnkit exported.")],
    *,
    shape: Annotated[str, typer.Option("--shape", help="Height x width, such as 320x480.")],
    batch: Annotated[int, typer.Option("--batch", help="Pictures per call.")] = 1,
    backend: Backend = "auto",
    threads: Threads = None,
    warmup: Annotated[int, typer.Option("--warmup", help="Calls before the first sample.")] = 10,
    runs: Annotated[
        int | None, typer.Option("--runs", help="Samples; 100 unless --duration is given.")
    ] = None,
    duration: Annotated[
        float | None, typer.Option("--duration", help="Seconds to measure for.")
    ] = None,
    json: Json = False,
) -> None:
    """Time single calls of the backend on one prepared batch."""
    from fcnkit.runtime.bench import measure_latency
    from fcnkit.runtime.onnx_file import file_sha256
    from fcnkit.runtime.spec import parse_shape

    full_shape = parse_shape(f"{batch}x{shape}", "--batch x --shape")
    with open_segmenter(model, backend=backend, threads=threads) as segmenter:
        report = measure_latency(
            segmenter.backend, full_shape, warmup=warmup, runs=runs, duration=duration
        )
    sha256 = file_sha256(model)
    if json:
        echo_json({"model": model, "model_sha256": sha256, **report.to_dict()})
    else:
        _print(model, sha256, report)


def _print(model: str, sha256: str, report: LatencyReport) -> None:
    about = report.environment
    typer.echo(f"{model} (sha256 {sha256[:12]}), {report.shape}, {about['precision']}")
    typer.echo(
        f"{about['library']} {about['provider']}, compute {about['compute']}, "
        f"{about['threads']} threads, {about['cpu']}"
    )
    typer.echo(f"{report.samples} samples after {report.warmup} calls to warm up")
    for name in ("mean", "min", "p50", "p90", "p95", "p99", "max"):
        typer.echo(f"{name:>5} {getattr(report, f'{name}_ms'):9.3f} ms")
    typer.echo(f"{report.images_per_second:.2f} images/s")
