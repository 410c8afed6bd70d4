"""A training step of FCN-32s/ResNet-18: ours in bfloat16 against the d2l.ai chapter's own graph.

    python -m benchmarks.training [--json FILE] [--device cpu|cuda|cuda:N] [--rounds N]

Nets of the same parameters and the same step (forward, cross-entropy, backward, SGD) take turns, so
that a busy moment hits all of them; times are medians, ratios medians over the rounds. Each has its
own process, because the allocation of memory is a setting of a process.

    ours             sub-pixel upsampling, the loss taken before depth-to-space, channels_last,
                     bfloat16 autocast, freed memory kept
    ours-given-back  the same, freed memory given back to the system, as by default
    chapter          nn.ConvTranspose2d, NCHW, float32
    chapter-bf16     nn.ConvTranspose2d, NCHW, bfloat16 autocast
    chapter-like     nn.ConvTranspose2d, channels_last, bfloat16 autocast, freed memory kept: all
                     of ours but its form

benchmarks.training_parts says what the step of any network spends its time on.
"""

from __future__ import annotations

import argparse
import json
import multiprocessing
import platform
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from multiprocessing.connection import Connection
from pathlib import Path
from statistics import median
from typing import Any

import torch
import torch.nn.functional as F
import torchvision
from torch import Tensor, nn

from benchmarks.timing import alternate, median_ratio
from fcnkit.runtime.artifacts.spec import VOID
from fcnkit.train.device import pick_device
from fcnkit.train.losses import share_of_loss
from fcnkit.train.memory import kept_memory
from fcnkit.train.models import SegmentationNet, create_model
from fcnkit.train.recipe import RECIPES

CLASSES = 21
OURS, GIVEN_BACK = "ours", "ours-given-back"
CHAPTER, CHAPTER_BF16, CHAPTER_LIKE = "chapter", "chapter-bf16", "chapter-like"


def chapter_net() -> nn.Module:
    """The graph of d2l.ai, "Fully Convolutional Networks": ResNet-18's trunk and two layers."""
    trunk = list(torchvision.models.resnet18(weights=None).children())[:-2]
    net = nn.Sequential(*trunk)
    net.add_module("final_conv", nn.Conv2d(512, CLASSES, kernel_size=1))
    up = nn.ConvTranspose2d(CLASSES, CLASSES, kernel_size=64, padding=16, stride=32)
    net.add_module("transpose_conv", up)
    return net


def step_of(
    net: nn.Module,
    image_bchw: Tensor,
    labels_bhw: Tensor,
    *,
    bf16: bool = False,
    channels_last: bool = False,
) -> Callable[[], None]:
    """Return a training step on always the same batch; it returns when the device is done."""
    layout = torch.channels_last if channels_last else torch.contiguous_format
    net = net.to(image_bchw.device, memory_format=layout)
    image_bchw = image_bchw.contiguous(memory_format=layout)
    optimizer = torch.optim.SGD(net.parameters(), lr=1e-4, weight_decay=1e-3)
    net.train()

    def step() -> None:
        with torch.autocast(image_bchw.device.type, torch.bfloat16, enabled=bf16):
            forward = net.pieces if isinstance(net, SegmentationNet) else net
            logits = forward(image_bchw)
        loss = loss_of(net, logits, labels_bhw)
        optimizer.zero_grad(set_to_none=True)
        loss.backward()  # type: ignore[no-untyped-call]
        optimizer.step()
        synchronize(image_bchw.device)

    return step


def loss_of(net: nn.Module, logits: Tensor, labels_bhw: Tensor) -> Tensor:
    """Return the mean cross-entropy, as our learner computes it for our networks."""
    if not isinstance(net, SegmentationNet):
        return F.cross_entropy(logits.float(), labels_bhw)
    labels_bmp = net.pieces_of(labels_bhw, outside=VOID)
    return share_of_loss(logits, labels_bmp, RECIPES["modern"], pixels=labels_bhw[0].numel())


