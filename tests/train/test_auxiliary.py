"""The auxiliary head: what it learns from, what it adds to the loss, and that nothing keeps it."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor, nn

from fcnkit.runtime.artifacts.spec import VOID
from fcnkit.train.auxiliary import auxiliary_head
from fcnkit.train.checkpoint import load_checkpoint, load_model
from fcnkit.train.learner import Learner
from fcnkit.train.loop import open_data, train
from fcnkit.train.losses import share_of_loss
from fcnkit.train.models import ARCHITECTURES, create_model
from fcnkit.train.models.ddrnet import DDRNet23Slim, DDRNet23Slim4
from fcnkit.train.recipe import RECIPES
from fcnkit.train.weights import ModelOptions
from tests.refusal import refusal

RECIPE = replace(RECIPES["modern"], precision="fp32", dice=0.5, auxiliary=0.4)
HAVING = [name for name in ARCHITECTURES if name not in ("unet", "lraspp-mobilenet_v3_large")]


def inner_features(net: Any, x: Tensor) -> Tensor:
    """What the head gets, computed by the network's own parts."""
    if isinstance(net, DDRNet23Slim | DDRNet23Slim4):
        stem = net.encoder.stem(x)
        return net.encoder.exchanges[0](stem, stem)[1]
    features: Tensor = net.backbone(x)[3]
    return features


@pytest.mark.parametrize(
    "architecture", ["ddrnet23slim", "ddrnet23slim4", "fpn-resnet18", "deeplabv3os8-resnet18"]
)
def test_the_loss_of_the_head_is_added(architecture: str) -> None:
    torch.manual_seed(0)
    net = create_model(architecture, 5)
    learner = Learner(net, RECIPE)
    head = learner._auxiliary
    assert head is not None
    x, labels = torch.randn(2, 3, 64, 96), torch.randint(0, 5, (2, 64, 96))
    labels[0, :9] = VOID
    with torch.no_grad():
        inner = head.upsampling(head.scores(inner_features(net, x)))
        own = share_of_loss(
            inner.flatten(2)[:, None], labels.flatten(1)[:, None], RECIPE, pixels=64 * 96
        )
    alone = Learner(create_model(architecture, 5), replace(RECIPE, auxiliary=0.0))
    alone.net.load_state_dict(net.state_dict())
    before = head.scores[0].weight.detach().clone()
    torch.manual_seed(1)  # of the dropout
    without, *counts = alone.step(x, labels, 1e-3)
    torch.manual_seed(1)
    loss, *others = learner.step(x, labels, 1e-3)
    assert loss - without == pytest.approx(0.4 * float(own), rel=1e-3)
    assert counts == others
    assert not torch.equal(before, head.scores[0].weight)  # it learns


@pytest.mark.parametrize("architecture", HAVING)
def test_the_stage_is_as_large_as_it_says(architecture: str) -> None:
    with torch.device("meta"):
        net = create_model(architecture, 3).eval()
        stage = net.inner_stage
        assert stage is not None
        found = inner_features(net, torch.empty(1, 3, 64, 128))
    assert found.shape == (1, stage.channels, 64 // stage.stride, 128 // stage.stride)
    assert any(module is stage.module for module in net.modules())


@pytest.mark.parametrize("architecture", ["unet", "lraspp-mobilenet_v3_large"])
def test_networks_without_such_a_stage_are_refused(architecture: str) -> None:
    net = create_model(architecture, 3)
    with refusal(
        ValueError,
        "--auxiliary: is for networks on a ResNet and for DDRNet, "
        f"got {type(net).__name__}; leave it out",
    ):
        Learner(net, RECIPE)
    assert auxiliary_head(net, replace(RECIPE, auxiliary=0.0)) is None


def test_a_pass_leaves_no_hook() -> None:
    net = create_model("ddrnet23slim", 3)
    learner = Learner(net, RECIPE)
    with pytest.raises(ValueError, match="multiples of 32"):
        learner.step(torch.randn(2, 3, 33, 64), torch.zeros(2, 33, 64, dtype=torch.int64), 1e-3)
    learner.step(torch.randn(2, 3, 64, 64), torch.zeros(2, 64, 64, dtype=torch.int64), 1e-3)
    hooks: list[nn.Module] = [one for one in net.modules() if one._forward_hooks]
    assert not hooks


def test_a_run_resumes_bit_for_bit_and_deploys_no_head(shapes_folder: Path, tmp_path: Path) -> None:
    recipe = replace(RECIPE, epochs=2, batch=8, crop=(64, 64), scale=(1.0, 1.0))
    options: dict[str, Any] = {
        "model": ModelOptions(architecture="ddrnet23slim"),
        "device": "cpu",
        "workers": 0,
        "validate_every": 2,
    }
    data = open_data(shapes_folder, recipe)
    train(data, tmp_path / "whole", recipe, **options)

    class CutOff(Exception):
        pass

    def cut_off(_: object) -> None:
        raise CutOff

    with pytest.raises(CutOff):
        train(data, tmp_path / "cut", recipe, on_epoch=cut_off, **options)
    train(data, tmp_path / "cut", recipe, resume=True, **options)
    whole, cut = (load_checkpoint(tmp_path / run / "last.pt") for run in ("whole", "cut"))
    assert (whole.epoch, cut.epoch) == (2, 2)
    for key, value in whole.model.items():
        assert torch.equal(value, cut.model[key]), key
    assert whole.resume is not None
    assert cut.resume is not None
    for key, value in whole.resume["auxiliary"].items():
        assert torch.equal(value, cut.resume["auxiliary"][key]), key
    net, _ = load_model(tmp_path / "whole" / "best.pt")
    assert set(net.state_dict()) == set(create_model("ddrnet23slim", 2).state_dict())
