"""The same trained network, pictures and cores through fcnkit and through everybody else.

    python -m benchmarks.peers SOURCE PICTURES [--limit 32] [--rounds 3] [--json FILE]

SOURCE is a checkpoint of any network of fcnkit, ``package.module:factory`` for a module from
elsewhere, which fcnkit adopts, or an ONNX file that gives scores. Without a module there are no
rows of PyTorch.

Every way does the whole task, picture files to label PNGs, in one process that is pinned to
THREADS cores; libraries are told to use that many threads. The ways take turns, folder by folder,
and what they compile they compile in a first round that does not count. The labels are compared
with those of the first way of their cover, such as the d2l.ai chapter's loop.

    a  the d2l.ai chapter's loop: eager PyTorch, NCHW
    b  PyTorch with channels_last, eager and compiled
    c  ONNX Runtime as a tutorial's script uses it
    d  OpenVINO's Python API as its documentation writes it, in its own precision and in float32
    e  MONAI's sliding-window inference over PyTorch, which averages two tiles
    f  benchmark_app: the bare engine without the rest of the task, as the limit
    g  on a GPU: PyTorch with a CUDA graph, and ONNX Runtime with CUDA
"""

from __future__ import annotations

import argparse
import os
import shutil
import statistics
import tempfile
import time
from collections.abc import Callable
from dataclasses import dataclass, field, replace
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import torch
from PIL import Image

from benchmarks import peers_ways as ways
from benchmarks.bare_engine import benchmark_app
from benchmarks.options import parser_of, save
from benchmarks.peers_subject import Subject, add_options, open_subject
from benchmarks.peers_ways import Network, Way
from benchmarks.timing import median_ratio
from fcnkit.runtime import Backend, Cover, Segmenter, open_backend
from fcnkit.runtime.artifacts.precisions import full_name
from fcnkit.runtime.machine import LoadMeter

MISSING: dict[str, str] = {}
"""Rows that could not be run here, and why."""


@dataclass
class Timed:
    """A way and what became of its rounds."""

    way: Way
    seconds: list[float] = field(default_factory=list)
    cpu_seconds: list[float] = field(default_factory=list)
    labels: list[np.ndarray[Any, Any]] = field(default_factory=list)


def build_peers(options: argparse.Namespace, subject: Subject, size: tuple[int, int]) -> list[Way]:
    """Set up (a) to (e) and (g); what is not requested is not built."""
    plain = subject.plain
    threads, provider = options.threads, "CPUExecutionProvider"
    default = ways.openvino_default(plain)
    # Each has its own network, because they change its memory format.
    made: list[tuple[str, str, str, str, str, Callable[[Network], ways.Work]]] = [
        ("a", "d2l.ai chapter's loop", "torch", "fp32", "pad", ways.chapter),
        ("b", "PyTorch eager, channels_last", "torch", "fp32", "pad", ways.pytorch),
        ("b", "torch.compile, channels_last", "torch", "fp32", "pad", ways.pytorch_compiled),
        ("c", "ONNX Runtime script", "onnxruntime", "fp32", "pad",
         lambda net: ways.onnxruntime_script(net, plain, threads, provider, {})),
        ("d", "OpenVINO script", "openvino", default, "pad",
         lambda net: ways.openvino_script(net, plain, threads, None)),
        ("d", "OpenVINO script, told fp32", "openvino", "fp32", "pad",
         lambda net: ways.openvino_script(net, plain, threads, "f32")),
        ("e", "MONAI sliding window", "torch", "fp32", "average",
         ways.monai),
    ]  # fmt: skip
    made += on_gpu(plain, threads, size)
    lacking = {}
    if not ways.installed("monai"):
        lacking["e"] = "monai is not installed"
    if not torch.cuda.is_available():
        lacking["g"] = "no GPU"
    if default == "fp32":
        made = [row for row in made if row[1] != "OpenVINO script, told fp32"]
    rows = []
    for group, name, engine, compute, cover, build in made:
        if options.only and group not in options.only:
            continue
        if group in lacking:
            MISSING[f"{group}, {name}"] = lacking[group]
            continue
        script = "script" in name  # these run the ONNX file
        if subject.make is None and not script:
            MISSING[f"{group}, {name}"] = "an ONNX file has no module"
            continue
        module = None if subject.make is None or script else subject.make()
        work = build(Network(module, subject.spec))
        rows.append(
            Way(group=group, name=name, engine=engine, compute=compute, cover=cover, work=work)
        )
    MISSING["g, TensorRT"] = "its Python script wants a GPU and full TensorRT, and is not written"
    return rows


