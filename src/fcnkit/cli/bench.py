"""``fcnkit bench``: how fast a model runs here, and whether that can be believed."""

from __future__ import annotations

import json
from dataclasses import asdict, replace
from itertools import product
from pathlib import Path
from typing import Annotated, Any

import typer

from fcnkit.cli import bench_text
from fcnkit.cli.bench_across import across
from fcnkit.cli.bench_matrix import matrix
from fcnkit.cli.bench_runs import (
    budget_of,
    measure_cases,
    opener,
    requested,
    run_live,
    run_streams,
    stream_counts,
    write_report,
)
from fcnkit.cli.documented import documented
from fcnkit.cli.options import (
    BackendOptions,
    Cover,
    Factory,
    Json,
    Model,
    Threads,
    choice,
    parse_backend_options,
    parse_size,
    use_factory,
)
from fcnkit.cli.predict import say_data_set
from fcnkit.cli.say import say
from fcnkit.errors import BadValueError, message
from fcnkit.runtime.bench.variants import CudaGraphs

__all__ = ["app"]

app = typer.Typer(no_args_is_help=True, help="Measure how fast a model runs here.")
app.command()(across)
app.command()(matrix)

_Backends = Annotated[
    list[str] | None,
    typer.Option(
        "--backend",
        metavar="NAME[:COMPUTE]",
        help="The library that runs the model, and the precision it computes in where it has a "
        "choice: openvino:bf16. May be repeated; see fcnkit doctor.",
    ),
]
_Out = Annotated[
    Path | None,
    typer.Option(
        "-o", "--out", help="Folder for report.json, report.html and PNGs; of latency a CSV too."
    ),
]
_Models = Annotated[
    list[Path], typer.Argument(metavar="MODEL...", help="best.pt, or exported models.")
]
_Data = Annotated[
    list[str], typer.Argument(metavar="DATA...", help="Pictures, folders, glob patterns.")
]
_Plots = Annotated[
    bool, typer.Option("--plots/--no-plots", help="Draw PNGs and report.html; needs matplotlib.")
]


@app.command()
@documented
def latency(
    models: _Models,
    *,
    backend: _Backends = None,
    shape: list[str] | None = None,
    batch: list[int] | None = None,
    threads: Threads = None,
    cover: Cover = None,
    backend_options: BackendOptions = None,
    factory: Factory = None,
    runs: int | None = None,
    duration: float | None = None,
    warmup: int | None = None,
    picture: Path | None = None,
    cuda_graphs: Annotated[
        CudaGraphs, choice("--cuda-graphs", CudaGraphs, "for engines; both gives one row each.")
    ] = "both",
    stages: Annotated[bool, typer.Option("--stages/--no-stages")] = True,
    budget: Annotated[str | None, typer.Option(metavar="33ms")] = None,
    percentile: float | None = None,
    out: _Out = None,
    plots: _Plots = True,
    as_json: Json = False,
) -> None:
    """Time every model on every backend at every shape and batch, stage by stage.

    Options:
        shape: HxW of the pictures, such as 320x480; by default the model's own.
        batch: Pictures per call; 1 by default.
        runs: Samples; 200 unless --duration is given.
        duration: Seconds to measure for.
        warmup: Calls before the first sample; until stable by default.
        picture: A picture to measure with; a made-up one by default.
        stages: Also time files to label files.
        budget: Time per frame: also time calls, array in and labels out, and say whether they keep
            it, and the largest shape that does.
        percentile: Of the calls, compared with --budget; 99 by default.
    """
    from fcnkit.cli.progress import progress_of
    from fcnkit.runtime.bench.calls import Effort
    from fcnkit.runtime.bench.drawing import check_matplotlib
    from fcnkit.runtime.bench.environment import describe_environment
    from fcnkit.runtime.bench.page import latency_page
    from fcnkit.runtime.bench.plots import PLOTS
    from fcnkit.runtime.bench.report import latency_report, to_csv
    from fcnkit.runtime.bench.variants import device_variants
    from fcnkit.runtime.files import sha256_of

    if out is not None and plots:
        check_matplotlib("fcnkit bench latency --out")
    use_factory(factory)
    effort = Effort(runs=runs, duration=duration, warmup=warmup)
    allowed = budget_of(budget, percentile, batch)
    sizes = [parse_size(text, "--shape") for text in shape or ()]
    machine = describe_environment()
    measured = []
    with progress_of(unit="cases") as advance:
        for path, name in product(models, backend or ["auto"]):
            for variant in device_variants(path, cuda_graphs=cuda_graphs):
                settings = {**variant.options, **parse_backend_options(backend_options)}
                request = requested(name, threads, settings)
                open_it = opener(path, request, cover)
                used = request.backend
                for one in measure_cases(
                    used, open_it, sizes, batch or [1], effort, picture, stages, allowed
                ):
                    case = replace(one, details={**one.details, **variant.details})
                    measured.append((path, sha256_of(path), case))
                    advance("bench", len(measured), None)
    report = latency_report(measured, machine)
    if out is not None:
        page, drawn = (latency_page, PLOTS) if plots else (None, {})
        write_report(report, out, csv=to_csv(report), page=page, plots=drawn)
    say(json.dumps(report) if as_json else bench_text.latency_text(report))


