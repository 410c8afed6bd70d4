"""One very large picture through predict: how long it takes and how much memory it holds.

    python -m benchmarks.large FOLDER [--side 20000] [--network fcn32s-resnet18] [--backend NAME]
        [--picture FILE]

Makes a tiled TIFF of cloudy noise in FOLDER, by libvips and without holding it, exports a network
with fresh weights and 21 classes with head ``logits``, and labels the picture from file to file in
its own process, whose peak memory is printed. What is there already is not made again.
"""

from __future__ import annotations

import argparse
import json
import subprocess
import sys
from pathlib import Path
from typing import Any

import pyvips
import torch

from fcnkit.export.to_onnx import export_onnx
from fcnkit.runtime.pixels.palette import VOC_CLASSES, voc_palette
from fcnkit.train.checkpoint import Checkpoint, checkpoint_spec, save_checkpoint
from fcnkit.train.models import ARCHITECTURES, create_model
from fcnkit.train.recipe import RECIPES


def make_picture(path: Path, side: int) -> None:
    """Write a picture of side x side pixels; no two tiles of it are alike."""

    def plane(seed: int, cell: int) -> Any:
        coarse = pyvips.Image.perlin(side, side, cell_size=cell, uchar=True, seed=seed)
        fine = pyvips.Image.perlin(side, side, cell_size=16, uchar=True, seed=seed + 9)
        return ((3 * coarse + fine) / 4).cast("uchar")

    picture = plane(1, 512).bandjoin([plane(2, 256), plane(3, 128)])
    picture = picture.copy(interpretation="srgb")
    tiles: dict[str, Any] = {"tile": True, "tile_width": 256, "tile_height": 256}
    picture.tiffsave(str(path), **tiles, compression="deflate", bigtiff=True)


def make_model(path: Path, network: str) -> None:
    """Export a network with fresh weights."""
    torch.manual_seed(0)
    colors = tuple(tuple(map(int, color)) for color in voc_palette(len(VOC_CLASSES)))
    checkpoint = Checkpoint(
        spec=checkpoint_spec(network, VOC_CLASSES, colors),
        model=create_model(network, len(VOC_CLASSES)).state_dict(),
        resume=None,
        epoch=0,
        recipe=RECIPES["modern"],
        scores={},
    )
    save_checkpoint(path.with_suffix(".pt"), checkpoint)
    export_onnx(path.with_suffix(".pt"), path, head="logits")


def main() -> None:
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("folder", type=Path)
    parser.add_argument("--side", type=int, default=20_000, help="rows and columns")
    parser.add_argument("--network", default="fcn32s-resnet18", choices=ARCHITECTURES)
    parser.add_argument("--backend", default="onnxruntime")
    parser.add_argument("--picture", type=Path, help="this one, streamed whatever its size")
    options = parser.parse_args()
    folder: Path = options.folder
    folder.mkdir(parents=True, exist_ok=True)
    picture: Path = options.picture or folder / f"{options.side}.tif"
    model = folder / f"{options.network}.onnx"
    if not picture.exists():
        make_picture(picture, options.side)
    if not model.exists():
        make_model(model, options.network)
    command = [Path(sys.executable).with_name("fcnkit"), "predict", model, picture]
    command += ["-o", folder / "labels", "--tile", "1024x1024", "--overlap", "64"]
    command += ["--backend", options.backend, "--no-resume", "--stats", "--json"]
    if options.picture:
        command += ["--max-pixels", "1"]
    done = subprocess.run([*map(str, command)], check=True, text=True, stdout=subprocess.PIPE)
    result = json.loads(done.stdout)
    result["output_bytes"] = (folder / "labels" / f"{picture.stem}.png").stat().st_size
    print(json.dumps(result, indent=2))


if __name__ == "__main__":
    main()
