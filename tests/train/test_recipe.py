from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest

from fcnkit.train.data.labelmap import LabelMap
from fcnkit.train.recipe import RECIPES, Recipe, parse_class_weights, recipe_lines
from tests.refusal import refusal

MODERN = RECIPES["modern"]


@pytest.mark.parametrize(
    ("changes", "text"),
    [
        ({"epochs": 0}, "--epochs: must be at least 1, got 0; raise it"),
        ({"lr": 0.0}, "--lr: must be positive, got 0.0; try 0.001"),
        ({"crop": (33, 64)}, "--crop: sides must be multiples of 32, got 33x64; use 32x64"),
        (
            {"ema": 1.0},
            "--ema: must be at least 0 and below 1, got 1.0; use 0 to turn it off",
        ),
        (
            {"color": -0.1},
            "--color: must be at least 0 and below 1, got -0.1; use 0 to turn it off",
        ),
        (
            {"half_size": 1.0},
            "--half-size: must be at least 0 and below 1, got 1.0; use 0 to turn it off",
        ),
        (
            {"balanced_crops": 1.1},
            "--balanced-crops: must be at least 0 and at most 1, got 1.1; use 0 to turn it off",
        ),
        (
            {"class_mix": float("nan")},
            "--class-mix: must be at least 0 and at most 1, got nan; use 0 to turn it off",
        ),
        ({"auxiliary": -0.4}, "--auxiliary: must be at least 0, got -0.4; use 0 to turn it off"),
        (
            {"scale": (2.0, 0.5)},
            "--scale: must be above 0, in order and at most 16, got 2.0..0.5; try 0.5..2",
        ),
        (
            {"scale": (0.5, float("nan"))},
            "--scale: must be above 0, in order and at most 16, got 0.5..nan; try 0.5..2",
        ),
        ({"seed": -1}, "--seed: must be 0 to 2**63 - 1, got -1; use 0"),
        ({"dice": -1.0}, "--dice: must be at least 0, got -1.0; use 0 to turn it off"),
        (
            {"class_weights": "rare"},
            "--class-weights: must be none, frequency, or NAME=WEIGHT by comma, weights at least "
            "0, got rare; write pole=5,car=2",
        ),
        (
            {"precision": "fp16"},
            "--precision: must be one of auto, fp32, bf16, got fp16; choose one of these",
        ),
    ],
)
def test_values_that_cannot_train_are_refused(changes: dict[str, Any], text: str) -> None:
    with pytest.raises(ValueError) as caught:
        replace(MODERN, **changes)
    assert str(caught.value) == text


@pytest.mark.parametrize(
    ("changes", "text"),
    [
        ({"epochs": "3"}, "--epochs: must be of type int, got '3'; convert it"),
        ({"seed": True}, "--seed: must be of type int, got True; convert it"),
        ({"crop": (64,)}, "--crop: must be of type tuple[int, int], got (64,); convert it"),
        ({"half_size": None}, "--half-size: must be of type float, got None; convert it"),
    ],
)
def test_values_of_another_type_are_refused(changes: dict[str, Any], text: str) -> None:
    with refusal(TypeError, text):
        replace(MODERN, **changes)


def test_the_first_epochs_may_be_of_half_the_size() -> None:
    recipe = replace(MODERN, epochs=5, half_size=0.5, crop=(320, 480), scale=(0.75, 1.5))
    half = replace(recipe, crop=(160, 256), scale=(0.375, 0.75))
    assert [recipe.of_epoch(epoch) for epoch in range(1, 6)] == [half] * 2 + [recipe] * 3
    assert MODERN.of_epoch(1) is MODERN


def test_recipes_survive_a_checkpoint() -> None:
    for recipe in RECIPES.values():
        assert Recipe.from_dict(recipe.to_dict()) == recipe
    older = MODERN.to_dict()
    for field in ("half_size", "balanced_crops", "class_mix", "auxiliary"):
        del older[field]  # from before there was such a thing
    assert Recipe.from_dict(older) == MODERN
    data = MODERN.to_dict()
    data["emma"] = data.pop("ema")
    with pytest.raises(ValueError) as caught:
        Recipe.from_dict(data)
    assert str(caught.value) == (
        "recipe: must have exactly the fields of this version, got a difference in ema, emma; "
        "use the version of fcnkit that wrote it"
    )


def test_help_states_every_value() -> None:
    d2l, modern, long = recipe_lines()
    assert d2l.startswith("d2l: epochs 5, batch 32, crop 320x480, optimizer sgd, lr 0.001, ")
    assert "ema 0.999" in modern
    assert "scale 0.75..1.5" in modern
    assert modern.count(",") == len(MODERN.to_dict()) - 2
    assert long.startswith("long: epochs 200, batch 4, ")
    assert "half_size 0.5" in long


def test_void_is_trained_as_background_only_where_there_is_one() -> None:
    colors = ((0, 0, 0), (1, 1, 1))
    sky, background = (LabelMap((name, "car"), colors) for name in ("sky", "Background"))
    for recipe in RECIPES.values():
        assert recipe.for_classes(background) == recipe
        assert recipe.for_classes(sky) == replace(recipe, void_as_background=False)


def test_class_weights_by_hand_are_names_and_numbers() -> None:
    assert parse_class_weights("traffic sign=2.5, car=0") == {"traffic sign": 2.5, "car": 0.0}
    assert parse_class_weights("a=b=2") == {"a=b": 2.0}
    assert parse_class_weights("none") == parse_class_weights("frequency") == {}
    for text in ("", "car", "car=", "=1", "car=-1", "car=nan", "car=inf", "car=1,car=2", "car=1,"):
        with pytest.raises(ValueError, match=r"^--class-weights: must be none, frequency, or "):
            parse_class_weights(text)


def test_what_was_called_loss_is_read_as_the_reduction() -> None:
    now = replace(MODERN, reduction="image-sum").to_dict()
    before = {key: value for key, value in now.items() if key != "reduction"}
    before["loss"] = now["reduction"]
    assert Recipe.from_dict(before) == replace(MODERN, reduction="image-sum")
