"""Every table and plot of docs/benchmarks.md, measured again and written into the page.

    python -m benchmarks.figures CHECKPOINT PICTURES [--work DIR] [--quick]

Takes about twelve minutes on two cores; the machine should be doing nothing else, and the tables
say if it was. Raw reports stay in DIR; plots go to docs/benchmarks/. A part of the page between
``<!-- NAME -->`` and ``<!-- end -->`` is replaced, the words around it are left alone.
"""

from __future__ import annotations

import argparse
import json
import shutil
import subprocess
import sys
import tempfile
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from benchmarks.markdown import put_between, table
from fcnkit.export.to_onnx import export_onnx

ROOT = Path(__file__).resolve().parents[1]
PAGE = ROOT / "docs" / "benchmarks.md"
PLOTS = ROOT / "docs" / "benchmarks"
BACKENDS = ("onnxruntime", "openvino:fp32", "openvino:bf16")


class Work:
    """The folder with models and reports, and how much to measure."""

    def __init__(self, options: argparse.Namespace, folder: Path) -> None:
        self.folder = folder
        self.checkpoint: Path = options.checkpoint.resolve()
        self.pictures: Path = options.pictures.resolve()
        self.quick: bool = options.quick
        self.model = folder / "labels.onnx"
        export_onnx(self.checkpoint, self.model, head="labels")

    def run(self, *words: object) -> None:
        """Run a command of the page, which must succeed."""
        command = [sys.executable, *map(str, words)]
        done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=False)
        if done.returncode:
            raise RuntimeError(f"{' '.join(command)}: {done.stdout[-2000:]} {done.stderr[-2000:]}")

    def fcnkit(self, *words: object) -> None:
        self.run("-c", "from fcnkit.cli import main; main()", *words)

    def report(self, name: str) -> dict[str, Any]:
        found: dict[str, Any] = json.loads((self.folder / name).read_text(encoding="utf-8"))
        return found

    def keep(self, report: str, plots: Sequence[str]) -> None:
        """Copy plots of a report beside the page."""
        PLOTS.mkdir(exist_ok=True)
        for plot in plots:
            shutil.copy(self.folder / report / f"{plot}.png", PLOTS / f"{plot}.png")


def warnings_of(rows: Sequence[tuple[str, Sequence[str]]]) -> str:
    """What the stability checks said, or that they said nothing."""
    found = [f"- {name}: {line}" for name, lines in rows for line in lines]
    if not found:
        return "\nNo stability check gave a warning."
    return "\n".join(["\nThe stability checks warned:\n", *dict.fromkeys(found)])


def name_of(case: dict[str, Any]) -> str:
    return f"{case['backend']} {case['details']['compute']}"


def machine(work: Work) -> str:
    report = work.report("latency/report.json")
    found = report["environment"]
    cpu = found["cpu"]
    packages = ("numpy", "pillow", "onnxruntime", "openvino", "torch", "monai")
    versions = ", ".join(f"{name} {found['packages'].get(name, 'none')}" for name in packages)
    gpus = ", ".join(gpu["name"] for gpu in found["gpus"] or ()) or "none"
    rehearsal = "**A rehearsal on a busy machine: these figures mean nothing.** "
    return (
        f"{rehearsal if work.quick else ''}Measured {report['created'][:10]} on {cpu['model']}, "
        f"{cpu['usable_cores']} cores, {', '.join(cpu['instruction_sets'])}; kernels "
        f"{found['kernels']}; GPU: {gpus}; Python {found['python']}, {versions}."
    )


