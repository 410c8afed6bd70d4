"""Folder prediction against the engine alone and against the d2l.ai chapter's own loop.

    python -m benchmarks.pipeline CHECKPOINT PICTURES [--backend NAME[:COMPUTE]]... [--limit N]
        [--rounds N] [--page]

--page writes the table of docs/predict.md. The model is what ``fcnkit export onnx`` writes without
further options: it has head ``scores``.

Every way turns the same picture files into files of the same size with every core: decode, network,
argmax, colors, encode, write. "color" writes RGB PNGs as the d2l.ai chapter does, "labels" the
palette PNGs that are fcnkit's default. The engine alone runs the network on one prepared batch of
the padded size and does nothing else: what it reaches is the limit. The pictures are dealt into
rounds; in each round every way does the round's pictures in its turn, and a ratio is the median
over the rounds. The CPU time per picture, of all cores together, says what a way costs also where
others use the machine.

COMPUTE is the precision that the backend computes in, fp32 unless given, or int8 for a file that is
calibrated on the pictures; the d2l.ai chapter computes in float32. At the end one call of a
segmenter is compared with the bare call of its backend.
"""

from __future__ import annotations

import argparse
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
from benchmarks.markdown import put_between, table
from benchmarks.options import parser_of, save
from benchmarks.timing import alternate, median_ratio
from fcnkit.export.to_onnx import export_onnx
from fcnkit.runtime import Backend, Cover, Segmenter, open_backend
from fcnkit.runtime.artifacts.precisions import full_name
from fcnkit.runtime.artifacts.spec import Shape
from fcnkit.runtime.bench.stages import example_batch
from fcnkit.runtime.machine import LoadMeter
from fcnkit.runtime.pixels.tiling import plan_tiles
from fcnkit.runtime.predict.folder import Format, find_jobs, predict_files
from fcnkit.train.checkpoint import load_model
from fcnkit.train.models.fcn import FCN32s

PAGE = Path(__file__).resolve().parents[1] / "docs" / "predict.md"
BACKENDS = {"onnxruntime": "ONNX Runtime", "openvino": "OpenVINO"}
"""The defaults, and how the page names them."""

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

    def __init__(self, backend: Backend, cover: Cover, format: Format) -> None:
        self.segmenter, self.format = Segmenter(backend, cover=cover), format

    def __call__(self, pictures: list[Path], out: Path) -> None:
        jobs = find_jobs(pictures, out)
        records = predict_files(self.segmenter, jobs, out, model_sha256="", format=self.format)
        assert all(record.status == "done" for record in records)


class EngineAlone:
    """The backend in a loop on one prepared batch, as predict_files would run it."""

    def __init__(self, backend: Backend, shape: Shape) -> None:
        self.backend, self.batch = backend, example_batch(backend.spec, shape)

    def __call__(self, pictures: list[Path], _: Path) -> None:
        for _outputs in self.backend.stream(self.batch for _picture in pictures):
            pass


