"""What a wheel holds. ``python -m tests.wheels`` builds wheels and uses them."""

from __future__ import annotations

import tempfile
import zipfile
from pathlib import Path

import pytest

from tests.wheels import ROOT, unwanted


def test_tests_and_paths_of_the_machine_are_found(tmp_path: Path) -> None:
    wheel = tmp_path / "some-1-py3-none-any.whl"
    home, temporary = f"{Path.home()}/", f"{tempfile.gettempdir()}/"
    with zipfile.ZipFile(wheel, "w") as archive:
        archive.writestr("some/__init__.py", "from some import tests")
        archive.writestr("some/tests/test_it.py", "")
        archive.writestr("benchmarks/fast.py", "")
        archive.writestr("some/_core.so", b"\0built in " + home.encode() + b"lib\0")
        archive.writestr("some/_more.so", f"{temporary}build-1/more.cpp")
    assert list(unwanted(wheel)) == [
        "some/tests/test_it.py",
        "benchmarks/fast.py",
        f"some/_core.so: {home}",
        f"some/_more.so: {temporary}",
    ]


def test_the_wheel_holds_the_package_alone() -> None:
    wheels = list((ROOT / "build" / "strict").glob("*.whl"))
    if not wheels:
        pytest.skip("no wheel in build/strict; make lint builds it")
    for wheel in wheels:
        assert list(unwanted(wheel)) == []
        with zipfile.ZipFile(wheel) as archive:
            tops = {Path(name).parts[0].split("-")[0] for name in archive.namelist()}
        assert tops == {"fcnkit"}
