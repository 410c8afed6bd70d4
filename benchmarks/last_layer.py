"""What the last layer costs on top of the network: upsampling, averaging and argmax by the kernel.

    python -m benchmarks.last_layer CHECKPOINT PICTURES [--mode tile|folder|large|blocks]
        [--backend NAME[:COMPUTE]]... [--threads N] [--rounds N] [--limit N] [--side N] [--cpu-time]

The checkpoint is exported with the heads ``scores``, ``labels`` and ``logits``. All ways of a mode
run in one process and in turn, with the same number of threads.

tile    Calls at 320x480: the trunk, which is the network up to its class scores, against the trunk
        and the kernel, and against the heads that the kernel replaces. Once with the network's own
        scores of the pictures, and once with random scores, where no block can be decided.
folder  ``fcnkit predict`` over the pictures, from file to file: ``scores`` against ``labels`` with
        pad, and against ``logits`` with average.
large   ``fcnkit predict`` of a mosaic of the pictures, each way in another process: seconds, peak
        memory, and the pixels on which ``scores`` and ``logits`` differ.
blocks  The share of blocks that have one label, and of those that the bound decides, in numpy.
"""

from __future__ import annotations

import argparse
import json
import os
import random
import shutil
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any, Final

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from benchmarks.timing import alternate, median_ratio
from fcnkit.export.full_logits import full_logits
from fcnkit.export.to_onnx import export_onnx
from fcnkit.runtime import Backend, Cover, Segmenter, open_backend
from fcnkit.runtime.artifacts.last_layer import LastLayerWeights, read_in_onnx
from fcnkit.runtime.artifacts.precisions import full_name
from fcnkit.runtime.pixels import tiling
from fcnkit.runtime.pixels.tiling import TilePlan
from fcnkit.runtime.pixels.upsampling import upsample_argmax
from fcnkit.runtime.predict.folder import find_jobs, predict_files
from fcnkit.runtime.predict.pictures import read_picture

TILE: Final = (320, 480)
DEFAULT: Final = ("onnxruntime", "openvino", "openvino:bf16")
ONE: Final = TilePlan(*TILE, *TILE, (0,), (0,))
FOUR: Final = TilePlan(576, 896, *TILE, (0, 256), (0, 416))
"""Four tiles that share 64 pixels."""
FITTING: Final = 3
"""Pictures that a call takes its scores from, in turn."""

Task = Callable[[], object]


def export(checkpoint: Path, folder: Path) -> dict[str, Path]:
    """Write the three heads, unless they are there."""
    paths = {head: folder / f"{head}.onnx" for head in ("scores", "labels", "logits")}
    for head, path in paths.items():
        if not path.exists():
            export_onnx(checkpoint, path, head=head)  # type: ignore[arg-type]
    return paths


def opened(models: dict[str, Path], choice: str, threads: int) -> Iterator[tuple[str, Backend]]:
    """Open the heads with one backend."""
    name, _, compute = choice.partition(":")
    for head, path in models.items():
        precision: Any = full_name(compute) or "fp32"
        yield head, open_backend(path, backend=name, threads=threads, compute=precision)


def pictures_of(folder: Path, limit: int | None) -> list[Path]:
    found = sorted(p for p in folder.iterdir() if p.suffix.lower() in (".jpg", ".png"))[:limit]
    if not found:
        raise SystemExit(f"{folder} has no pictures")
    return found


# tile


