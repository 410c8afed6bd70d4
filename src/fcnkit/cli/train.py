"""``fcnkit train``: a folder in VOC layout in, a run folder with checkpoints out."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, cast

import typer

from fcnkit.errors import message, missing_extra

if TYPE_CHECKING:
    from fcnkit.train.loop import EpochResult
    from fcnkit.train.models import UpsampleInit
    from fcnkit.train.recipe import Recipe

__all__ = ["train"]

_MODEL_HELP = (
    "NAME-BACKBONE: fcn32s, fcn16s, fcn8s, unet, deeplabv3 or deeplabv3os8 (output stride 8) on "
    "resnet18, resnet34, resnet50 or resnet101; or unet alone, with its own encoder."
)


def train(
    data: Annotated[Path, typer.Argument(help="Folder in VOC layout with train and val lists.")],
    *,
    run: Annotated[Path, typer.Option("-o", "--run", help="Run folder to write.")],
    recipe: Annotated[
        str, typer.Option(help="d2l: as in the d2l.ai chapter; modern: from scratch, augmented.")
    ] = "d2l",
    model: Annotated[str, typer.Option(help=_MODEL_HELP)] = "fcn32s-resnet18",
    pretrained: Annotated[
        bool, typer.Option("--pretrained", help="Start from ImageNet weights (a download).")
    ] = False,
    init_from: Annotated[
        Path | None,
        typer.Option(help="Start from a checkpoint, or from a state dict of the d2l.ai chapter."),
    ] = None,
    upsample_init: Annotated[
        str, typer.Option(help="How transposed convolutions start: bilinear or xavier.")
    ] = "bilinear",
    freeze_upsample: Annotated[
        bool, typer.Option("--freeze-upsample", help="Keep them bilinear (fcn, deeplabv3).")
    ] = False,
    epochs: Annotated[int | None, typer.Option(help="Default: the recipe's.")] = None,
    batch: Annotated[int | None, typer.Option(help="Default: the recipe's.")] = None,
    crop: Annotated[str | None, typer.Option(help="HxW, default 320x480.")] = None,
    lr: Annotated[float | None, typer.Option(help="Peak learning rate.")] = None,
    precision: Annotated[str | None, typer.Option(help="fp32 or bf16.")] = None,
    seed: Annotated[int | None, typer.Option(help="Of weights, order and crops.")] = None,
    device: Annotated[str, typer.Option(help="auto, cpu, cuda or cuda:N.")] = "auto",
    workers: Annotated[int, typer.Option(help="Processes that read pictures.", min=0)] = 1,
    resume: Annotated[bool, typer.Option("--resume", help="Continue the run.")] = False,
) -> None:
    """Train a network and keep the best and the last checkpoint."""
    from fcnkit.cli.progress import progress_of
    from fcnkit.train.recipe import RECIPES

    if recipe not in RECIPES:
        rule = f"must be one of {', '.join(RECIPES)}"
        raise ValueError(message("--recipe", rule, recipe, "choose one of these"))
    options = {
        "epochs": epochs,
        "batch": batch,
        "crop": None if crop is None else _parse_size(crop),
        "lr": lr,
        "precision": precision,
        "seed": seed,
    }
    given: dict[str, Any] = {key: value for key, value in options.items() if value is not None}
    chosen: Recipe = replace(RECIPES[recipe], **given)
    try:
        from fcnkit.train import loop
        from fcnkit.train.weights import ModelOptions
    except ModuleNotFoundError as error:
        raise missing_extra("fcnkit train", str(error.name), "train") from error
    opened = loop.open_training_data(data, chosen)
    # The chapter's own words, for those who compare.
    typer.echo(f"read {len(opened.samples)} examples ({opened.dropped} smaller than the crop)")
    with progress_of() as advance:
        loop.train(
            opened,
            run,
            chosen,
            model=ModelOptions(
                architecture=model,
                pretrained=pretrained,
                init_from=init_from,
                upsample_init=cast("UpsampleInit", upsample_init),
                freeze_upsample=freeze_upsample,
            ),
            device=device,
            workers=workers,
            resume=resume,
            on_weights=lambda loaded: typer.echo(f"starts with {loaded.summary()}"),
            on_step=lambda epoch, step, steps: advance(f"epoch {epoch}", step, steps),
            on_epoch=_report,
        )
    typer.echo(f"wrote {run}: best.pt, last.pt, metrics.jsonl, curves.png, samples.png")


def _report(result: EpochResult) -> None:
    typer.echo(
        f"epoch {result.epoch}: loss {result.loss:.4f}, "
        f"pixel accuracy {result.pixel_accuracy:.4f}, mean IoU {result.mean_iou:.4f}, "
        f"{result.images_per_second:.1f} images/s{' (best)' if result.best else ''}"
    )


def _parse_size(text: str) -> tuple[int, int]:
    height, _, width = text.lower().partition("x")
    if not (height.isascii() and height.isdigit() and width.isascii() and width.isdigit()):
        raise ValueError(message("--crop", "a size is written HxW", repr(text), "write 320x480"))
    return int(height), int(width)
