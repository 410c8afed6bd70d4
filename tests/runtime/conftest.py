"""Every test that takes ``isa`` runs once per instruction set, or on FCNKIT_FORCE_ISA alone."""

from __future__ import annotations

import os
from typing import TYPE_CHECKING

import pytest

from fcnkit.runtime.pixels import _kernels

if TYPE_CHECKING:
    from collections.abc import Iterator


_FORCED = os.environ.get("FCNKIT_FORCE_ISA")
_ACTIVE = _kernels.build_info()["active"]


@pytest.fixture(params=[_FORCED] if _FORCED else _kernels.build_info()["variants"])
def isa(request: pytest.FixtureRequest) -> Iterator[str]:
    _kernels.select(request.param)
    yield request.param
    _kernels.select(_ACTIVE)
