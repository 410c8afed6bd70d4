"""Read every picture of a folder in its own process each, and report what it cost.

    python -m tests.faults.reader FOLDER MAX_PIXELS SECONDS

Prints a JSON line per file: name, array file or error, seconds, megabytes above the start.
"""

from __future__ import annotations

import contextlib
import json
import os
import signal
import sys
import time
import warnings
from pathlib import Path

import numpy as np
from PIL import Image

from fcnkit.errors import DataError
from fcnkit.runtime.predict.pictures import read_picture
from tests.faults.commands import PATIENCE

NOBODY = 65534


def _read(path: Path, max_pixels: int, answer: Path) -> None:
    """Leave the picture or the refusal in a file; anything else ends the process with 1."""
    warnings.simplefilter("ignore")
    with answer.with_suffix(".txt").open("w", encoding="utf-8", errors="surrogateescape") as said:
        if path.is_file() and path.stat().st_mode & 0o777 == 0:
            # Only the folder needs to be open to the other user, and none of those above it.
            os.chdir(path.parent)
            path = Path(path.name)
            _give_up_rights()
        try:
            np.save(answer.with_suffix(".npy"), read_picture(path, max_pixels=max_pixels))
        except DataError as error:
            said.write(str(error))


def _give_up_rights() -> None:
    """Become another user, for root may read what nobody may; a container may forbid it."""
    if os.geteuid() == 0:
        with contextlib.suppress(PermissionError):
            os.setgroups([])
            os.setgid(NOBODY)
            os.setuid(NOBODY)


def main() -> None:
    folder, max_pixels, seconds = Path(sys.argv[1]), int(sys.argv[2]), float(sys.argv[3])
    answers = Path(sys.argv[4])
    Image.init()  # once here, not in every child
    # Not ru_maxrss: this process has inherited its parent's.
    before = int(Path("/proc/self/statm").read_text().split()[1]) * os.sysconf("SC_PAGESIZE")
    for number, path in enumerate(sorted(folder.iterdir())):
        start = time.monotonic()
        child = os.fork()
        if child == 0:
            signal.setitimer(signal.ITIMER_PROF, seconds)  # of processor time
            signal.alarm(int(PATIENCE))  # and of waiting
            _read(path, max_pixels, answers / str(number))
            os._exit(0)
        _, status, used = os.wait4(child, 0)
        report = {
            "name": path.name,
            "answer": str(answers / str(number)),
            "code": os.waitstatus_to_exitcode(status),
            "seconds": time.monotonic() - start,
            "megabytes": (used.ru_maxrss * 1024 - before) / 1e6,
        }
        print(json.dumps(report), flush=True)


if __name__ == "__main__":
    main()
