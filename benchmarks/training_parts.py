"""What a training step of a network spends its time on, and what the images cost beside it.

    python -m benchmarks.training_parts [NETWORK ...] [--data DATA] [--rounds N] [--json FILE]

A step is that of ``fcnkit train --recipe modern``: forward, loss, backward, AdamW, moving average.
Its multiplications are three times those of the forward pass, as PyTorch counts them for
convolutions and matrix products: the gradients of the input and of the weight take as many each.
(PyTorch's own count of the backward pass takes a depthwise convolution for a full one.) "At full
speed" is the time they would take at the rate of a bare matrix product in the same run. Both are in
bfloat16 where the processor has instructions for it, else in float32. The rest of the step is
everything else: memory, batch normalization, the loss, the optimizer, and convolutions that are
slower than a matrix product, as depthwise ones are.

With --data the images are measured apart: reading and decoding an image with its mask, and the
augmentation of the crop, in one thread. "Beside the step" is their processor time as a share of the
step's, when both run on the same cores.
"""

from __future__ import annotations

import argparse
import json
import time
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from statistics import median

import torch
from torch.utils.flop_counter import FlopCounterMode

from benchmarks.markdown import table
from benchmarks.timing import alternate
from fcnkit.train.data.voc import open_voc, read_pair
from fcnkit.train.dataset import CropDataset
from fcnkit.train.learner import Learner
from fcnkit.train.memory import kept_memory
from fcnkit.train.models import create_model
from fcnkit.train.precision import with_precision
from fcnkit.train.recipe import RECIPES, Recipe, TrainingPrecision

NETWORKS = ("fpn-resnet18", "ddrnet23slim", "lraspp-mobilenet_v3_large")
CLASSES = 11
SIDE = 2048
"""Of the matrices whose product is the full speed."""


@dataclass(frozen=True, kw_only=True)
class Step:
    """A training step."""

    network: str
    seconds: float
    gmac: float
    """Billions of multiplications with an addition, forward and backward."""
    full_speed_seconds: float

    @property
    def rest(self) -> float:
        """Share of the step that is not multiplications at full speed."""
        return 1 - self.full_speed_seconds / self.seconds


@dataclass(frozen=True, kw_only=True)
class Images:
    """Seconds per image, in one thread."""

    decode: float
    augment: float


def matrix_product(side: int, precision: TrainingPrecision) -> float:
    """Return the billions of multiplications per second of a matrix product."""
    number = torch.bfloat16 if precision == "bf16" else torch.float32
    a, b = (torch.randn(side, side).to(number) for _ in range(2))
    seconds = alternate({"product": lambda: a @ b}, rounds=5)["product"]
    return side**3 / median(seconds) / 1e9


def steps_of(
    networks: tuple[str, ...], recipe: Recipe, size: tuple[int, int], *, rounds: int, rate: float
) -> list[Step]:
    """Measure steps of several networks in turns; the rate is that of full speed."""
    batch = recipe.batch
    image = torch.randn(batch, 3, *size)
    labels = torch.randint(0, CLASSES, (batch, *size))
    learners = {name: Learner(create_model(name, CLASSES), recipe) for name in networks}
    work = {}
    for name, learner in learners.items():
        learner.net.train()
        with torch.no_grad(), FlopCounterMode(display=False) as counter:
            learner.net.pieces(image)
        work[name] = 3 * counter.get_total_flops() / 2e9
    tasks = {
        name: lambda learner=learner: learner.step(image, labels, 1e-3)
        for name, learner in learners.items()
    }
    seconds = alternate(tasks, rounds=rounds)
    return [
        Step(
            network=name,
            seconds=median(values),
            gmac=work[name],
            full_speed_seconds=work[name] / rate,
        )
        for name, values in seconds.items()
    ]


def images_of(data: Path, size: tuple[int, int], *, count: int = 64) -> Images:
    """Measure what it takes to read an image and to make a crop of it."""
    folder = open_voc(data, split="train")
    recipe = replace(RECIPES["modern"], crop=size).for_classes(folder.labelmap)
    crops = CropDataset(folder.samples, folder.labelmap, recipe)
    decoding, all_of_it = [], []
    for index in range(min(count, len(crops))):
        start = time.perf_counter()
        read_pair(folder.samples[index], folder.labelmap)
        between = time.perf_counter()
        crops[1, index]
        decoding.append(between - start)
        all_of_it.append(time.perf_counter() - between)
    decode = median(decoding)
    return Images(decode=decode, augment=median(all_of_it) - decode)


def lines(steps: list[Step], images: Images | None, *, batch: int, threads: int) -> list[str]:
    """Return the tables as Markdown."""
    head = ["network", "ms a step", "GMAC a step", "ms at full speed", "rest of the step"]
    rows = [
        [
            step.network,
            f"{1000 * step.seconds:.0f}",
            f"{step.gmac:.1f}",
            f"{1000 * step.full_speed_seconds:.0f}",
            f"{100 * step.rest:.0f} %",
        ]
        for step in steps
    ]
    if images is None:
        return [table(head, rows)]
    each = images.decode + images.augment
    beside = [f"{100 * each * batch / (step.seconds * threads):.1f} %" for step in steps]
    rows = [[*row, share] for row, share in zip(rows, beside, strict=True)]
    note = (
        f"An image takes {1000 * images.decode:.1f} ms to read and decode, and "
        f"{1000 * images.augment:.1f} ms to augment, in one thread."
    )
    return [table([*head, "images beside the step"], rows), "", note]


def main() -> None:
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("networks", nargs="*", metavar="NETWORK", default=list(NETWORKS))
    parser.add_argument("--data", type=Path, help="folder in VOC layout, for the images")
    parser.add_argument("--rounds", type=int, default=7, help="steps of each that count")
    parser.add_argument("--batch", type=int, default=4)
    parser.add_argument("--size", default="320x480", help="rows x columns, multiples of 32")
    parser.add_argument("--json", type=Path, help="write the figures to this file too")
    options = parser.parse_args()
    height, width = map(int, options.size.split("x"))
    images = images_of(options.data, (height, width)) if options.data else None
    recipe = replace(RECIPES["modern"], batch=options.batch, dice=0.5)
    recipe = with_precision(recipe, torch.device("cpu"))
    with kept_memory():
        steps = steps_of(
            tuple(options.networks),
            recipe,
            (height, width),
            rounds=options.rounds,
            rate=matrix_product(SIDE, recipe.precision),
        )
    threads = torch.get_num_threads()
    shape = f"{options.batch}x{height}x{width} in {recipe.precision}"
    print(f"steps of {shape}, {threads} threads, torch {torch.__version__}")
    print(*lines(steps, images, batch=options.batch, threads=threads), sep="\n")
    if options.json:
        result = {
            "steps": [asdict(step) for step in steps],
            "images": None if images is None else asdict(images),
            "precision": recipe.precision,
            "threads": threads,
        }
        options.json.write_text(json.dumps(result, indent=2) + "\n", encoding="utf-8")


if __name__ == "__main__":
    main()
