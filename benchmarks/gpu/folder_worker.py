"""One process of a files-to-files run: every OFth picture, once a line comes in.

python -m benchmarks.gpu.folder_worker MODEL BACKEND FOLDER COUNT WORKERS BATCH INDEX OF
"""

from __future__ import annotations

import json
import sys
import time
from pathlib import Path

from benchmarks.gpu.networks import pictures
from fcnkit.runtime import Job, Segmenter, find_jobs, open_backend, predict_files


def main() -> None:
    model, backend, home = sys.argv[1:4]
    count, workers, batch, index, processes = map(int, sys.argv[4:])
    folder = Path(home)
    out = folder / f"labels-{index}"
    mine = find_jobs(pictures(folder, count), out)[index::processes]
    with Segmenter(open_backend(model, backend=backend)) as segmenter:

        def run(jobs: list[Job]) -> int:
            records = predict_files(
                segmenter,
                jobs,
                out,
                model_sha256="",
                batch=batch,
                workers=workers,
                resume=False,
            )
            return sum(record.status == "done" for record in records)

        run(mine[: 8 * batch])
        print("ready", flush=True)
        if not sys.stdin.readline():
            return
        wall, cpu = time.perf_counter(), time.process_time()
        done = run(mine)
        seconds, cpu_seconds = time.perf_counter() - wall, time.process_time() - cpu
    print(json.dumps({"done": done, "seconds": seconds, "cpu_seconds": cpu_seconds}), flush=True)


if __name__ == "__main__":
    main()
