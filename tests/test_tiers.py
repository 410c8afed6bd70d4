"""The tiers name tests that exist, and the runner tells a flaky test from a failing one."""

from __future__ import annotations

import time
from pathlib import Path

import pytest

from tests import __main__ as runner
from tests.tiers import PARTS, TIERS, tier_of

ROOT = Path(__file__).parents[1]


@pytest.mark.parametrize("beginning", TIERS)
def test_every_line_fits_a_test(beginning: str) -> None:
    path, _, name = beginning.partition("::")
    assert (ROOT / path).exists()
    if name:
        function = name.partition("[")[0]
        assert f"def {function}" in (ROOT / path).read_text(encoding="utf-8")


def test_the_longest_line_decides() -> None:
    assert tier_of("tests/runtime/pixels/test_tiling.py::test_x") == "check"
    assert tier_of("tests/train/test_loop.py::test_training_learns") == "test"
    assert tier_of("tests/train/data/test_voc.py::test_x") == "check"
    family = "tests/export/test_family.py::test_exports_verified_and_lean"
    assert tier_of(f"{family}[unet-scene]") == "all"
    assert tier_of(f"{family}[fpn-resnet18-labels]") == "test"


def test_every_slow_test_is_in_a_part() -> None:
    places = tuple(place for part in PARTS.values() for place in part)
    slow = [beginning for beginning, tier in TIERS.items() if tier == "all"]
    assert [beginning for beginning in slow if not beginning.startswith(places)] == []


@pytest.mark.parametrize(
    ("fault", "good", "said"),
    [
        ("assert True", True, ""),
        ("assert False", False, ""),
        # Fails in the first process that runs it and passes in the second.
        ("assert not first()", True, "FLAKY "),
        ("import no_such_module", False, ""),
    ],
)
def test_a_failing_test_is_run_once_more(
    fault: str,
    good: bool,
    said: str,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capfd: pytest.CaptureFixture[str],
) -> None:
    (tmp_path / "test_a.py").write_text(
        "from pathlib import Path\n"
        "def first():\n"
        "    mark = Path(__file__).with_name('mark')\n"
        "    new = not mark.exists()\n"
        "    mark.touch()\n"
        "    return new\n"
        f"def test_it():\n    {fault}\n"
    )
    monkeypatch.setattr(runner, "ROOT", tmp_path)
    monkeypatch.setattr(runner, "CACHE", tmp_path / "cache")
    assert runner.run("check", []) is good
    printed = capfd.readouterr().out
    assert ("FLAKY test_a.py::test_it: " in printed) is bool(said)


def test_no_test_is_a_failure(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(runner, "ROOT", tmp_path)
    monkeypatch.setattr(runner, "CACHE", tmp_path / "cache")
    assert runner.run("check", []) is False


def test_a_part_that_does_not_end_is_named(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "conftest.py").write_text(
        "def pytest_addoption(parser):\n"
        "    parser.addoption('--tier')\n"
        "    parser.addoption('--only-tier', action='store_true')\n"
    )
    (tmp_path / "test_a.py").write_text("import time\ndef test_it():\n    time.sleep(1000)\n")
    monkeypatch.setattr(runner, "ROOT", tmp_path)
    monkeypatch.setattr(runner, "CACHE", tmp_path / "cache")
    monkeypatch.setattr(runner, "PARTS", {"endless": ["test_a.py"], "later": ["test_a.py"]})
    assert runner.run_parts(time.monotonic() + 3)
    lines = capfd.readouterr().out.splitlines()
    assert [line for line in lines if line.startswith("NOT REACHED")] == [
        "NOT REACHED endless: the time was over",
        "NOT REACHED later: the time was over",
    ]
