"""Measuring how fast a model runs here, in a way that a reader can believe.

``latency``: one case, cold and warm, stage by stage. ``throughput`` and ``load``: many pictures.
``report``, ``plots`` and ``page``: what is written. ``compare``: two reports against each other.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from fcnkit.faces import lazy_face

if TYPE_CHECKING:
    from fcnkit.runtime.bench.calls import Effort
    from fcnkit.runtime.bench.compare import compare_reports, parse_limit
    from fcnkit.runtime.bench.latency import Case, measure_latency, open_timed
    from fcnkit.runtime.bench.page import latency_page, throughput_page
    from fcnkit.runtime.bench.report import latency_report, read_report
    from fcnkit.runtime.bench.throughput import measure_folder, measure_load, throughput_report

__all__ = [
    "Case",
    "Effort",
    "compare_reports",
    "latency_page",
    "latency_report",
    "measure_folder",
    "measure_latency",
    "measure_load",
    "open_timed",
    "parse_limit",
    "read_report",
    "throughput_page",
    "throughput_report",
]

__getattr__, __dir__ = lazy_face(
    __name__,
    {
        "Case": "fcnkit.runtime.bench.latency",
        "Effort": "fcnkit.runtime.bench.calls",
        "compare_reports": "fcnkit.runtime.bench.compare",
        "latency_page": "fcnkit.runtime.bench.page",
        "latency_report": "fcnkit.runtime.bench.report",
        "measure_folder": "fcnkit.runtime.bench.throughput",
        "measure_latency": "fcnkit.runtime.bench.latency",
        "measure_load": "fcnkit.runtime.bench.throughput",
        "open_timed": "fcnkit.runtime.bench.latency",
        "parse_limit": "fcnkit.runtime.bench.compare",
        "read_report": "fcnkit.runtime.bench.report",
        "throughput_page": "fcnkit.runtime.bench.page",
        "throughput_report": "fcnkit.runtime.bench.throughput",
    },
)
