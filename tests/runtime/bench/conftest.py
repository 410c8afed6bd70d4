"""One measured report that several tests read."""

from __future__ import annotations

from typing import Any

import pytest

from fcnkit.runtime import Segmenter, open_backend
from fcnkit.runtime.bench.calls import Effort
from fcnkit.runtime.bench.environment import describe_environment
from fcnkit.runtime.bench.latency import measure_case
from fcnkit.runtime.bench.report import latency_report
from tests.runtime.models import make_spec, write_model


@pytest.fixture(scope="session")
def report(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Any]:
    """Two heads at two shapes and two batches on ONNX Runtime."""
    folder = tmp_path_factory.mktemp("models")
    cases = []
    for head in ("labels", "logits"):
        path = write_model(folder / f"{head}.onnx", make_spec(head))  # type: ignore[arg-type]
        with Segmenter(open_backend(path, threads=1)) as segmenter:
            for shape in ((1, 40, 50), (2, 40, 50), (1, 64, 96)):
                effort = Effort(runs=30, warmup=2)
                case = measure_case(segmenter, shape, effort, opened=(None, 12.0))
                cases.append((path, "0" * 64, case))
    return latency_report(cases, describe_environment())
