"""Folder prediction against the engine alone and against the d2l.ai chapter's own loop.

    python -m benchmarks.pipeline CHECKPOINT PICTURES [--backend NAME[:COMPUTE]]... [--limit N]
        [--rounds N]

Every way turns the same picture files into files of the same size with every core: decode, network,
argmax, colors, encode, write. "color" writes RGB PNGs as the d2l.ai chapter does, "labels" the
palette PNGs that are fcnkit's default. The engine alone runs the network on one prepared batch of
the padded size and does nothing else: what it reaches is the limit. The pictures are dealt into
rounds; in each round every way does the round's pictures in its turn, and a ratio is the median
over the rounds. The CPU time per picture, of all cores together, says what a way costs also where
others use the machine.

COMPUTE is the precision that the backend computes in, f32 unless given, or int8 for a file that is
calibrated on the pictures; the d2l.ai chapter computes in float32. At the end one call of a
segmenter is compared with the bare call of its backend.
"""

from __future__ import annotations

import argparse
import json
import os
import shutil
import statistics
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import torch
from PIL import Image

from benchmarks.export import plain_transposed
from benchmarks.timing import alternate, median_ratio
from fcnkit.export.to_onnx import export_onnx
from fcnkit.runtime import Backend, Cover, Segmenter, open_backend
from fcnkit.runtime.machine import LoadMeter
from fcnkit.runtime.pixels.tiling import plan_tiles
from fcnkit.runtime.predict.folder import Format, find_jobs, predict_files
from fcnkit.train.checkpoint import load_model
from fcnkit.train.models.fcn import FCN32s

Way = Callable[[list[Path], Path], None]


class Chapter:
    """The d2l.ai chapter's prediction: eager PyTorch, one picture at a time, colors through an
    index."""

    def __init__(self, checkpoint: Path, *, average: bool) -> None:
        net, loaded = load_model(checkpoint)
        assert isinstance(net, FCN32s)
        net.transpose_conv = plain_transposed(net.transpose_conv)  # type: ignore[assignment]
        self.net = net
        self.colors = torch.tensor(loaded.spec.palette)
        self.mean = torch.tensor(loaded.spec.input.mean)
        self.std = torch.tensor(loaded.spec.input.std)
        self.average = average

    def logits(self, image: torch.Tensor) -> torch.Tensor:
        """Of a normalized picture (3, H, W), cropped from the next multiples or averaged."""
        height, width = image.shape[1:]
        if not self.average:
            grown = torch.nn.functional.pad(image, (0, -width % 32, 0, -height % 32))
            return self.net(grown[None])[0, :, :height, :width]
        plan = plan_tiles(height, width)
        total = torch.zeros(len(self.colors), height, width)
        count = torch.zeros(height, width)
        for top, left in plan:
            window = np.s_[top : top + plan.tile_height, left : left + plan.tile_width]
            total[:, *window] += self.net(image[:, *window][None])[0]
            count[window] += 1
        return total / count

    @torch.no_grad()
    def __call__(self, pictures: list[Path], out: Path) -> None:
        for path in pictures:
            image = torch.from_numpy(np.array(Image.open(path).convert("RGB"))) / 255
            labels = self.logits(((image - self.mean) / self.std).permute(2, 0, 1)).argmax(0)
            colors = self.colors[labels.long(), :].to(torch.uint8).numpy()
            Image.fromarray(colors).save(out / f"{path.stem}.png")


class Fcnkit:
    """``fcnkit predict``."""

    def __init__(self, backend: Backend, format: Format) -> None:
        cover: Cover = "average" if backend.spec.head == "logits" else "pad"
        self.segmenter, self.format = Segmenter(backend, cover=cover), format

    def __call__(self, pictures: list[Path], out: Path) -> None:
        jobs = find_jobs(pictures, out)
        records = predict_files(self.segmenter, jobs, out, model_sha256="", format=self.format)
        assert all(record.status == "done" for record in records)


class EngineAlone:
    """The backend in a loop on one prepared batch, as predict_files would run it."""

    def __init__(self, backend: Backend, shape: tuple[int, ...]) -> None:
        self.backend = backend
        batch = np.random.default_rng(0).integers(0, 256, shape, np.uint8)
        logits = backend.spec.head == "logits"
        self.batch = (batch / 255).astype(np.float32) if logits else batch

    def __call__(self, pictures: list[Path], _: Path) -> None:
        for _outputs in self.backend.stream(self.batch for _picture in pictures):
            pass


