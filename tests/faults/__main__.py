"""``python -m tests.faults``: try every promise of docs/reliability.md and print the table."""

from __future__ import annotations

import argparse
import json
import sys
import tempfile
import time
from pathlib import Path

from tests.faults import PROMISES
from tests.faults.table import Setting, tried

_OUTCOMES = ("lost", "wrong", "hung")


def main() -> int:
    """Return 0 if every promise was kept."""
    parser = argparse.ArgumentParser(prog="python -m tests.faults", description=__doc__)
    parser.add_argument("--share", choices=("short", "full"), default="full")
    parser.add_argument(
        "--minutes", type=float, help="for all together: 30, or 2 for the short share"
    )
    parser.add_argument("--only", nargs="*", choices=tuple(PROMISES), default=list(PROMISES))
    parser.add_argument("--json", type=Path, help="write the table there as well")
    given = parser.parse_args()
    minutes = given.minutes or {"short": 2, "full": 30}[given.share]
    rows = []
    with tempfile.TemporaryDirectory(prefix="fcnkit-faults-") as folder:
        for key in given.only:
            # Long use takes a third, lists of cases another; the rest is for repetitions.
            setting = Setting(
                folder=Path(folder),
                seconds=20 * minutes / len(given.only),
                full=given.share == "full",
                soak=20 * minutes if given.share == "full" else 3,
            )
            start = time.monotonic()
            counts, broken = tried(PROMISES[key], setting)
            row = {
                "key": key,
                "promise": PROMISES[key].text,
                "cases": counts.total(),
                **{name: counts[name] for name in _OUTCOMES},
                "seconds": round(time.monotonic() - start, 1),
                "not tried": setting.skipped,
            }
            rows.append(row)
            print(_line(row), flush=True)
            for trial in broken:
                print(f"    {trial.outcome}: {trial.case}: {trial.got}", flush=True)
            for reason in setting.skipped:
                print(f"    not tried: {reason}", flush=True)
    total = {name: sum(row[name] for row in rows) for name in ("cases", *_OUTCOMES, "seconds")}
    print(_line({"key": "all", "promise": f"{len(rows)} promises", **total}))
    if given.json:
        given.json.write_text(json.dumps(rows, indent=2) + "\n", encoding="utf-8")
    return 0 if not any(total[name] for name in _OUTCOMES) else 1


def _line(row: dict[str, object]) -> str:
    cells = [f"{row[name]:>5} {name}" for name in ("cases", *_OUTCOMES)]
    return f"{' '.join(cells)} {row['seconds']:>7.1f} s  {row['key']}: {row['promise']}"


if __name__ == "__main__":
    sys.exit(main())
