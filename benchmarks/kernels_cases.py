"""What is measured: every kernel on pictures of the sizes people have."""

from __future__ import annotations

from dataclasses import dataclass, field
from functools import partial
from typing import TYPE_CHECKING, Any

import numpy as np

from benchmarks import kernels_peers as peers
from fcnkit.runtime.pixels import confidence, metrics, palette, tiling, upsampling

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

    from numpy.typing import NDArray

SIZES = ((375, 500), (1080, 1920), (2160, 3840))
CLASSES = 21
MEAN, STD = [0.485, 0.456, 0.406], [0.229, 0.224, 0.225]


@dataclass(frozen=True)
class Case:
    """One kernel at one size."""

    kernel: str
    size: str
    pixels: int
    ours: Callable[[], object]
    peers: Mapping[str, Callable[[], object]] = field(default_factory=dict)
    limit: str = ""
    bytes: int = 0


def blobs(height: int, width: int, classes: int) -> NDArray[np.uint8]:
    """Labels in patches of about 40 pixels with void between them, as masks are."""
    rng = np.random.default_rng(height)
    coarse = rng.integers(0, classes, (height // 40 + 2, width // 40 + 2))
    wave = (6 * np.sin(np.arange(max(height, width)) / 17)).astype(int)
    y = np.arange(height)[:, None] + wave[:width] + 6
    x = np.arange(width) + wave[:height, None] + 6
    labels: NDArray[np.uint8] = coarse[y // 40, x // 40].astype(np.uint8)
    labels[(y % 40 < 2) | (x % 40 < 2)] = 255
    return labels


def picture(height: int, width: int) -> NDArray[np.uint8]:
    return np.random.default_rng(1).integers(0, 256, (height, width, 3), dtype=np.uint8)


def some_logits(shape: tuple[int, ...]) -> NDArray[np.float32]:
    """Random logits; one plane's worth of random numbers, rotated, so that making them is quick."""
    plane = np.random.default_rng(2).normal(0, 3, shape[-2:]).astype(np.float32)
    logits = np.empty(shape, np.float32)
    flat = logits.reshape(-1, *shape[-2:])
    for index in range(len(flat)):
        flat[index] = np.roll(plane, 7919 * index)
    return logits


def name(height: int, width: int) -> str:
    return f"{height}x{width}"


def decode_case(height: int, width: int, classes: int = CLASSES) -> Case:
    labels, colors = blobs(height, width, classes), palette.voc_palette(classes)
    rgb = np.empty((height, width, 3), np.uint8)
    ours = partial(palette.decode, labels, colors, out=rgb, threads=1)
    others = peers.decode_peers(labels, colors)
    kernel = "decode" if classes == CLASSES else f"decode {classes}"
    return Case(kernel, name(height, width), labels.size, ours, others, "copy", 4 * labels.size)


def encode_case(height: int, width: int, classes: int = CLASSES) -> Case:
    labels, colors = blobs(height, width, classes), palette.voc_palette(classes)
    rgb = palette.decode(labels, colors)
    ours = partial(palette.encode, rgb, colors, out=labels, threads=1)
    others = peers.encode_peers(rgb, colors)
    kernel = "encode" if classes == CLASSES else f"encode {classes}"
    return Case(kernel, name(height, width), labels.size, ours, others, "copy", 4 * labels.size)


def overlay_case(height: int, width: int) -> Case:
    labels, colors = blobs(height, width, CLASSES), palette.voc_palette(CLASSES)
    image, out = picture(height, width), picture(height, width)
    ours = partial(palette.overlay, image, labels, colors, out=out, threads=1)
    others = peers.overlay_peers(image, labels, colors)
    return Case("overlay", name(height, width), labels.size, ours, others, "copy", 7 * labels.size)


def gather_case(height: int, width: int, dtype: type = np.float32) -> Case:
    image = picture(height, width)
    plan = tiling.plan_tiles(height, width, multiple=1)
    out: NDArray[Any] = np.empty((1, 3, height, width), dtype)
    ours = partial(tiling.gather, image, plan, mean=MEAN, std=STD, dtype=dtype, out=out, threads=1)
    single = dtype is np.float32
    others = peers.gather_peers(image, MEAN, STD) if single else {}
    kernel = "gather" if single else "gather half"
    size = image.nbytes + out.nbytes
    return Case(kernel, name(height, width), height * width, ours, others, "copy", size)


def argmax_case(height: int, width: int, kind: str = "") -> Case:
    logits = some_logits((1, CLASSES, height, width))
    others = peers.argmax_peers(logits) if not kind else {}
    typed: NDArray[Any] = logits.astype(np.float16) if kind else logits
    if kind == "bfloat16":
        typed = (logits.view(np.uint32) >> 16).astype(np.uint16)
    out = np.empty((1, height, width), np.uint8)
    brain = kind == "bfloat16"
    ours = partial(tiling.argmax, typed, bfloat16=brain, out=out, threads=1)
    kernel = f"argmax {kind}".strip()
    return Case(kernel, name(height, width), out.size, ours, others, "read", typed.nbytes)


def stitch_case(height: int, width: int) -> Case:
    plan = tiling.plan_tiles(height, width, tile=(320, 480))
    logits = some_logits((len(plan), CLASSES, *plan.tile))
    out = np.empty((height, width), np.uint8)
    ours = partial(tiling.stitch, logits, plan, out=out, threads=1)
    others = peers.stitch_peers(logits, plan)
    return Case("stitch", name(height, width), out.size, ours, others, "read", logits.nbytes)


def stitcher_case(height: int, width: int) -> Case:
    plan = tiling.plan_tiles(height, width, tile=(320, 480))
    logits = some_logits((len(plan), CLASSES, *plan.tile))

    def ours() -> None:
        stitcher = tiling.Stitcher(height, width, CLASSES, plan)
        for tile in logits:
            stitcher.add(tile, threads=1)

    others = {"stitch": partial(tiling.stitch, logits, plan, threads=1)}
    return Case("Stitcher", name(height, width), height * width, ours, others)


def some_scores(shape: tuple[int, ...], kind: str) -> NDArray[np.float32]:
    """Class scores: alike over three scores, as a trained network has them, or at random."""
    rng = np.random.default_rng(4)
    tiles, classes, height, width = shape
    noise = rng.normal(0, 3, shape)
    if kind != "random":
        coarse = rng.normal(0, 6, (tiles, classes, height // 3 + 1, width // 3 + 1))
        noise = np.repeat(np.repeat(coarse, 3, 2), 3, 3)[..., :height, :width] + noise / 4
    return noise.astype(np.float32)


def last_layer(classes: int, stride: int, noise: float) -> NDArray[np.float32]:
    """A transposed convolution near bilinear interpolation, as training leaves it."""
    ramp = 1 - np.abs(np.arange(2 * stride) - (stride - 0.5)) / stride
    weights = np.zeros((classes, classes, 2 * stride, 2 * stride), np.float32)
    weights[np.arange(classes), np.arange(classes)] = np.outer(ramp, ramp)
    weights += np.random.default_rng(5).normal(0, noise, weights.shape).astype(np.float32)
    return weights


def upsample_case(height: int, width: int, kind: str = "") -> Case:
    plan = tiling.plan_padded(height, width)
    weights = last_layer(CLASSES, 32, 0.3 if kind == "wild" else 0.002)
    layer = upsampling.Upsampling(weights, None, stride=32, border="zero")
    scores = some_scores((1, CLASSES, plan.tile_height // 32, plan.tile_width // 32), kind)
    out = np.empty((height, width), np.uint8)
    ours = partial(upsampling.upsample_argmax, scores, plan, layer, out=out, threads=1)
    others = peers.upsample_peers(scores, weights, 32)
    return Case(f"upsample_argmax {kind}".strip(), name(height, width), out.size, ours, others)


def confident_case(height: int, width: int) -> Case:
    plan = tiling.plan_tiles(height, width, tile=(320, 480))
    logits = some_logits((len(plan), CLASSES, *plan.tile))
    out = np.empty((height, width), np.uint8)
    ours = partial(confidence.stitch_confident, logits, plan, out=out, threads=1)
    others = {"stitch": partial(tiling.stitch, logits, plan, out=out, threads=1)}
    return Case("stitch_confident", name(height, width), out.size, ours, others)


def upsample_confident_case(height: int, width: int) -> Case:
    plan = tiling.plan_padded(height, width)
    layer = upsampling.Upsampling(last_layer(CLASSES, 32, 0.002), None, stride=32, border="zero")
    scores = some_scores((1, CLASSES, plan.tile_height // 32, plan.tile_width // 32), "")
    out = np.empty((height, width), np.uint8)
    ours = partial(confidence.upsample_confident, scores, plan, layer, out=out, threads=1)
    labels = partial(upsampling.upsample_argmax, scores, plan, layer, out=out, threads=1)
    others = {"upsample_argmax": labels}
    return Case("upsample_confident", name(height, width), out.size, ours, others)


def confusion_case(height: int, width: int, kind: str = "masks") -> Case:
    target = blobs(height, width, CLASSES)
    predicted = np.roll(target, 3, axis=1)
    predicted[predicted == 255] = 0
    if kind == "noise":
        rng = np.random.default_rng(3)
        target = rng.integers(0, CLASSES, target.shape, dtype=np.uint8)
        predicted = rng.integers(0, CLASSES, target.shape, dtype=np.uint8)
    ours = partial(metrics.confusion, target, predicted, CLASSES, threads=1)
    others = peers.confusion_peers(target, predicted, CLASSES)
    kernel = "confusion" if kind == "masks" else "confusion noise"
    return Case(kernel, name(height, width), target.size, ours, others, "read", 2 * target.size)


def _cases() -> list[tuple[str, Callable[[], Case]]]:
    everywhere: list[tuple[str, Callable[[int, int], Case]]] = [
        ("decode", decode_case),
        ("decode", partial(decode_case, classes=256)),
        ("encode", encode_case),
        ("encode", partial(encode_case, classes=255)),
        ("overlay", overlay_case),
        ("gather", gather_case),
        ("gather", partial(gather_case, dtype=np.float16)),
        ("argmax", argmax_case),
        ("argmax", partial(argmax_case, kind="float16")),
        ("argmax", partial(argmax_case, kind="bfloat16")),
        ("stitch", stitch_case),
        ("Stitcher", stitcher_case),
        ("upsample_argmax", upsample_case),
        ("upsample_argmax", partial(upsample_case, kind="random")),
        ("upsample_argmax", partial(upsample_case, kind="wild")),
        ("stitch_confident", confident_case),
        ("upsample_confident", upsample_confident_case),
        ("confusion", confusion_case),
        ("confusion", partial(confusion_case, kind="noise")),
    ]
    return [
        (kernel, partial(make, *size))
        for kernel, make in everywhere
        for size in SIZES
        if not (kernel in ("stitch", "Stitcher", "stitch_confident") and size == SIZES[-1])
    ]


CASES = _cases()
