from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

from fcnkit.train.data.voc import open_voc, read_pair
from fcnkit.train.dataset import CropDataset, EpochSampler, training_loader
from fcnkit.train.reading import batches
from fcnkit.train.recipe import RECIPES
from tests.refusal import refusal

MODERN = replace(RECIPES["modern"], batch=4, crop=(96, 64))


def test_examples_depend_on_seed_and_epoch_only(shapes_folder: Path) -> None:
    folder = open_voc(shapes_folder, split="train")

    def epoch(number: int, *, workers: int, seed: int = 0) -> list[tuple[torch.Tensor, ...]]:
        recipe = replace(MODERN, seed=seed)
        loader, sampler = training_loader(folder.samples, folder.labelmap, recipe, workers=workers)
        sampler.epoch = number
        return [tuple(batch) for batch in batches(loader)]

    def same(a: list[tuple[torch.Tensor, ...]], b: list[tuple[torch.Tensor, ...]]) -> bool:
        pairs = zip(a, b, strict=True)
        return all(torch.equal(x, y) for p, q in pairs for x, y in zip(p, q, strict=True))

    first = epoch(1, workers=0)
    assert len(first) == 4
    assert first[0][0].shape == (4, 3, 96, 64)
    assert first[0][0].dtype == torch.uint8
    assert first[0][1].shape == (4, 96, 64)
    assert same(first, epoch(1, workers=0))
    assert same(first, epoch(1, workers=2))
    assert not same(first, epoch(2, workers=0))
    assert not same(first, epoch(1, workers=0, seed=1))


def test_a_loader_that_nobody_told_an_epoch_gives_the_first(shapes_folder: Path) -> None:
    folder = open_voc(shapes_folder, split="train")
    loader, _ = training_loader(folder.samples, folder.labelmap, MODERN, workers=0)
    image_bchw, labels_bhw = next(iter(loader))
    assert (image_bchw.shape, labels_bhw.shape) == ((4, 3, 96, 64), (4, 96, 64))


def test_a_data_set_is_a_sequence(shapes_folder: Path) -> None:
    folder = open_voc(shapes_folder, split="train")
    crops = CropDataset(folder.samples, folder.labelmap, MODERN)
    for one, other in zip(crops[0], crops[1, 0], strict=True):
        assert torch.equal(one, other)
    assert sum(1 for _ in crops) == len(crops)  # ends with an IndexError
    with pytest.raises(IndexError):
        crops[len(crops)]
    with refusal(
        TypeError,
        "CropDataset: a key is an index, or epoch and index, got 'a'; pass dataset[0]",
    ):
        crops["a"]  # type: ignore[index]


def test_crop_without_augmentation_is_a_window_of_the_picture(shapes_folder: Path) -> None:
    folder = open_voc(shapes_folder, split="train")
    recipe = replace(RECIPES["d2l"], crop=(64, 64), void_as_background=False)
    image_chw, labels_hw = CropDataset(folder.samples, folder.labelmap, recipe)[1, 0]
    image_hwc, target_hw = read_pair(folder.samples[0], folder.labelmap)
    windows = np.lib.stride_tricks.sliding_window_view(image_hwc, (64, 64), axis=(0, 1))
    hits = np.argwhere((windows == image_chw.numpy()).all((2, 3, 4)))
    assert len(hits) == 1
    top, left = hits[0]
    assert np.array_equal(labels_hw, target_hw[top : top + 64, left : left + 64])


def test_picture_and_labels_are_augmented_alike(shapes_folder: Path, tmp_path: Path) -> None:
    # A picture that shows its own labels: whatever is done to both, they still agree.
    from PIL import Image

    from fcnkit.train.data.voc import Sample

    folder = open_voc(shapes_folder, split="train")
    _, target_hw = read_pair(folder.samples[0], folder.labelmap)
    target_hw = np.where(target_hw == 255, 0, target_hw)
    Image.fromarray(np.repeat(target_hw[..., None] * 40, 3, 2)).save(tmp_path / "x.png")
    Image.fromarray(target_hw).save(tmp_path / "m.png")
    sample = Sample("x", tmp_path / "x.png", tmp_path / "m.png")
    dataset = CropDataset([sample], folder.labelmap, replace(MODERN, color=0.0))
    for epoch in range(20):
        image_chw, labels_hw = dataset[epoch, 0]
        known = labels_hw != 255
        off = (image_chw[0].long() - labels_hw * 40).abs()[known] > 20
        # Only interpolated pixels along the borders differ.
        assert off.float().mean() < 0.1


