"""The crop of a run whose user chose none, for pictures of every size."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from fcnkit.train.checkpoint import load_checkpoint
from fcnkit.train.crop import fit_crop, recipe_without_crop
from fcnkit.train.data.voc import IMAGES, LISTS, MASKS, Sample
from fcnkit.train.loop import open_data
from fcnkit.train.recipe import RECIPES, Recipe
from tests.train.folders import LABELMAP, write_image, write_indices
from tests.train.tiny import RECIPE, train_tiny

D2L, MODERN = RECIPES["d2l"], RECIPES["modern"]
Sizes = list[tuple[int, int]]


def pictures(folder: Path, sizes: Sizes) -> list[Sample]:
    samples = []
    for height, width in sizes:
        path = folder / f"{height}x{width}.png"
        if not path.exists():
            write_image(path, height, width)
        samples.append(Sample(path.stem, path, path))
    return samples


def voc_folder(root: Path, sizes: Sizes) -> Path:
    """Write a data set whose train and val splits hold pictures of these sizes."""
    for name in (IMAGES, MASKS, LISTS):
        (root / name).mkdir(parents=True)
    (root / "labelmap.txt").write_text(LABELMAP)
    names = [f"{number:03}" for number in range(len(sizes))]
    for name, (height, width) in zip(names, sizes, strict=True):
        write_image(root / IMAGES / f"{name}.jpg", height, width)
        write_indices(root / MASKS / f"{name}.png", np.ones((height, width), np.uint8))
    for split in ("train", "val"):
        (root / LISTS / f"{split}.txt").write_text("\n".join(names) + "\n")
    return root


@pytest.mark.parametrize("recipe", [D2L, MODERN], ids=["d2l", "modern"])
@pytest.mark.parametrize(
    ("sizes", "crop", "smaller"),
    [
        ([(160, 220)] * 3, (160, 192), 3),
        ([(319, 480)] * 3, (288, 480), 3),
        ([(320, 479)] * 3, (320, 448), 3),
        ([(6, 8)], (64, 64), 1),
        ([(100, 2000)] * 2, (96, 480), 2),
        ([(2000, 100)] * 2, (320, 96), 2),
        # Portraits and landscapes: no picture has both sides of the recipe's crop.
        ([(300, 400), (400, 300)], (320, 320), 2),
        # One picture of a row does not decide for the others.
        ([(20, 20), (200, 200), (210, 210)], (192, 192), 3),
        ([(500, 500), (200, 200), (210, 210)], (192, 192), 2),
    ],
)
def test_small_pictures_get_a_crop_that_fits(
    recipe: Recipe, sizes: Sizes, crop: tuple[int, int], smaller: int, tmp_path: Path
) -> None:
    fitted = fit_crop(pictures(tmp_path, sizes), recipe)
    assert fitted.recipe == replace(recipe, crop=crop, drop_smaller=False)
    assert fitted.note == (
        f"crop {crop[0]}x{crop[1]}: {smaller} of {len(sizes)} pictures are smaller than the "
        "recipe's 320x480; pictures smaller than the crop are padded; choose another with --crop"
    )


@pytest.mark.parametrize(
    "sizes", [[(320, 480)], [(375, 500), (500, 375)], [(360, 480)] * 3, [(3000, 4000), (5, 5)]]
)
def test_the_recipes_crop_stays_where_half_of_the_pictures_have_it(
    sizes: Sizes, tmp_path: Path
) -> None:
    for recipe in (D2L, MODERN):
        assert fit_crop(pictures(tmp_path, sizes), recipe) == (recipe, None)


SIDES = st.sampled_from([1, 31, 32, 63, 64, 97, 250, 319, 320, 479, 480, 481, 700])


@given(st.lists(st.tuples(SIDES, SIDES), min_size=1, max_size=9))
@settings(
    max_examples=60,
    suppress_health_check=[HealthCheck.function_scoped_fixture],
)
def test_no_folder_is_left_without_pictures(tmp_path: Path, sizes: Sizes) -> None:
    for recipe in (D2L, MODERN):
        fitted, note = fit_crop(pictures(tmp_path, sizes), recipe)
        height, width = fitted.crop
        fit = sum(high >= height and wide >= width for high, wide in sizes)
        kept = fit if fitted.drop_smaller else len(sizes)
        assert 2 * kept >= len(sizes)
        if note is not None:
            assert not fitted.drop_smaller
            for side, of_recipe, of_pictures in zip(
                (height, width), recipe.crop, zip(*sizes, strict=True), strict=True
            ):
                assert side % 32 == 0
                assert 64 <= side <= of_recipe
                half = 2 * sum(one >= side for one in of_pictures) >= len(sizes)
                larger = 2 * sum(one >= side + 32 for one in of_pictures) > len(sizes)
                assert half or side == 64
                assert not larger or side == of_recipe


def test_of_a_large_split_a_thousand_pictures_decide(tmp_path: Path) -> None:
    sizes: Sizes = [(200, 200)] * 1500 + [(400, 500)] * 900
    assert fit_crop(pictures(tmp_path, sizes), D2L).note == (
        "crop 192x192: 625 of 1000 sampled pictures are smaller than the recipe's 320x480; "
        "pictures smaller than the crop are padded; choose another with --crop"
    )


def test_a_resumed_run_keeps_its_crop_whatever_the_data_has_become(tmp_path: Path) -> None:
    data = voc_folder(tmp_path / "data", [(70, 100)] * 4)
    default = replace(RECIPE, crop=(320, 480), epochs=1)
    began, note = recipe_without_crop(data, default, resumed=tmp_path / "run")
    assert (began.crop, note is None) == ((64, 96), False)
    train_tiny(data, tmp_path / "run", began)
    for name in ("000", "001", "002"):
        write_image(data / IMAGES / f"{name}.jpg", 400, 500)
        write_indices(data / MASKS / f"{name}.png", np.ones((400, 500), np.uint8))
    longer = replace(default, epochs=2)
    assert recipe_without_crop(data, longer, resumed=None) == (longer, None)
    goes_on, note = recipe_without_crop(data, longer, resumed=tmp_path / "run")
    assert goes_on == replace(began, epochs=2)
    assert note == "crop 64x96, as the run began"
    train_tiny(data, tmp_path / "run", goes_on, resume=True)
    assert load_checkpoint(tmp_path / "run/last.pt").epoch == 2


def test_the_chapters_recipe_trains_on_pictures_of_a_few_pixels(tmp_path: Path) -> None:
    data = voc_folder(tmp_path / "data", [(6, 8), (9, 7), (5, 30)])
    recipe, _ = recipe_without_crop(data, replace(D2L, epochs=1), resumed=None)
    opened = open_data(data, recipe)
    assert (len(opened.samples), opened.dropped) == (3, 0)
    (row,) = train_tiny(data, tmp_path / "run", recipe)
    assert np.isfinite(row["loss"])
