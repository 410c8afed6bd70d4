"""Ten thousand pictures, one in twenty broken in one of ten ways, killed five times and resumed.

    python -m benchmarks.endurance [--pictures 10000] [--kills 5] [--json FILE]

A run over small pictures is killed with SIGKILL again and again and resumed; its results are
compared with those of an undisturbed run, byte by byte. The memory of the undisturbed run is
watched. A smaller one of these is in the tests.
"""

from __future__ import annotations

import json
import random
import signal
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

from benchmarks.options import parser_of, save
from fcnkit.runtime.predict.folder import MANIFEST
from tests.runtime.models import make_spec, write_model
from tests.runtime.pictures import break_some, manifest_of, write_pictures


def command(model: Path, source: Path, out: Path) -> list[str]:
    code = "from fcnkit.cli import main; main()"
    arguments = ["predict", str(model), str(source), "-o", str(out), "--threads", "1", "--json"]
    return [sys.executable, "-c", code, *arguments]


def results(out: Path) -> dict[str, bytes]:
    return {
        path.relative_to(out).as_posix(): path.read_bytes()
        for path in out.rglob("*")
        if path.is_file() and path.name != MANIFEST
    }


def resident(process: subprocess.Popen[str]) -> float:
    """Megabytes that a process holds now."""
    text = Path(f"/proc/{process.pid}/status").read_text(encoding="utf-8")
    held = [line.split()[1] for line in text.splitlines() if line.startswith("VmRSS")]
    return int(held[0]) / 1000 if held else 0.0  # nothing: it has just ended


def undisturbed(model: Path, source: Path, out: Path, total: int) -> dict[str, Any]:
    """Run to the end, noting memory at every tenth of the results."""
    memory: dict[int, float] = {}
    start = time.perf_counter()
    with subprocess.Popen(
        command(model, source, out), stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, text=True
    ) as process:
        while process.poll() is None:
            lines = (out / MANIFEST).read_bytes().count(b"\n") if (out / MANIFEST).exists() else 0
            tenth = 10 * lines // total
            if 0 < tenth < 10 and tenth not in memory and process.poll() is None:
                memory[tenth] = resident(process)
            time.sleep(0.05)
        said = json.loads(process.communicate()[0])
    assert process.returncode == 1
    return {"memory_mb_by_tenth": memory, "seconds": time.perf_counter() - start, **said}


def killed(model: Path, source: Path, out: Path, kills: int, total: int) -> list[int]:
    """Kill a run that often, at random moments; return how many results there were each time."""
    seen = []
    for kill in range(kills):
        goal = total * (kill + random.random()) / (kills + 1)
        with subprocess.Popen(
            command(model, source, out), stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL
        ) as process:
            while process.poll() is None:
                manifest = out / MANIFEST
                if manifest.exists() and manifest.read_bytes().count(b"\n") >= goal:
                    break
                time.sleep(random.random() / 50)
            process.send_signal(signal.SIGKILL)
        assert process.returncode == -signal.SIGKILL
        seen.append(len(results(out)))
    return seen


def main() -> None:
    parser = parser_of(__doc__)
    parser.add_argument("--pictures", type=int, default=10_000)
    parser.add_argument("--kills", type=int, default=5)
    parser.add_argument("--seed", type=int, default=0)
    options = parser.parse_args()
    random.seed(options.seed)
    total = options.pictures
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        model = write_model(folder / "m.onnx", make_spec("logits"))
        source = write_pictures(folder / "in", total)
        broken = break_some(source, every=20)
        whole = undisturbed(model, source, folder / "whole", total)
        seen = killed(model, source, folder / "killed", options.kills, total)
        last = subprocess.run(
            command(model, source, folder / "killed"), capture_output=True, text=True, check=False
        )
        end = json.loads(last.stdout)
        final = {line["input"]: line["status"] for line in manifest_of(folder / "killed")}
        failed = {path for path, status in final.items() if status == "failed"}
        expected = results(folder / "whole")
        found = {
            "pictures": total,
            "broken": len(broken),
            "ways_of_breaking": len(set(broken.values())),
            "undisturbed": whole,
            "results_at_each_kill": seen,
            "last_run": end,
            "all_good_ones_done": len(expected) == total - len(broken),
            "all_broken_ones_listed": failed == {str(source / name) for name in broken},
            "results_equal": results(folder / "killed") == expected,
            "exit_code": last.returncode,
        }
    print(json.dumps(found, indent=2))
    save(found, options.json)


if __name__ == "__main__":
    main()
