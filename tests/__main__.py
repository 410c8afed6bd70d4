"""Run a tier of the tests: ``python -m tests check``, ``test`` or ``all``.

Tests run in as many processes as there are cores, one thread and one folder each. A test that
fails is run once more by itself: if it passes then, the run passes and prints FLAKY and its name,
and mending that test is the next thing to do.
"""

from __future__ import annotations

import argparse
import json
import os
import shutil
import subprocess
import sys
import tempfile
import time
from pathlib import Path

from tests.tiers import PARTS

ROOT = Path(__file__).resolve().parents[1]
CACHE = ROOT / "build" / "pytest"


def pytest(*arguments: object, cache: Path, limit: float | None = None) -> int | None:
    """Run pytest with one thread per process; return its exit code, None when the time is over.

    What it and its workers write to stderr follows its report: how a worker died is said there.
    """
    threads = dict.fromkeys(("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS", "MKL_NUM_THREADS"), "1")
    command = [sys.executable, "-m", "pytest", "-q", "--durations=12", "-o", f"cache_dir={cache}"]
    command += map(str, arguments)
    with tempfile.TemporaryFile("w+", errors="replace") as said:
        environment = {**os.environ, **threads}
        with subprocess.Popen(command, cwd=ROOT, env=environment, stderr=said) as process:
            try:
                return process.wait(limit)
            except subprocess.TimeoutExpired:
                process.terminate()
                return None
            finally:
                process.wait()
                said.seek(0)
                print(said.read(), end="", flush=True)


def failed_tests(cache: Path) -> list[str]:
    """Return the names that pytest keeps of what failed in its last run."""
    path = cache / "v" / "cache" / "lastfailed"
    return sorted(json.loads(path.read_text(encoding="utf-8"))) if path.is_file() else []


def run(name: str, arguments: list[str], *, until: float | None = None) -> bool | None:
    """Run tests, and those that fail once more; say if all passed, None when the time is over."""
    cache = CACHE / name.replace(" ", "-")
    shutil.rmtree(cache, ignore_errors=True)
    workers = max(1, len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else 2)
    # Whoever is done takes tests from the others, so that one long file holds up nobody.
    spread = ("-n", workers, "--dist", "worksteal")
    code = pytest(*spread, *arguments, cache=cache, limit=until and until - time.monotonic())
    if code in (0, None):
        return None if code is None else True
    failed = failed_tests(cache)
    if code != 1 or not failed:  # broken, or no test ran
        return False
    passed = [test for test in failed if pytest(test, cache=cache / "again") == 0]
    for test in passed:
        print(f"FLAKY {test}: it failed beside others and passed by itself; mend it", flush=True)
    return len(passed) == len(failed)


def run_parts(until: float | None) -> bool:
    """Run what only ``make test-all`` runs, part by part, as long as there is time."""
    good, unreached, before = True, [], []
    for part, places in PARTS.items():
        if until is not None and time.monotonic() >= until:
            unreached.append(part)
            continue
        print(f"part {part}", flush=True)
        ignored = [f"--ignore={place}" for place in before]
        done = run(part, [*places, *ignored, "--tier=all", "--only-tier"], until=until)
        before += places
        if done is None:
            unreached.append(part)
        good = good and done is not False
    for part in unreached:
        print(f"NOT REACHED {part}: the time was over", flush=True)
    return good


def main() -> int:
    """Return 0 if every test passed, at the latest when it ran by itself."""
    parser = argparse.ArgumentParser(prog="python -m tests", description=__doc__)
    parser.add_argument("tier", choices=("check", "test", "all", "rest"))
    parser.add_argument("--minutes", type=float, help="for the parts of all: stop them after that")
    given = parser.parse_args()
    good = True
    if given.tier != "rest":
        tier = "test" if given.tier == "all" else given.tier
        good = run(tier, [f"--tier={tier}"]) is True
    if given.tier in ("all", "rest"):
        until = given.minutes and time.monotonic() + 60 * given.minutes
        good = run_parts(until) and good
    return 0 if good else 1


if __name__ == "__main__":
    sys.exit(main())
