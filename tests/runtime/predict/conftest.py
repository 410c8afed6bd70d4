"""The model that most tests of prediction use."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from fcnkit.runtime import Segmenter, load
from tests.runtime.models import make_spec, write_model


@pytest.fixture(scope="module")
def model(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_model(tmp_path_factory.mktemp("models") / "m.onnx", make_spec("logits"))


@pytest.fixture(scope="module")
def segmenter(model: Path) -> Iterator[Segmenter]:
    with load(model, threads=1) as opened:
        yield opened