def latency(work: Work) -> str:
    picture = sorted(work.pictures.glob("*.jpg"))[0]
    backends = [word for name in BACKENDS for word in ("--backend", name)]
    out = work.folder / "latency"
    count = ("--runs", 20, "--warmup", 1) if work.quick else ("--runs", 300)
    shape = ("--shape", "320x480", "--threads", 2, "--picture", picture)
    work.fcnkit("bench", "latency", work.model, *backends, *shape, *count, "-o", out)
    report = work.report("latency/report.json")
    work.keep("latency", ("distribution", "stages", "over-time"))
    head = ("backend", "stage", "mean", "p50", "p90", "p95", "p99", "p99.9", "max", "CV")
    names = ("mean", "p50", "p90", "p95", "p99", "p99_9", "max")
    rows = []
    for case in report["cases"]:
        for stage in case["stages"]:
            held, words = stage["summary"], stage["name"].replace("_", " ")
            cells = [f"{held[f'{name}_ms']:.2f}" for name in names] if held else ["missing"] * 7
            rows.append((name_of(case), words, *cells, f"{held['cv']:.3f}" if held else ""))
    firsts = [
        (
            name_of(case),
            "in use" if first["import_ms"] is None else f"{first['import_ms']:.0f}",
            f"{first['open_ms']:.0f}",
            f"{first['infer_ms']:.0f}",
            f"{case['memory_mb']['host_peak']:.0f}",
        )
        for case in report["cases"]
        for first in [case["first_call"]]
    ]
    cold = ("backend", "import ms", "open ms", "first inference ms", "peak memory MiB")
    said = [
        (f"{name_of(case)}, {loop}", held["warnings"])
        for case in report["cases"]
        for loop, held in case["stability"].items()
    ]
    return "\n\n".join([table(head, rows), table(cold, firsts)]) + "\n" + warnings_of(said)


def sweep(work: Work) -> str:
    out = work.folder / "sweep"
    seconds = ("--runs", 2, "--warmup", 1) if work.quick else ("--duration", 2.5)
    work.fcnkit(
        *("bench", "latency", work.model, "--threads", 2, *seconds, "-o", out),
        *(word for name in BACKENDS for word in ("--backend", name)),
        *("--shape", "160x240", "--shape", "320x480", "--shape", "640x960"),
        *("--batch", 1, "--batch", 4),
    )
    work.keep("sweep", ("throughput-batch", "throughput-shape"))
    rows = [
        (
            name_of(case),
            case["shape"],
            f"{case['images_per_second']['infer']:.1f}",
            f"{case['images_per_second']['end_to_end']:.1f}",
            f"{case['stability']['pipeline']['cv']:.3f}",
        )
        for case in work.report("sweep/report.json")["cases"]
    ]
    return table(("backend", "NxHxW", "backend alone, images/s", "files to files", "CV"), rows)


def comparison(work: Work) -> str:
    """The same twice: what the intervals say of no difference."""
    for name in ("again-a", "again-b"):
        count = ("--runs", 20, "--warmup", 1) if work.quick else ("--runs", 200)
        options = ("--backend", "openvino:fp32", "--shape", "320x480", "--threads", 2, "--no-plots")
        work.fcnkit("bench", "latency", work.model, *options, *count, "-o", work.folder / name)
    from fcnkit.runtime.bench.compare import compare_reports
    from fcnkit.runtime.bench.report import read_report

    a, b = (read_report(work.folder / name / "report.json") for name in ("again-a", "again-b"))
    found = compare_reports(a, b).rows
    rows = [
        (
            row.stage.replace("_", " "),
            f"{row.a.estimate:.3f} ({row.a.low:.3f} to {row.a.high:.3f})",
            f"{row.b.estimate:.3f} ({row.b.low:.3f} to {row.b.high:.3f})",
            f"{row.ratio.estimate:.3f} ({row.ratio.low:.3f} to {row.ratio.high:.3f})",
        )
        for row in found
    ]
    return table(("stage", "A, median ms (95 %)", "B", "B/A"), rows)


def engine(work: Work) -> str:
    path = work.folder / "engine.json"
    rounds = ("--rounds", 1 if work.quick else 7, "--seconds", 1 if work.quick else 2)
    computes = ("--compute", "fp32", "--compute", "bf16")
    work.run("-m", "benchmarks.bare_engine", work.model, *rounds, *computes, "--json", path)
    rows = [
        (
            row["compute"],
            row["shape"],
            str(row["threads"]),
            f"{row['ours_median_ms']:.2f}",
            f"{row['benchmark_app_median_ms']:.2f}",
            f"{row['ratio']:.3f}",
        )
        for row in json.loads(path.read_text(encoding="utf-8"))
    ]
    head = ("compute", "NxHxW", "threads", "fcnkit infer, ms", "benchmark_app, ms", "median ratio")
    return table(head, rows)