@app.command()
@documented
def throughput(
    model: Model,
    data: _Data,
    *,
    backend: _Backends = None,
    streams: list[int] | None = None,
    threads: list[int] | None = None,
    cover: Cover = None,
    batch: list[int] | None = None,
    workers: list[int] | None = None,
    backend_options: BackendOptions = None,
    factory: Factory = None,
    rounds: int = 3,
    limit: Annotated[int | None, typer.Option(min=1)] = None,
    load: Annotated[list[str] | None, typer.Option(metavar="RATE")] = None,
    duration: float = 20.0,
    out: _Out = None,
    plots: _Plots = True,
    as_json: Json = False,
) -> None:
    """Label a folder as predict does, and pictures that arrive at random; count all of it.

    Options:
        streams: Models run side by side, one thread each; may be repeated.
        threads: CPU threads of each model, once or per --streams; all cores shared.
        batch: Tiles per batch, as for predict; may be repeated.
        workers: Threads that decode and write beside each model; may be repeated.
        rounds: Times the whole folder is labeled.
        limit: Take the first pictures only.
        load: Also let pictures arrive at random moments, this many per second, or 80% of what the
            folder reached; may be repeated.
        duration: Seconds of arrivals per --load.
    """
    from fcnkit.runtime.bench.drawing import check_matplotlib
    from fcnkit.runtime.bench.environment import describe_environment
    from fcnkit.runtime.bench.host import measure_host
    from fcnkit.runtime.bench.page import throughput_page
    from fcnkit.runtime.bench.plots import FOLDER_PLOTS
    from fcnkit.runtime.bench.throughput import throughput_report
    from fcnkit.runtime.files import sha256_of
    from fcnkit.runtime.predict.inputs import search

    if out is not None and plots:
        check_matplotlib("fcnkit bench throughput --out")
    use_factory(factory)
    offered = [_parse_rate(text) for text in load or ()]
    # Nothing is written beside the pictures, so no result of another run is skipped here.
    found = search(data, Path("bench-throughput-writes-elsewhere"))
    for folder in found.data_sets:
        say_data_set(folder)
    jobs = found.jobs[:limit]
    machine = describe_environment()
    runs: list[dict[str, Any]] = []
    loads: list[dict[str, Any]] = []
    for name in backend or ["auto"]:
        for count, each in stream_counts(streams or [1], threads):
            settings = parse_backend_options(backend_options)
            open_it = opener(model, requested(name, each, settings), cover)
            none: list[int | None] = [None]
            sizes = list(product(batch or none, workers or none))
            rows, under_load = run_streams(open_it, count, jobs, rounds, sizes, offered, duration)
            runs += rows
            loads += under_load
    with open_it() as segmenter:  # any of them: what lies around a model is the same
        host = measure_host(segmenter, jobs, rounds=rounds)
    report = throughput_report(
        model,
        sha256_of(model),
        data=" ".join(Path(text).name or text for text in data),
        runs=runs,
        loads=loads,
        host=host,
        environment=machine,
    )
    if out is not None:
        page, drawn = (throughput_page, FOLDER_PLOTS) if plots else (None, {})
        write_report(report, out, csv=None, page=page, plots=drawn)
    say(json.dumps(report) if as_json else bench_text.throughput_text(report))


