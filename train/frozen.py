"""Networks for inference alone."""

from __future__ import annotations

import copy
from itertools import pairwise

from torch import nn
from torch.nn.utils.fusion import fuse_conv_bn_eval

from fcnkit.train.models import SegmentationNet, precompute_upsampling

__all__ = ["frozen_copy"]


def frozen_copy(net: SegmentationNet) -> SegmentationNet:
    """Return a copy for inference alone: upsampling precomputed, batch normalization folded."""
    frozen = copy.deepcopy(net).eval()
    precompute_upsampling(frozen)
    for module in frozen.modules():
        _fold_batch_norms(module)
    return frozen


def _fold_batch_norms(module: nn.Module) -> None:
    """Fold each batch normalization into the convolution that its owner defines just before it.

    The exporter also folds, but not if another node uses the convolution's output (even just its
    shape). We assume that modules are defined in the order they run; the check after the export
    would catch a violation.
    """
    for (name, conv), (norm_name, norm) in pairwise(list(module.named_children())):
        if isinstance(conv, nn.Conv2d) and isinstance(norm, nn.BatchNorm2d):
            setattr(module, name, fuse_conv_bn_eval(conv, norm))
            setattr(module, norm_name, nn.Identity())