def throughput(work: Work) -> str:
    out = work.folder / "throughput"
    small = ("--limit", 4, "--rounds", 1, "--duration", 1)
    full = ("--limit", 100, "--rounds", 3, "--duration", 15)
    work.fcnkit(
        *("bench", "throughput", work.model, work.pictures, "-o", out),
        *("--backend", "openvino:fp32", "--backend", "openvino:bf16"),
        *("--streams", 1, "--streams", 2, *(small if work.quick else full)),
        *("--load", "40%", "--load", "70%", "--load", "90%"),
    )
    work.keep("throughput", ("throughput", "load"))
    report = work.report("throughput/report.json")
    runs = [
        (run["title"], str(run["pictures"]), f"{run['images_per_second']:.1f}")
        for run in report["runs"]
    ]
    names = ("p50", "p95", "p99", "p99_9", "max")
    loads = [
        (
            row["title"],
            f"{row['rate']:.1f}",
            str(row["requests"]),
            f"{100 * row['busy']:.0f} %",
            *(f"{row['latency'][f'{name}_ms']:.0f}" for name in names),
            "yes" if row["keeps_up"] else "no",
        )
        for row in report["loads"]
    ]
    head = ("way", "requests/s", "requests", "busy", "p50 ms", "p95", "p99", "p99.9", "max")
    said = [(row["title"], row["warnings"]) for row in (*report["runs"], *report["loads"])]
    return (
        table(("way", "pictures", "images/s"), runs)
        + "\n\n"
        + table((*head, "keeps up"), loads)
        + "\n"
        + warnings_of(said)
    )


def peers(work: Work) -> str:
    from benchmarks.peers import tables

    path = work.folder / "peers.json"
    size = ("--limit", 2, "--rounds", 1) if work.quick else ("--limit", 32, "--rounds", 3)
    models: list[object] = ["--json", path]
    for activations in ("uint8", "int8"):  # ONNX Runtime is fast with the first, OpenVINO with both
        file = work.folder / f"int8-{activations}.onnx"
        options = ("--precision", "int8", "--calibration", work.pictures)
        export = ("export", "onnx", work.checkpoint, "-o", file, *options)
        work.fcnkit(*export, "--activations", activations)
        models += ["--model", file]
    work.run("-m", "benchmarks.peers", work.checkpoint, work.pictures, *size, *models)
    found = json.loads(path.read_text(encoding="utf-8"))
    others = found["other_cores"]
    said = "not known" if others is None else f"{others:.2f}"
    return (
        f"{found['pictures']} pictures of {found['size']}, {found['rounds']} rounds, network "
        f"{found['network']}; other programs used {said} cores meanwhile.\n\n{tables(found)}"
    )


PARTS = {
    "latency": latency,
    "machine": machine,
    "sweep": sweep,
    "comparison": comparison,
    "engine": engine,
    "throughput": throughput,
    "peers": peers,
}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("checkpoint", type=Path)
    parser.add_argument("pictures", type=Path)
    parser.add_argument("--work", type=Path, help="keep models and reports here")
    parser.add_argument("--quick", action="store_true", help="a rehearsal: figures mean nothing")
    parser.add_argument("--only", action="append", choices=list(PARTS))
    options = parser.parse_args()
    with tempfile.TemporaryDirectory() as name:
        folder = options.work or Path(name)
        folder.mkdir(parents=True, exist_ok=True)
        work = Work(options, folder.resolve())
        for part in options.only or PARTS:
            start = time.monotonic()
            text = PARTS[part](work)
            put_between(PAGE, f"<!-- {part} -->", "<!-- end -->", text)
            print(f"{part}: {time.monotonic() - start:.0f} s", flush=True)


if __name__ == "__main__":
    main()