@app.command()
@documented
def live(
    model: Model,
    *,
    rate: list[float],
    backend: _Backends = None,
    shape: str | None = None,
    threads: Threads = None,
    cover: Cover = None,
    backend_options: BackendOptions = None,
    factory: Factory = None,
    duration: float = 20.0,
    as_json: Json = False,
) -> None:
    """Show frames at a fixed rate, as a camera does: age of the results, drops, jitter.

    Options:
        rate: Frames per second; may be repeated.
        shape: HxW of the frames; by default the model's own.
        duration: Seconds for each rate.
    """
    from fcnkit.runtime.bench.environment import describe_environment
    from fcnkit.runtime.bench.report import report_head, unique_rows
    from fcnkit.runtime.files import sha256_of

    use_factory(factory)
    size = None if shape is None else parse_size(shape, "--shape")
    machine = describe_environment()
    runs: list[dict[str, Any]] = []
    for name in backend or ["auto"]:
        request = requested(name, threads, parse_backend_options(backend_options))
        used, found = run_live(opener(model, request, cover), size, rate, duration)
        runs += found
    report = {
        **report_head("fcnkit-bench-live-1", machine),
        "model": model.name,
        "model_sha256": sha256_of(model),
        "shape": f"{used[0]}x{used[1]}",
        "runs": unique_rows(runs, key="rate"),
    }
    say(json.dumps(report) if as_json else bench_text.live_text(report))


@app.command()
def compare(
    a: Annotated[Path, typer.Argument(metavar="A.json", help="The earlier report.")],
    b: Annotated[Path, typer.Argument(metavar="B.json", help="The later report.")],
    *,
    fail_over: Annotated[
        str | None,
        typer.Option(
            metavar="5%",
            help="Exit with 1 where B is slower by more than this and it is not noise, or lacks "
            "a case of A.",
        ),
    ] = None,
    as_json: Json = False,
) -> None:
    """Put two reports of bench latency side by side, with 95 % confidence intervals."""
    from fcnkit.runtime.bench.compare import GATED, compare_reports, parse_limit
    from fcnkit.runtime.bench.report import read_report

    limit = None if fail_over is None else parse_limit(fail_over, "--fail-over")
    reports = read_report(a), read_report(b)
    found = compare_reports(*reports)
    if not found.rows and limit is None:
        rule = "the reports must have a case in common"
        remedy = "measure the same models and shapes"
        got = f"{len(reports[0]['cases'])} and {len(reports[1]['cases'])} cases without one"
        raise BadValueError(message("bench compare", rule, got, remedy))
    slower = [
        row
        for row in found.rows
        if limit is not None and row.stage in GATED and row.slower_than(limit)
    ]
    if as_json:
        rows = [
            {**asdict(row), "differs": row.differs, "slower": row in slower} for row in found.rows
        ]
        about = {"notes": found.notes, "missing": found.missing, "slower": len(slower)}
        say(json.dumps({"rows": rows, **about}))
    else:
        say(bench_text.comparison_text(found, slower, limit))
    if limit is not None and (slower or found.missing):
        raise typer.Exit(1)


def _parse_rate(text: str) -> tuple[float, bool]:
    """Read a rate: requests per second, or a share of what the folder reached."""
    from fcnkit.runtime.bench.compare import parse_limit

    rule, remedy = "is requests per second above 0, or a percentage", "write 20 or 80%"
    try:
        rate = parse_limit(text, "--load")
    except ValueError:
        raise BadValueError(message("--load", rule, text, remedy)) from None
    if rate == 0:
        raise BadValueError(message("--load", rule, text, remedy))
    return rate, text.strip().endswith("%")
