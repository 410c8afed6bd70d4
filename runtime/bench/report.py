"""The report of ``fcnkit bench latency``: plain data with a fixed form, in JSON and as rows.

The form is written down in docs/bench-report.schema.json; a test holds the two together.
"""

from __future__ import annotations

import csv
import io
import json
from collections import Counter
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import asdict, dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, Final

from fcnkit.errors import ArtifactError, message
from fcnkit.runtime.artifacts.precisions import full_name
from fcnkit.runtime.artifacts.spec import format_shape
from fcnkit.runtime.bench.budget import BudgetAnswer
from fcnkit.runtime.bench.latency import Case, Series
from fcnkit.runtime.bench.statistics import summarize

__all__ = [
    "FORMAT",
    "Overview",
    "case_title",
    "case_titles",
    "case_warnings",
    "in_digits",
    "latency_overview",
    "latency_report",
    "read_report",
    "report_head",
    "short_titles",
    "stage_rows",
    "to_csv",
    "unique_names",
    "unique_rows",
]

FORMAT: Final = "fcnkit-bench-latency-1"
"""Value of the key ``format``; a reader refuses every other."""

MISSING: Final = "no device events: the backend computes on the CPU or does not offer them"


def latency_report(
    cases: list[tuple[Path, str, Case]], environment: dict[str, Any]
) -> dict[str, Any]:
    """Put measured cases into the report's form.

    Args:
        cases: Model file, its SHA-256, and what was measured.
        environment: From ``describe_environment``.

    Returns:
        Plain data for JSON.
    """
    return {
        **report_head(FORMAT, environment),
        "cases": [_case(path, sha256, case) for path, sha256, case in cases],
    }


def report_head(format: str, environment: dict[str, Any]) -> dict[str, Any]:
    """Return what every report begins with: its format, the time, the machine."""
    created = datetime.now(UTC).isoformat(timespec="seconds")
    return {"format": format, "created": created, "environment": environment}


def _case(path: Path, sha256: str, case: Case) -> dict[str, Any]:
    loops = {"infer": case.infer, "array_to_labels": case.call, "pipeline": case.pipeline}
    stages = [stage for series in loops.values() if series for stage in _stages(series)]
    pictures = {
        "infer": case.infer_pictures,
        "array_to_labels": 1,
        "end_to_end": case.shape[0],
    }
    rates = {
        stage["name"]: 1000 * pictures[stage["name"]] / stage["summary"]["mean_ms"]
        for stage in stages
        if stage["name"] in pictures
    }
    return {
        "model": path.name,
        "model_sha256": sha256,
        "architecture": case.spec.architecture,
        "head": case.spec.head,
        "precision": case.spec.precision,
        "classes": case.spec.num_classes,
        "spec": json.loads(case.spec.to_json()),
        "backend": case.backend,
        "details": case.details,
        "cover": case.cover,
        "shape": format_shape(case.shape),
        "compute_shape": format_shape(case.compute_shape),
        "picture": case.picture,
        "first_call": asdict(case.first_call),
        "memory_mb": case.memory_mb,
        "warmup": {name: asdict(series.warmup) for name, series in loops.items() if series},
        "stability": {name: _stability(series) for name, series in loops.items() if series},
        "images_per_second": rates,
        "stages": stages,
        **({} if case.budget is None else {"budget": _budget(case.budget)}),
    }


def _budget(answer: BudgetAnswer) -> dict[str, Any]:
    largest = answer.largest
    fitting = None
    if largest is not None:
        height, width = largest.size
        fitting = {"shape": f"{height}x{width}", "measured_ms": 1000 * largest.seconds}
    return {
        "budget_ms": 1000 * answer.budget.seconds,
        "percentile": answer.budget.percentile,
        "measured_ms": 1000 * answer.seconds,
        "samples": answer.samples,
        "fits": answer.fits,
        "largest": fitting,
    }


def _stability(series: Series) -> dict[str, Any]:
    found = asdict(series.stability)
    warnings = list(series.stability.warnings)
    if series.warmup.stable is False:
        warnings.insert(0, f"not yet level after {series.warmup.seconds:.0f} s of warm-up")
    return {**found, "windows_ms": list(series.stability.windows_ms), "warnings": warnings}


def _stages(series: Series) -> Iterator[dict[str, Any]]:
    for name in series.stages:
        seconds = series.of(name)
        if seconds is None:
            yield {"name": name, "missing": MISSING, "summary": None, "samples_ms": []}
            continue
        samples = [round(1000 * float(value), 5) for value in seconds]
        summary = asdict(summarize(seconds))
        yield {"name": name, "missing": None, "summary": summary, "samples_ms": samples}