def tile_tasks(
    heads: dict[str, Backend], images: list[NDArray[np.uint8]], threads: int
) -> dict[str, Task]:
    """Return the ways of one and of four tiles; every call takes the next picture."""
    scores, labels, logits = heads["scores"], heads["labels"], heads["logits"]
    layer: Any = scores.upsampling
    given = scores.spec.input
    cut: dict[int, Any] = {
        len(plan): [
            tiling.gather(fit(image, plan), plan, mean=given.mean, std=given.std)
            for image in images
        ]
        for plan in (ONE, FOUR)
    }
    uint8 = [fit(image, ONE)[None] for image in images]
    generator = np.random.default_rng(0)
    noise = {
        plan: np.concatenate([scores.infer(tile[None]) for tile in cut[plan][0]]) for plan in cut
    }
    for values in noise.values():
        values[:] = generator.normal(0, values.std(), values.shape)
    turn = iter(range(10**9))

    def tiles(count: int) -> Iterator[NDArray[Any]]:
        batch = cut[count][next(turn) % len(images)]
        return (tile[None] for tile in batch)

    def trunk(plan: TilePlan) -> NDArray[Any]:
        return np.concatenate([scores.infer(tile) for tile in tiles(len(plan))])

    def kernel(values: NDArray[Any], plan: TilePlan) -> object:
        return upsample_argmax(values, plan, layer, threads=threads)

    def old(plan: TilePlan) -> object:
        found = np.concatenate([logits.infer(tile) for tile in tiles(len(plan))])
        return tiling.stitch(found, plan, threads=threads)

    def with_noise(plan: TilePlan) -> object:
        trunk(plan)
        return kernel(noise[len(plan)], plan)

    return {
        "pad: trunk": lambda: trunk(ONE),
        "pad: scores and kernel": lambda: kernel(trunk(ONE), ONE),
        "pad: random scores and kernel": lambda: with_noise(ONE),
        "pad: labels": lambda: labels.infer(uint8[next(turn) % len(images)]),
        "pad: logits and stitch": lambda: old(ONE),
        "average: trunk": lambda: trunk(FOUR),
        "average: scores and kernel": lambda: kernel(trunk(FOUR), FOUR),
        "average: random scores and kernel": lambda: with_noise(FOUR),
        "average: logits and stitch": lambda: old(FOUR),
    }


def fit(image: NDArray[np.uint8], plan: TilePlan) -> NDArray[np.uint8]:
    """Repeat a picture by reflection to the size of a plan, or crop it."""
    down, right = max(0, plan.height - image.shape[0]), max(0, plan.width - image.shape[1])
    grown = np.pad(image, ((0, down), (0, right), (0, 0)), mode="symmetric")
    return np.ascontiguousarray(grown[: plan.height, : plan.width])


def clock_of(options: argparse.Namespace) -> Callable[[], float]:
    return time.process_time if options.cpu_time else time.perf_counter


