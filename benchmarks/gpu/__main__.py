"""Everything that needs an NVIDIA GPU, in one command that fits into fifteen minutes.

    python -m benchmarks.gpu --budget 800 -o gpu.json
    python -m benchmarks.gpu --budget 400 -o first.json --stages environment,copies,models,tests
    python -m benchmarks.gpu --dry-run -o dry.json      on a CPU and in small, to try the stages

Every stage runs in a separate process with a time limit and a memory limit, the most important
first. A stage that crashes, hangs or fills the memory costs only itself. Findings are in the file
as soon as they are known. ``python -m benchmarks.gpu_page gpu.json`` makes tables of them.
"""

from __future__ import annotations

import argparse
import math
import os
import platform
import shutil
import signal
import sys
import tempfile
from datetime import UTC, datetime
from pathlib import Path
from types import FrameType
from typing import Any, Final

from benchmarks.gpu.context import Settings
from benchmarks.gpu.runner import Report, Stage, run_stages
from fcnkit.errors import message
from fcnkit.runtime.backends.cuda import has_driver
from fcnkit.runtime.bench.environment import gpu_state

STAGES: Final = tuple(
    Stage(name=name, target=f"benchmarks.gpu.{module}:{name}", seconds=seconds)
    for name, module, seconds in (
        ("environment", "machine", 30),
        ("copies", "machine", 25),
        ("tests", "machine", 90),
        ("models", "networks", 70),
        ("onnxruntime", "sessions", 110),
        ("pytorch", "sessions", 60),
        ("files", "folders", 130),
        ("jpeg", "jpeg", 50),
        ("tensorrt_rtx", "tensorrt_rtx", 160),
        ("training", "training", 75),
    )
)
"""The most important first. The limits add up to the budget of 800 seconds."""
GPU_ONLY: Final = frozenset({"copies"})
"""Stages that have nothing to try on a CPU."""


def parse_stages(text: str | None) -> list[Stage]:
    """Return the chosen stages, in their own order."""
    known = {stage.name: stage for stage in STAGES}
    names = list(known) if text is None else [name.strip() for name in text.split(",")]
    for name in names:
        if name not in known:
            rule = f"must be names out of {', '.join(known)}"
            raise ValueError(message("--stages", rule, repr(name), "leave it out or correct it"))
    return [stage for stage in STAGES if stage.name in names]


def check_request(out: Path, budget: float, *, dry: bool) -> None:
    """Refuse what would lose findings or find nothing."""
    if not 0 < budget < math.inf:
        rule, remedy = "must be a number of seconds above 0", "such as 800"
        raise ValueError(message("--budget", rule, budget, f"give another, {remedy}"))
    if out.exists():
        remedy = "name another file, or delete it"
        raise ValueError(message("-o", "must not exist yet", str(out), remedy))
    if not out.parent.is_dir():
        got = str(out.parent)
        raise ValueError(message("-o", "its folder must exist", got, "create it first"))
    if not dry and not has_driver():
        rule, got = "an NVIDIA driver must be installed", "no libcuda.so.1"
        remedy = "run it on a machine with a GPU, or try it here with --dry-run"
        raise ValueError(message("benchmarks.gpu", rule, got, remedy))


def head(options: argparse.Namespace) -> dict[str, Any]:
    """What the report begins with."""
    return {
        "format": 1,
        "dry_run": options.dry_run,
        "budget_seconds": options.budget,
        "started": datetime.now(UTC).isoformat(timespec="seconds"),
        "platform": platform.platform(),
        "cores": os.cpu_count(),
        "gpus": gpu_state(),
    }


def work_folder(chosen: Path | None) -> Path:
    """Return a folder for models and pictures, in memory where there is room: disks are slow."""
    if chosen is not None:
        chosen.mkdir(parents=True, exist_ok=True)
        return chosen.resolve()
    memory = Path("/dev/shm")
    roomy = os.access(memory, os.W_OK) and shutil.disk_usage(memory).free > 4 << 30
    return Path(tempfile.mkdtemp(prefix="fcnkit-gpu-", dir=memory if roomy else None))


def most_memory() -> int:
    """Return the bytes that a stage may hold: three quarters of the machine's."""
    return os.sysconf("SC_PHYS_PAGES") * os.sysconf("SC_PAGE_SIZE") * 3 // 4


def stop(_number: int, _frame: FrameType | None) -> None:
    """End like Ctrl-C, so that the running stage is ended and the report says so."""
    raise KeyboardInterrupt


def summary(content: dict[str, Any]) -> tuple[list[str], bool]:
    """One line per stage and per error, and whether everything went well."""
    lines, good = [], True
    for name, stage in content["stages"].items():
        found = stage.get("findings", {}).items()
        told = {key: value for key, value in found if isinstance(value, dict)}
        errors = {key: value["error"] for key, value in told.items() if "error" in value}
        errors |= {
            key: f"failed: {', '.join(value['failed'])}"
            for key, value in told.items()
            if value.get("failed")
        }
        good = good and stage["state"] == "done" and not errors
        reason = f" ({stage['reason']})" if "reason" in stage else ""
        count = len(stage.get("findings", {}))
        lines.append(f"{name:14} {stage['state']}{reason}: {count} findings, {len(errors)} errors")
        lines += [f"    {key}: {error[:300]}" for key, error in errors.items()]
    return lines, good


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("-o", "--out", type=Path, required=True, help="the JSON file to be made")
    parser.add_argument("--budget", type=float, default=800, help="seconds for all stages")
    parser.add_argument("--stages", help="such as environment,copies; all by default")
    parser.add_argument("--work", type=Path, help="a folder for models, kept for a second run")
    parser.add_argument("--dry-run", action="store_true", help="on a CPU and in small")
    options = parser.parse_args()
    try:
        stages = parse_stages(options.stages)
        check_request(options.out, options.budget, dry=options.dry_run)
        report = Report(options.out.resolve(), head(options))
    except (OSError, ValueError) as error:
        parser.exit(2, f"error: {error}\n")
    if options.dry_run:
        stages = [stage for stage in stages if stage.name not in GPU_ONLY]
    signal.signal(signal.SIGTERM, stop)
    folder = work_folder(options.work)
    settings = Settings(dry=options.dry_run, folder=str(folder))
    try:
        run_stages(stages, report, settings, budget=options.budget, memory=most_memory())
    except KeyboardInterrupt:
        report.content["state"] = "stopped"
        report.write()
    finally:
        if options.work is None:
            shutil.rmtree(folder, ignore_errors=True)
    lines, good = summary(report.content)
    print("\n".join([*lines, str(options.out)]))
    sys.exit(0 if good and report.content["state"] == "finished" else 1)


if __name__ == "__main__":
    main()