def read_report(path: Path) -> dict[str, Any]:
    """Read a report that ``bench latency`` wrote.

    Args:
        path: The JSON file.

    Returns:
        The report.

    Raises:
        ArtifactError: The file is missing or is not such a report.
    """
    rule, remedy = "must be a report", "write one with fcnkit bench latency -o FOLDER"
    try:
        held = json.loads(path.read_bytes())
    except FileNotFoundError:
        raise ArtifactError(message(str(path), rule, "no file", remedy)) from None
    except (OSError, ValueError) as error:
        raise ArtifactError(message(str(path), rule, str(error), remedy)) from None
    if not isinstance(held, dict) or held.get("format") != FORMAT:
        got = f"format {held.get('format')!r}" if isinstance(held, dict) else "other JSON"
        raise ArtifactError(message(str(path), f"must be a report of format {FORMAT}", got, remedy))
    for key in ("environment", "cases"):
        if key not in held:
            raise ArtifactError(message(str(path), rule, f"no key {key}", remedy))
    try:
        for case in held["cases"]:
            details = case["details"]
            details["compute"] = full_name(details["compute"])  # f32 in older reports
    except (KeyError, TypeError):
        got = "a case without the key details.compute"
        raise ArtifactError(message(str(path), rule, got, remedy)) from None
    return held


def case_title(case: dict[str, Any]) -> str:
    """Name a case of a report in a few words: file, backend, precision, shape, cover."""
    return ", ".join(filter(None, _title_parts(case)))


def _title_parts(case: dict[str, Any]) -> list[str]:
    """Return what a title is made of, the same parts for every case; empty where one has none."""
    details = case["details"]
    graphs = details.get("cuda_graphs")
    return [
        case["model"],
        f"{case['backend']} {details.get('compute', '')}",
        f"{details.get('threads', '?')} threads",
        "" if graphs is None else f"CUDA graphs {graphs}",
        case["shape"],
        f"cover {case['cover']}",
    ]


def short_titles(cases: Sequence[dict[str, Any]]) -> list[str]:
    """Name every case by what tells it from the others, for plots.

    Args:
        cases: Of one report.

    Returns:
        All different. A single case has its whole title.
    """
    parts = [_title_parts(case) for case in cases]
    if len(cases) == 1:
        return [case_title(cases[0])]
    columns = list(zip(*parts, strict=True))
    told = [place for place, column in enumerate(columns) if len(set(column)) > 1] or [0, 1]
    names = [", ".join(filter(None, (one[place] for place in told))) for one in parts]
    return _told_apart(names, cases)


def case_titles(cases: Sequence[dict[str, Any]]) -> list[str]:
    """Name every case of a report by a title that no other case has.

    Args:
        cases: Of one report.

    Returns:
        ``case_title`` of each. Files of one name are told apart by their hash, and what is still
        the same is numbered.
    """
    return _told_apart([case_title(case) for case in cases], cases)


def _told_apart(names: Sequence[str], cases: Sequence[dict[str, Any]]) -> list[str]:
    named = list(zip(names, (case["model_sha256"][:8] for case in cases), strict=True))
    files = Counter(name for name, _ in set(named))
    return unique_names(f"{name}, sha256 {sha}" if files[name] > 1 else name for name, sha in named)


def unique_names(names: Iterable[str]) -> list[str]:
    """Number the names that come again: ``a``, ``a (number 2)``.

    Args:
        names: In the order of what they name.

    Returns:
        As many names, all different.
    """
    found: dict[str, None] = {}
    for name in names:
        number, unique = 1, name
        while unique in found:
            number += 1
            unique = f"{name} (number {number})"
        found[unique] = None
    return list(found)


def unique_rows(rows: Iterable[dict[str, Any]], *, key: str) -> list[dict[str, Any]]:
    """Number the titles of rows that would be named alike.

    Args:
        rows: Each with a ``title``.
        key: What else tells rows apart, such as ``rate``; a row may lack it.

    Returns:
        The rows, no two with one title and one value of the key.
    """
    found: list[dict[str, Any]] = []
    for row in rows:
        same = [one["title"] for one in found if one.get(key) == row.get(key)]
        found.append({**row, "title": unique_names([*same, row["title"]])[-1]})
    return found