def on_gpu(
    plain: Path, threads: int, size: tuple[int, int]
) -> list[tuple[str, str, str, str, str, Callable[[Network], ways.Work]]]:
    """Rows (g), in float32 and in TensorFloat-32, which both libraries take by default."""
    provider, rows = "CUDAExecutionProvider", []
    for compute, tf32 in (("fp32", False), ("tf32", True)):
        graph = partial(ways.pytorch_cuda_graph, size=size, tf32=tf32)
        options = {"use_tf32": str(int(tf32))}
        script = partial(
            ways.onnxruntime_script,
            model=plain,
            threads=threads,
            provider=provider,
            options=options,
        )
        rows.append(("g", "PyTorch, CUDA graph", "cuda", compute, "pad", graph))
        rows.append(("g", "ONNX Runtime script, CUDA", "cuda", compute, "pad", script))
    return rows


def build_ours(options: argparse.Namespace, subject: Subject) -> list[Way]:
    threads = options.threads
    rows = []
    for cover, model in subject.models.items():
        opened: list[Backend] = []
        if subject.checkpoint is not None:
            opened.append(open_backend(subject.checkpoint, options={"device": "cpu"}))
        opened.append(open_backend(model, backend="onnxruntime", threads=threads))
        precisions = options.compute or ["fp32", "bf16"]
        opened += [
            open_backend(model, backend="openvino", threads=threads, compute=one)
            for one in precisions
        ]
        rows += [our_way(backend, cover) for backend in opened]
    for path in options.model or ():
        for backend in (
            open_backend(path, backend="onnxruntime", threads=threads),
            open_backend(path, backend="openvino", threads=threads),
        ):
            way = our_way(backend, "pad")
            rows.append(replace(way, name=f"{way.name}, {path.stem}"))
    return rows


def our_way(backend: Backend, cover: Cover) -> Way:
    segmenter = Segmenter(backend, cover=cover)
    compute = backend.info.precision
    if backend.spec.precision != "fp32":
        compute = f"{backend.spec.precision} file, {compute}"
    return Way(
        group="fcnkit",
        name=f"fcnkit {backend.name}",
        engine=backend.name,
        compute=compute,
        cover=segmenter.cover,
        work=ways.fcnkit_predict(segmenter),
    )


def read_labels(folder: Path, pictures: list[Path]) -> list[np.ndarray[Any, Any]]:
    found = []
    for path in pictures:
        with Image.open(folder / f"{path.stem}.png") as picture:
            assert picture.mode == "P", picture.mode
            found.append(np.asarray(picture))
    return found


def time_all(rows: list[Way], pictures: list[Path], rounds: int, folder: Path) -> list[Timed]:
    """Let the ways take turns."""
    timed = [Timed(way) for way in rows]
    for number in range(-1, rounds):  # the first round compiles, warms up and is compared
        for one in timed:
            out = folder / "out"
            out.mkdir()
            start, used = time.perf_counter(), time.process_time()
            one.way.work(pictures, out)
            if number >= 0:
                one.seconds.append(time.perf_counter() - start)
                one.cpu_seconds.append(time.process_time() - used)
            else:
                one.labels = read_labels(out, pictures)
            shutil.rmtree(out)
    return timed


def agreement(one: list[np.ndarray[Any, Any]], other: list[np.ndarray[Any, Any]]) -> float:
    same = sum(int((a == b).sum()) for a, b in zip(one, other, strict=True))
    return same / sum(a.size for a in one)


def run(options: argparse.Namespace) -> dict[str, Any]:
    pictures = sorted(options.pictures.glob("*.jpg"))[: options.limit]
    with Image.open(pictures[0]) as first:
        size = (first.height, first.width)
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        subject = open_subject(options.source, folder, classes=options.classes)
        rows = [*build_peers(options, subject, size), *build_ours(options, subject)]
        meter = LoadMeter()
        timed = time_all(rows, pictures, options.rounds, folder)
        others = meter.stop().other_cores
        limits = [] if options.no_limit else bare_engines(options, subject, size)
    return {
        "pictures": len(pictures),
        "size": f"{size[0]}x{size[1]}",
        "threads": options.threads,
        "rounds": options.rounds,
        "network": subject.name,
        "other_cores": others,
        "missing": MISSING,
        "rows": [row_of(one, timed, len(pictures)) for one in timed],
        "limits": limits,
        "verdicts": verdicts(timed),
    }


def row_of(one: Timed, timed: list[Timed], pictures: int) -> dict[str, Any]:
    way = one.way
    reference = next(other for other in timed if other.way.cover == way.cover)
    return {
        "group": way.group,
        "name": way.name,
        "engine": way.engine,
        "compute": way.compute,
        "cover": way.cover,
        "seconds": one.seconds,
        "images_per_second": pictures / statistics.median(one.seconds),
        "cpu_ms": 1000 * statistics.median(one.cpu_seconds) / pictures,
        "times_first": median_ratio(timed[0].seconds, one.seconds),
        "label_agreement": agreement(one.labels, reference.labels),
    }


