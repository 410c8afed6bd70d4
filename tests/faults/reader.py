"""Read every picture of a folder in a process of its own each, and report what it cost.

    python -m tests.faults.reader FOLDER MAX_PIXELS SECONDS

Prints a JSON line per file: name, array file or error, seconds, megabytes above the start.
"""

from __future__ import annotations

import json
import os
import resource
import signal
import sys
import time
import warnings
from pathlib import Path

import numpy as np

from fcnkit.errors import DataError
from fcnkit.runtime.pictures import read_picture


def _read(path: Path, max_pixels: int, answer: Path) -> None:
    """Leave the picture or the refusal in a file; anything else ends the process with 1."""
    warnings.simplefilter("ignore")
    try:
        np.save(answer.with_suffix(".npy"), read_picture(path, max_pixels=max_pixels))
    except DataError as error:
        answer.with_suffix(".txt").write_text(str(error), "utf-8", "surrogateescape")


def main() -> None:
    folder, max_pixels, seconds = Path(sys.argv[1]), int(sys.argv[2]), float(sys.argv[3])
    answers = Path(sys.argv[4])
    before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    # Bytes, for names that are no text.
    for number, name in enumerate(sorted(os.listdir(os.fsencode(folder)))):
        start = time.monotonic()
        child = os.fork()
        if child == 0:
            signal.alarm(int(seconds))
            _read(folder / os.fsdecode(name), max_pixels, answers / str(number))
            os._exit(0)
        _, status, used = os.wait4(child, 0)
        report = {
            "name": os.fsdecode(name),
            "answer": str(answers / str(number)),
            "code": os.waitstatus_to_exitcode(status),
            "seconds": time.monotonic() - start,
            "megabytes": (used.ru_maxrss - before) / 1024,
        }
        print(json.dumps(report), flush=True)


if __name__ == "__main__":
    main()
