"""Two reports side by side, with intervals that say how much of a difference is noise."""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass
from typing import Any, Final

import numpy as np
from numpy.typing import ArrayLike, NDArray

from fcnkit.errors import BadValueError, message
from fcnkit.runtime.bench.report import case_titles, case_warnings

__all__ = [
    "GATED",
    "Compared",
    "Comparison",
    "Interval",
    "compare_reports",
    "compare_samples",
    "parse_limit",
]

GATED: Final = ("infer", "end_to_end")
"""Stages that fail a comparison where they are slower or missing; the others are shown."""

_RESAMPLES: Final = 2000
_AT_ONCE: Final = 4_000_000
"""Values that a bootstrap draws at a time, which bounds its memory."""
_CONFIDENCE: Final = 0.95


@dataclass(frozen=True, kw_only=True)
class Interval:
    """An estimate and its 95 % confidence interval.

    Both come from a block bootstrap of the samples.
    """

    estimate: float
    low: float
    high: float


@dataclass(frozen=True, kw_only=True)
class Comparison:
    """One stage of one case in both reports.

    ``a`` and ``b`` are medians in milliseconds.
    ``ratio`` says how much slower B is.
    """

    case: str
    """Its title; cases with one title are numbered, so that each has its own."""
    stage: str
    a: Interval
    b: Interval
    ratio: Interval
    """Median of B divided by median of A: above 1 where B is slower."""
    samples: tuple[int, int]

    @property
    def differs(self) -> bool:
        """Whether the interval of the ratio leaves out 1."""
        return not self.ratio.low <= 1 <= self.ratio.high

    def slower_than(self, limit: float) -> bool:
        """Whether B is slower by more than the limit, and the interval leaves out 1.

        Args:
            limit: Fraction of A's median, such as 0.05.
        """
        return self.ratio.estimate > 1 + limit and self.ratio.low > 1


def compare_samples(a: ArrayLike, b: ArrayLike, *, seed: int = 0) -> tuple[Interval, ...]:
    """Estimate both medians and their ratio by a bootstrap of the samples.

    Whole stretches of neighboring samples are drawn (a circular block bootstrap), because slow
    moments come together: single draws would promise intervals that are too narrow.

    Args:
        a: Samples in the order of measuring, at least two.
        b: The others.
        seed: Of the draws.

    Returns:
        Intervals of the median of a, of b, and of b's divided by a's.

    Raises:
        ValueError: A side has fewer than two samples.
    """
    sides = [np.asarray(side, np.float64).ravel() for side in (a, b)]
    for side in sides:
        if len(side) < 2:
            rule = "each side must have at least 2 samples"
            raise BadValueError(
                message("bench compare", rule, len(side), "measure with more --runs")
            )
    random = np.random.default_rng(seed)
    drawn_a, drawn_b = (_medians(side, random) for side in sides)
    median_a, median_b = (float(np.median(side)) for side in sides)
    return (
        _interval(median_a, drawn_a),
        _interval(median_b, drawn_b),
        _interval(median_b / median_a, drawn_b / drawn_a),
    )