def test_epochs_of_half_size_crop_pictures_of_half_the_size(shapes_folder: Path) -> None:
    folder = open_voc(shapes_folder, split="train")
    recipe = replace(
        RECIPES["d2l"], crop=(64, 64), void_as_background=False, epochs=2, half_size=0.5
    )
    examples = CropDataset(folder.samples, folder.labelmap, recipe)
    image_hwc, target_hw = read_pair(folder.samples[0], folder.labelmap)
    size = target_hw.shape[1] // 2, target_hw.shape[0] // 2
    small_hwc = np.asarray(Image.fromarray(image_hwc).resize(size, Image.Resampling.BILINEAR))
    small_hw = np.asarray(Image.fromarray(target_hw).resize(size, Image.Resampling.NEAREST))
    image_chw, labels_hw = examples[1, 0]
    windows = np.lib.stride_tricks.sliding_window_view(small_hwc, (32, 32), axis=(0, 1))
    hits = np.argwhere((windows == image_chw.numpy()).all((2, 3, 4)))
    assert len(hits) == 1
    top, left = hits[0]
    assert np.array_equal(labels_hw, small_hw[top : top + 32, left : left + 32])
    assert examples[2, 0][1].shape == (64, 64)


def test_smaller_pictures_are_padded_with_void(shapes_folder: Path) -> None:
    folder = open_voc(shapes_folder, split="train")
    recipe = replace(MODERN, crop=(320, 320), scale=(1.0, 1.0), flip=False, color=0.0)
    image_chw, labels_hw = CropDataset(folder.samples, folder.labelmap, recipe)[1, 0]
    image_hwc, target_hw = read_pair(folder.samples[0], folder.labelmap)
    height, width = target_hw.shape
    assert np.array_equal(image_chw[:, :height, :width], image_hwc.transpose(2, 0, 1))
    assert np.array_equal(labels_hw[:height, :width], target_hw)
    assert (labels_hw[height:] == 255).all()
    assert (labels_hw[:, width:] == 255).all()
    assert np.array_equal(image_chw[:, height, :width], image_hwc[height - 2].T)


def test_void_as_background(shapes_folder: Path) -> None:
    folder = open_voc(shapes_folder, split="train")
    recipe = replace(RECIPES["d2l"], crop=(96, 96))
    dataset = CropDataset(folder.samples, folder.labelmap, recipe)
    assert max(int(dataset[1, i][1].max()) for i in range(4)) < len(folder.classes)


@pytest.mark.parametrize(
    ("change", "text"),
    [
        ({"crop": (100, 64)}, "--crop: sides must be multiples of 32, got 100x64; use 96x64"),
        ({"epochs": 0}, "--epochs: must be at least 1, got 0; raise it"),
        ({"batch": -1}, "--batch: must be at least 1, got -1; raise it"),
        ({"lr": float("nan")}, "--lr: must be positive, got nan; try 0.001"),
    ],
)
def test_recipe_refuses_what_cannot_train(change: dict[str, object], text: str) -> None:
    with pytest.raises(ValueError, match="must be") as caught:
        replace(MODERN, **change)  # type: ignore[arg-type]
    assert str(caught.value) == text


def test_colors_change_a_little_and_by_the_examples_own_draws(shapes_folder: Path) -> None:
    folder = open_voc(shapes_folder, split="train")
    plain = replace(MODERN, color=0.0)
    (a, labels), (b, same_labels) = (
        CropDataset(folder.samples, folder.labelmap, recipe)[1, 0]
        for recipe in (plain, replace(plain, color=0.3))
    )
    assert torch.equal(labels, same_labels)
    assert not torch.equal(a, b)
    # Three factors of at most 1.3 each, most of which go opposite ways.
    assert (a.float() - b.float()).abs().mean() < 64


def test_processes_share_every_batch_of_the_same_order() -> None:
    recipe = replace(MODERN, batch=4)

    def order(rank: int, world: int) -> list[int]:
        sampler = EpochSampler(11, recipe, rank=rank, world=world)
        sampler.epoch = 3
        return [index for _, index in sampler]

    whole, halves = order(0, 1), [order(rank, 2) for rank in (0, 1)]
    assert len(whole) == 8  # the short last batch is left out
    for batch in range(2):
        parts = [half[2 * batch : 2 * batch + 2] for half in halves]
        assert parts[0] + parts[1] == whole[4 * batch : 4 * batch + 4]


def test_batches_that_cannot_be_shared_are_refused(shapes_folder: Path) -> None:
    folder = open_voc(shapes_folder, split="train")
    for batch, world, text in (
        (8, 3, "--batch: must be a multiple of the 3 processes, got 8; change one of the two"),
        (
            32,
            2,
            "--batch: must be at most the 16 training pictures with several processes, got 32; "
            "lower it",
        ),
    ):
        recipe = replace(MODERN, batch=batch)
        with pytest.raises(ValueError) as caught:
            training_loader(folder.samples, folder.labelmap, recipe, workers=0, world=world)
        assert str(caught.value) == text
