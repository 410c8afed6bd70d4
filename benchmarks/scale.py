"""One process, two worker processes and two Ray actors over the same images, in turn.

    python -m benchmarks.scale --model MODEL --data DIR [--batch 32] [--rounds 5] [--limit N]
        [--ways one,processes,ray] [--json FILE]

Every way has all cores: one process with a thread per core, and one worker per core with one
thread. The model stays open between rounds. A rate counts the images between the first and the
last result, by the times in the manifest, so that starting is left out. The rate with the start is
that of the whole call of predict_files. Results of all ways are compared, byte by byte.
"""

from __future__ import annotations

import argparse
import contextlib
import shutil
import statistics
import tempfile
import time
from pathlib import Path
from typing import Any

from benchmarks.options import parser_of, save
from fcnkit.runtime import (
    BackendRequest,
    CoverRequest,
    RayWorkers,
    Segmenter,
    Workers,
    find_jobs,
    predict_files,
)
from fcnkit.runtime.backends.settings import usable_cores
from fcnkit.runtime.predict.opening import open_segmenter

WAYS = ("one", "processes", "ray")
Crew = Segmenter | Workers | RayWorkers


def opened(way: str, options: argparse.Namespace) -> Crew:
    cores = usable_cores()
    request = BackendRequest(backend=options.backend, threads=cores if way == "one" else 1)
    match way:
        case "one":
            return open_segmenter(options.model, request, CoverRequest())
        case "processes":
            return Workers(options.model, processes=cores, backend=request)
        case "ray":
            return RayWorkers(options.model, address="local", processes=cores, backend=request)
    raise SystemExit(f"a way is one of {', '.join(WAYS)}, got {way}")


def label(crew: Crew, pictures: list[Path], out: Path, batch: int) -> dict[str, float]:
    """Images per second: between the first and the last result, and of the whole call."""
    jobs = find_jobs(pictures, out)
    start = time.perf_counter()
    records = list(predict_files(crew, jobs, out, model_sha256="", batch=batch))
    seconds = time.perf_counter() - start
    assert {record.status for record in records} == {"done"}
    times = sorted(record.time_ns or 0 for record in records)
    between = (times[-1] - times[0]) / 1e9
    return {"between": (len(records) - 1) / between, "whole": len(records) / seconds}


def results(out: Path) -> dict[str, bytes]:
    return {path.name: path.read_bytes() for path in out.glob("*.png")}


def run(options: argparse.Namespace) -> dict[str, Any]:
    pictures = sorted(path for path in options.data.iterdir() if path.is_file())[: options.limit]
    ways = options.ways.split(",")
    rates: dict[str, list[dict[str, float]]] = {way: [] for way in ways}
    equal = dict.fromkeys(ways, True)
    with tempfile.TemporaryDirectory() as name, contextlib.ExitStack() as stack:
        crews = {way: stack.enter_context(opened(way, options)) for way in ways}
        for number in range(options.rounds + 1):
            first: dict[str, bytes] | None = None
            for way, crew in crews.items():
                out = Path(name) / "out"
                some = pictures if number else pictures[: 2 * options.batch]
                rate = label(crew, some, out, options.batch)
                found = results(out)
                first = found if first is None else first
                equal[way] &= found == first
                if number:  # the first round warms up
                    rates[way].append(rate)
                shutil.rmtree(out)
    return {
        "pictures": len(pictures),
        "batch": options.batch,
        "cores": usable_cores(),
        "rates": rates,
        "equal_to_the_first_way": equal,
    }


def median_of(found: dict[str, Any], way: str, kind: str) -> float:
    return statistics.median(rate[kind] for rate in found["rates"][way])


def show(found: dict[str, Any]) -> None:
    print(f"{found['pictures']} images, batches of {found['batch']}, {found['cores']} cores")
    for way in found["rates"]:
        line = f"{way:10} {median_of(found, way, 'between'):7.2f} images/s between first and last"
        line += f", {median_of(found, way, 'whole'):7.2f} of the whole call"
        print(f"{line}, results equal: {found['equal_to_the_first_way'][way]}")
    for way, peer in (("processes", "one"), ("ray", "processes")):
        if {way, peer} <= found["rates"].keys():
            pairs = zip(found["rates"][way], found["rates"][peer], strict=True)
            ratios = [(a["between"] / b["between"], a["whole"] / b["whole"]) for a, b in pairs]
            between, whole = (statistics.median(one) for one in zip(*ratios, strict=True))
            print(f"{way} / {peer}: {between:.3f} between first and last, {whole:.3f} whole")


def main() -> None:
    parser = parser_of(__doc__)
    parser.add_argument("--model", type=Path, required=True)
    parser.add_argument("--data", type=Path, required=True)
    parser.add_argument("--backend", default="auto")
    parser.add_argument("--batch", type=int, default=32)
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--limit", type=int, help="images; all by default")
    parser.add_argument("--ways", default=",".join(WAYS))
    options = parser.parse_args()
    found = run(options)
    show(found)
    save(found, options.json)


if __name__ == "__main__":
    main()
