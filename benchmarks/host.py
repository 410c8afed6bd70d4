"""What fcnkit does around a model, per image: processor time, and files to files with a model that
costs nothing.

    python -m benchmarks.host DATA [--old FOLDER] [--limit N] [--rounds N] [--workers N]
        [--folder DIR] [--json FILE]

DATA is a data set in VOC layout whose images have one size; those of ``val`` are labeled, and the
model answers with their true masks. The ways take turns: this version with the extra ``fast``,
without it, and an earlier version. FOLDER holds that version's package, as
``pip install --no-deps --target FOLDER CHECKOUT`` makes it. All ways must write the same labels.

Steps are milliseconds of one thread's processor time. "encode" holds the writing of the file, which
takes longer on a disk than in memory: DIR says where. "Files to files" is ``predict_files`` with
one process, and with two that share a folder. Its share is of what the cores allow: cores divided
by the processor time per image.
"""

from __future__ import annotations

import argparse
import json
import os
import statistics
import subprocess
import sys
import tempfile
from pathlib import Path
from typing import Any

from PIL import Image

from benchmarks.markdown import table
from benchmarks.timing import median_ratio

STEPS = ("decode", "cover", "stitch", "encode")
PROCESSES = (1, 2)


class Side:
    """One version of fcnkit, in as many processes as share a folder."""

    def __init__(self, name: str, settings: dict[str, Any], old: Path | None) -> None:
        self.name = name
        settings |= {"package": None if old is None else str(old)}
        command = [sys.executable, "-m", "benchmarks.host_worker", json.dumps(settings)]
        env = dict(os.environ)
        if old is not None:
            # An editable installation comes before all folders, unless site (-S) is left out.
            command.insert(1, "-S")
            env["PYTHONPATH"] = os.pathsep.join([str(old), *filter(None, sys.path)])
        pipe = subprocess.PIPE
        self._processes = [
            subprocess.Popen(command, stdin=pipe, stdout=pipe, text=True, env=env)
            for _ in range(max(PROCESSES))
        ]

    def ask(self, *tasks: dict[str, Any]) -> list[dict[str, Any]]:
        """Give each process a task, all at once, and return what they say."""
        used = self._processes[: len(tasks)]
        for process, task in zip(used, tasks, strict=True):
            assert process.stdin is not None
            process.stdin.write(json.dumps(task) + "\n")
            process.stdin.flush()
        found = []
        for process in used:
            assert process.stdout is not None
            line = process.stdout.readline()
            if not line:
                raise SystemExit(f"{self.name}: a process ended with {process.wait()}")
            found.append(json.loads(line))
        return found

    def folder(self, out: Path, processes: int) -> tuple[dict[str, float], str]:
        """Label the folder once, and remove the results; return figures and a hash of them."""
        parts = [None] if processes == 1 else [f"{i + 1}/{processes}" for i in range(processes)]
        told = self.ask(*({"what": "folder", "out": str(out), "part": part} for part in parts))
        [digest] = self.ask({"what": "digest", "out": str(out)})
        images = sum(one["images"] for one in told)
        wall, busy = max(one["wall"] for one in told), sum(one["busy"] for one in told)
        return {"rate": images / wall, "busy_ms": 1000 * busy / images}, digest["digest"]

    def close(self) -> None:
        for process in self._processes:
            assert process.stdin is not None
            process.stdin.close()
            process.wait()


def inputs_of(data: Path, limit: int | None) -> tuple[list[str], list[str]]:
    """Return the images of ``val`` and their masks."""
    names = (data / "ImageSets" / "Segmentation" / "val.txt").read_text("utf-8").split()[:limit]
    folder = data / "JPEGImages"
    images = [str(next(folder.glob(f"{name}.*"))) for name in names]
    sizes = set()
    for path in images:
        with Image.open(path) as image:
            sizes.add(image.size)
    if len(sizes) != 1:
        raise SystemExit(f"{data}: the images must have one size, got {len(sizes)}")
    return images, [str(data / "SegmentationClass" / f"{name}.png") for name in names]


def measure(sides: list[Side], folder: Path, rounds: int) -> dict[str, Any]:
    """Let the sides take turns; the first round warms up and compares the results."""
    rows: dict[str, dict[str, list[float]]] = {side.name: {} for side in sides}
    digests: set[str] = set()
    for number in range(-1, rounds):
        order = sides if number % 2 else sides[::-1]
        for side in order:
            held = rows[side.name]
            [steps] = side.ask({"what": "steps", "out": str(folder / side.name)})
            found = {name: steps[name] for name in STEPS}
            found["steps"] = sum(found.values())
            for processes in PROCESSES:
                figures, digest = side.folder(folder / side.name, processes)
                found |= {f"{key} {processes}": value for key, value in figures.items()}
                if processes == 1:  # parts are given other masks, in the order of their images
                    digests.add(digest)
            if number >= 0:
                for key, value in found.items():
                    held.setdefault(key, []).append(value)
    if len(digests) != 1:
        raise SystemExit("the ways do not write the same labels")
    return {"cores": cores(), "rows": rows}


def cores() -> int:
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


def show(found: dict[str, Any]) -> str:
    """Return the result as Markdown: a line per way, and how it compares with the last one."""
    rows: dict[str, dict[str, list[float]]] = found["rows"]
    last = list(rows.values())[-1]
    head = ["way", *(f"{name} ms" for name in STEPS), "together", "less than the last"]
    for count in PROCESSES:
        words = "one process" if count == 1 else f"{count} processes"
        head += [f"{words}: images/s", "times the last", "ms per image", "of what the cores allow"]
    lines = []
    for name, held in rows.items():
        middle = {key: statistics.median(values) for key, values in held.items()}
        cells = [name, *(f"{middle[step]:.3f}" for step in (*STEPS, "steps"))]
        cells.append(f"{median_ratio(last['steps'], held['steps']):.2f}x")
        for count in PROCESSES:
            rate, busy = held[f"rate {count}"], held[f"busy_ms {count}"]
            share = [r * b / 1000 / found["cores"] for r, b in zip(rate, busy, strict=True)]
            cells += [
                f"{middle[f'rate {count}']:.1f}",
                f"{median_ratio(rate, last[f'rate {count}']):.2f}",
                f"{middle[f'busy_ms {count}']:.2f}",
                f"{100 * statistics.median(share):.0f} %",
            ]
        lines.append(cells)
    return table(head, lines)


def main() -> None:
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("data", type=Path)
    parser.add_argument("--old", type=Path, help="folder with the package of an earlier version")
    parser.add_argument("--limit", type=int, help="images; all of val by default")
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--workers", type=int, help="threads that read and write; as predict has")
    parser.add_argument("--folder", type=Path, help="where results are written")
    parser.add_argument("--json", type=Path)
    options = parser.parse_args()
    images, masks = inputs_of(options.data, options.limit)
    settings = {"images": images, "masks": masks, "workers": options.workers}
    ways = [("fast", False, None), ("plain", True, None)]
    if options.old is not None:
        ways.append(("old", False, options.old))
    sides: list[Side] = []
    try:
        for name, without, old in ways:
            sides.append(Side(name, {**settings, "without": without}, old))
        with tempfile.TemporaryDirectory(dir=options.folder) as folder:
            found = measure(sides, Path(folder), options.rounds)
    finally:
        for side in sides:
            side.close()
    print(f"{len(images)} images, {found['cores']} cores\n\n{show(found)}")
    if options.json:
        options.json.write_text(json.dumps(found, indent=2), encoding="utf-8")


if __name__ == "__main__":
    main()
