"""What fcnkit adds to a backend, what a stream gains, and which backend is the fastest.

    python -m benchmarks.backends [CHECKPOINT] [--shape NxHxW]... [--threads N] [--rounds N]
                                  [--part overhead|stream|backends]... [--pictures FOLDER]
                                  [--json FILE]

Three questions, each answered by ways that take turns in one process; times are medians in
milliseconds, ratios medians over the rounds. CPU milliseconds are the process's own and hardly
depend on who else uses the machine.

    overhead   the library's own call on a prepared batch, Backend.infer, Segmenter (head labels);
               and the two of fcnkit alone, over a backend that answers at once
    stream     single calls against a stream of the same batches
    backends   every backend and precision that opens here, with the share of labels that agree
               with PyTorch's in float32

Without a checkpoint an untrained FCN-32s with ResNet-18 is measured: as fast as a trained one, but
its labels lie close together, so that agreement is told of real checkpoints only.
"""

from __future__ import annotations

import os
import statistics
import tempfile
import time
from collections.abc import Callable, Mapping
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import torch
from PIL import Image

import fcnkit
from benchmarks.options import parser_of, save
from benchmarks.timing import median_ratio
from fcnkit.errors import BackendUnavailableError
from fcnkit.export.to_onnx import export_onnx
from fcnkit.runtime import Segmenter, list_backends, open_backend
from fcnkit.runtime.artifacts.spec import Head, Shape, format_shape, parse_shape
from fcnkit.runtime.backends.base import CheckedBackend
from fcnkit.runtime.backends.settings import Compute
from fcnkit.train.checkpoint import Checkpoint, checkpoint_spec, save_checkpoint
from fcnkit.train.models import create_model
from fcnkit.train.recipe import RECIPES

CLASSES = 21
HEADS: tuple[Head, ...] = ("logits", "labels", "scene")
COMPUTES: tuple[Compute, ...] = ("auto", "bf16", "fp16")
STREAMED = 8
"""Batches in a round of a stream."""


def untrained(folder: Path) -> Path:
    torch.manual_seed(0)
    names = tuple(f"class{i}" for i in range(CLASSES))
    spec = checkpoint_spec("fcn32s-resnet18", names, ((0, 0, 0),) * CLASSES)
    net = create_model("fcn32s-resnet18", CLASSES).state_dict()
    recipe = RECIPES["modern"]
    save_checkpoint(
        folder / "best.pt",
        Checkpoint(spec=spec, model=net, resume=None, epoch=0, recipe=recipe, scores={}),
    )
    return folder / "best.pt"


def noise(backend: CheckedBackend, shape: Shape) -> np.ndarray:
    count, height, width = shape
    random = np.random.default_rng(0)
    if backend.spec.input.dtype == "float32":
        return random.standard_normal((count, 3, height, width), np.float32)
    return random.integers(0, 256, (count, height, width, 3), np.uint8)


def take_turns(tasks: Mapping[str, Callable[[], object]], rounds: int) -> dict[str, Any]:
    """Time every task once per round: wall and CPU milliseconds, medians and all of the walls."""
    walls: dict[str, list[float]] = {name: [] for name in tasks}
    cpus: dict[str, list[float]] = {name: [] for name in tasks}
    for number in range(-2, rounds):
        for name, task in tasks.items():
            wall, cpu = time.perf_counter(), time.process_time()
            task()
            if number >= 0:
                cpus[name].append(1000 * (time.process_time() - cpu))
                walls[name].append(1000 * (time.perf_counter() - wall))
    return {
        name: {
            "ms": statistics.median(walls[name]),
            "min_ms": min(walls[name]),
            "cpu_ms": statistics.median(cpus[name]),
            "walls": walls[name],
        }
        for name in tasks
    }