def run_tile(options: argparse.Namespace, folder: Path) -> dict[str, Any]:
    models = export(options.checkpoint, folder)
    paths = pictures_of(options.pictures, options.limit)
    spread = [paths[i * len(paths) // FITTING] for i in range(FITTING)]
    images = [read_picture(path) for path in spread]
    found: dict[str, Any] = {}
    for choice in options.backend or DEFAULT:
        heads = dict(opened(models, choice, options.threads))
        tasks = tile_tasks(heads, images, options.threads)
        seconds = alternate(tasks, rounds=options.rounds, settle=1, clock=clock_of(options))
        for backend in heads.values():
            backend.close()
        found[choice] = {
            way: {
                "milliseconds": 1000 * statistics.median(times),
                "of_the_trunk": median_ratio(times, seconds[f"{way.partition(':')[0]}: trunk"]),
            }
            for way, times in seconds.items()
        }
        for way, said in found[choice].items():
            print(
                f"{choice:15} {way:36} {said['milliseconds']:8.2f} ms {said['of_the_trunk']:.3f}x",
                flush=True,
            )
    return found


# folder


def run_folder(options: argparse.Namespace, folder: Path) -> dict[str, Any]:
    models = export(options.checkpoint, folder)
    paths = pictures_of(options.pictures, options.limit)
    wanted: dict[str, tuple[str, Cover]] = {
        "labels pad": ("labels", "pad"),
        "scores pad": ("scores", "pad"),
        "logits average": ("logits", "average"),
        "scores average": ("scores", "average"),
    }
    found: dict[str, Any] = {}
    for choice in options.backend or DEFAULT:
        heads = dict(opened(models, choice, options.threads))
        ways = {way: Segmenter(heads[h], cover=cover) for way, (h, cover) in wanted.items()}
        rates: dict[str, list[float]] = {way: [] for way in ways}
        for number in range(-1, options.rounds):  # the first round warms up
            part = paths[number :: options.rounds] if number >= 0 else paths[:4]
            for way, segmenter in random.sample(list(ways.items()), len(ways)):
                predict(segmenter, part[:4], folder / "out", clock_of(options))  # settles
                seconds = predict(segmenter, part, folder / "out", clock_of(options))
                if number >= 0:
                    rates[way].append(len(part) / seconds)
        found[choice] = {
            way: {
                "images_per_second": statistics.median(rate),
                "of_the_old_way": median_ratio(rate, rates[old]),
            }
            for way, old, rate in (
                ("scores pad", "labels pad", rates["scores pad"]),
                ("scores average", "logits average", rates["scores average"]),
            )
        }
        for way, said in found[choice].items():
            print(
                f"{choice:15} {way:16} {said['images_per_second']:7.1f} images/s "
                f"{said['of_the_old_way']:.3f}x of the old way",
                flush=True,
            )
        for backend in heads.values():
            backend.close()
    return found


def predict(
    segmenter: Segmenter, paths: list[Path], out: Path, clock: Callable[[], float]
) -> float:
    """Label files into an empty folder; return the seconds."""
    shutil.rmtree(out, ignore_errors=True)
    out.mkdir()
    start = clock()
    records = list(predict_files(segmenter, find_jobs(paths, out), out, model_sha256=""))
    seconds = clock() - start
    assert all(record.status == "done" for record in records)
    return seconds


# large


def write_mosaic(path: Path, pictures: list[Path], side: int) -> None:
    """Write a PPM of side x side pixels whose parts are the pictures, in another order per row."""
    generator = np.random.default_rng(0)
    images = [read_picture(one) for one in pictures]
    height = min(len(image) for image in images)
    width = min(image.shape[1] for image in images)
    with path.open("wb") as file:
        file.write(b"P6 %d %d 255\n" % (side, side))
        for top in range(0, side, height):
            order = generator.integers(0, len(images), -(-side // width))
            row = np.concatenate([images[i][:height, :width] for i in order], 1)[:, :side]
            file.write(np.ascontiguousarray(row[: side - top]).tobytes())


def run_large(options: argparse.Namespace, folder: Path) -> dict[str, Any]:
    models = export(options.checkpoint, folder)
    Image.MAX_IMAGE_PIXELS = None  # the labels are our own
    mosaic = folder / f"{options.side}.ppm"
    if not mosaic.exists():
        write_mosaic(mosaic, pictures_of(options.pictures, options.limit), options.side)
    found: dict[str, Any] = {}
    for choice in options.backend or DEFAULT:
        results = {}
        for head in ("logits", "scores"):
            results[head] = predict_large(models[head], mosaic, choice, options, folder / head)
            print(f"{choice:15} {head:8} {json.dumps(results[head])}", flush=True)
        labels = [np.asarray(Image.open(folder / head / f"{options.side}.png")) for head in results]
        differ = int((labels[0] != labels[1]).sum())
        found[choice] = {**results, "pixels": labels[0].size, "other_labels": differ}
        print(f"{choice:15} other labels on {differ} of {labels[0].size} pixels", flush=True)
    return found


def predict_large(
    model: Path, mosaic: Path, choice: str, options: argparse.Namespace, out: Path
) -> dict[str, float]:
    name, _, compute = choice.partition(":")
    shutil.rmtree(out, ignore_errors=True)
    command: list[Any] = [Path(sys.executable).with_name("fcnkit"), "predict", model, mosaic]
    command += ["-o", out, "--tile", "1024x1024", "--overlap", "64", "--max-pixels", "1"]
    command += ["--backend", name, "--compute", compute or "fp32", "--threads", options.threads]
    command += ["--no-resume", "--stats", "--json"]
    start = time.perf_counter()
    done = subprocess.run([*map(str, command)], check=True, text=True, stdout=subprocess.PIPE)
    said = json.loads(done.stdout)
    peak = next(value for key, value in said.items() if "peak" in key)
    return {"seconds": time.perf_counter() - start, "peak_mb": peak}


# blocks


def run_blocks(options: argparse.Namespace, folder: Path) -> dict[str, Any]:
    path = export(options.checkpoint, folder)["scores"]
    with open_backend(path, backend="onnxruntime", threads=options.threads) as backend:
        layer = read_in_onnx(path, backend.spec)
        assert layer is not None
        shares: dict[str, list[float]] = {}
        for picture in pictures_of(options.pictures, options.limit):
            image = read_picture(picture)
            plan = Segmenter(backend, cover="pad").plan(*image.shape[:2])
            given = backend.spec.input
            batch = tiling.gather(image, plan, mean=given.mean, std=given.std)
            scores = backend.infer(batch)[0].astype(np.float64)
            for side in (32, 16, 8):
                if side <= layer.stride:
                    uniform, decided = block_shares(scores, layer, side)
                    shares.setdefault(f"{side}x{side} with one label", []).append(uniform)
                    shares.setdefault(f"{side}x{side} decided", []).append(decided)
    found = {name: statistics.mean(values) for name, values in shares.items()}
    for name, share in found.items():
        print(f"{name:24} {100 * share:5.1f} %")
    return found


def block_shares(
    scores_chw: NDArray[np.float64], layer: LastLayerWeights, side: int
) -> tuple[float, float]:
    """Return the share of blocks with one label, and of those that the corners prove.

    A block lies in a cell, whose pixels read the same 2x2 scores. The border is left out.
    """
    stride, (classes, height, width) = layer.stride, scores_chw.shape
    margin, parts = stride // 2, stride // side
    logits = full_logits(scores_chw[None], layer)[0, :, margin:-margin, margin:-margin]
    rows, columns = (height - 1) * parts, (width - 1) * parts
    blocks = logits.reshape(classes, rows, side, columns, side).transpose(1, 3, 0, 2, 4)
    labels = blocks.argmax(2)
    uniform = (labels == labels[:, :, :1, :1]).all((2, 3))
    corners = blocks[..., :: side - 1, :: side - 1].reshape(rows, columns, classes, 4)
    slack = residuals(scores_chw, layer, side)
    best = corners[..., 0].argmax(2)[..., None]
    lead = np.take_along_axis(corners, best[..., None], 2) - corners
    needed = np.take_along_axis(slack, best, 2) + slack
    others = np.arange(classes) != best
    decided = ((lead > needed[..., None]).all(3) | ~others).all(2)
    assert not (decided & ~uniform).any()
    return float(uniform.mean()), float(decided.mean())


def residuals(
    scores_chw: NDArray[np.float64], layer: LastLayerWeights, side: int
) -> NDArray[np.float64]:
    """Return how far a logit of a block may lie from between its corners: (rows, columns, C)."""
    stride, (classes, height, width) = layer.stride, scores_chw.shape
    weight = layer.weight.astype(np.float64)
    if weight.ndim == 3:
        weight = weight * np.eye(classes)[:, :, None, None]
    parts = stride // side
    cut = weight.reshape(classes, classes, 2, parts, side, 2, parts, side)
    ramp = np.linspace(0, 1, side)
    down = cut[..., :1, :, :, :] * (1 - ramp)[:, None, None, None]
    down = down + cut[..., -1:, :, :, :] * ramp[:, None, None, None]
    between = down[..., :1] * (1 - ramp) + down[..., -1:] * ramp
    spread = np.abs(cut - between).max((4, 7))  # (from, to, row of scores, part, column, part)
    size = np.abs(scores_chw)
    total = np.zeros((height - 1, parts, width - 1, parts, classes))
    for row in (0, 1):
        for column in (0, 1):
            # The second half of the kernel belongs to the score above and on the left.
            near = size[:, 1 - row : height - row, 1 - column : width - column]
            table = spread[:, :, row, :, column, :]
            total += np.einsum("chw,coRS->hRwSo", near, table)
    return total.reshape((height - 1) * parts, (width - 1) * parts, classes)


MODES: Final = {
    "tile": run_tile,
    "folder": run_folder,
    "large": run_large,
    "blocks": run_blocks,
}


def main() -> None:
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("checkpoint", type=Path)
    parser.add_argument("pictures", type=Path)
    parser.add_argument("--mode", choices=MODES, default="tile")
    parser.add_argument("--backend", action="append")
    parser.add_argument("--threads", type=int, default=os.cpu_count())
    parser.add_argument("--rounds", type=int, default=15)
    parser.add_argument("--limit", type=int, help="pictures; all by default")
    parser.add_argument("--side", type=int, default=20_000, help="of the mosaic, in pixels")
    parser.add_argument(
        "--cpu-time",
        action="store_true",
        help="tile and folder: count processor time, where others use the machine; one thread",
    )
    parser.add_argument("--folder", type=Path, help="for the models; a temporary one by default")
    parser.add_argument("--json", type=Path)
    options = parser.parse_args()
    with tempfile.TemporaryDirectory() as name:
        folder = options.folder or Path(name)
        folder.mkdir(parents=True, exist_ok=True)
        found = MODES[options.mode](options, folder)
    if options.json:
        options.json.write_text(json.dumps(found, indent=2))


if __name__ == "__main__":
    main()
