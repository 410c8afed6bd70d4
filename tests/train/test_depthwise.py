from __future__ import annotations

import copy
from dataclasses import replace
from typing import Any

import pytest
import torch
from torch import nn

from fcnkit.train.depthwise import train_in_float32
from fcnkit.train.learner import Learner
from fcnkit.train.models import create_model
from fcnkit.train.recipe import RECIPES


def layer(side: int, groups: int) -> nn.Conv2d:
    torch.manual_seed(1)
    return nn.Conv2d(8, 8, side, padding=side // 2, groups=groups)


def in_bfloat16(conv: nn.Module, x: torch.Tensor) -> torch.Tensor:
    with torch.autocast("cpu", torch.bfloat16):
        y: torch.Tensor = conv(x)
    return y


def test_a_large_depthwise_convolution_stays_in_float32_under_autocast() -> None:
    plain, x = layer(5, 8), torch.randn(2, 8, 12, 16)
    changed = copy.deepcopy(plain)
    train_in_float32(changed)
    y = in_bfloat16(changed, x)
    assert y.dtype == torch.bfloat16
    assert torch.equal(y, plain(x).bfloat16())
    assert not torch.equal(y, in_bfloat16(plain, x))
    assert torch.equal(changed(x), plain(x))
    assert changed.state_dict().keys() == plain.state_dict().keys()
    # The averaged weights live in a copy of the network.
    assert torch.equal(in_bfloat16(copy.deepcopy(changed), x), y)


@pytest.mark.parametrize(("side", "groups"), [(3, 8), (5, 1), (5, 4)])
def test_other_convolutions_are_left_alone(side: int, groups: int) -> None:
    conv, x = layer(side, groups), torch.randn(2, 8, 12, 16)
    wanted = in_bfloat16(conv, x)
    train_in_float32(conv)
    assert torch.equal(in_bfloat16(conv, x), wanted)


@pytest.mark.parametrize("precision", ["bf16", "fp32"])
def test_a_network_with_such_layers_trains(precision: Any) -> None:
    torch.manual_seed(2)
    recipe = replace(RECIPES["modern"], precision=precision, batch=2)
    learner = Learner(create_model("lraspp-mobilenet_v3_large", 3), recipe)
    convs = [module for module in learner.net.modules() if isinstance(module, nn.Conv2d)]
    large = [conv for conv in convs if conv.groups > 1 and conv.kernel_size == (5, 5)]
    assert len(large) == 6
    changed = [conv for conv in convs if type(conv) is not nn.Conv2d]
    assert changed == (large if precision == "bf16" else [])
    before = [conv.weight.detach().clone() for conv in large]
    learner.net.train()
    learner.step(torch.randn(2, 3, 64, 96), torch.randint(0, 3, (2, 64, 96)), 1e-3)
    assert not any(map(torch.equal, before, [conv.weight for conv in large]))
