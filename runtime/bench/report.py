"""The report of ``fcnkit bench latency``: plain data with a fixed form, in JSON and as rows.

The form is written down in docs/bench-report.schema.json; a test holds the two together.
"""

from __future__ import annotations

import csv
import io
import json
from collections.abc import Iterator
from dataclasses import asdict
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
    "case_title",
    "latency_report",
    "read_report",
    "report_head",
    "stage_rows",
    "to_csv",
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
    details = case["details"]
    graphs = details.get("cuda_graphs")
    return (
        f"{case['model']}, {case['backend']} {details.get('compute', '')}, "
        f"{details.get('threads', '?')} threads"
        f"{f', CUDA graphs {graphs}' if graphs is not None else ''}, {case['shape']}, "
        f"cover {case['cover']}"
    )


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
