"""Every size from 1x1 to 97x131, and real sizes, against PyTorch in float32 under a numpy cover.

    python -m benchmarks.agreement [--checkpoint FILE --pictures FOLDER] [--every N] [--json FILE]

The small sizes run through a small network in every head and cover. With a checkpoint, one picture
of each size in the folder runs through its exports: in float32 on each backend that opens here,
and in bfloat16 where a backend can, whose agreement is reported and not judged.
"""

from __future__ import annotations

import tempfile
from collections.abc import Iterable
from contextlib import ExitStack
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from PIL import Image

import fcnkit
from benchmarks.options import parser_of, save
from fcnkit.errors import FcnkitError
from fcnkit.export.to_onnx import export_onnx
from fcnkit.runtime import Segmenter, load
from fcnkit.train.checkpoint import load_model
from tests.reference.covering import average, pad
from tests.runtime.models import conv5
from tests.runtime.predict.test_agreement import SIZES, expected, open_ways, picture, write_heads

ENOUGH = 0.9999


def count(
    ways: dict[str, Segmenter], answers: Iterable[tuple[NDArray[np.uint8], dict[str, Any]]]
) -> dict[str, float]:
    """Share of equal pixels by way."""
    equal, pixels = dict.fromkeys(ways, 0), dict.fromkeys(ways, 0)
    for image_hwc, wanted in answers:
        for way, segmenter in ways.items():
            labels_hw = wanted[way]
            equal[way] += int((segmenter(image_hwc) == labels_hw).sum())
            pixels[way] += labels_hw.size
    return {way: equal[way] / pixels[way] for way in ways}


def small_sizes(folder: Path, every: int) -> dict[str, float]:
    write_heads(folder)
    net, found = conv5(), {}
    for backend in ("onnxruntime", "openvino"):
        with ExitStack() as stack:
            ways = open_ways(stack, folder, backend)
            images = (picture(*size) for size in SIZES[::every])
            shares = count(ways, ((image, expected(image, net)) for image in images))
            found |= {f"{backend} {way}": share for way, share in shares.items()}
    return found


def real_sizes(folder: Path, checkpoint: Path, pictures: Path) -> dict[str, float]:
    net, loaded = load_model(checkpoint)
    net.eval()
    mean, std = loaded.spec.input.mean, loaded.spec.input.std
    ways: dict[str, Segmenter] = {}
    with ExitStack() as stack:
        for head, covers in (
            ("labels", ("pad",)),
            ("logits", ("pad", "average")),
            ("scene", ("average",)),
        ):
            path = folder / f"real-{head}.onnx"
            export_onnx(checkpoint, path, head=head)  # type: ignore[arg-type]
            for backend, compute in (
                ("onnxruntime", "fp32"),
                ("openvino", "fp32"),
                ("openvino", "bf16"),
            ):
                for cover in covers:
                    try:
                        opened = load(path, backend=backend, compute=compute, cover=cover)  # type: ignore[arg-type]
                    except FcnkitError as error:
                        print(f"{backend} {compute}: {error}")
                        continue
                    way = f"{backend} {compute} {head} {cover}"
                    ways[way] = stack.enter_context(opened)
        for compute in ("fp32", "bf16"):
            for cover in ("pad", "average"):
                opened = fcnkit.load(checkpoint, backend="torch", compute=compute, cover=cover)  # type: ignore[arg-type]
                ways[f"torch {compute} checkpoint {cover}"] = stack.enter_context(opened)
        by_size: dict[tuple[int, int], Path] = {}
        for path in sorted(pictures.glob("*.jpg")):
            with Image.open(path) as image:
                by_size.setdefault(image.size, path)

        def answers() -> Iterable[tuple[NDArray[np.uint8], dict[str, Any]]]:
            for path in by_size.values():
                image_hwc = np.array(Image.open(path).convert("RGB"))
                wanted = {
                    "average": average(image_hwc, net, mean, std),
                    "pad": pad(image_hwc, net, mean, std, multiple=32),
                }
                yield image_hwc, {way: wanted[way.split()[-1]] for way in ways}

        return {f"{len(by_size)} real sizes, {w}": s for w, s in count(ways, answers()).items()}


def main() -> None:
    parser = parser_of(__doc__)
    parser.add_argument("--checkpoint", type=Path)
    parser.add_argument("--pictures", type=Path)
    parser.add_argument("--every", type=int, default=1)
    options = parser.parse_args()
    torch.set_grad_enabled(False)
    with tempfile.TemporaryDirectory() as name:
        found = small_sizes(Path(name), options.every)
        if options.checkpoint:
            found |= real_sizes(Path(name), options.checkpoint, options.pictures)
    for way, share in found.items():
        judged = "" if "bf16" in way else "  ok" if share >= ENOUGH else "  TOO FEW"
        print(f"{way:48} {100 * share:9.5f} % of pixels equal{judged}")
    save(found, options.json)


if __name__ == "__main__":
    main()
