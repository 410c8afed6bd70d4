"""Measuring how fast a model runs here, in a way that a reader can believe.

``latency``: one case, cold and warm, stage by stage. ``throughput`` and ``load``: many pictures.
``report``, ``plots`` and ``page``: what is written. ``compare``: two reports against each other.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from fcnkit.faces import lazy_face

if TYPE_CHECKING:
    from fcnkit.runtime.bench.budget import Budget, BudgetAnswer
    from fcnkit.runtime.bench.calls import Effort
    from fcnkit.runtime.bench.compare import Comparison, compare_reports, parse_limit
    from fcnkit.runtime.bench.drawing import draw, save_figure
    from fcnkit.runtime.bench.environment import describe_environment
    from fcnkit.runtime.bench.latency import Case, Series, measure_case, measure_latency, open_timed
    from fcnkit.runtime.bench.live import measure_live
    from fcnkit.runtime.bench.load import LoadResult
    from fcnkit.runtime.bench.page import latency_page, throughput_page
    from fcnkit.runtime.bench.plots import PLOTS
    from fcnkit.runtime.bench.report import latency_report, read_report, to_csv
    from fcnkit.runtime.bench.throughput import measure_folder, measure_load, throughput_report
else:
    __getattr__, __dir__ = lazy_face(
        __name__,
        {
            "fcnkit.runtime.bench.budget": "Budget BudgetAnswer",
            "fcnkit.runtime.bench.calls": "Effort",
            "fcnkit.runtime.bench.compare": "Comparison compare_reports parse_limit",
            "fcnkit.runtime.bench.drawing": "draw save_figure",
            "fcnkit.runtime.bench.environment": "describe_environment",
            "fcnkit.runtime.bench.latency": "Case Series measure_case measure_latency open_timed",
            "fcnkit.runtime.bench.live": "measure_live",
            "fcnkit.runtime.bench.load": "LoadResult",
            "fcnkit.runtime.bench.page": "latency_page throughput_page",
            "fcnkit.runtime.bench.plots": "PLOTS",
            "fcnkit.runtime.bench.report": "latency_report read_report to_csv",
            "fcnkit.runtime.bench.throughput": "measure_folder measure_load throughput_report",
        },
    )

__all__ = [
    "PLOTS",
    "Budget",
    "BudgetAnswer",
    "Case",
    "Comparison",
    "Effort",
    "LoadResult",
    "Series",
    "compare_reports",
    "describe_environment",
    "draw",
    "latency_page",
    "latency_report",
    "measure_case",
    "measure_folder",
    "measure_latency",
    "measure_live",
    "measure_load",
    "open_timed",
    "parse_limit",
    "read_report",
    "save_figure",
    "throughput_page",
    "throughput_report",
    "to_csv",
]
