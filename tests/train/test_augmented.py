from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np

from fcnkit.train.augmented import augmented_crops
from fcnkit.train.data.voc import open_voc, read_pair
from fcnkit.train.dataset import CropDataset
from fcnkit.train.recipe import RECIPES
from tests.train.data.sets import Drawing


def test_the_crops_are_those_of_the_first_epoch(tmp_path: Path) -> None:
    folder = open_voc(Drawing(size=(70, 90)).write(tmp_path / "d"), split="train")
    recipe = replace(RECIPES["modern"], crop=(64, 64), seed=3)
    shown = list(augmented_crops(folder, recipe, 2))
    assert [one.name for one in shown] == ["train0", "train5"]
    crops = CropDataset(folder.samples, folder.labelmap, recipe)
    for one, index in zip(shown, (0, 5), strict=True):
        image, labels = crops[1, index]
        np.testing.assert_array_equal(one.image_hwc, image.numpy().transpose(1, 2, 0))
        np.testing.assert_array_equal(one.labels_hw, labels.numpy())
        assert one.labels_hw.dtype == np.uint8
        assert one.image_hwc.shape == (64, 64, 3)


def test_void_is_background_and_small_images_are_left_out_as_in_training(tmp_path: Path) -> None:
    folder = open_voc(Drawing(size=(64, 96), border=3).write(tmp_path / "d"), split="train")
    recipe = replace(RECIPES["d2l"], crop=(64, 96))
    [shown, *_] = augmented_crops(folder, recipe, 9)
    assert 255 not in shown.labels_hw
    truth = read_pair(folder.samples[0], folder.labelmap, void_as_background=True)[1]
    np.testing.assert_array_equal(shown.labels_hw, truth)
    assert list(augmented_crops(folder, replace(recipe, crop=(64, 128)), 9)) == []
