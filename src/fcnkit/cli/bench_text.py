"""What ``fcnkit bench`` says on a terminal: tables of plain text, the same when piped."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from fcnkit.runtime.bench.compare import Compared, Comparison, Interval
    from fcnkit.runtime.bench.report import Overview

__all__ = [
    "aligned",
    "comparison_text",
    "latency_text",
    "live_text",
    "machine",
    "matrix_text",
    "overview_lines",
    "throughput_text",
]

_FIGURES = ("p50", "p90", "p95", "p99", "p99_9", "max", "mean", "std", "min")


def latency_text(report: dict[str, Any]) -> str:
    """Write a latency report as text.

    Args:
        report: In its JSON form.

    Returns:
        The lines: machine, a table per case, and one of all cases.
    """
    from fcnkit.runtime.bench.report import latency_overview

    lines = [machine(report["environment"])]
    for case in report["cases"]:
        lines += ["", *_case(case)]
    if len(report["cases"]) > 1:
        lines += ["", "all cases, the fastest of each shape first:"]
        lines += overview_lines(latency_overview(report))
    return "\n".join(lines)


def machine(environment: dict[str, Any]) -> str:
    """Return the line about the machine.

    Args:
        environment: From ``describe_environment``.
    """
    cpu, gpus = environment["cpu"], environment["gpus"]
    gpu = ", ".join(one["name"] for one in gpus) if gpus else "no GPU"
    return f"{cpu['model']}, {cpu['usable_cores']} of {cpu['cores']} cores, {gpu}"


def _case(case: dict[str, Any]) -> Iterator[str]:
    from fcnkit.runtime.bench.report import case_warnings

    details = case["details"]
    yield (
        f"{case['model']} (sha256 {case['model_sha256'][:12]}), {case['architecture']}, "
        f"head {case['head']}, {case['precision']}"
    )
    yield (
        f"{details.get('library')} on {details.get('provider')}, compute {details.get('compute')}, "
        f"{details.get('threads')} threads"
    )
    grown = f", the backend is given {case['compute_shape']}"
    yield (
        f"{case['shape']}, cover {case['cover']}"
        f"{grown if case['compute_shape'] != case['shape'] else ''}; milliseconds per call:"
    )
    rows = [["stage", "samples", *(name.replace("_", ".") for name in _FIGURES), "cv"]]
    for stage in case["stages"]:
        held, words = stage["summary"], stage["name"].replace("_", " ")
        if held is None:
            rows.append([words, "missing", *("" for _ in range(len(_FIGURES) + 1))])
            continue
        figures = [f"{held[f'{name}_ms']:.3f}" for name in _FIGURES]
        rows.append([words, str(held["samples"]), *figures, f"{held['cv']:.3f}"])
    yield from aligned(rows)
    yield from (f"warning: {line}" for line in case_warnings(case))
    for name, rate in case["images_per_second"].items():
        yield f"{name.replace('_', ' ')}: {rate:.2f} images/s"
    if "budget" in case:
        yield _budget(case["budget"])
    first, memory = case["first_call"], case["memory_mb"]
    imported = "" if first["import_ms"] is None else f"import {first['import_ms']:.0f} ms, "
    yield (
        f"first call: {imported}open {first['open_ms']:.0f} ms, "
        f"first inference {first['infer_ms']:.1f} ms"
    )
    yield "memory: " + ", ".join(
        f"{name.replace('_', ' ')} {'missing' if size is None else f'{size:.0f} MiB'}"
        for name, size in memory.items()
    )


def _budget(answer: dict[str, Any]) -> str:
    found, largest = ("yes" if answer["fits"] else "no"), answer["largest"]
    text = (
        f"budget {answer['budget_ms']:g} ms at p{answer['percentile']:g}: {found}, "
        f"{answer['measured_ms']:.3f} ms over {answer['samples']} calls; largest shape that fits: "
    )
    if largest is None:
        return f"{text}none of these proportions"
    return f"{text}{largest['shape']} ({largest['measured_ms']:.3f} ms)"


def live_text(report: dict[str, Any]) -> str:
    """Write a report of ``bench live`` as text.

    Args:
        report: In its JSON form.

    Returns:
        The lines: machine, and a table with a row per rate.
    """
    lines = [machine(report["environment"]), f"{report['model']}, {report['shape']}", ""]
    names = ("p50", "p95", "p99", "max")
    ages = [f"age {name} ms" for name in names]
    rows = [["frames/s", "way", "frames", "results", "dropped", "results/s", *ages, "jitter ms"]]
    for run in report["runs"]:
        pace, jitter = run["results_per_second"], run["jitter_ms"]
        rows.append(
            [
                f"{run['rate']:g}",
                run["title"],
                *(str(run[key]) for key in ("frames", "results", "dropped")),
                "" if pace is None else f"{pace:.2f}",
                *(f"{run['age'][f'{name}_ms']:.2f}" for name in names),
                "" if jitter is None else f"{jitter:.2f}",
            ]
        )
    notes = [run["warnings"] for run in report["runs"]]
    return "\n".join([*lines, *aligned(rows, notes)])


def throughput_text(report: dict[str, Any]) -> str:
    """Write a throughput report as text.

    Args:
        report: In its JSON form.

    Returns:
        The lines: machine, a table of the folder runs, what lies around the model, and a table of
        the loads.
    """
    from fcnkit.runtime.bench.throughput import loads_overview, runs_overview

    head = f"{report['model']} (sha256 {report['model_sha256'][:12]}) over {report['data']}"
    lines = [machine(report["environment"]), head, ""]
    lines += [*overview_lines(runs_overview(report)), "", _host(report["host"])]
    if report["loads"]:
        lines += ["", "latency from arrival to file, Poisson arrivals:"]
        lines += overview_lines(loads_overview(report))
    return "\n".join(lines)


def _host(host: dict[str, Any]) -> str:
    return (
        f"one process without a model: {host['images_per_second']:.2f} images/s, "
        f"{host['processor_ms']:.2f} ms of processor time per image; "
        f"JPEG by {host['codecs']['jpeg']}"
    )


def overview_lines(found: Overview) -> Iterator[str]:
    """Yield a table with the notes of each row below it."""
    return aligned([found.head, *found.rows], found.notes)


def matrix_text(report: dict[str, Any]) -> str:
    """Write a report of ``bench matrix`` as text.

    Args:
        report: In its JSON form.

    Returns:
        The lines: machine, one table, what was not measured, the recommendation.
    """
    from fcnkit.runtime.bench.matrix_page import scored_on
    from fcnkit.runtime.bench.matrix_report import matrix_overview, not_measured

    lines = [machine(report["environment"]), scored_on(report), ""]
    lines += overview_lines(matrix_overview(report))
    if left := not_measured(report):
        lines += ["", *(f"{status}: {name}: {reason}" for name, status, reason in left)]
    if found := report["recommendation"]:
        lines += ["", f"recommended: {found['name']}", found["reason"]]
    return "\n".join(lines)


def comparison_text(compared: Compared, slower: Sequence[Comparison], limit: float | None) -> str:
    """Write a comparison as text.

    Args:
        compared: What was compared, and what could not be.
        slower: The rows that fail.
        limit: The limit they fail; None where there is none.

    Returns:
        The lines: a table per case, one of all cases, the notes, the verdict.
    """
    lines: list[str] = []
    titles = list(dict.fromkeys(row.case for row in compared.rows))
    for title in titles:
        table = [
            ["stage", "A median ms", "95 % of A", "B median ms", "95 % of B", "B/A", "95 %", ""]
        ]
        for row in (row for row in compared.rows if row.case == title):
            ratio = f"{row.ratio.estimate:.3f}"
            cells = [*_interval(row.a), *_interval(row.b), ratio, _span(row.ratio), _word(row)]
            table.append([row.stage.replace("_", " "), *cells])
        lines += [title, *aligned(table)]
        lines += [*(f"warning: {line}" for line in compared.warnings[title]), ""]
    if len(titles) > 1:
        lines += ["all cases:", *_all_compared(compared, titles), ""]
    lines += [f"note: {note}" for note in compared.notes]
    return "\n".join([*lines, *(() if limit is None else _verdict(compared, slower, limit))])


def _all_compared(compared: Compared, titles: Sequence[str]) -> Iterator[str]:
    """Yield a table of what counts in every case: backend alone, and files to files."""
    found = {(row.case, row.stage): row for row in compared.rows}
    stages = ("infer", "end_to_end")
    table = [["case", *(f"{stage.replace('_', ' ')} B/A" for stage in stages)]]
    for title in titles:
        rows = [found.get((title, stage)) for stage in stages]
        cells = [f"{row.ratio.estimate:.3f} {_word(row)}" if row else "missing" for row in rows]
        table.append([title, *cells])
    yield from aligned(table, [compared.warnings[title] for title in titles])


def _word(row: Comparison) -> str:
    if not row.differs:
        return "same"
    return "slower" if row.ratio.low > 1 else "faster"


def _verdict(compared: Compared, slower: Sequence[Comparison], limit: float) -> Iterator[str]:
    for row in slower:
        yield f"slower: {row.stage} of {row.case}: {100 * (row.ratio.estimate - 1):.1f} %"
    yield from (f"missing in B: {what}" for what in compared.missing)
    if slower:
        yield f"B is slower than A by more than {100 * limit:g} %, {len(slower)} times"
    elif not compared.missing:
        yield f"B is not slower than A by more than {100 * limit:g} %"
    if compared.missing:
        yield f"B lacks what A has, {len(compared.missing)} times: the comparison fails"


def _interval(interval: Interval) -> list[str]:
    return [f"{interval.estimate:.3f}", _span(interval)]


def _span(interval: Interval) -> str:
    return f"{interval.low:.3f}..{interval.high:.3f}"


def aligned(rows: Sequence[Sequence[str]], notes: Sequence[Sequence[str]] = ()) -> Iterator[str]:
    """Align the first column left and the others right.

    Args:
        rows: Cells, the titles of the columns first.
        notes: Warnings of each row below the titles, which stand below it; none by default.

    Yields:
        The lines.
    """
    widths = [max(len(cell) for cell in column) for column in zip(*rows, strict=True)]
    below = [(), *notes] if notes else [()] * len(rows)
    for row, lines in zip(rows, below, strict=True):
        first, *others = (
            cell.ljust(width) if at == 0 else cell.rjust(width)
            for at, (cell, width) in enumerate(zip(row, widths, strict=True))
        )
        yield "  ".join((first, *others)).rstrip()
        yield from (f"  warning: {line}" for line in lines)
