"""Folder prediction against the engine alone and against the d2l.ai chapter's own loop.

    python -m benchmarks.pipeline CHECKPOINT PICTURES [--backend NAME]... [--limit N] [--json FILE]

Every way turns the same picture files into colour PNGs of the same size with both cores: decode,
network, argmax, colours, encode, write. The engine alone runs the network on one prepared batch and
does nothing else: what it reaches is the limit. The ways take turns, picture set by picture set.
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
from fcnkit.export.to_onnx import export_onnx
from fcnkit.runtime import Segmenter, open_backend
from fcnkit.runtime.folder import find_jobs, predict_files
from fcnkit.runtime.tiling import plan_tiles
from fcnkit.train.checkpoint import load_model
from fcnkit.train.models.fcn import FCN32s

Way = Callable[[list[Path], Path], None]


class Chapter:
    """The chapter's prediction: eager PyTorch, one picture at a time, colours through an index."""

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
        """Of a normalised picture (3, H, W), cropped from the next multiples or averaged."""
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
    """``fcnkit predict --format color``."""

    def __init__(self, model: Path, backend: str, threads: int) -> None:
        self.segmenter = Segmenter(open_backend(model, backend=backend, threads=threads))

    def __call__(self, pictures: list[Path], out: Path) -> None:
        jobs = find_jobs(pictures, out)
        records = predict_files(self.segmenter, jobs, out, model_sha256="", format="color")
        assert all(record.status == "done" for record in records)


class EngineAlone:
    """The backend in a loop on one prepared batch of the pictures' padded size."""

    def __init__(self, model: Path, backend: str, threads: int, size: tuple[int, int]) -> None:
        self.backend = open_backend(model, backend=backend, threads=threads)
        height, width = (-(-side // 32) * 32 for side in size)
        self.batch = np.random.default_rng(0).integers(0, 256, (1, height, width, 3), np.uint8)

    def __call__(self, pictures: list[Path], _: Path) -> None:
        for _picture in pictures:
            self.backend.infer(self.batch)


def build_ways(options: argparse.Namespace, folder: Path, size: tuple[int, int]) -> dict[str, Way]:
    models = {head: folder / f"{head}.onnx" for head in ("labels", "logits")}
    for head, path in models.items():
        export_onnx(options.checkpoint, path, head=head)  # type: ignore[arg-type]
    ways: dict[str, Way] = {
        "chapter pad": Chapter(options.checkpoint, average=False),
        "chapter average": Chapter(options.checkpoint, average=True),
    }
    threads = options.threads
    for backend in options.backend or ["onnxruntime", "openvino"]:
        ways[f"{backend} alone"] = EngineAlone(models["labels"], backend, threads, size)
        ways[f"fcnkit {backend} labels"] = Fcnkit(models["labels"], backend, threads)
        ways[f"fcnkit {backend} average"] = Fcnkit(models["logits"], backend, threads)
    return ways


def run(options: argparse.Namespace) -> dict[str, Any]:
    pictures = sorted(options.pictures.glob("*.jpg"))[: options.limit]
    with Image.open(pictures[0]) as first:
        size = (first.height, first.width)
    rates: dict[str, list[float]] = {}
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        ways = build_ways(options, folder, size)
        for number in range(-1, options.rounds):  # the first round warms up
            for way, work in ways.items():
                out = folder / "out"
                out.mkdir()
                start = time.perf_counter()
                work(pictures, out)
                if number >= 0:
                    seconds = time.perf_counter() - start
                    rates.setdefault(way, []).append(len(pictures) / seconds)
                shutil.rmtree(out)
    medians = {way: statistics.median(values) for way, values in rates.items()}
    return {"pictures": len(pictures), "threads": options.threads, "images_per_second": medians}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("checkpoint", type=Path)
    parser.add_argument("pictures", type=Path)
    parser.add_argument("--backend", action="append")
    parser.add_argument("--threads", type=int, default=os.cpu_count())
    parser.add_argument("--limit", type=int, default=100)
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--json", type=Path)
    options = parser.parse_args()
    torch.set_num_threads(options.threads)
    found = run(options)
    rates = found["images_per_second"]
    for way, rate in rates.items():
        peer = "chapter average" if way.endswith("average") else "chapter pad"
        line = f"{way:30} {rate:7.1f} images/s  {rate / rates[peer]:5.2f}x {peer}"
        alone = rates.get(f"{way.split()[1]} alone") if way.startswith("fcnkit") else None
        print(line + (f"  {100 * rate / alone:5.1f} % of the engine alone" if alone else ""))
    if options.json:
        options.json.write_text(json.dumps(found, indent=2))


if __name__ == "__main__":
    main()
