"""The networks for real time, against torchvision, the papers' numbers and plain interpolation."""

from __future__ import annotations

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.utils.flop_counter import FlopCounterMode
from torchvision.models.segmentation import lraspp_mobilenet_v3_large

from fcnkit.train.models import create_model
from fcnkit.train.models.bilinear import BilinearUpsample
from fcnkit.train.models.ddrnet import DDRNet23Slim, DDRNet23Slim4
from tests.train.networks import lively

LRASPP = "lraspp-mobilenet_v3_large"


@pytest.mark.parametrize("factor", [2, 4, 8])
@pytest.mark.parametrize(("height", "width"), [(1, 1), (1, 5), (4, 3)])
def test_bilinear_enlargement_is_pytorchs(factor: int, height: int, width: int) -> None:
    x = torch.randn(2, 3, height, width, dtype=torch.float64)
    expected = F.interpolate(x, scale_factor=factor, mode="bilinear", align_corners=False)
    layer = BilinearUpsample(3, factor).double()
    torch.testing.assert_close(layer(x), expected, rtol=0, atol=1e-12)
    assert not layer.state_dict()
    assert not list(layer.parameters())


def test_bilinear_enlargement_trains_compiled() -> None:
    torch.manual_seed(0)
    layer = BilinearUpsample(6, 4)
    net = nn.Sequential(nn.Conv2d(3, 6, 1), layer, nn.Conv2d(6, 2, 1))
    net = net.to(memory_format=torch.channels_last)
    x = torch.randn(2, 3, 5, 8).contiguous(memory_format=torch.channels_last)
    slopes = []
    for forward in (net, torch.compile(net)):
        net.zero_grad()
        forward(x).square().mean().backward()
        slopes.append(net[0].weight.grad.clone())
    torch.testing.assert_close(slopes[1], slopes[0])


def body_of(architecture: str, classes: int, height: int, width: int) -> tuple[float, float]:
    """Return the millions of parameters before the last step, and the GMAC they take."""
    with torch.device("meta"):
        net = create_model(architecture, classes).eval()
        image = torch.empty(1, 3, height, width)
    last = {id(weight) for weight in net.last_step.parameters()}
    weights = sum(weight.numel() for weight in net.parameters() if id(weight) not in last)
    with FlopCounterMode(display=False) as counter:
        net.body(image)
    return weights / 1e6, counter.get_total_flops() / 2e9


def test_ddrnet_has_the_size_and_the_work_of_the_paper() -> None:
    # Table 4 of the paper: 5.7 M parameters, 36.3 G at 1024x2048 with 19 classes.
    millions, work = body_of("ddrnet23slim", 19, 1024, 2048)
    assert round(millions, 1) == 5.7
    assert work == pytest.approx(36.3, rel=0.005)


def test_lraspp_has_the_size_of_torchvisions_and_no_more_work() -> None:
    # What torchvision says of its LR-ASPP for 21 classes: 3,221,538 parameters, 2.086 G at 520x520.
    millions, work = body_of(LRASPP, 21, 512, 512)
    assert millions == 3.221538
    assert 0.95 < work / (2.086 * (512 / 520) ** 2) <= 1


NAMES = {
    "decoder.conv": "classifier.cbr.0",
    "decoder.norm": "classifier.cbr.1",
    "decoder.gate": "classifier.scale.1",
    "coarse_conv": "classifier.high_classifier",
    "fine_conv": "classifier.low_classifier",
    "backbone.features": "backbone",
}


def their_name(key: str) -> str:
    ours, theirs = next(pair for pair in NAMES.items() if key.startswith(pair[0]))
    return theirs + key.removeprefix(ours)


