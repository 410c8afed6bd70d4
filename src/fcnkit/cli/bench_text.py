"""What ``fcnkit bench`` says on a terminal: tables of plain text, the same when piped."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from fcnkit.runtime.bench.compare import Compared, Comparison, Interval

__all__ = [
    "aligned",
    "comparison_text",
    "latency_text",
    "live_text",
    "machine",
    "throughput_text",
]

_FIGURES = ("p50", "p90", "p95", "p99", "p99_9", "max", "mean", "std", "min")


def latency_text(report: dict[str, Any]) -> str:
    """Write a latency report as text.

    Args:
        report: In its JSON form.

    Returns:
        The lines: machine, then a table per case.
    """
    lines = [machine(report["environment"])]
    for case in report["cases"]:
        lines += ["", *_case(case)]
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
    for name, loop in case["stability"].items():
        yield from (f"warning: {name}: {line}" for line in loop["warnings"])


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
        The lines: machine, a table with a row per rate, warnings.
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
    lines += aligned(rows)
    for run in report["runs"]:
        lines += [f"warning: {run['title']}, {run['rate']:g}/s: {one}" for one in run["warnings"]]
    return "\n".join(lines)


def throughput_text(report: dict[str, Any]) -> str:
    """Write a throughput report as text.

    Args:
        report: In its JSON form.

    Returns:
        The lines: machine, a table of the folder runs, what lies around the model, a table of the
        loads, warnings.
    """
    head = f"{report['model']} (sha256 {report['model_sha256'][:12]}) over {report['data']}"
    lines = [machine(report["environment"]), head, ""]
    rows = [["way", "pictures", "images/s", "fastest round", "slowest"]]
    for run in report["runs"]:
        pace = [run["pictures"] / seconds for seconds in run["seconds"]]
        figures = [f"{value:.2f}" for value in (run["images_per_second"], max(pace), min(pace))]
        rows.append([run["title"], str(run["pictures"]), *figures])
    lines += [*aligned(rows), "", _host(report["host"])]
    if report["loads"]:
        names = ("p50", "p90", "p95", "p99", "p99_9", "max")
        head_row = ["requests/s", "way", "requests", "busy"]
        rows = [[*head_row, *(f"{name.replace('_', '.')} ms" for name in names), "keeps up"]]
        for row in report["loads"]:
            times = [f"{row['latency'][f'{name}_ms']:.2f}" for name in names]
            about = [f"{row['rate']:.2f}", row["title"], str(row["requests"])]
            fits = "yes" if row["keeps_up"] else "no"
            rows.append([*about, f"{100 * row['busy']:.0f} %", *times, fits])
        lines += ["", "latency from arrival to file, Poisson arrivals:", *aligned(rows)]
    for row in (*report["runs"], *report["loads"]):
        title = f"{row['title']}, {row['rate']:.2f}/s" if "rate" in row else row["title"]
        lines += [f"warning: {title}: {line}" for line in row["warnings"]]
    return "\n".join(lines)


def _host(host: dict[str, Any]) -> str:
    return (
        f"one process without a model: {host['images_per_second']:.2f} images/s, "
        f"{host['processor_ms']:.2f} ms of processor time per image; "
        f"JPEG by {host['codecs']['jpeg']}, PNG by {host['codecs']['png']}"
    )


def comparison_text(compared: Compared, slower: Sequence[Comparison], limit: float | None) -> str:
    """Write a comparison as text.

    Args:
        compared: What was compared, and what could not be.
        slower: The rows that fail.
        limit: The limit they fail; None where there is none.

    Returns:
        The lines: a table per case, the notes, the verdict.
    """
    lines: list[str] = []
    for title in dict.fromkeys(row.case for row in compared.rows):
        table = [
            ["stage", "A median ms", "95 % of A", "B median ms", "95 % of B", "B/A", "95 %", ""]
        ]
        for row in (row for row in compared.rows if row.case == title):
            ratio = f"{row.ratio.estimate:.3f}"
            verdict = ("slower" if row.ratio.low > 1 else "faster") if row.differs else "same"
            cells = [*_interval(row.a), *_interval(row.b), ratio, _span(row.ratio), verdict]
            table.append([row.stage.replace("_", " "), *cells])
        lines += [title, *aligned(table), ""]
    lines += [f"note: {note}" for note in compared.notes]
    return "\n".join([*lines, *(() if limit is None else _verdict(compared, slower, limit))])


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


def aligned(rows: Sequence[Sequence[str]]) -> Iterator[str]:
    """Align the first column left and the others right.

    Args:
        rows: Of cells, all of one length.

    Yields:
        A line per row.
    """
    widths = [max(len(cell) for cell in column) for column in zip(*rows, strict=True)]
    for row in rows:
        first, *others = (
            cell.ljust(width) if at == 0 else cell.rjust(width)
            for at, (cell, width) in enumerate(zip(row, widths, strict=True))
        )
        yield "  ".join((first, *others)).rstrip()
