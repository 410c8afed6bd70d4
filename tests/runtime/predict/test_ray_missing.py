"""Workers on Ray where Ray is not installed."""

from __future__ import annotations

import sys
from types import ModuleType

import pytest

from fcnkit.errors import MissingExtraError
from fcnkit.runtime import RayWorkers
from tests.refusal import refusal


@pytest.mark.parametrize("found", [None, ModuleType("ray")], ids=["nothing", "a folder named ray"])
def test_ray_must_be_installed(found: ModuleType | None, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "ray", found)
    text = "RayWorkers: needs the package ray, got no such package; pip install 'fcnkit[ray]'"
    with refusal(MissingExtraError, text):
        RayWorkers("m.onnx")
