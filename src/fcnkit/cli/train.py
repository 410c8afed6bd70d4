"""``fcnkit train``: a folder in VOC layout in, a run folder with checkpoints out."""

from __future__ import annotations

import warnings
from dataclasses import fields, replace
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from fcnkit.cli.documented import documented
from fcnkit.cli.following import say_next
from fcnkit.cli.options import (
    PictureBands,
    ValueRange,
    choice,
    parse_bands,
    parse_levels,
    parse_range,
    parse_size,
)
from fcnkit.cli.say import say
from fcnkit.errors import BadValueError, FcnkitWarning, message, missing_extra, printable
from fcnkit.train.recipe import (
    RECIPES,
    Loss,
    Optimizer,
    Recipe,
    Schedule,
    TrainingPrecision,
    UpsampleInit,
    recipe_lines,
)

if TYPE_CHECKING:
    from fcnkit.train.loop import EpochResult, TrainingData

__all__ = ["RECIPE_HELP", "train"]

RECIPE_HELP = "\n\n".join(["What the recipes set:", *recipe_lines()])


@documented
def train(
    data: Annotated[Path, typer.Argument(help="Folder in VOC layout with train and val lists.")],
    *,
    run: Annotated[Path, typer.Option("-o", "--run")],
    recipe: Annotated[
        str,
        choice("--recipe", RECIPES, "as in the d2l.ai chapter, or from scratch with augmentation."),
    ] = "d2l",
    model: str = "fcn32s-resnet18",
    backbone: str | None = None,
    pretrained: Annotated[bool, typer.Option("--pretrained")] = False,
    init_from: Path | None = None,
    teacher: Path | None = None,
    teacher_weight: float | None = None,
    teacher_temperature: float | None = None,
    upsample_init: UpsampleInit = "bilinear",
    freeze_upsample: Annotated[bool, typer.Option("--freeze-upsample")] = False,
    epochs: int | None = None,
    batch: int | None = None,
    crop: str | None = None,
    lr: float | None = None,
    optimizer: Optimizer | None = None,
    precision: TrainingPrecision | None = None,
    weight_decay: float | None = None,
    schedule: Schedule | None = None,
    loss: Loss | None = None,
    class_weights: str | None = None,
    dice: float | None = None,
    ema: float | None = None,
    scale: str | None = None,
    half_size: float | None = None,
    flip: Annotated[bool | None, typer.Option("--flip/--no-flip")] = None,
    color: float | None = None,
    balanced_crops: float | None = None,
    class_mix: float | None = None,
    auxiliary: float | None = None,
    seed: int | None = None,
    value_range: ValueRange = None,
    bands: PictureBands = None,
    device: str = "auto",
    workers: Annotated[int, typer.Option(min=0, max=256)] = 1,
    compiled: Annotated[bool, typer.Option("--compile")] = False,
    validate_every: Annotated[int, typer.Option(min=1)] = 1,
    resume: Annotated[bool, typer.Option("--resume")] = False,
) -> None:
    """Train a network and keep the best and the last checkpoint.

    Options:
        run: Run folder to write.
        model: NAME-BACKBONE: fcn32s, fcn16s, fcn8s, fpn, unet, deeplabv3 or deeplabv3os8 (output
            stride 8) on resnet18, resnet34, resnet50 or resnet101; lraspp-mobilenet_v3_large,
            ddrnet23slim or ddrnet23slim4, for real time; or unet alone, with its own encoder. Or
            package.module:factory, a network of your own, or torchvision:NAME.
        backbone: Where --model is a NAME alone: resnet18, resnet34, resnet50 or resnet101; with
            fcn32s, fcn16s, fcn8s and fpn also timm:NAME, a convolutional backbone of timm.
        pretrained: Start from ImageNet weights (a download).
        init_from: Start from a checkpoint, or from a state dict of the d2l.ai chapter or of a
            torchvision ResNet.
        teacher: Learn from this trained network too (distillation): its classes and input must be
            those of the data.
        teacher_weight: Of the distance to its probabilities, by default 1.
        teacher_temperature: What logits are divided by before that, by default 1.
        upsample_init: how transposed convolutions start.
        freeze_upsample: Do not train them (fcn, deeplabv3, lraspp, ddrnet23slim, ddrnet23slim4).
        epochs: Default: the recipe's.
        batch: Default: the recipe's.
        crop: HxW; by default 320x480, or less where most pictures are smaller.
        lr: Peak learning rate.
        optimizer: plain, Nesterov with 0.9, Adam or AdamW.
        precision: the recipe's by default; auto: bf16 where the device has instructions for it.
        weight_decay: L2; with adamw decoupled.
        schedule: poly: warm-up, then down to 0.
        loss: focal: hard pixels count more; ohem: only hard pixels count.
        class_weights: none, frequency (rare classes count more), or by hand: pole=5,car=2, others
            1.
        dice: Weight of an added Dice loss.
        ema: Decay of the averaged weights, such as 0.999.
        scale: LOW..HIGH by which pictures are resized, such as 0.5..2.
        half_size: Share of the epochs, the first ones, at half the size.
        flip: Mirror half of the pictures.
        color: Strength of the color augmentation, such as 0.3.
        balanced_crops: Share of the crops placed on a class, rare ones as often as others.
        class_mix: Share of the crops onto which classes of another image are pasted.
        auxiliary: Weight of the loss of a second head inside the network, such as 0.4.
        seed: Of weights, order and crops.
        device: auto, cpu, cuda or cuda:N.
        workers: Processes that read pictures.
        compiled: Compile the training step (torch.compile).
        validate_every: Epochs from one validation to the next.
        resume: Continue the run.
    """
    options = locals().copy()
    from fcnkit.cli.progress import progress_of

    chosen = _chosen(recipe, options)
    try:
        from fcnkit.train import loop
        from fcnkit.train.weights import ModelOptions
    except ModuleNotFoundError as error:
        raise missing_extra("fcnkit train", str(error.name), "train") from error
    network = ModelOptions(
        architecture=_architecture(model, backbone),
        pretrained=pretrained,
        init_from=init_from,
        upsample_init=upsample_init,
        freeze_upsample=freeze_upsample,
    )
    first = _speaks()
    if crop is None:
        chosen = _fit_crop(data, chosen, resumed=run if resume else None, speak=first)
    levels = parse_levels(value_range, "--range")
    opened = loop.open_data(data, chosen, range=levels, bands=parse_bands(bands))
    _say_data(opened, chosen, speak=first)
    with progress_of(unit="images", lasting=False) as advance:
        loop.train(
            opened,
            run,
            chosen,
            model=network,
            teacher=teacher,
            device=device,
            workers=workers,
            resume=resume,
            compiled=compiled,
            validate_every=validate_every,
            on_step=(lambda epoch, *amount: advance(f"epoch {epoch}", *amount)) if first else None,
            on_weights=lambda loaded: say(f"starts with {loaded.summary()}"),
            on_epoch=_report,
        )
    _say_done(run, speak=first)


