"""The training loss, and the weights of the classes in it.

Shapes: logits_bmkp (B pictures of M times P pixels, K classes), labels_bmp with 255 = void. The
order of a picture's pixels is the network's choice, see ``SegmentationNet.pieces``: no loss depends
on it.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Any

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor
from torch.autograd.function import once_differentiable

from fcnkit.errors import BadValueError, message
from fcnkit.runtime.artifacts.spec import VOID
from fcnkit.train import parallel
from fcnkit.train.data.labelmap import LabelMap
from fcnkit.train.data.voc import Sample, read_pair
from fcnkit.train.recipe import Recipe, parse_class_weights

PART = 2**20
"""Logits that are worked on at a time: 4 MiB of float32."""

__all__ = ["frequency_weights", "given_weights", "share_of_distance", "share_of_loss"]


def share_of_loss(
    logits_bmkp: Tensor,
    labels_bmp: Tensor,
    recipe: Recipe,
    *,
    pixels: int,
    class_weights: Tensor | None = None,
) -> Tensor:
    """Compute this process's share of a batch's loss; the shares of all processes add up to it.

    Args:
        logits_bmkp: float32 (B, M, K, P), this process's pictures.
        labels_bmp: int64 (B, M, P), 255 = void, and where there is no pixel.
        recipe: Which loss, see ``Recipe.loss``, ``Recipe.reduction`` and ``Recipe.dice``.
        pixels: Number of pixels of one picture, void or not.
        class_weights: float32 (K,); None counts all classes alike.

    Returns:
        A scalar. One process's share is the loss itself.
    """
    known = labels_bmp != VOID
    labels_bmp = labels_bmp.masked_fill(~known, 0)
    log_p_bmp: Tensor
    sums_bk: Tensor
    log_p_bmp, sums_bk = _TrueClass.apply(logits_bmkp, labels_bmp, known, recipe.dice > 0)
    counted = known & _hard(log_p_bmp, known) if recipe.loss == "ohem" else known
    weights = counted.to(log_p_bmp.dtype)
    if class_weights is not None:
        weights = weights * class_weights[labels_bmp]
    losses = -log_p_bmp * weights
    if recipe.loss == "focal":
        losses = losses * _focal(log_p_bmp)
    if recipe.reduction == "image-sum":
        loss, pictures = losses.sum() / pixels, 1
    else:
        # The mean is over the pixels of all processes, whose numbers of void pixels differ.
        loss = losses.sum() / parallel.total(weights.sum()).clamp(min=1e-6)
        pictures = len(labels_bmp) * parallel.world()
    if recipe.dice:
        loss = loss + recipe.dice * _dice(log_p_bmp, sums_bk, labels_bmp, known).sum() / pictures
    return loss


def share_of_distance(
    logits_bmkp: Tensor, taught_bmkp: Tensor, labels_bmp: Tensor, recipe: Recipe, *, pixels: int
) -> Tensor:
    """Compute this process's share of the distance to a teacher's probabilities.

    The Kullback-Leibler divergence per pixel, times the square of the temperature, so that its
    gradient keeps its size (Hinton et al., 2015, section 2). Void pixels do not count.

    Args:
        logits_bmkp: float32 (B, M, K, P), this process's pictures.
        taught_bmkp: The teacher's logits, alike.
        labels_bmp: As in share_of_loss.
        recipe: Reduction, weight and temperature.
        pixels: Number of pixels of one picture, void or not.

    Returns:
        A scalar, to be added to the share of the loss.
    """
    ours, theirs = (
        (logits / recipe.teacher_temperature).log_softmax(2)
        for logits in (logits_bmkp, taught_bmkp)
    )
    known = labels_bmp != VOID
    distance_bmp = F.kl_div(ours, theirs, reduction="none", log_target=True).sum(2) * known
    count = torch.tensor(float(pixels))
    if recipe.reduction == "pixel-mean":
        count = parallel.total(known.sum().float()).clamp(min=1)
    weight = recipe.teacher_weight * recipe.teacher_temperature**2
    return weight * distance_bmp.sum() / count


class _TrueClass(torch.autograd.Function):
    """What every loss is made of.

    Results: log_p_bmp, the logarithm of the probability of each pixel's true class, and sums_bk,
    each picture's sum of the probabilities of a class over the known pixels. With G and S their
    gradients, p the probabilities, t the one-hot labels and m 1 where a pixel is known, that of the
    logits is ``t G + p (m (S - sum_k S p) - G)``, from the derivatives of softmax.

    The logits are read twice and their gradient is written once, some pieces at a time, which stay
    in the cache. Written with PyTorch's losses, the passes over memory took a third of a step.
    """

    @staticmethod
    def forward(
        ctx: Any, logits_bmkp: Tensor, labels_bmp: Tensor, known_bmp: Tensor, with_sums: bool
    ) -> Any:
        """Compute (B, M, P) and (B, K), in float32 at least; the sums are 0 where not needed."""
        ctx.save_for_backward(logits_bmkp, labels_bmp, known_bmp)
        ctx.with_sums = with_sums
        real = torch.promote_types(logits_bmkp.dtype, torch.float32)
        log_p_bmp = logits_bmkp.new_empty(labels_bmp.shape, dtype=real)
        sums_bk = logits_bmkp.new_zeros(len(logits_bmkp), logits_bmkp.shape[2], dtype=real)
        for picture, pieces in _parts(logits_bmkp):
            at = picture, pieces
            p_mkp = logits_bmkp[at].to(real).log_softmax(1)
            log_p_bmp[at] = p_mkp.gather(1, labels_bmp[at][:, None])[:, 0]
            if with_sums:
                sums_bk[picture] += p_mkp.exp_().mul_(known_bmp[at][:, None]).sum((0, 2))
        return log_p_bmp, sums_bk

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, of_log_p_bmp: Tensor, of_sums_bk: Tensor) -> Any:
        """Compute the gradient of the logits from those of the two results."""
        logits_bmkp, labels_bmp, known_bmp = ctx.saved_tensors
        gradient_bmkp = torch.empty_like(logits_bmkp)
        for picture, pieces in _parts(logits_bmkp):
            at = picture, pieces
            of_log_p, of_sums = of_log_p_bmp[at], of_sums_bk[picture]
            p_mkp = logits_bmkp[at].to(of_log_p.dtype).softmax(1)
            if ctx.with_sums:
                known = known_bmp[at].to(of_sums.dtype)
                common = (of_sums @ p_mkp) * known + of_log_p
                slope = (of_sums[:, None] * known[:, None]).sub_(common[:, None]).mul_(p_mkp)
            else:
                slope = p_mkp.mul_(-of_log_p[:, None])
            gradient_bmkp[at] = slope.scatter_add_(1, labels_bmp[at][:, None], of_log_p[:, None])
        return gradient_bmkp, None, None, None


def _parts(logits_bmkp: Tensor) -> Iterator[tuple[int, slice]]:
    """Cut into parts of a picture that stay in a processor's cache; a GPU takes whole pictures."""
    pictures, pieces, classes, pixels = logits_bmkp.shape
    step = pieces if logits_bmkp.is_cuda else max(1, PART // (classes * pixels))
    for picture in range(pictures):
        for first in range(0, pieces, step):
            yield picture, slice(first, first + step)


def _focal(log_p_bmp: Tensor) -> Tensor:
    """Return (1 - p)^2 of each pixel, p the probability of its true class.

    Source: Lin et al., "Focal Loss for Dense Object Detection", 2017, equation 4 with gamma 2.
    """
    return (1 - log_p_bmp.exp()).square()


def _hard(log_p_bmp: Tensor, known_bmp: Tensor) -> Tensor:
    """Say which pixels are hard: p below 0.7, and at least a sixteenth of each picture's.

    Source: Wu et al., "High-performance Semantic Segmentation Using Very Deep Fully Convolutional
    Networks", 2016, online bootstrapping. Taken per picture, so that batches can be split.
    """
    p_bmp = log_p_bmp.detach().exp()
    p_bx = p_bmp.masked_fill(~known_bmp, 2.0).flatten(1)
    least_b = (known_bmp.flatten(1).sum(1) // 16).clamp(min=1)
    limit_b1 = p_bx.sort(1).values.gather(1, least_b[:, None] - 1)
    return (p_bx <= limit_b1.clamp(min=0.7)).view_as(p_bmp)


def _dice(log_p_bmp: Tensor, sums_bk: Tensor, labels_bmp: Tensor, known_bmp: Tensor) -> Tensor:
    """Return each picture's Dice loss (B,): 1 - the mean over its classes of 2|P.T|/(|P|+|T|).

    P holds the softmax's probabilities. Taken per picture, so that batches can be split.
    Source: Sudre et al., "Generalized Dice overlap as a deep learning loss function for highly
    unbalanced segmentations", 2017, section 2.1, for several classes of equal weight.
    """
    known_bn, labels_bn = known_bmp.flatten(1).to(sums_bk.dtype), labels_bmp.flatten(1)
    nothing_bk = torch.zeros_like(sums_bk)
    both_bk = nothing_bk.scatter_add(1, labels_bn, log_p_bmp.exp().flatten(1) * known_bn)
    truth_bk = nothing_bk.scatter_add(1, labels_bn, known_bn)
    overlap_bk = 2 * both_bk / (sums_bk + truth_bk).clamp(min=1e-6)
    present_bk = truth_bk > 0
    return ((1 - overlap_bk) * present_bk).sum(1) / present_bk.sum(1).clamp(min=1)


def given_weights(text: str, classes: Sequence[str]) -> Tensor:
    """Turn class weights that were given by hand into a tensor.

    Args:
        text: See ``Recipe.class_weights``.
        classes: Class names.

    Returns:
        float32 (K,), 1 for what is not named.

    Raises:
        ValueError: A name is not one of the classes.
    """
    weights = parse_class_weights(text)
    for name in weights:
        if name not in classes:
            rule = f"names must be among the classes {', '.join(classes)}"
            raise BadValueError(message("--class-weights", rule, name, "use one of these"))
    return torch.tensor([weights.get(name, 1.0) for name in classes])


def frequency_weights(
    samples: Sequence[Sample], labelmap: LabelMap, *, void_as_background: bool
) -> Tensor:
    """Weigh classes by their share p of the masks' pixels: 1 / ln(1.02 + p).

    Source: Paszke et al., "ENet: A Deep Neural Network Architecture for Real-Time Semantic
    Segmentation", 2016, section 5.2. Bounded, so that a class that hardly occurs does not rule the
    loss. Divided by the mean over all pixels, so that the learning rate keeps its meaning.

    Args:
        samples: Pictures with masks; every mask is read.
        labelmap: Their classes.
        void_as_background: See ``Recipe.void_as_background``.

    Returns:
        float32 (K,).

    Raises:
        DataError: A file is broken.
    """
    counts = np.zeros(len(labelmap.classes))
    for sample in samples:
        _, labels_hw = read_pair(sample, labelmap, void_as_background=void_as_background)
        counts += np.bincount(labels_hw.ravel(), minlength=256)[: len(counts)]
    shares = counts / max(1.0, counts.sum())
    weights = 1 / np.log(1.02 + shares)
    mean = float(shares @ weights) or 1.0
    return torch.from_numpy((weights / mean).astype(np.float32))