def build_ways(options: argparse.Namespace, folder: Path, size: tuple[int, int]) -> dict[str, Way]:
    models = {head: folder / f"{head}.onnx" for head in ("labels", "logits")}
    for head, path in models.items():
        export_onnx(options.checkpoint, path, head=head)  # type: ignore[arg-type]
    ways: dict[str, Way] = {
        "chapter pad": Chapter(options.checkpoint, average=False),
        "chapter average": Chapter(options.checkpoint, average=True),
    }
    height, width = (-(-side // 32) * 32 for side in size)
    plan = plan_tiles(*size)
    default = ["onnxruntime", "openvino", "openvino:bf16", "openvino:int8"]
    for choice in options.backend or default:
        name, _, compute = choice.partition(":")
        kind = f"{name} {compute or 'f32'}"
        if compute == "int8" and not (folder / "int8-labels.onnx").exists():
            for head in models:
                export_onnx(
                    options.checkpoint,
                    folder / f"int8-{head}.onnx",
                    head=head,  # type: ignore[arg-type]
                    precision="int8",
                    calibration=options.pictures,
                    activations="int8",  # of the two, OpenVINO is faster with these
                )

        def opened(head: str, name: str = name, compute: str = compute) -> Backend:
            # One for each way: a backend that takes turns must not wait for another's memory.
            int8 = compute == "int8"
            return open_backend(
                folder / f"int8-{head}.onnx" if int8 else models[head],
                backend=name,
                threads=options.threads,
                compute="auto" if int8 else compute or "f32",  # type: ignore[arg-type]
            )

        labels, logits = opened("labels"), opened("logits")
        ways[f"{kind} alone pad"] = EngineAlone(labels, (1, height, width, 3))
        ways[f"{kind} fcnkit pad labels"] = Fcnkit(labels, "labels")
        ways[f"{kind} fcnkit pad color"] = Fcnkit(labels, "color")
        ways[f"{kind} alone average"] = EngineAlone(logits, (len(plan), 3, *plan.tile))
        ways[f"{kind} fcnkit average color"] = Fcnkit(logits, "color")
    return ways


def call_overhead(way: Fcnkit, size: tuple[int, int], rounds: int) -> dict[str, float]:
    """Milliseconds of one call, of the bare backend call inside it, and the median difference."""
    segmenter = way.segmenter
    image_hwc = np.random.default_rng(1).integers(0, 256, (*size, 3), np.uint8)
    height, width = (-(-side // 32) * 32 for side in size)
    batch = np.zeros((1, height, width, 3), np.uint8)
    seconds = alternate(
        {
            "bare": lambda: segmenter.backend.infer(batch),
            "call": lambda: segmenter(image_hwc),
        },
        rounds=rounds,
    )
    pairs = zip(seconds["call"], seconds["bare"], strict=True)
    return {
        "bare": 1000 * statistics.median(seconds["bare"]),
        "call": 1000 * statistics.median(seconds["call"]),
        "difference": 1000 * statistics.median(call - bare for call, bare in pairs),
        "ratio": median_ratio(seconds["call"], seconds["bare"]),
    }


def run(options: argparse.Namespace) -> dict[str, Any]:
    pictures = sorted(options.pictures.glob("*.jpg"))[: options.limit]
    with Image.open(pictures[0]) as first:
        size = (first.height, first.width)
    rates: dict[str, list[float]] = {}
    cpu: dict[str, list[float]] = {}
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        ways = build_ways(options, folder, size)
        meter = LoadMeter()
        for number in range(-1, options.rounds):  # the first round warms up
            part = pictures[number :: options.rounds] if number >= 0 else pictures[:8]
            for way, work in ways.items():
                out = folder / "out"
                out.mkdir()
                start, begun = time.perf_counter(), time.process_time()
                work(part, out)
                seconds, busy = time.perf_counter() - start, time.process_time() - begun
                if number >= 0:
                    rates.setdefault(way, []).append(len(part) / seconds)
                    cpu.setdefault(way, []).append(1000 * busy / len(part))
                shutil.rmtree(out)
        others = meter.stop().other_cores
        overhead = {
            way.removesuffix(" fcnkit pad labels"): call_overhead(work, (320, 480), options.calls)
            for way, work in ways.items()
            if isinstance(work, Fcnkit) and way.endswith("pad labels")
        }
    return {
        "pictures": len(pictures),
        "threads": options.threads,
        "other_cores": others,
        "images_per_second": rates,
        "cpu_milliseconds_per_image": cpu,
        "call_at_320x480": overhead,
    }


def show(found: dict[str, Any]) -> None:
    rates: dict[str, list[float]] = found["images_per_second"]
    others = found["other_cores"]
    said = "" if others is None else f"; other programs used {others:.2f} cores meanwhile"
    print(f"{found['pictures']} pictures, {found['threads']} threads{said}")

    def ratio(way: str, peer: str) -> float:
        return statistics.median(a / b for a, b in zip(rates[way], rates[peer], strict=True))

    for way, measured in rates.items():
        cover = "average" if "average" in way else "pad"
        busy = statistics.median(found["cpu_milliseconds_per_image"][way])
        line = f"{way:38} {statistics.median(measured):7.1f} images/s {busy:7.1f} CPU ms"
        if not way.startswith("chapter"):
            line += f"  {ratio(way, f'chapter {cover}'):5.2f}x chapter {cover}"
        if "fcnkit" in way:
            alone = f"{way.split(' fcnkit')[0]} alone {cover}"
            line += f"  {100 * ratio(way, alone):5.1f} % of the engine alone"
        print(line)
    for way, call in found["call_at_320x480"].items():
        print(
            f"one call at 320x480, {way}: {call['call']:.2f} ms, bare {call['bare']:.2f} ms, "
            f"{call['difference']:+.2f} ms, {100 * call['ratio'] - 100:+.1f} %"
        )


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("checkpoint", type=Path)
    parser.add_argument("pictures", type=Path)
    parser.add_argument("--backend", action="append")
    parser.add_argument("--threads", type=int, default=os.cpu_count())
    parser.add_argument("--limit", type=int, help="pictures; all by default")
    parser.add_argument("--rounds", type=int, default=4)
    parser.add_argument("--calls", type=int, default=30)
    parser.add_argument("--json", type=Path)
    options = parser.parse_args()
    torch.set_num_threads(options.threads)
    found = run(options)
    show(found)
    if options.json:
        options.json.write_text(json.dumps(found, indent=2))


if __name__ == "__main__":
    main()