def _chosen(name: str, options: dict[str, Any]) -> Recipe:
    """Return a recipe with the fields that were given as options of the same names."""
    names = {field.name for field in fields(Recipe)} - {"teacher"}
    given = {key: options[key] for key in names & set(options) if options[key] is not None}
    if "crop" in given:
        given["crop"] = parse_size(given["crop"], "--crop")
    if "scale" in given:
        given["scale"] = parse_range(given["scale"], "--scale")
    return replace(RECIPES[name], **given)


def _speaks() -> bool:
    """Whether this process speaks for all that torchrun started; the others keep quiet."""
    from fcnkit.train.parallel import is_first

    first = is_first()
    if not first:
        warnings.filterwarnings("ignore", category=FcnkitWarning)
    return first


def _say_done(run: Path, *, speak: bool) -> None:
    """Say what was written and what comes next."""
    if speak:
        say(f"wrote {run}: best.pt, last.pt, metrics.jsonl, curves.png, samples.png")
        say_next("export", "onnx", run / "best.pt", "-o", run / "model.onnx")


def _fit_crop(data: Path, recipe: Recipe, *, resumed: Path | None, speak: bool) -> Recipe:
    """Return the recipe with a crop that fits the pictures, and say what was assumed."""
    from fcnkit.train.crop import recipe_without_crop

    fitted, assumed = recipe_without_crop(data, recipe, resumed=resumed)
    if speak and assumed:
        say(assumed)
    return fitted


def _say_data(opened: TrainingData, recipe: Recipe, *, speak: bool) -> None:
    """Say what is trained on, and what is odd about it."""
    if not speak:
        return
    # The same words as in the d2l.ai chapter, to compare.
    left_out = f", left out {opened.dropped} smaller than the crop" if opened.dropped else ""
    say(f"read {len(opened.samples)} examples{left_out}")
    small = opened.val_smaller
    too = f", and {small} smaller than the crop; all are scored" if small else ""
    say(f"read {len(opened.val.samples) - small} examples of val{too}")
    _remark(opened, recipe)


def _remark(data: TrainingData, recipe: Recipe) -> None:
    """Say what ``fcnkit data check`` would say about the labels, and what becomes of void."""
    from fcnkit.train.data.remarks import about_run

    found = about_run(data.train, data.samples, data.val)
    for remark in found.notes:
        say(f"note: {remark.text}", err=True)
    if recipe.for_classes(data.train.labelmap) != recipe:
        name = data.train.classes[0]
        text = f"void is ignored, not trained as class 0: class 0 is {name}, not background"
        say(f"note: {printable(text)}", err=True)
    for remark in found.warnings:
        say(f"warning: {remark.text}", err=True)


def _architecture(model: str, backbone: str | None) -> str:
    """Put network and backbone together, given in one option or in two; import a factory."""
    from fcnkit.train.models.foreign import is_factory, register_factory

    if backbone is None:
        if is_factory(model):
            register_factory(model)
        return model
    if "-" in model:
        rule = "is given by itself or in --model"
        raise BadValueError(
            message("--backbone", rule, f"both, {backbone} and {model}", "drop one")
        )
    return f"{model}-{backbone}"


def _report(result: EpochResult) -> None:
    scores, end = "", ""
    trained = f"loss {result.loss:.4f}, "
    if result.train_accuracy is not None:
        trained += f"training accuracy {result.train_accuracy:.4f}, "
    if result.val_loss is not None:
        trained += f"validation loss {result.val_loss:.4f}, "
    if result.mean_iou is not None and result.tells:
        scores = f"pixel accuracy {result.pixel_accuracy:.4f}, mean IoU {result.mean_iou:.4f}, "
        end = " (best)" if result.best else ""
    elif result.mean_iou is not None:
        end = " (not scored: val shows only one class)"
    say(f"epoch {result.epoch}: {trained}{scores}{result.images_per_second:.1f} images/s{end}")
