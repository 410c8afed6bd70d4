"""``python -m tests.fuzz [TARGET...] [--seconds N]``: fuzz with atheris.

Each target runs in its own process for N seconds, 600 unless given, beginning with its files under
``corpus/``. What is found is written to ``build/fuzz``; the exit code is 1 then.
"""

from __future__ import annotations

import argparse
import subprocess
import sys
from pathlib import Path

_ONE = """
import sys
import atheris
with atheris.instrument_imports(include=["fcnkit", "json", "tarfile"]):
    from tests.fuzz.targets import TARGETS
atheris.Setup(sys.argv[1:], TARGETS[sys.argv.pop(1)])
atheris.Fuzz()
"""


def main() -> int:
    """Return 0 if nothing was found."""
    from tests.fuzz.targets import SEEDS

    parser = argparse.ArgumentParser(prog="python -m tests.fuzz", description=__doc__)
    parser.add_argument("targets", nargs="*", metavar="TARGET", help=" ".join(SEEDS))
    parser.add_argument("--seconds", type=int, default=600)
    given = parser.parse_args()
    failed = []
    for name in given.targets or SEEDS:
        found, work = Path("build/fuzz") / name, Path("build/fuzz/corpus") / name
        found.mkdir(parents=True, exist_ok=True)
        work.mkdir(parents=True, exist_ok=True)
        arguments = [
            f"-max_total_time={given.seconds}", "-timeout=20", "-rss_limit_mb=4096",
            "-max_len=65536",
            "-print_final_stats=1", "-verbosity=1", f"-artifact_prefix={found}/",
            str(work), str(SEEDS[name]),
        ]  # fmt: skip
        done = subprocess.run(
            [sys.executable, "-c", _ONE, name, *arguments],
            stderr=subprocess.PIPE, text=True, errors="replace", check=False,
        )  # fmt: skip
        lines = done.stderr.splitlines()
        runs = next((line.split()[-1] for line in lines if "number_of_executed_units" in line), "?")
        print(f"{name:<10} {runs:>10} inputs in {given.seconds} s, exit code {done.returncode}")
        if done.returncode:
            failed.append(name)
            print("\n".join(lines[-30:]))
    return 1 if failed else 0


if __name__ == "__main__":
    sys.exit(main())
