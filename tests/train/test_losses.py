from __future__ import annotations

import math
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from fcnkit.train import losses
from fcnkit.train.data.voc import open_voc
from fcnkit.train.losses import frequency_weights
from fcnkit.train.models import create_model
from fcnkit.train.recipe import RECIPES, Recipe
from tests.refusal import refusal
from tests.train.folders import make_folder, write_indices

D2L, MODERN = RECIPES["d2l"], RECIPES["modern"]


def example() -> tuple[torch.Tensor, torch.Tensor]:
    torch.manual_seed(0)
    return torch.randn(3, 4, 8, 8), torch.randint(0, 4, (3, 8, 8))


def share_of_loss(
    logits_bkhw: torch.Tensor,
    labels_bhw: torch.Tensor,
    recipe: Recipe,
    *,
    class_weights: torch.Tensor | None = None,
) -> torch.Tensor:
    """The loss of pictures whose pixels lie in order."""
    return losses.share_of_loss(
        logits_bkhw.flatten(2)[:, None],
        labels_bhw.flatten(1)[:, None],
        recipe,
        pixels=labels_bhw[0].numel(),
        class_weights=class_weights,
    )


@pytest.mark.parametrize("network", ["fcn32s-resnet18", "fcn8s-resnet18", "unet"])
def test_the_loss_of_the_pieces_is_the_loss_of_the_picture(network: str) -> None:
    torch.manual_seed(0)
    net = create_model(network, 5).double()
    image, labels = torch.randn(2, 3, 64, 96).double(), torch.randint(0, 5, (2, 64, 96))
    labels[1, :20] = 255
    weights = torch.tensor([0.5, 1.0, 2.0, 4.0, 1.0]).double()
    recipe = replace(MODERN, dice=0.5)
    whole = share_of_loss(net(image), labels, recipe, class_weights=weights)
    wanted = torch.autograd.grad(whole, list(net.parameters()))
    pieces = losses.share_of_loss(
        net.pieces(image),
        net.pieces_of(labels, outside=255),
        recipe,
        pixels=64 * 96,
        class_weights=weights,
    )
    torch.testing.assert_close(pieces, whole)
    got = torch.autograd.grad(pieces, list(net.parameters()))
    for one, other in zip(got, wanted, strict=True):
        torch.testing.assert_close(one, other)


def test_chapter_loss_is_the_mean_over_pixels_summed_over_the_batch() -> None:
    logits, labels = example()
    plain = -logits.log_softmax(1).gather(1, labels[:, None]).mean((1, 2, 3)).sum()
    torch.testing.assert_close(share_of_loss(logits, labels, D2L), plain)


def test_modern_loss_is_the_mean_over_known_pixels() -> None:
    logits, labels = example()
    labels[0] = 255
    counted = -logits[1:].log_softmax(1).gather(1, labels[1:, None]).mean()
    torch.testing.assert_close(share_of_loss(logits, labels, MODERN), counted)
    assert share_of_loss(logits, torch.full_like(labels, 255), MODERN) == 0


def test_class_weights_weigh_as_torch_does() -> None:
    logits, labels = example()
    labels[0, :2] = 255
    weights = torch.tensor([0.5, 1.0, 2.0, 4.0])
    expected = torch.nn.functional.cross_entropy(logits, labels, weights, ignore_index=255)
    loss = share_of_loss(logits, labels, MODERN, class_weights=weights)
    torch.testing.assert_close(loss, expected)


def dice_reference(logits: torch.Tensor, labels: torch.Tensor) -> float:
    """The Dice loss in float64, picture by picture and class by class."""
    of_pictures = []
    for scores, truth in zip(logits.double().numpy(), labels.numpy(), strict=True):
        known = truth != 255
        p = np.exp(scores) / np.exp(scores).sum(0)
        of_class = []
        for label in sorted(set(truth[known].tolist())):
            t = truth[known] == label
            q = p[label][known]
            of_class.append(1 - 2 * (q * t).sum() / (q.sum() + t.sum()))
        of_pictures.append(np.mean(of_class) if of_class else 0.0)
    return float(np.mean(of_pictures))


def test_dice_is_added_per_picture() -> None:
    logits, labels = example()
    labels[0, :3] = 255
    labels[1] = 2
    labels[2] = 255
    plain = share_of_loss(logits, labels, MODERN)
    loss = share_of_loss(logits, labels, replace(MODERN, dice=0.5))
    assert loss - plain == pytest.approx(0.5 * dice_reference(logits, labels), abs=1e-5)
    summed = share_of_loss(logits, labels, replace(D2L, dice=0.5))
    assert summed - share_of_loss(logits, labels, D2L) == pytest.approx(
        1.5 * dice_reference(logits, labels), abs=1e-5
    )
    sure = torch.nn.functional.one_hot(labels.clamp(max=3), 4).permute(0, 3, 1, 2) * 50.0
    assert share_of_loss(sure, labels, replace(MODERN, dice=1.0)) == pytest.approx(0, abs=1e-5)


def test_rare_classes_weigh_more_and_the_mean_pixel_one(tmp_path: Path) -> None:
    root = make_folder(tmp_path / "data", train=["a", "b"])
    mask = np.ones((6, 8), np.uint8)
    mask[:, :2] = 0
    mask[0] = 255
    write_indices(root / "SegmentationClass" / "a.png", mask)
    folder = open_voc(root, split="train")
    weights = frequency_weights(folder.samples, folder.labelmap, void_as_background=False)
    shares = np.array([10, 30 + 48, 0]) / 88
    expected = 1 / np.log(1.02 + shares)
    expected /= (shares * expected).sum()
    assert weights.numpy() == pytest.approx(expected, rel=1e-6)
    assert weights[2] > weights[0] > weights[1] > 0


