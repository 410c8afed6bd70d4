"""Recipes: everything that decides how a run trains, as one frozen value saved with the run."""

from __future__ import annotations

import math
import re
from dataclasses import MISSING, asdict, dataclass, fields, replace
from typing import TYPE_CHECKING, Any, Literal, get_args, get_origin, get_type_hints

from fcnkit.errors import BadTypeError, BadValueError, message
from fcnkit.runtime.checks import check_choice

if TYPE_CHECKING:
    from fcnkit.train.data.labelmap import LabelMap

__all__ = [
    "RECIPES",
    "Loss",
    "Optimizer",
    "Recipe",
    "Schedule",
    "TrainingPrecision",
    "UpsampleInit",
    "learning_rate",
    "parse_class_weights",
    "recipe_lines",
]

Optimizer = Literal["sgd", "momentum", "adam", "adamw"]
Schedule = Literal["constant", "poly"]
Loss = Literal["cross-entropy", "focal", "ohem"]
TrainingPrecision = Literal["auto", "fp32", "bf16"]
UpsampleInit = Literal["bilinear", "xavier"]
"""How transposed convolutions start."""


@dataclass(frozen=True, kw_only=True)
class Recipe:
    """How to train. Sizes are (rows, columns) in pixels."""

    name: str
    epochs: int
    batch: int
    crop: tuple[int, int]
    optimizer: Optimizer
    """sgd is plain, as the d2l.ai chapter's; momentum is Nesterov's, 0.9."""
    lr: float
    """Peak learning rate."""
    weight_decay: float
    """Added to the gradient as L2, with adamw decoupled from it."""
    schedule: Schedule
    """poly: linear warm-up over the first 5 % of steps, then (1 - step/steps) ** 0.9."""
    loss: Loss = "cross-entropy"
    """focal: pixels that are already right count less (Lin et al., 2017, gamma 2). ohem: the hard
    pixels alone count (Wu et al., 2016), those below a probability of 0.7 for the true class, and
    at least a sixteenth of each picture."""
    reduction: Literal["image-sum", "pixel-mean"]
    """The loss as the mean over each picture's pixels summed over the batch (the d2l.ai chapter's),
    or as the mean over the batch's pixels that are not void."""
    dice: float
    """Weight of the Dice loss that is added to the cross-entropy; 0: none."""
    class_weights: str
    """none; frequency: rare classes count more, by their share of the training masks' pixels; or
    by hand, NAME=WEIGHT joined by commas, every other class 1."""
    ema: float
    """Decay per step of the moving average of the weights that is validated and kept; 0: none."""
    scale: tuple[float, float]
    """Pictures are resized by a factor drawn from this range before the crop."""
    half_size: float = 0.0
    """Share of the epochs, at the start, that train at half the crop and scale, in a third of the
    time: progressive learning, as in Tan and Le, "EfficientNetV2", 2021; 0: none."""
    flip: bool
    """Mirror half of the pictures."""
    balanced_crops: float = 0.0
    """Share of the crops that hold a pixel of a class drawn from those of the picture, all alike;
    the others lie anywhere."""
    class_mix: float = 0.0
    """Share of the crops onto which half of the classes of another crop are pasted (Olsson et al.,
    "ClassMix", 2021, with true labels)."""
    color: float
    """Brightness, contrast and saturation change by factors 1 - color..1 + color, the hue by a
    tenth of that in turns; 0: none."""
    void_as_background: bool
    """Train void as class 0, as the d2l.ai chapter does, where that is named background; else, and
    by default, it is ignored."""
    drop_smaller: bool
    """Leave out pictures smaller than the crop, as the d2l.ai chapter does, instead of padding
    them."""
    auxiliary: float = 0.0
    """Weight of the same loss on the scores of a second head, which classifies features inside the
    network and is not deployed; 0: none."""
    precision: TrainingPrecision
    """bf16: bfloat16 autocast with channels_last tensors. auto: bf16 where the device has
    instructions for it, else fp32; a run keeps what it began with."""
    seed: int
    teacher: str = "none"
    """SHA-256 of the file of the network that this one learns from, in epochs of whole size; none:
    there is none."""
    teacher_weight: float = 1.0
    """Weight of the distance to the teacher's probabilities, which is added to the loss."""
    teacher_temperature: float = 1.0
    """What logits are divided by before that: above 1, the less likely classes count more."""

    def __post_init__(self) -> None:
        """Refuse values that cannot train.

        Raises:
            TypeError: A value is of another type than its field.
            ValueError: A value is out of range; the message names the option.
        """
        self._check_types()
        for option, value in (("epochs", self.epochs), ("batch", self.batch)):
            if value < 1:
                raise BadValueError(message(f"--{option}", "must be at least 1", value, "raise it"))
        if min(self.crop) < 32 or self.crop[0] % 32 or self.crop[1] % 32:
            got = f"{self.crop[0]}x{self.crop[1]}"
            fit = "x".join(str(max(32, round(side / 32) * 32)) for side in self.crop)
            rule = "sides must be multiples of 32"
            raise BadValueError(message("--crop", rule, got, f"use {fit}"))
        if not 0 < self.lr < float("inf"):
            raise BadValueError(message("--lr", "must be positive", self.lr, "try 0.001"))
        if not 0 < self.scale[0] <= self.scale[1] <= 16:
            got, rule = "..".join(map(str, self.scale)), "must be above 0, in order and at most 16"
            raise BadValueError(message("--scale", rule, got, "try 0.5..2"))
        for option, weight in (
            ("weight-decay", self.weight_decay),
            ("dice", self.dice),
            ("auxiliary", self.auxiliary),
        ):
            if not 0 <= weight < float("inf"):
                rule, remedy = "must be at least 0", "use 0 to turn it off"
                raise BadValueError(message(f"--{option}", rule, weight, remedy))
        parse_class_weights(self.class_weights)
        self._check_shares()
        if not 0 <= self.seed < 2**63:
            raise BadValueError(message("--seed", "must be 0 to 2**63 - 1", self.seed, "use 0"))
        self._check_teacher()

    def _check_shares(self) -> None:
        for option, share, below in (
            ("ema", self.ema, True),
            ("color", self.color, True),
            ("half-size", self.half_size, True),
            ("balanced-crops", self.balanced_crops, False),
            ("class-mix", self.class_mix, False),
        ):
            if not 0 <= share <= 1 or (below and share == 1):
                rule = f"must be at least 0 and {'below' if below else 'at most'} 1"
                raise BadValueError(message(f"--{option}", rule, share, "use 0 to turn it off"))

    def _check_teacher(self) -> None:
        if not re.fullmatch("none|[0-9a-f]{64}", self.teacher):
            rule, remedy = "must be none or a SHA-256 in hexadecimal", "leave it to training"
            raise BadValueError(message("--teacher", rule, self.teacher, remedy))
        for option, factor in (
            ("teacher-weight", self.teacher_weight),
            ("teacher-temperature", self.teacher_temperature),
        ):
            if not 0 < factor < float("inf"):
                raise BadValueError(message(f"--{option}", "must be positive", factor, "use 1"))

    def _check_types(self) -> None:
        for name, kind in get_type_hints(type(self)).items():
            value, option = getattr(self, name), f"--{name.replace('_', '-')}"
            if get_origin(kind) is Literal:
                check_choice(option, value, get_args(kind))
            elif not _fits(kind, value):
                wanted = kind.__name__ if isinstance(kind, type) else kind
                raise BadTypeError(
                    message(option, f"must be of type {wanted}", repr(value), "convert it")
                )

    def for_classes(self, labelmap: LabelMap) -> Recipe:
        """Return the recipe for a data set: without a background class, void is ignored."""
        if labelmap.has_background or not self.void_as_background:
            return self
        return replace(self, void_as_background=False)

    def is_half_size(self, epoch: int) -> bool:
        """Say whether an epoch, counted from 1, trains at half the size."""
        return self.half_size > 0 and epoch <= self.half_size * self.epochs

    def of_epoch(self, epoch: int) -> Recipe:
        """Return the recipe of one epoch, counted from 1: it may train at half the size."""
        if not self.is_half_size(epoch):
            return self
        height, width = (-(-side // 64) * 32 for side in self.crop)
        return replace(self, crop=(height, width), scale=(self.scale[0] / 2, self.scale[1] / 2))

    def to_dict(self) -> dict[str, Any]:
        """Return plain values for JSON and checkpoints."""
        return asdict(self)

    @classmethod
    def from_dict(cls, data: dict[str, Any]) -> Recipe:
        """Read what to_dict wrote.

        Raises:
            ValueError: data is not a dict, a field is missing, unknown or of another type, or a
                value cannot train.
        """
        rule, remedy = "must be a dict", "use the file that was saved"
        if not isinstance(data, dict):
            raise BadValueError(message("recipe", rule, type(data).__name__, remedy))
        if data.get("loss") in ("image-sum", "pixel-mean") and "reduction" not in data:
            # What is called reduction today; there was one loss.
            data = {**data, "loss": "cross-entropy", "reduction": data["loss"]}
        # Older files lack the fields that have a default; they were trained with that default.
        needed = {field.name for field in fields(cls) if field.default is MISSING}
        kinds = get_type_hints(cls)
        if not needed <= set(data) <= set(kinds):
            got = ", ".join(sorted(map(str, (set(data) - set(kinds)) | (needed - set(data)))))
            rule = "must have exactly the fields of this version"
            remedy = "use the version of fcnkit that wrote it"
            raise BadValueError(message("recipe", rule, f"a difference in {got}", remedy))
        for name, value in data.items():
            if not _fits(kinds[name], value):
                rule, got = f"{name} must be a legal value", type(value).__name__
                raise BadValueError(message("recipe", rule, f"another {got}", remedy))
        pairs = {"crop": tuple(data["crop"]), "scale": tuple(data["scale"])}
        return cls(**{**data, **pairs})


def _fits(kind: Any, value: object) -> bool:
    """Whether a plain value is of a field's annotated type; True is not a number."""
    if get_origin(kind) is Literal:
        return isinstance(value, str) and value in get_args(kind)
    if get_origin(kind) is tuple:
        kinds = get_args(kind)
        return (
            isinstance(value, (list, tuple))
            and len(value) == len(kinds)
            and all(map(_fits, kinds, value))
        )
    return type(value) is kind or (kind is float and type(value) is int)


def parse_class_weights(text: str) -> dict[str, float]:
    """Read ``Recipe.class_weights`` where it was given by hand.

    Args:
        text: ``none``, ``frequency``, or ``NAME=WEIGHT`` joined by commas.

    Returns:
        Weight by class name; empty for ``none`` and ``frequency``.

    Raises:
        ValueError: It is none of these, a name comes twice, or a weight is not a number from 0.
    """
    weights: dict[str, float] = {}
    if text in ("none", "frequency"):
        return weights
    for part in text.split(","):
        name, equals, value = part.strip().rpartition("=")
        try:
            weight = float(value)
        except ValueError:
            weight = -1.0
        if not equals or not name or name in weights or not 0 <= weight < float("inf"):
            rule = "must be none, frequency, or NAME=WEIGHT by comma, weights at least 0"
            raise BadValueError(message("--class-weights", rule, text, "write pole=5,car=2"))
        weights[name] = weight
    return weights


_D2L = Recipe(
    name="d2l",
    epochs=5,
    batch=32,
    crop=(320, 480),
    optimizer="sgd",
    lr=1e-3,
    weight_decay=1e-3,
    schedule="constant",
    reduction="image-sum",
    dice=0.0,
    class_weights="none",
    ema=0.0,
    scale=(1.0, 1.0),
    flip=False,
    color=0.0,
    void_as_background=True,
    drop_smaller=True,
    precision="fp32",
    seed=0,
)
_MODERN = replace(
    _D2L,
    name="modern",
    epochs=60,
    batch=8,
    optimizer="adamw",
    weight_decay=1e-2,
    schedule="poly",
    reduction="pixel-mean",
    ema=0.999,
    scale=(0.75, 1.5),
    flip=True,
    color=0.3,
    void_as_background=False,
    drop_smaller=False,
    precision="auto",
)
_LONG = replace(
    _MODERN,
    name="long",
    epochs=200,
    batch=4,
    lr=2e-3,
    loss="ohem",
    dice=0.5,
    half_size=0.5,
)
RECIPES = {recipe.name: recipe for recipe in (_D2L, _MODERN, _LONG)}
"""``d2l``: the d2l.ai chapter's; the learning rate is per summed batch. ``modern``: from
scratch. ``long``: from scratch on a few hundred images, in hours."""


def learning_rate(recipe: Recipe, step: int, steps_per_epoch: int) -> float:
    """Return the learning rate of a step, a function of the step alone so that runs can resume.

    Args:
        recipe: Peak rate, schedule and epochs.
        step: Number of steps done before this one.
        steps_per_epoch: Steps in an epoch.

    Returns:
        The rate.
    """
    if recipe.schedule == "constant":
        return recipe.lr
    total = recipe.epochs * steps_per_epoch
    warmup = max(1, total // 20)
    if step < warmup:
        return recipe.lr * (step + 1) / warmup
    return recipe.lr * math.pow(1 - (step - warmup) / (total - warmup + 1), 0.9)


def recipe_lines() -> list[str]:
    """Describe the recipes, a line each: the name, then every field with its value."""
    names = [field.name for field in fields(Recipe) if field.name != "name"]
    return [
        f"{recipe.name}: "
        + ", ".join(f"{name} {_text(getattr(recipe, name))}" for name in names)
        + "."
        for recipe in RECIPES.values()
    ]


def _text(value: object) -> str:
    if isinstance(value, tuple):
        return ("x" if isinstance(value[0], int) else "..").join(map(str, value))
    return str(value).lower() if isinstance(value, bool) else str(value)