def contender(
    name: str, device: torch.device, batch: int, size: tuple[int, int]
) -> Callable[[], None]:
    """Build a contender's step; the batch is the same for all."""
    torch.manual_seed(0)
    image = torch.randn(batch, 3, *size, device=device)
    labels = torch.randint(0, CLASSES, (batch, *size), device=device)
    is_ours = name in (OURS, GIVEN_BACK)
    net = create_model("fcn32s-resnet18", CLASSES) if is_ours else chapter_net()
    channels_last = is_ours or name == CHAPTER_LIKE
    return step_of(net, image, labels, bf16=name != CHAPTER, channels_last=channels_last)


def serve(
    pipe: Connection, name: str, device: torch.device, batch: int, size: tuple[int, int]
) -> None:
    """Make a step whenever the pipe asks for one, until it says that it was the last."""
    with ExitStack() as stack:
        if name in (OURS, CHAPTER_LIKE):
            stack.enter_context(kept_memory())
        step = contender(name, device, batch, size)
        while pipe.recv():
            step()
            pipe.send(True)


@contextmanager
def contenders(
    device: torch.device, batch: int, size: tuple[int, int]
) -> Iterator[dict[str, Callable[[], None]]]:
    """Start a process per contender, and give the functions that make each of them step."""
    # Forked from a server that has loaded PyTorch, and nothing else: no threads, no GPU.
    context = multiprocessing.get_context("forkserver")
    context.set_forkserver_preload(["benchmarks.training"])
    pipes: list[Connection] = []

    def start(name: str) -> Callable[[], None]:
        pipe, other = context.Pipe()
        process = context.Process(
            target=serve, args=(other, name, device, batch, size), daemon=True
        )
        process.start()
        other.close()
        pipes.append(pipe)

        def step() -> None:
            pipe.send(True)
            pipe.recv()

        return step

    try:
        names = (OURS, GIVEN_BACK, CHAPTER, CHAPTER_BF16, CHAPTER_LIKE)
        yield {name: start(name) for name in names}
    finally:
        for pipe in pipes:
            pipe.send(False)


def synchronize(device: torch.device) -> None:
    if device.type == "cuda":
        torch.cuda.synchronize(device)


def report(
    seconds: dict[str, list[float]], device: torch.device, batch: int, size: tuple[int, int]
) -> dict[str, Any]:
    """Put the medians, the ratios and what they were measured on together."""
    medians = {name: median(values) for name, values in seconds.items()}
    name = torch.cuda.get_device_name(device) if device.type == "cuda" else platform.machine()
    return {
        "shape": f"{batch}x{size[0]}x{size[1]}",
        "device": f"{device} ({name})",
        "threads": torch.get_num_threads(),
        "torch": torch.__version__,
        "rounds": len(seconds[OURS]),
        "median_seconds": medians,
        "images_per_second": {name: batch / value for name, value in medians.items()},
        "ours_faster_than": {
            name: median_ratio(values, seconds[OURS])
            for name, values in seconds.items()
            if name != OURS
        },
        "seconds": seconds,
    }


def main() -> None:
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--json", type=Path, help="write the figures to this file too")
    parser.add_argument("--device", default="auto", help="auto, cpu, cuda or cuda:N")
    parser.add_argument("--rounds", type=int, default=7, help="steps of each that count")
    parser.add_argument("--batch", type=int, default=4)
    parser.add_argument("--size", default="320x480", help="rows x columns, multiples of 32")
    options = parser.parse_args()
    device = pick_device(options.device)
    height, width = map(int, options.size.split("x"))
    with contenders(device, options.batch, (height, width)) as steps:
        seconds = alternate(steps, rounds=options.rounds)
    result = report(seconds, device, options.batch, (height, width))
    print(f"training step of FCN-32s/ResNet-18, {result['shape']}, {result['device']},")
    print(f"{result['threads']} threads, torch {result['torch']}, {result['rounds']} rounds")
    for name, value in result["median_seconds"].items():
        rate = result["images_per_second"][name]
        times = result["ours_faster_than"].get(name, 1.0)
        print(
            f"{name:15} {1000 * value:8.1f} ms {rate:8.1f} images/s {times:6.2f} x the time of ours"
        )
    if options.json:
        options.json.write_text(json.dumps(result, indent=2) + "\n", encoding="utf-8")


if __name__ == "__main__":
    main()