def hard_reference(logits: torch.Tensor, labels: torch.Tensor) -> float:
    """Mean loss in float64 of the pixels below 0.7, or of the hardest sixteenth of an image."""
    chosen: list[float] = []
    for scores, truth in zip(logits.double().numpy(), labels.numpy(), strict=True):
        known = truth != 255
        p = (np.exp(scores) / np.exp(scores).sum(0))[:, known]
        mine = np.sort(p[truth[known], np.arange(known.sum())])
        least = max(1, known.sum() // 16)
        chosen += [-math.log(q) for place, q in enumerate(mine) if q < 0.7 or place < least]
    return float(np.mean(chosen))


@pytest.mark.parametrize("sure", [1.0, 6.0])
def test_ohem_takes_the_hard_pixels(sure: float) -> None:
    logits, labels = example()
    labels[0, :3] = 255
    # With sure logits nearly all are right: the sixteenth decides.
    logits = logits + sure * torch.nn.functional.one_hot(
        labels.masked_fill(labels == 255, 0), 4
    ).permute(0, 3, 1, 2)
    loss = share_of_loss(logits, labels, replace(MODERN, loss="ohem"))
    assert loss == pytest.approx(hard_reference(logits, labels), rel=1e-4)


def test_focal_weighs_by_how_wrong_a_pixel_is() -> None:
    logits, labels = example()
    labels[0, :3] = 255
    known = (labels != 255).numpy()
    p = np.exp(logits.double().numpy())
    p /= p.sum(1, keepdims=True)
    mine = np.take_along_axis(p, np.where(known, labels.numpy(), 0)[:, None], 1)[:, 0][known]
    wanted = float(np.mean((1 - mine) ** 2 * -np.log(mine)))
    loss = share_of_loss(logits, labels, replace(MODERN, loss="focal"))
    assert loss == pytest.approx(wanted, rel=1e-5)
    summed = share_of_loss(logits, labels, replace(D2L, loss="focal"))
    area = labels[0].numel()
    assert summed == pytest.approx(wanted * known.sum() / area, rel=1e-5)


def test_weights_by_hand_are_checked_against_the_classes() -> None:
    weights = losses.given_weights("b=3", ("a", "b"))
    assert weights.tolist() == [1.0, 3.0]
    with refusal(
        ValueError, "--class-weights: names must be among the classes a, b, got c; use one of these"
    ):
        losses.given_weights("c=1", ("a", "b"))


def plain_loss(
    logits: torch.Tensor, labels: torch.Tensor, recipe: Recipe, weights: torch.Tensor | None
) -> torch.Tensor:
    """The mean loss over known pixels and the Dice loss, from PyTorch's own losses."""
    known = labels != 255
    of_pixels = torch.nn.functional.cross_entropy(
        logits, labels, weights, ignore_index=255, reduction="none"
    )
    at = labels.masked_fill(~known, 0)
    true = logits.softmax(1).gather(1, at[:, None])[:, 0]
    counts = known
    if recipe.loss == "focal":
        of_pixels = of_pixels * (1 - true) ** 2
    elif recipe.loss == "ohem":
        counts = known & (true < 0.7)
    each = counts * (1.0 if weights is None else weights[at])
    total = (of_pixels * counts).sum() / each.sum()
    for scores, truth in zip(logits, labels, strict=True):
        seen = truth != 255
        present = truth[seen].unique()
        p = scores.softmax(0)[:, seen]
        overlaps = [
            2 * p[k, truth[seen] == k].sum() / (p[k].sum() + (truth[seen] == k).sum())
            for k in present
        ]
        total = total + recipe.dice * (1 - torch.stack(overlaps)).mean() / len(logits)
    return total


@pytest.mark.parametrize("weighted", [False, True])
@pytest.mark.parametrize("loss", ["cross-entropy", "focal", "ohem"])
@pytest.mark.parametrize("part", [1, 200, 2**20])
def test_gradients_are_those_of_the_formula(
    monkeypatch: pytest.MonkeyPatch, loss: Any, weighted: bool, part: int
) -> None:
    monkeypatch.setattr(losses, "PART", part)
    torch.manual_seed(3)
    logits = (2 * torch.randn(2, 4, 6, 20)).double().requires_grad_()
    labels = torch.randint(0, 4, (2, 6, 20))
    labels[0, :2], labels[1, :, :7] = 255, 2
    weights = torch.tensor([0.5, 1.0, 2.0, 4.0]).double() if weighted else None
    recipe = replace(MODERN, dice=0.5, loss=loss)
    wanted = plain_loss(logits, labels, recipe, weights)
    # Six pieces of 20 pixels each, as a network of another stride would have them.
    got = losses.share_of_loss(
        logits.transpose(1, 2), labels, recipe, pixels=120, class_weights=weights
    )
    torch.testing.assert_close(got, wanted)
    [slope], [expected] = (torch.autograd.grad(of, [logits]) for of in (got, wanted))
    torch.testing.assert_close(slope, expected)


def test_bfloat16_logits_are_worked_on_in_float32() -> None:
    torch.manual_seed(4)
    labels = torch.randint(0, 5, (2, 7, 64))
    fine = torch.randn(2, 7, 5, 64).bfloat16().float().requires_grad_()
    coarse = fine.detach().bfloat16().requires_grad_()
    recipe = replace(MODERN, dice=0.5)
    values = [losses.share_of_loss(x, labels, recipe, pixels=448) for x in (fine, coarse)]
    assert values[0] == values[1]
    slopes = [torch.autograd.grad(v, [x])[0] for v, x in zip(values, (fine, coarse), strict=True)]
    assert torch.equal(slopes[0].bfloat16(), slopes[1])
