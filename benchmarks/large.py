"""One very large picture through predict: how long it takes and how much memory it holds.

    python -m benchmarks.large FOLDER [--side 20000] [--network fcn32s-resnet18] [--head logits]
        [--backend NAME] [--picture FILE] [--format labels] [--kill]

Makes a tiled TIFF of cloudy noise in FOLDER, by libvips and without holding it, exports a network
with fresh weights and 21 classes, and labels the picture from file to file in its own process,
whose peak memory is printed. What is there already is not made again.

With ``--kill`` the picture is labeled once more, by a run that is killed three times with SIGKILL
and started again each time. The last one must give the same file, byte by byte.
"""

from __future__ import annotations

import argparse
import json
import subprocess
import sys
import time
from pathlib import Path
from typing import Any, Final, get_args

import pyvips
import torch

from fcnkit.export.to_onnx import export_onnx
from fcnkit.runtime import Format, Head
from fcnkit.runtime.pixels.palette import VOC_CLASSES, voc_palette
from fcnkit.runtime.predict.band_store import BandStore
from fcnkit.runtime.predict.outputs import SUFFIX_OF
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


def make_model(path: Path, network: str, head: Head) -> None:
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
    export_onnx(path.with_suffix(".pt"), path, head=head)


_KILLS: Final = (0.3, 0.25, 0.25)
"""Share of the time of an undisturbed run after which each killed one is killed."""


def bands_in(folder: Path, width: int) -> int:
    """Return how many bands a killed run left."""
    bands = [*folder.glob(".fcnkit-bands/*")]
    if not bands:
        return 0
    with bands[0].open("r+b", buffering=0) as file:
        file.readline()  # what they were made from
        return len(BandStore(file, bands[0], width))


def killed(command: list[str], alone: dict[str, Any], out: Path, width: int) -> dict[str, Any]:
    """Label a picture with a run that is killed again and again.

    Args:
        command: Of a run, without the folder for results.
        alone: What an undisturbed run said.
        out: A new folder for results.
        width: Columns of the picture.

    Returns:
        Bands that were there after each kill, and what the last run said.
    """
    bands = []
    for share in _KILLS:
        running = subprocess.Popen([*command, "-o", str(out)], stdout=subprocess.DEVNULL)
        time.sleep(share * alone["seconds"])
        running.kill()
        running.wait()
        bands.append(bands_in(out, width))
    last = subprocess.run([*command, "-o", str(out)], check=True, text=True, stdout=subprocess.PIPE)
    return {"bands_after_kills": bands, "last_run": json.loads(last.stdout)}


def main() -> None:
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("folder", type=Path)
    parser.add_argument("--side", type=int, default=20_000, help="rows and columns")
    parser.add_argument("--network", default="fcn32s-resnet18", choices=ARCHITECTURES)
    parser.add_argument("--head", default="logits", choices=("logits", "scores"))
    parser.add_argument("--backend", default="onnxruntime")
    parser.add_argument("--picture", type=Path, help="this one, streamed whatever its size")
    parser.add_argument("--format", default="labels", choices=get_args(Format))
    parser.add_argument("--kill", action="store_true", help="kill it three times and compare")
    options = parser.parse_args()
    folder: Path = options.folder
    folder.mkdir(parents=True, exist_ok=True)
    picture: Path = options.picture or folder / f"{options.side}.tif"
    model = folder / f"{options.network}-{options.head}.onnx"
    if not picture.exists():
        make_picture(picture, options.side)
    if not model.exists():
        make_model(model, options.network, options.head)
    command = [str(Path(sys.executable).with_name("fcnkit")), "predict", str(model), str(picture)]
    command += ["--tile", "1024x1024", "--overlap", "64", "--format", options.format]
    command += ["--backend", options.backend, "--stats", "--json"]
    if options.picture:
        command += ["--max-pixels", "1"]
    whole = folder / "labels" / f"{picture.stem}{SUFFIX_OF[options.format]}"
    alone = [*command, "-o", str(whole.parent), "--no-resume"]
    done = subprocess.run(alone, check=True, text=True, stdout=subprocess.PIPE)
    result = json.loads(done.stdout)
    result["output_bytes"] = whole.stat().st_size
    if options.kill:
        out = folder / f"killed-{time.time_ns()}"
        width = pyvips.Image.new_from_file(str(picture)).width
        result["killed"] = killed(command, result, out, width)
        result["killed"]["equal"] = (out / whole.name).read_bytes() == whole.read_bytes()
    print(json.dumps(result, indent=2))


if __name__ == "__main__":
    main()