@torch.inference_mode()
def test_lraspp_computes_the_scores_of_torchvisions() -> None:
    net = lively(LRASPP).double()
    theirs = lraspp_mobilenet_v3_large(weights=None, weights_backbone=None, num_classes=3)
    state = net.state_dict().items()
    theirs.load_state_dict({their_name(k): v for k, v in state if "transpose_conv" not in k})
    theirs = theirs.double().eval()
    image = torch.randn(2, 3, 64, 96, dtype=torch.float64)
    scores = theirs.classifier(theirs.backbone(image))
    assert scores.shape == (2, 3, 8, 12)
    torch.testing.assert_close(net.body(image), scores, rtol=1e-9, atol=1e-9)


def stepwise(encoder: nn.Module, image: Tensor) -> Tensor:
    """Compute the two branches as the paper's figure 4 shows them, with F.interpolate."""

    def enlarged(x: Tensor, like: Tensor) -> Tensor:
        return F.interpolate(x, size=like.shape[2:], mode="bilinear", align_corners=False)

    first, second = encoder.exchanges
    stride8 = encoder.stem(image)
    high, low = first.fine_stage(stride8), first.coarse_stage(stride8)
    low_after = F.relu(low + first.down(F.relu(high)))
    high = F.relu(high + enlarged(first.up[:2](F.relu(low)), high))
    low, high_before = second.coarse_stage(low_after), second.fine_stage(high)
    low_after = F.relu(low + second.down(F.relu(high_before)))
    high = F.relu(high_before + enlarged(second.up[:2](F.relu(low)), high))
    high = encoder.fine_end(high)
    total: Tensor = high + enlarged(encoder.pyramid(encoder.coarse_end(low_after)), high)
    return total


@torch.inference_mode()
def test_ddrnet_exchanges_and_joins_as_in_the_paper() -> None:
    net = lively("ddrnet23slim").double()
    assert isinstance(net, DDRNet23Slim)
    image = torch.randn(1, 3, 128, 192, dtype=torch.float64)
    strides = []
    for module in (*net.encoder.exchanges, net.encoder.coarse_end):
        module.register_forward_hook(
            lambda _, __, out: strides.append(128 // out[0].shape[-2] if out[0].ndim == 4 else 64)
        )
    early, features = net.encoder(image)
    torch.testing.assert_close(features, stepwise(net.encoder, image))
    assert early.shape == (1, 32, 32, 48)
    assert strides[:2] == [16, 32]


@torch.inference_mode()
def test_ddrnet_of_stride_4_joins_the_features_of_the_stem() -> None:
    net = lively("ddrnet23slim4").double()
    assert isinstance(net, DDRNet23Slim4)
    image = torch.randn(1, 3, 64, 96, dtype=torch.float64)
    early, features = net.encoder(image)
    torch.testing.assert_close(early, net.encoder.stem[:8](image))
    norm, relu, conv, after, _ = net.decoder
    high = after(conv(relu(norm(features))))
    high = F.interpolate(high, scale_factor=2, mode="bilinear", align_corners=False)
    joined = net.join[1:](F.relu(high + net.detail(early)))
    torch.testing.assert_close(net.body(image), net.final_conv(joined))


def test_deciding_at_stride_4_costs_no_more_work() -> None:
    (millions, work), (fewer, less) = (
        body_of(name, 19, 1024, 2048) for name in ("ddrnet23slim4", "ddrnet23slim")
    )
    assert millions < fewer
    assert work == pytest.approx(less, rel=0.01)


@torch.inference_mode()
def test_the_pyramid_averages_what_lies_inside_the_window() -> None:
    net = lively("ddrnet23slim")
    assert isinstance(net, DDRNet23Slim)
    values = np.random.default_rng(0).normal(size=(6, 11))
    for scale, side in zip(net.encoder.pyramid.scales[1:4], (5, 9, 17), strict=True):
        pooled = scale[0](torch.from_numpy(values)[None, None])[0, 0].numpy()
        reach = side // 2
        for y, x in ((0, 0), (3, 5), (5, 10)):
            rows, columns = (slice(max(0, at - reach), at + reach + 1) for at in (y, x))
            assert pooled[y, x] == pytest.approx(values[rows, columns].mean())