def _medians(samples: NDArray[np.float64], random: np.random.Generator) -> NDArray[np.float64]:
    count = len(samples)
    block = max(1, round(count ** (1 / 3)))
    blocks = -(-count // block)
    step = max(1, _AT_ONCE // count)
    found = []
    for first in range(0, _RESAMPLES, step):
        starts = random.integers(0, count, (min(step, _RESAMPLES - first), blocks, 1))
        places = ((starts + np.arange(block)) % count).reshape(len(starts), -1)[:, :count]
        found.append(np.median(samples[places], axis=1))
    return np.concatenate(found)


def _interval(estimate: float, drawn: NDArray[np.float64]) -> Interval:
    tail = 50 * (1 - _CONFIDENCE)
    low, high = np.percentile(drawn, (tail, 100 - tail))
    return Interval(estimate=estimate, low=float(low), high=float(high))


@dataclass(frozen=True, kw_only=True)
class Compared:
    """Two reports side by side."""

    rows: list[Comparison]
    """One per stage that both measured."""
    missing: list[str]
    """What of A is not in B: cases, and stages of GATED in cases that both hold."""
    notes: list[str]
    """What else is different."""
    warnings: dict[str, list[str]]
    """By the title of a case: the warnings of both its measurements."""


def compare_reports(a: dict[str, Any], b: dict[str, Any]) -> Compared:
    """Compare what two reports have in common.

    Cases belong together when model name, backend, compute precision, threads, CUDA graphs, cover
    and shape are equal; several such cases of one report belong to those of the other in their
    order. Where each report holds one single case, these two are compared whatever they are.

    Args:
        a: The earlier report, from ``read_report``.
        b: The later one.

    Returns:
        The comparison. It has no rows where the reports have no case in common.

    Raises:
        ValueError: A holds no case, or a stage has fewer than two samples.
    """
    if not a["cases"]:
        rule, remedy = "the earlier report must have a case", "measure it again"
        raise BadValueError(message("bench compare", rule, "none", remedy))
    cases_a, cases_b = _by_key(a), _by_key(b)
    titles = {
        id(case): title
        for report in (a, b)
        for case, title in zip(report["cases"], case_titles(report["cases"]), strict=True)
    }
    pairs = [(case, cases_b[key]) for key, case in cases_a.items() if key in cases_b]
    alone = [case for key, case in cases_a.items() if key not in cases_b]
    missing = [titles[id(case)] for case in alone]
    notes = [f"only in A: {title}" for title in missing]
    notes += [f"only in B: {titles[id(cases_b[key])]}" for key in cases_b if key not in cases_a]
    if not pairs and len(cases_a) == len(cases_b) == 1:
        pairs = [(a["cases"][0], b["cases"][0])]
        one, other = (titles[id(case)] for case in pairs[0])
        notes = [f"comparing {one} with {other}"]
    rows = []
    warned: dict[str, list[str]] = {}
    for pair in pairs:
        title = titles[id(pair[0])]
        rows += _compare_case(title, *pair)
        missing += _missing_stages(*pair, title=title)
        sides = zip("AB", pair, strict=True)
        warned[title] = [f"{side}: {line}" for side, case in sides for line in case_warnings(case)]
    notes += _differences(a, b)
    return Compared(rows=rows, missing=missing, notes=notes, warnings=warned)


def _by_key(report: dict[str, Any]) -> dict[tuple[str, ...], dict[str, Any]]:
    """Return the cases by what they must have in common with those of another report."""
    found: dict[tuple[str, ...], dict[str, Any]] = {}
    count: Counter[tuple[str, ...]] = Counter()
    for case in report["cases"]:
        details = case["details"]
        about = [details.get(name, "") for name in ("compute", "threads", "cuda_graphs")]
        held = (case["model"], case["backend"], *about, case["cover"], case["shape"])
        key = tuple(map(str, held))
        found[(*key, str(count[key]))] = case
        count[key] += 1
    return found


def _missing_stages(a: dict[str, Any], b: dict[str, Any], *, title: str) -> list[str]:
    measured = [
        {stage["name"] for stage in case["stages"] if stage["samples_ms"]} for case in (a, b)
    ]
    lost = [name for name in GATED if name in measured[0] - measured[1]]
    return [f"{name} of {title}" for name in lost]


def _compare_case(title: str, a: dict[str, Any], b: dict[str, Any]) -> list[Comparison]:
    stages_b = {stage["name"]: stage["samples_ms"] for stage in b["stages"]}
    rows = []
    for stage in a["stages"]:
        sides = stage["samples_ms"], stages_b.get(stage["name"], [])
        if not all(sides):
            continue
        interval_a, interval_b, ratio = compare_samples(*sides)
        rows.append(
            Comparison(
                case=title,
                stage=stage["name"],
                a=interval_a,
                b=interval_b,
                ratio=ratio,
                samples=(len(sides[0]), len(sides[1])),
            )
        )
    return rows


def _differences(a: dict[str, Any], b: dict[str, Any]) -> list[str]:
    """Name the differences between the two machines, which may be what is compared."""
    found = []
    one, other = a["environment"], b["environment"]
    if one["cpu"]["model"] != other["cpu"]["model"]:
        found.append(f"different processors: {one['cpu']['model']} and {other['cpu']['model']}")
    for name in sorted({*one["packages"], *other["packages"]}):
        versions = one["packages"].get(name, "none"), other["packages"].get(name, "none")
        if versions[0] != versions[1]:
            found.append(f"{name} {versions[0]} in A, {versions[1]} in B")
    for name, report in (("A", a), ("B", b)):
        disturbed = sum(
            any(loop["warnings"] for loop in case["stability"].values()) for case in report["cases"]
        )
        if disturbed:
            found.append(f"{disturbed} of {len(report['cases'])} cases of {name} carry warnings")
    return found


def parse_limit(text: str, what: str) -> float:
    """Read ``5%`` or ``0.05``.

    Args:
        text: A number of 0 or more, with or without a percent sign.
        what: The option, for the error.

    Returns:
        The fraction.

    Raises:
        ValueError: text is something else.
    """
    number = text.strip().removesuffix("%")
    try:
        value = float(number) / (100 if text.strip().endswith("%") else 1)
    except ValueError:
        value = float("nan")
    if 0 <= value < float("inf"):
        return value
    raise BadValueError(message(what, "is a percentage or fraction", repr(text), "write 5%"))
