"""A training step of FCN-32s/ResNet-18: ours in bfloat16 against the chapter's own graph.

    python -m benchmarks.training [--json FILE] [--device cpu|cuda|cuda:N] [--rounds N]

Three nets of the same parameters and the same step (forward, cross-entropy, backward, SGD) take
turns in one process, so that a busy moment hits all of them; the figures are medians.

    ours          sub-pixel upsampling, channels_last, bfloat16 autocast
    chapter       nn.ConvTranspose2d, NCHW, float32
    chapter-bf16  nn.ConvTranspose2d, NCHW, bfloat16 autocast
"""

from __future__ import annotations

import argparse
import json
import platform
import time
from collections.abc import Callable
from pathlib import Path
from statistics import median
from typing import Any

import torch
import torch.nn.functional as F
import torchvision
from torch import Tensor, nn

from fcnkit.train.device import pick_device
from fcnkit.train.models import create_model

CLASSES = 21
OURS, CHAPTER, CHAPTER_BF16 = "ours", "chapter", "chapter-bf16"


def chapter_net() -> nn.Module:
    """The graph of d2l.ai, "Fully Convolutional Networks": ResNet-18's trunk and two layers."""
    trunk = list(torchvision.models.resnet18(weights=None).children())[:-2]
    net = nn.Sequential(*trunk)
    net.add_module("final_conv", nn.Conv2d(512, CLASSES, kernel_size=1))
    up = nn.ConvTranspose2d(CLASSES, CLASSES, kernel_size=64, padding=16, stride=32)
    net.add_module("transpose_conv", up)
    return net


def step_of(
    net: nn.Module, image_bchw: Tensor, labels_bhw: Tensor, *, bf16: bool
) -> Callable[[], None]:
    """Return a training step on always the same batch."""
    optimizer = torch.optim.SGD(net.parameters(), lr=1e-4, weight_decay=1e-3)
    net.train()

    def step() -> None:
        with torch.autocast(image_bchw.device.type, torch.bfloat16, enabled=bf16):
            logits_bkhw = net(image_bchw)
        loss = F.cross_entropy(logits_bkhw.float(), labels_bhw)
        optimizer.zero_grad(set_to_none=True)
        loss.backward()  # type: ignore[no-untyped-call]
        optimizer.step()

    return step


def contenders(
    device: torch.device, batch: int, size: tuple[int, int]
) -> dict[str, Callable[[], None]]:
    """Build the three steps on the same batch."""
    torch.manual_seed(0)
    image_bchw = torch.randn(batch, 3, *size, device=device)
    labels_bhw = torch.randint(0, CLASSES, (batch, *size), device=device)
    ours = create_model("fcn32s-resnet18", CLASSES).to(device, memory_format=torch.channels_last)
    channels_last = image_bchw.contiguous(memory_format=torch.channels_last)
    plain, plain_bf16 = chapter_net().to(device), chapter_net().to(device)
    return {
        OURS: step_of(ours, channels_last, labels_bhw, bf16=True),
        CHAPTER: step_of(plain, image_bchw, labels_bhw, bf16=False),
        CHAPTER_BF16: step_of(plain_bf16, image_bchw, labels_bhw, bf16=True),
    }


def measure(
    steps: dict[str, Callable[[], None]], device: torch.device, *, rounds: int
) -> dict[str, list[float]]:
    """Time every step once per round, after one round that does not count; seconds."""
    seconds: dict[str, list[float]] = {name: [] for name in steps}
    for turn in range(rounds + 1):
        for name, step in steps.items():
            synchronize(device)
            started = time.perf_counter()
            step()
            synchronize(device)
            if turn:
                seconds[name].append(time.perf_counter() - started)
    return seconds


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
            name: medians[name] / medians[OURS] for name in (CHAPTER, CHAPTER_BF16)
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
    steps = contenders(device, options.batch, (height, width))
    seconds = measure(steps, device, rounds=options.rounds)
    result = report(seconds, device, options.batch, (height, width))
    print(f"training step of FCN-32s/ResNet-18, {result['shape']}, {result['device']},")
    print(f"{result['threads']} threads, torch {result['torch']}, {result['rounds']} rounds")
    for name, value in result["median_seconds"].items():
        rate = result["images_per_second"][name]
        times = result["ours_faster_than"].get(name, 1.0)
        print(
            f"{name:13} {1000 * value:8.1f} ms {rate:8.1f} images/s {times:6.2f} x the time of ours"
        )
    if options.json:
        options.json.write_text(json.dumps(result, indent=2) + "\n", encoding="utf-8")


if __name__ == "__main__":
    main()