def bare_call(backend: CheckedBackend, path: Path, batch: np.ndarray, threads: int) -> Any:
    """The library's call as its own documentation has it, without fcnkit."""
    if backend.name == "onnxruntime":
        import onnxruntime

        options = onnxruntime.SessionOptions()
        options.intra_op_num_threads = threads
        session = onnxruntime.InferenceSession(path, options, providers=["CPUExecutionProvider"])
        name = backend.spec.input.name
        return lambda: session.run(None, {name: batch})
    import openvino

    core = openvino.Core()
    config = {"INFERENCE_NUM_THREADS": threads, "INFERENCE_PRECISION_HINT": "f32"}
    config |= {"PERFORMANCE_HINT": "LATENCY", "NUM_STREAMS": 1}
    request = core.compile_model(core.read_model(path), "CPU", config).create_infer_request()
    return lambda: request.infer({0: batch}, share_inputs=True)


class Instant(CheckedBackend):
    """Answers at once, so that what a call takes is what fcnkit adds to a library's."""

    def __init__(self, like: CheckedBackend, result: np.ndarray) -> None:
        super().__init__(like.spec, name="instant", info=like.info)
        self.result = result

    def _run(self, batch: np.ndarray) -> np.ndarray:
        del batch
        return self.result

    def _free(self) -> None:
        pass


def overhead(path: Path, shape: Shape, *, threads: int, rounds: int) -> dict[str, Any]:
    found = {}
    for name in ("onnxruntime", "openvino"):
        with open_backend(path, backend=name, threads=threads) as backend:
            segmenter = Segmenter(backend)
            batch = noise(backend, shape)
            image = batch[0]
            times = take_turns(
                {
                    "bare": bare_call(backend, path, batch, threads),
                    "infer": lambda backend=backend, batch=batch: backend.infer(batch),
                    "segmenter": lambda segmenter=segmenter, image=image: segmenter(image),
                },
                rounds,
            )
            instant = Instant(backend, backend.infer(batch))
            alone = Segmenter(instant)
            added = take_turns(
                {
                    "infer": lambda instant=instant, batch=batch: instant.infer(batch),
                    "segmenter": lambda alone=alone, image=image: alone(image),
                },
                10 * rounds,
            )
            for way in ("infer", "segmenter"):
                times[way]["added_ms"] = added[way]["ms"]
                times[way]["ratio"] = median_ratio(times[way]["walls"], times["bare"]["walls"])
            found[name] = times
    return found


def streams(path: Path, shape: Shape, *, threads: int, rounds: int) -> dict[str, Any]:
    found = {}
    for name in ("onnxruntime", "openvino"):
        with open_backend(path, backend=name, threads=threads) as backend:
            batch = noise(backend, shape)

            def calls(backend: CheckedBackend = backend, batch: np.ndarray = batch) -> None:
                for _ in range(STREAMED):
                    backend.infer(batch)

            def stream(backend: CheckedBackend = backend, batch: np.ndarray = batch) -> None:
                for _ in backend.stream([batch] * STREAMED):
                    pass

            times = take_turns({"calls": calls, "stream": stream}, rounds)
            times["gain"] = median_ratio(times["calls"]["walls"], times["stream"]["walls"])
            times["cpu_gain"] = times["calls"]["cpu_ms"] / times["stream"]["cpu_ms"]
            found[name] = times
    return found


def open_all(path: Path, threads: int) -> dict[str, CheckedBackend]:
    """Every backend of ONNX files and precision that opens here."""
    opened = {}
    names = [status.name for status in list_backends() if status.opens]
    for name in (name for name in names if name.startswith(("onnxruntime", "openvino"))):
        for compute in COMPUTES:
            try:
                backend = open_backend(path, backend=name, threads=threads, compute=compute)
            except BackendUnavailableError:
                continue
            opened[f"{name} {backend.info.precision}"] = backend
    return opened


def fastest(
    models: Mapping[Head, Path], shape: Shape, *, threads: int, rounds: int
) -> dict[str, Any]:
    found: dict[str, Any] = {}
    for head, path in models.items():
        backends = open_all(path, threads)
        one = (1, *shape[1:]) if head == "scene" else shape
        batches = {name: noise(backend, one) for name, backend in backends.items()}
        tasks = {
            name: lambda backend=backend, batch=batches[name]: backend.infer(batch)
            for name, backend in backends.items()
        }
        found[head] = take_turns(tasks, rounds)
        with open_backend(path, threads=threads) as chosen:
            found[head]["auto"] = chosen.info.chosen_because
        for backend in backends.values():
            backend.close()
    return found