def case_warnings(case: dict[str, Any]) -> list[str]:
    """Return the warnings of a case, each with the loop that it is about."""
    return [
        f"{name.replace('_', ' ')}: {line}"
        for name, loop in case["stability"].items()
        for line in loop["warnings"]
    ]


@dataclass(frozen=True, kw_only=True)
class Overview:
    """A table of a whole report, and the warnings of its rows."""

    head: tuple[str, ...]
    rows: list[tuple[str, ...]]
    warnings: list[list[str]]
    """Of each row."""

    @property
    def notes(self) -> list[list[str]]:
        """What stands below each row: its first warning, and how many more the report holds."""
        found = []
        for lines in self.warnings:
            more = f"; {len(lines) - 1} more in report.json" if len(lines) > 1 else ""
            found.append([f"{line}{more}" for line in lines[:1]])
        return found


def latency_overview(report: dict[str, Any]) -> Overview:
    """Put all cases of a latency report into one table, the fastest of each shape first.

    Args:
        report: In its JSON form.

    Returns:
        A row per case. ``speed`` compares its median with that of the first measured case of the
        same shape: end to end where all cases have that, else the backend alone.
    """
    cases = report["cases"]
    times = [dict(stage_rows(case)) for case in cases]
    stage = "end_to_end" if all(held.get("end_to_end") for held in times) else "infer"
    medians = [(held[stage] or {})["p50_ms"] for held in times]
    first: dict[str, float] = {}
    for case, median in zip(cases, medians, strict=True):
        first.setdefault(case["shape"], median)
    titles = case_titles(cases)
    pixels = [[int(side) for side in case["shape"].split("x")] for case in cases]
    order = sorted(range(len(cases)), key=lambda at: (pixels[at], medians[at]))
    rows = []
    for at in order:
        case, held = cases[at], times[at]
        cells = [
            in_digits((held.get(name) or {}).get(f"{figure}_ms"))
            for name in ("infer", "end_to_end")
            for figure in ("p50", "p99")
        ]
        rates, cold = case["images_per_second"], case["first_call"]
        rate = in_digits(rates.get("end_to_end", rates["infer"]))
        total = (cold["import_ms"] or 0) + cold["open_ms"] + cold["infer_ms"]
        memory = case["memory_mb"]["host_peak"]
        size = "missing" if memory is None else f"{memory:.0f}"
        speed = f"{first[case['shape']] / medians[at]:.2f}x"
        rows.append((titles[at], speed, *cells, rate, f"{total:.0f}", size))
    times_head = ("infer p50 ms", "p99", "end to end p50 ms", "p99")
    head = ("case", "speed", *times_head, "images/s", "first call ms", "memory MiB")
    return Overview(head=head, rows=rows, warnings=[case_warnings(cases[at]) for at in order])


def in_digits(value: float | None) -> str:
    """Return a number with as many digits as say something; ``missing`` for None."""
    if value is None:
        return "missing"
    return f"{value:.3f}" if value < 10 else f"{value:.2f}" if value < 100 else f"{value:.1f}"


def stage_rows(case: dict[str, Any]) -> Iterator[tuple[str, dict[str, float] | None]]:
    """Yield every stage of a case of a report with its figures, None where they are missing."""
    for stage in case["stages"]:
        yield stage["name"], stage["summary"]


def to_csv(report: dict[str, Any]) -> str:
    """Write a report as comma separated values, one line per case and stage.

    Args:
        report: From ``latency_report``.

    Returns:
        The text; figures are empty where they are missing.
    """
    columns = [
        "model", "model_sha256", "head", "precision", "backend", "library", "provider", "compute",
        "threads", "cover", "shape", "compute_shape", "stage", "samples", "mean_ms", "std_ms", "cv",
        "min_ms", "p50_ms", "p90_ms", "p95_ms", "p99_ms", "p99_9_ms", "max_ms",
        "images_per_second", "warnings",
    ]  # fmt: skip
    text = io.StringIO()
    writer = csv.DictWriter(text, columns, lineterminator="\n", extrasaction="ignore")
    writer.writeheader()
    for case in report["cases"]:
        warnings = {line for one in case["stability"].values() for line in one["warnings"]}
        for name, summary in stage_rows(case):
            rate = case["images_per_second"].get(name)
            row = {**case, **case["details"], **(summary or {}), "stage": name}
            writer.writerow({**row, "images_per_second": rate, "warnings": len(warnings)})
    return text.getvalue()
