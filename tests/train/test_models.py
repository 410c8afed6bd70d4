from __future__ import annotations

import pytest
import torch

from fcnkit.train.models import ARCHITECTURES, create_model
from fcnkit.train.models.upsample import bilinear_kernel


@pytest.mark.parametrize("architecture", ARCHITECTURES)
@pytest.mark.parametrize(("height", "width"), [(32, 32), (64, 96)])
def test_logits_and_labels_have_the_size_of_the_picture(
    architecture: str, height: int, width: int
) -> None:
    torch.manual_seed(0)
    net = create_model(architecture, 5).eval()
    x = torch.randn(2, 3, height, width)
    logits = net(x)
    assert logits.shape == (2, 5, height, width)
    assert torch.equal(net.labels(x).long(), logits.argmax(1))


@pytest.mark.parametrize("architecture", ARCHITECTURES)
def test_every_parameter_gets_a_gradient(architecture: str) -> None:
    torch.manual_seed(0)
    net = create_model(architecture, 3)
    net(torch.randn(2, 3, 64, 64)).square().mean().backward()
    missing = [name for name, p in net.named_parameters() if p.grad is None or not p.grad.any()]
    assert missing == []


def test_names_shapes_and_initialisation_are_the_chapters() -> None:
    state = create_model("fcn32s-resnet18", 21).state_dict()
    assert state["final_conv.weight"].shape == (21, 512, 1, 1)
    assert state["final_conv.bias"].shape == (21,)
    assert state["transpose_conv.weight"].shape == (21, 21, 64, 64)
    assert state["transpose_conv.bias"].shape == (21,)
    assert torch.equal(state["transpose_conv.weight"], bilinear_kernel(21, 64))
    # Xavier: uniform in +-sqrt(6 / (fan_in + fan_out)).
    bound = (6 / (512 + 21)) ** 0.5
    assert 0.9 * bound < state["final_conv.weight"].abs().max() <= bound


def test_odd_sizes_are_refused_with_the_size_to_pad_to() -> None:
    net = create_model("fcn32s-resnet18", 3).eval()
    with pytest.raises(ValueError, match="multiples") as caught:
        net(torch.randn(1, 3, 33, 64))
    assert str(caught.value) == "FCN32s: sides must be multiples of 32, got 33x64; pad to 64x64"


def test_unknown_architecture_is_refused() -> None:
    with pytest.raises(ValueError, match="architecture") as caught:
        create_model("vgg", 3)
    assert str(caught.value) == (
        f"create_model: architecture must be one of {', '.join(ARCHITECTURES)}, got vgg; "
        "choose one of these"
    )