def agreement(checkpoint: Path, model: Path, folder: Path, limit: int) -> dict[str, float]:
    """The share of pixels with PyTorch's label, with cover="average" (head logits)."""
    paths = sorted(p for p in folder.iterdir() if p.suffix.lower() in (".jpg", ".png"))[:limit]
    images = []
    for path in paths:
        with Image.open(path) as image:
            images.append(np.asarray(image.convert("RGB")))
    torched = Segmenter(open_backend(checkpoint, compute="fp32"), cover="average")
    wanted = np.concatenate([torched(image).ravel() for image in images])
    shares = {}
    backends = {**open_all(model, 2), "torch bf16": open_backend(checkpoint, compute="bf16")}
    for name, backend in backends.items():
        with Segmenter(backend, cover="average") as segmenter:
            got = np.concatenate([segmenter(image).ravel() for image in images])
        shares[name] = float((got == wanted).mean())
    return shares


def show(found: dict[str, Any]) -> None:
    for shape, parts in found["shapes"].items():
        print(f"{shape}, {found['threads']} threads")
        for name, times in parts.get("overhead", {}).items():
            bare = times["bare"]
            print(f"  {name:12} bare call {bare['ms']:8.2f} ms, {bare['cpu_ms']:8.2f} CPU ms")
            for way in ("infer", "segmenter"):
                extra = times[way]
                print(
                    f"  {name:12} {way:9} adds {extra['added_ms']:.3f} ms; "
                    f"whole call {extra['ratio']:.3f}x the bare one"
                )
        for name, times in parts.get("stream", {}).items():
            print(
                f"  {name:12} stream {times['gain']:.2f}x the rate of single calls, "
                f"{times['cpu_gain']:.2f}x by CPU time"
            )
        for head, times in parts.get("backends", {}).items():
            print(f"  {head}: {times['auto']}")
            for name, way in times.items():
                if name != "auto":
                    print(f"    {name:18} {way['ms']:8.2f} ms, {way['cpu_ms']:8.2f} CPU ms")
    for name, share in found.get("agreement", {}).items():
        print(f"{name:18} {100 * share:.4f} % of PyTorch's labels")


def main() -> None:
    parser = parser_of(__doc__)
    parser.add_argument("checkpoint", type=Path, nargs="?")
    parser.add_argument("--shape", action="append")
    parser.add_argument("--part", action="append", choices=("overhead", "stream", "backends"))
    parser.add_argument("--threads", type=int, default=os.cpu_count())
    parser.add_argument("--rounds", type=int, default=30)
    parser.add_argument("--pictures", type=Path, help="for the agreement of the labels")
    parser.add_argument("--limit", type=int, default=20, help="pictures")
    options = parser.parse_args()
    torch.set_num_threads(options.threads)
    found: dict[str, Any] = {"threads": options.threads, "rounds": options.rounds, "shapes": {}}
    found["fcnkit"], found["load_average"] = fcnkit.__version__, os.getloadavg()
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        checkpoint = options.checkpoint or untrained(folder)
        models: dict[Head, Path] = {head: folder / f"{head}.onnx" for head in HEADS}
        for head, path in models.items():
            export_onnx(checkpoint, path, head=head)
        effort = {"threads": options.threads, "rounds": options.rounds}
        for text in options.shape or ["1x320x480"]:
            shape = parse_shape(text, "--shape")
            ways: dict[str, Callable[[], dict[str, Any]]] = {
                "overhead": partial(overhead, models["labels"], shape, **effort),
                "stream": partial(streams, models["labels"], shape, **effort),
                "backends": partial(fastest, models, shape, **effort),
            }
            found["shapes"][format_shape(shape)] = {
                part: ways[part]() for part in options.part or ways
            }
        if options.pictures:
            found["agreement"] = agreement(
                checkpoint, models["logits"], options.pictures, options.limit
            )
    show(found)
    save(found, options.json)


if __name__ == "__main__":
    main()