def bare_engines(
    options: argparse.Namespace, subject: Subject, size: tuple[int, int]
) -> list[dict[str, Any]]:
    multiple = subject.spec.input.multiple
    height, width = (-(-side // multiple) * multiple for side in size)
    found = []
    for compute in options.compute or ["fp32", "bf16"]:
        model = subject.models.get("pad", subject.models["average"])
        shape = (1, height, width)
        threads = options.threads
        _, rate = benchmark_app(model, shape, threads=threads, compute=compute, seconds=4)
        found.append({"compute": compute, "shape": f"1x{height}x{width}", "per_second": rate})
    return found


def verdicts(timed: list[Timed]) -> list[dict[str, Any]]:
    """Compare with each peer on the same engine, then our fastest way with the fastest peers."""
    ours = [one for one in timed if one.way.group == "fcnkit"]
    peers = [one for one in timed if one.way.group in "abcde"]
    found: list[dict[str, Any]] = []
    for peer in peers:
        kind = (peer.way.engine, peer.way.compute, peer.way.cover)
        alike = [o for o in ours if (o.way.engine, o.way.compute, o.way.cover) == kind]
        case = f"({peer.way.group}) {peer.way.name}: same engine, precision and cover"
        ratio = median_ratio(peer.seconds, alike[0].seconds) if alike else None
        found.append({"case": case, "ratio": ratio})
    whole = [one for one in ours if "file" not in one.way.compute]
    for kind in (whole, ours) if len(ours) > len(whole) else (whole,):  # int8 files by themselves
        best = min(kind, key=lambda one: statistics.median(one.seconds))
        name = f"{best.way.name} {best.way.compute}"
        for group, words in (("a", "(a)"), ("bcde", "the best of (b)-(e)")):
            held = [peer for peer in peers if peer.way.group in group]
            if held:
                quickest = min(held, key=lambda one: statistics.median(one.seconds))
                case = f"{name} over {words}, {quickest.way.name}"
                ratio = median_ratio(quickest.seconds, best.seconds)
                found.append({"case": case, "ratio": ratio})
    return found


def tables(found: dict[str, Any]) -> str:
    """The result as Markdown."""
    first = found["rows"][0]["group"]
    head = ("", "way", "engine", "compute", "threads", "cover", "images/s", f"times ({first})",
            "CPU ms per picture", "same labels")  # fmt: skip
    lines = [f"| {' | '.join(head)} |", "|---" * len(head) + "|"]
    threads = str(found["threads"])
    for row in found["rows"]:
        figures = (f"{row['images_per_second']:.1f}", f"{row['times_first']:.2f}",
                   f"{row['cpu_ms']:.0f}", f"{100 * row['label_agreement']:.3f} %")  # fmt: skip
        about = (row["group"], row["name"], row["engine"], row["compute"], threads, row["cover"])
        lines.append(f"| {' | '.join((*about, *figures))} |")
    for limit in found["limits"]:
        name, rate = f"benchmark_app, {limit['shape']}, engine alone", limit["per_second"]
        cells = ("f", name, "openvino", limit["compute"], threads, "", f"{rate:.1f}", "", "", "")
        lines.append(f"| {' | '.join(cells)} |")
    lines += ["", *(f"Missing: ({name}): {why}." for name, why in found["missing"].items()), ""]
    lines += ["| fcnkit against | ratio |", "|---|---|"]
    for verdict in found["verdicts"]:
        ratio = verdict["ratio"]
        came = "no such row" if ratio is None else f"{ratio:.2f}x"
        lines.append(f"| {verdict['case']} | {came} |")
    return "\n".join(lines)


def main() -> None:
    parser = parser_of(__doc__)
    add_options(parser)
    parser.add_argument("pictures", type=Path)
    parser.add_argument("--threads", type=int, default=2)
    words = "of OpenVINO; fp32 and bf16 by default"
    parser.add_argument("--compute", action="append", type=full_name, help=words)
    parser.add_argument("--model", type=Path, action="append", help="another export of it, as int8")
    parser.add_argument("--limit", type=int, default=32)
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--no-limit", action="store_true", help="leave benchmark_app out")
    parser.add_argument(
        "--only", action="append", metavar="LETTER", help="leave the other peers out"
    )
    options = parser.parse_args()
    if hasattr(os, "sched_setaffinity"):
        os.sched_setaffinity(0, sorted(os.sched_getaffinity(0))[: options.threads])
    torch.set_num_threads(options.threads)
    found = run(options)
    print(tables(found))
    save(found, options.json)


if __name__ == "__main__":
    main()
