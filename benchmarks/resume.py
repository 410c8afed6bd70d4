"""A million pictures: how long a run takes to see that all are done, and to label the first one.

    python -m benchmarks.resume [--pictures 1000000] [--only MEASURE] [--folder DIR] [--json FILE]

The pictures are hard links to a few small files, and so are their results, so that they take little
disk. The manifest is written line by line from that of a real run. Two commands are measured, each
in a process without other work:

- ``fcnkit predict`` on a folder where everything is done: processor time and memory;
- ``fcnkit predict`` on a folder where only the first file is a picture, until its result is there.
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
from typing import Any, Final

import numpy as np
from PIL import Image

from tests.runtime.models import make_spec, write_model

LINKS: Final = 50_000
"""Names of one file; ext4 allows 65,000."""


def command(model: Path, source: Path, out: Path) -> list[str]:
    code = "from fcnkit.cli import main; main()"
    arguments = ["predict", str(model), str(source), "-o", str(out), "--threads", "1"]
    return [sys.executable, "-c", code, *arguments, "--json", "--stats"]


def link(original: Path, folder: Path, names: list[str]) -> None:
    """Give a file many names, with copies where it has as many as it may have."""
    for begin in range(0, len(names), LINKS):
        copy = f"{folder}/{names[begin]}"
        shutil.copy2(original, copy)
        for name in names[begin + 1 : begin + LINKS]:
            os.link(copy, f"{folder}/{name}")


def all_done(model: Path, place: Path, pictures: int) -> dict[str, Any]:
    """Measure a run on pictures that are done."""
    source, out, sample = place / "done", place / "labels", place / "sample"
    for folder in (source, sample):
        folder.mkdir()
    names = [f"{number:09}.png" for number in range(pictures)]
    Image.fromarray(np.zeros((32, 32, 3), np.uint8)).save(sample / "picture.png")
    subprocess.run(command(model, sample, out), check=True, stdout=subprocess.DEVNULL)
    line = json.loads((out / "manifest.jsonl").read_text(encoding="utf-8"))
    link(sample / "picture.png", source, names)
    link(out / "picture.png", out, names)
    with (out / "manifest.jsonl").open("w", encoding="utf-8") as manifest:
        line.update(input="NAME", input_path="NAME")
        text = json.dumps(line).replace('"NAME"', f'"{source}/NAME"').replace("picture.png", "NAME")
        manifest.writelines(text.replace("NAME", name) + "\n" for name in names)
    start, before = time.perf_counter(), processor_seconds()
    done = subprocess.run(command(model, source, out), check=True, stdout=subprocess.PIPE)
    seconds, used = time.perf_counter() - start, processor_seconds() - before
    said = json.loads(done.stdout)
    assert (said["skipped"], said["done"]) == (pictures, 0)
    return {
        "pictures": pictures,
        "seconds": round(seconds, 2),
        "processor_seconds": round(used, 2),
        "peak_memory_mb": said["peak_memory_mb"],
    }


def processor_seconds() -> float:
    """Processor time of the processes that this one has started and that have ended."""
    used = os.times()
    return used.children_user + used.children_system


def first_result(model: Path, place: Path, pictures: int) -> dict[str, Any]:
    """Measure how long the first result takes."""
    source, out = place / "new", place / "first"
    source.mkdir()
    broken = place / "broken.png"
    broken.write_bytes(b"no picture")
    link(broken, source, [f"{number:09}.png" for number in range(1, pictures)])
    Image.fromarray(np.zeros((32, 32, 3), np.uint8)).save(source / f"{0:09}.png")
    start = time.perf_counter()
    with subprocess.Popen(
        command(model, source, out), stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL
    ) as process:
        while not (out / f"{0:09}.png").exists():
            assert process.poll() is None
            time.sleep(0.01)
        seconds = time.perf_counter() - start
        process.kill()
    return {"files": pictures, "seconds": round(seconds, 2)}


MEASURES: Final = {"all_done": all_done, "first_result": first_result}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--pictures", type=int, default=1_000_000)
    parser.add_argument("--folder", type=Path, help="where the files are made and removed")
    parser.add_argument("--only", choices=MEASURES)
    parser.add_argument("--json", type=Path)
    given = parser.parse_args()
    with tempfile.TemporaryDirectory(dir=given.folder) as folder:
        place = Path(folder)
        model = write_model(place / "m.onnx", make_spec("logits"))
        report: dict[str, Any] = {}
        for name, measure in MEASURES.items():
            if given.only not in (None, name):
                continue
            report[name] = measure(model, place, given.pictures)
            print(json.dumps({name: report[name]}), flush=True)
    if given.json is not None:
        given.json.write_text(json.dumps(report, indent=1), encoding="utf-8")


if __name__ == "__main__":
    main()
