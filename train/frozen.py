"""Networks for inference alone."""

from __future__ import annotations

import copy
from itertools import pairwise

from torch import nn
from torch.nn.utils.fusion import fuse_conv_bn_eval

from fcnkit.train.models import SegmentationNet, precompute_upsampling
from fcnkit.train.models.foreign import ForeignNet
from fcnkit.train.models.timm_backbone import TimmFeatures

__all__ = ["frozen_copy"]


def frozen_copy(net: SegmentationNet) -> SegmentationNet:
    """Return a copy for inference alone: upsampling precomputed, batch normalization folded."""
    frozen = copy.deepcopy(net).eval()
    precompute_upsampling(frozen)
    others = {
        id(inner)
        for module in frozen.modules()
        if isinstance(module, (ForeignNet, TimmFeatures))
        for inner in module.modules()
    }
    for module in frozen.modules():
        if id(module) not in others:
            _fold_batch_norms(module)
    return frozen


def _fold_batch_norms(module: nn.Module) -> None:
    """Fold each batch normalization into the convolution that its owner defines just before it.

    The exporter folds too, but not where another node reads the convolution's result, or its
    size. That definition order is the order of computing is a convention of our own networks;
    the comparison after the export would show a breach. Others are left as they are.
    """
    for (name, conv), (norm_name, norm) in pairwise(list(module.named_children())):
        if isinstance(conv, nn.Conv2d) and isinstance(norm, nn.BatchNorm2d):
            setattr(module, name, fuse_conv_bn_eval(conv, norm))
            setattr(module, norm_name, nn.Identity())
