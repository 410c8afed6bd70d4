"""Every test that takes ``isa`` runs once per instruction set this machine has.

FCNKIT_FORCE_ISA runs the suite on one of them. FCNKIT_TEST_KERNELS names another build of the
extension, one with sanitizers, to be tested in place of the installed one.
"""

from __future__ import annotations

import importlib.util
import os
import sys
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

if TYPE_CHECKING:
    from collections.abc import Iterator


def _use_other_build(path: str) -> None:
    name = "fcnkit.runtime._kernels"
    spec = importlib.util.spec_from_file_location(name, path)
    if spec is None or spec.loader is None:
        raise ImportError(path)
    sys.modules[name] = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(sys.modules[name])


if "FCNKIT_TEST_KERNELS" in os.environ:
    _use_other_build(str(Path(os.environ["FCNKIT_TEST_KERNELS"]).resolve()))

from fcnkit.runtime import _kernels  # noqa: E402

if "FCNKIT_TEST_KERNELS" in os.environ:
    assert _kernels.__file__ == str(Path(os.environ["FCNKIT_TEST_KERNELS"]).resolve())

_FORCED = os.environ.get("FCNKIT_FORCE_ISA")
_ACTIVE = _kernels.build_info()["active"]


@pytest.fixture(params=[_FORCED] if _FORCED else _kernels.build_info()["variants"])
def isa(request: pytest.FixtureRequest) -> Iterator[str]:
    _kernels.select(request.param)
    yield request.param
    _kernels.select(_ACTIVE)