def build_ways(options: argparse.Namespace, folder: Path, size: tuple[int, int]) -> dict[str, Way]:
    model, int8 = folder / "model.onnx", folder / "int8.onnx"
    export_onnx(options.checkpoint, model)
    ways: dict[str, Way] = {
        "chapter pad": Chapter(options.checkpoint, average=False),
        "chapter average": Chapter(options.checkpoint, average=True),
    }
    height, width = (-(-side // 32) * 32 for side in size)
    plan = plan_tiles(*size)
    default = ["onnxruntime", "openvino", "openvino:bf16", "openvino:int8"]
    for choice in options.backend or default:
        name, _, compute = choice.partition(":")
        compute = full_name(compute) or "fp32"
        kind = f"{name} {compute}"
        if compute == "int8" and not int8.exists():
            export_onnx(
                options.checkpoint,
                int8,
                precision="int8",
                calibration=options.pictures,
                activations="int8",  # of the two, OpenVINO is faster with these
            )

        def opened(name: str = name, compute: str = compute) -> Backend:
            # One for each cover: a backend that takes turns must not wait for another's memory.
            return open_backend(
                int8 if compute == "int8" else model,
                backend=name,
                threads=options.threads,
                compute="auto" if compute == "int8" else compute,  # type: ignore[arg-type]
            )

        padding, averaging = opened(), opened()
        ways[f"{kind} alone pad"] = EngineAlone(padding, (1, height, width))
        ways[f"{kind} fcnkit pad labels"] = Fcnkit(padding, "pad", "labels")
        ways[f"{kind} fcnkit pad color"] = Fcnkit(padding, "pad", "color")
        ways[f"{kind} alone average"] = EngineAlone(averaging, (len(plan), *plan.tile))
        ways[f"{kind} fcnkit average color"] = Fcnkit(averaging, "average", "color")
    return ways


def call_overhead(way: Fcnkit, size: tuple[int, int], rounds: int) -> dict[str, float]:
    """Milliseconds of one call, of the bare backend call inside it, and the median difference."""
    segmenter = way.segmenter
    image_hwc = np.random.default_rng(1).integers(0, 256, (*size, 3), np.uint8)
    height, width = (-(-side // 32) * 32 for side in size)
    batch = example_batch(segmenter.spec, (1, height, width))
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
        "size": f"{size[0]}x{size[1]}",
        "threads": options.threads,
        "other_cores": others,
        "images_per_second": rates,
        "cpu_milliseconds_per_image": cpu,
        "call_at_320x480": overhead,
    }


def ratio_of(found: dict[str, Any], way: str, peer: str) -> float:
    """How many times as many images per second a way does as another one."""
    rates = found["images_per_second"]
    return statistics.median(a / b for a, b in zip(rates[way], rates[peer], strict=True))


def others_of(found: dict[str, Any]) -> str:
    others = found["other_cores"]
    return "" if others is None else f"; other programs used {others:.2f} cores meanwhile"


def show(found: dict[str, Any]) -> None:
    rates: dict[str, list[float]] = found["images_per_second"]
    print(f"{found['pictures']} pictures, {found['threads']} threads{others_of(found)}")
    for way, measured in rates.items():
        cover = "average" if "average" in way else "pad"
        busy = statistics.median(found["cpu_milliseconds_per_image"][way])
        line = f"{way:38} {statistics.median(measured):7.1f} images/s {busy:7.1f} CPU ms"
        if not way.startswith("chapter"):
            line += f"  {ratio_of(found, way, f'chapter {cover}'):5.2f}x chapter {cover}"
        if "fcnkit" in way:
            alone = f"{way.split(' fcnkit')[0]} alone {cover}"
            line += f"  {100 * ratio_of(found, way, alone):5.1f} % of the engine alone"
        print(line)
    for way, call in found["call_at_320x480"].items():
        print(
            f"one call at 320x480, {way}: {call['call']:.2f} ms, bare {call['bare']:.2f} ms, "
            f"{call['difference']:+.2f} ms, {100 * call['ratio'] - 100:+.1f} %"
        )


def page_table(found: dict[str, Any]) -> str:
    """The table of docs/predict.md: every way writes RGB PNGs, as the chapter does."""
    rows = []
    for kind, call in found["call_at_320x480"].items():
        backend, compute = kind.split()
        way, alone, average = (
            f"{kind} {rest}" for rest in ("fcnkit pad color", "alone pad", "fcnkit average color")
        )
        rows.append(
            (
                f"{BACKENDS.get(backend, backend)}, {compute}",
                f"{statistics.median(found['images_per_second'][way]):.1f}",
                f"{100 * ratio_of(found, way, alone):.1f} %",
                f"{ratio_of(found, way, 'chapter pad'):.2f}x",
                f"{ratio_of(found, alone, 'chapter pad'):.2f}x",
                f"{statistics.median(found['images_per_second'][average]):.1f}",
                f"{ratio_of(found, average, 'chapter average'):.2f}x",
                f"{call['difference']:.2f} ms ({100 * call['ratio'] - 100:.1f} %)",
            )
        )
    head = (
        *("backend", "images/s", "share of the engine alone", "times the chapter's loop"),
        *("engine alone, times the loop", "`--cover average`, images/s"),
        *("times the chapter's loop with averaging", "one call, more than the bare backend"),
    )
    measured = f"{found['pictures']} images of {found['size']}, {found['threads']} threads"
    return f"{measured}{others_of(found)}.\n\n{table(head, rows)}"


def main() -> None:
    parser = parser_of(__doc__)
    parser.add_argument("checkpoint", type=Path)
    parser.add_argument("pictures", type=Path)
    parser.add_argument("--backend", action="append")
    parser.add_argument("--threads", type=int, default=os.cpu_count())
    parser.add_argument("--limit", type=int, help="pictures; all by default")
    parser.add_argument("--rounds", type=int, default=4)
    parser.add_argument("--calls", type=int, default=30)
    parser.add_argument("--page", action="store_true", help="write the table of docs/predict.md")
    options = parser.parse_args()
    torch.set_num_threads(options.threads)
    found = run(options)
    show(found)
    save(found, options.json)
    if options.page:
        put_between(PAGE, "<!-- pipeline -->", "<!-- end -->", page_table(found))


if __name__ == "__main__":
    main()
