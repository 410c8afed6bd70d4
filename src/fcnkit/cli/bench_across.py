"""``fcnkit bench across``: one model with several versions of a library."""

from __future__ import annotations

import json
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from fcnkit.cli.bench_text import aligned, machine
from fcnkit.cli.documented import documented
from fcnkit.cli.options import (
    BackendOptions,
    Cover,
    Json,
    Model,
    Threads,
    parse_backend_options,
    parse_size,
)
from fcnkit.cli.say import say

if TYPE_CHECKING:
    from fcnkit.runtime.bench.across import VersionRow

__all__ = ["across"]


@documented
def across(
    model: Model,
    *,
    versions: Annotated[str, typer.Option(metavar="PACKAGE==V,V")],
    backend: str | None = None,
    shape: str | None = None,
    picture: list[Path] | None = None,
    threads: Threads = None,
    cover: Cover = None,
    backend_options: BackendOptions = None,
    runs: int = 40,
    rounds: int = 5,
    as_json: Json = False,
) -> None:
    """Run a model with other versions of its library: the time of a call, and the labels.

    Options:
        versions: The library and its versions, such as onnxruntime==1.27,1.31. pip installs each
            into an environment that is removed at the end.
        backend: Of the package's backends; by default the first. See fcnkit doctor.
        shape: HxW of an image; by default the model's own.
        picture: An image whose labels are compared; may be repeated. Else made-up ones.
        runs: Calls of each version in a round.
        rounds: Times that the versions take turns.
    """
    from dataclasses import asdict

    from fcnkit.runtime.bench.across import (
        ACROSS_FORMAT,
        AcrossRequest,
        Versions,
        measure_across,
    )
    from fcnkit.runtime.bench.environment import describe_environment
    from fcnkit.runtime.bench.report import report_head
    from fcnkit.runtime.files import sha256_of

    request = AcrossRequest(
        model=model,
        versions=Versions.parse(versions),
        backend=backend,
        threads=threads,
        options=parse_backend_options(backend_options),
        cover=cover,
        size=None if shape is None else parse_size(shape, "--shape"),
        images=tuple(picture or ()),
        runs=runs,
        rounds=rounds,
    )
    sha256 = sha256_of(model)
    about = describe_environment()
    rows = measure_across(request, tell=lambda text: say(text, err=True))
    if as_json:
        report = {
            **report_head(ACROSS_FORMAT, about),
            "model": model.name,
            "model_sha256": sha256,
            "package": request.versions.package,
            "backend": request.row.name,
            "rows": [{**asdict(row), "verdict": row.verdict} for row in rows],
        }
        say(json.dumps(report))
    else:
        head = f"{model.name} (sha256 {sha256[:12]}), {request.row.name}"
        say("\n".join([machine(about), head, "", *_table(request.versions.package, rows)]))
    if any(row.error for row in rows):
        raise typer.Exit(1)


def _table(package: str, rows: list[VersionRow]) -> list[str]:
    """Return a line per version, then the reasons of those without figures."""
    base = next((row for row in rows if row.error is None), None)
    times = "times" if base is None else f"times {base.version}"
    head = [
        package,
        "p50 ms",
        "p99 ms",
        times,
        "over the rounds",
        "verdict",
        "same labels",
        "open ms",
    ]
    cells = [head]
    for row in rows:
        name = row.requested
        if row.version is not None and row.version != row.requested:
            name = f"{row.requested} ({row.version})"
        if row.error is not None:
            cells.append([name, "failed", *("" for _ in head[2:])])
            continue
        assert row.ratio_range is not None
        low, high = row.ratio_range
        cells.append(
            [
                name,
                f"{row.p50_ms:.3f}",
                f"{row.p99_ms:.3f}",
                f"{row.ratio:.2f}",
                f"{low:.2f}..{high:.2f}",
                row.verdict,
                f"{100 * (row.same_labels or 0):.4f} %",
                f"{row.open_ms:.0f}",
            ]
        )
    errors = [f"failed: {package} {row.requested}: {row.error}" for row in rows if row.error]
    return [*aligned(cells), *errors]
