"""Tests on every instruction set, or on FCNKIT_FORCE_ISA alone.

A test that takes ``isa`` runs once per set. One that takes ``isas`` goes through the sets itself.
"""

from __future__ import annotations

import os
from importlib.util import find_spec
from typing import TYPE_CHECKING

import pytest

from fcnkit.runtime.pixels import _kernels

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator


if find_spec("torch") is None:
    # tests/wheels.py runs the others, in environments without PyTorch.
    collect_ignore = [
        "artifacts/test_format1.py",
        "artifacts/test_precisions.py",
        "predict/test_agreement.py",
    ]

_FORCED = os.environ.get("FCNKIT_FORCE_ISA")
_ACTIVE = _kernels.build_info()["active"]


_SETS = [_FORCED] if _FORCED else _kernels.build_info()["variants"]


@pytest.fixture
def isas() -> Iterator[Callable[[], Iterator[str]]]:
    def each() -> Iterator[str]:
        for name in _SETS:
            _kernels.select(name)
            yield name

    yield each
    _kernels.select(_ACTIVE)


@pytest.fixture(params=_SETS)
def isa(request: pytest.FixtureRequest) -> Iterator[str]:
    _kernels.select(request.param)
    yield request.param
    _kernels.select(_ACTIVE)
