"""What every network of the family promises, and what is particular to some."""

from __future__ import annotations

import copy
from pathlib import Path

import pytest
import torch
import torchvision
from torch import Tensor, nn
from typer.testing import CliRunner

from fcnkit.cli import app
from fcnkit.train.checkpoint import load_model
from fcnkit.train.models import (
    ARCHITECTURES,
    SegmentationNet,
    SubpixelConvTranspose2d,
    create_model,
)
from fcnkit.train.models.backbone import RESNETS, ResNetFeatures
from fcnkit.train.models.registry import NETWORKS, register
from fcnkit.train.models.upsample import bilinear_kernel
from tests.refusal import refusal
from tests.train.networks import CLASSES, lively, save_network

# The other backbones are the same code with other widths: they are built, and run on shapes alone.
SMALLEST = (None, "resnet18", "mobilenet_v3_large")
RUN = [name for name in ARCHITECTURES if NETWORKS[name].backbone in SMALLEST]
RUN.append("deeplabv3-resnet50")  # one whose blocks have bottlenecks

# The pyramid of DDRNet begins with batch normalizations, which subtract these again.
NORMALIZED_AWAY = {
    "encoder.coarse_end.convs.7.bias",
    "encoder.coarse_end.shortcut.1.bias",
}


def with_plain_upsampling(net: SegmentationNet) -> SegmentationNet:
    """Return a copy with torch's own transposed convolutions."""
    plain_net = copy.deepcopy(net)
    for owner in list(plain_net.modules()):
        for name, layer in owner.named_children():
            if isinstance(layer, SubpixelConvTranspose2d):
                channels, classes, side, _ = layer.weight.shape
                plain = nn.ConvTranspose2d(channels, classes, side, side // 2, side // 4)
                plain.load_state_dict(layer.state_dict())
                setattr(owner, name, plain)
    return plain_net


@pytest.mark.parametrize("architecture", RUN)
@pytest.mark.parametrize(("height", "width"), [(32, 32), (64, 96)])
@torch.inference_mode()
def test_logits_and_labels_have_the_size_of_the_picture(
    architecture: str, height: int, width: int
) -> None:
    net = lively(architecture)
    x = torch.randn(2, 3, height, width)
    logits, labels = net(x), net.labels(x)
    assert logits.shape == (2, len(CLASSES), height, width)
    assert labels.dtype == torch.float32
    assert torch.equal(labels.long(), logits.argmax(1))
    assert len(labels.unique()) > 1


@pytest.mark.parametrize("architecture", ARCHITECTURES)
def test_every_backbone_fits_its_network(architecture: str) -> None:
    with torch.device("meta"):
        net = create_model(architecture, 7).eval()
        x = torch.empty(2, 3, 64, 96)
    assert net(x).shape == (2, 7, 64, 96)
    assert net.labels(x).shape == (2, 64, 96)


@pytest.mark.parametrize("architecture", ARCHITECTURES)
def test_odd_sizes_are_refused_with_the_size_to_pad_to(architecture: str) -> None:
    with torch.device("meta"):
        net = create_model(architecture, 3).eval()
    for call in (net, net.labels):
        with refusal(
            ValueError,
            f"{type(net).__name__}: sides must be multiples of 32, got 33x64; pad to 64x64",
        ):
            call(torch.empty(1, 3, 33, 64, device="meta"))
        with refusal(
            ValueError,
            f"{type(net).__name__}: sides must be multiples of 32, got 64x80; pad to 64x96",
        ):
            call(torch.empty(1, 3, 64, 80, device="meta"))


@pytest.mark.parametrize("architecture", RUN)
def test_every_parameter_gets_a_gradient(architecture: str) -> None:
    torch.manual_seed(0)
    net = create_model(architecture, 3)
    net(torch.randn(2, 3, 64, 64)).square().mean().backward()
    missing = {name for name, p in net.named_parameters() if p.grad is None or not p.grad.any()}
    assert missing <= NORMALIZED_AWAY


@pytest.mark.parametrize("architecture", RUN)
@torch.inference_mode()
def test_a_checkpoint_gives_the_network_back(architecture: str, tmp_path: Path) -> None:
    net = lively(architecture)
    save_network(net, architecture, tmp_path / "x.pt")
    loaded, _ = load_model(tmp_path / "x.pt")
    assert type(loaded) is type(net)
    x = torch.randn(1, 3, 32, 64)
    assert torch.equal(loaded(x), net(x))


@pytest.mark.parametrize("architecture", RUN)
def test_one_traced_program_takes_every_multiple_of_32(architecture: str) -> None:
    net = lively(architecture)
    batch, height, width = (torch.export.Dim(name) for name in ("n", "h", "w"))
    sides = {0: batch, 2: 32 * height, 3: 32 * width}
    program = torch.export.export(
        net, (torch.zeros(2, 3, 128, 192),), dynamic_shapes=(sides,), strict=False
    ).module()
    with torch.inference_mode():
        # From 96 on: torch itself guards a traced program against maps of a single pixel.
        for shape in ((1, 3, 96, 128), (3, 3, 160, 224)):
            x = torch.randn(shape)
            torch.testing.assert_close(program(x), net(x), rtol=1e-5, atol=1e-6)


@pytest.mark.parametrize("architecture", RUN)
@torch.inference_mode()
def test_equals_the_network_with_plain_transposed_convolutions(architecture: str) -> None:
    net = lively(architecture).double()
    plain = with_plain_upsampling(net).double()
    kinds = {type(module) for module in plain.modules()}
    assert SubpixelConvTranspose2d not in kinds
    assert (nn.ConvTranspose2d in kinds) == any(
        isinstance(module, SubpixelConvTranspose2d) for module in net.modules()
    )
    x = torch.randn(1, 3, 64, 96, dtype=torch.float64)
    torch.testing.assert_close(net(x), plain(x), rtol=1e-10, atol=1e-10)


@pytest.mark.parametrize("architecture", ARCHITECTURES)
def test_only_an_upsampling_of_scores_can_be_frozen(architecture: str) -> None:
    if architecture.startswith(("unet", "fpn")):
        with refusal(
            ValueError,
            "freeze_upsample: only an upsampling of class scores can stay as it starts, "
            f"got {architecture}; use bilinear and an fcn or deeplabv3, or do not freeze",
        ):
            create_model(architecture, 3, freeze_upsample=True)
        return
    net = create_model(architecture, 3, freeze_upsample=True)
    layers = [m for m in net.modules() if isinstance(m, SubpixelConvTranspose2d)]
    frozen = {id(p) for layer in layers for p in layer.parameters()}
    assert frozen == {id(p) for p in net.parameters() if not p.requires_grad}
    for layer in layers:
        assert torch.equal(layer.weight, bilinear_kernel(3, layer.weight.shape[-1]))
        assert not layer.bias.any()


def test_a_frozen_upsampling_must_be_bilinear() -> None:
    with refusal(
        ValueError,
        "freeze_upsample: only a bilinear upsampling can stay as it starts, got xavier; "
        "use bilinear and an fcn or deeplabv3, or do not freeze",
    ):
        create_model("fcn8s-resnet18", 3, upsample_init="xavier", freeze_upsample=True)


def test_upsampling_starts_as_asked() -> None:
    torch.manual_seed(0)
    drawn = create_model("fcn16s-resnet18", 5, upsample_init="xavier").state_dict()
    for name, side in (("transpose_conv", 32), ("skip_upsamplings.0", 4)):
        # Xavier: uniform in +-sqrt(6 / (fan_in + fan_out)), fans counting the kernel's area.
        bound = (6 / (2 * 5 * side**2)) ** 0.5
        assert 0.9 * bound < drawn[f"{name}.weight"].abs().max() <= bound
    with refusal(
        ValueError, "upsample_init: must be one of bilinear, xavier, got zero; choose one of these"
    ):
        create_model("fcn16s-resnet18", 5, upsample_init="zero")  # type: ignore[arg-type]


def test_bilinear_upsampling_to_other_channels_is_a_1x1_convolution_first() -> None:
    layer = create_model("unet-resnet18", 5).last_step
    assert isinstance(layer, SubpixelConvTranspose2d)
    mixing, ramp = layer.weight[:, :, 1, 1] / 0.75**2, bilinear_kernel(1, 4)
    torch.testing.assert_close(layer.weight, mixing[:, :, None, None] * ramp)
    assert mixing.std() > 0.1


def test_names_shapes_and_initialization_are_the_chapters() -> None:
    state = create_model("fcn32s-resnet18", 21).state_dict()
    assert state["final_conv.weight"].shape == (21, 512, 1, 1)
    assert state["final_conv.bias"].shape == (21,)
    assert state["transpose_conv.weight"].shape == (21, 21, 64, 64)
    assert state["transpose_conv.bias"].shape == (21,)
    assert torch.equal(state["transpose_conv.weight"], bilinear_kernel(21, 64))
    # Xavier: uniform in +-sqrt(6 / (fan_in + fan_out)).
    bound = (6 / (512 + 21)) ** 0.5
    assert 0.9 * bound < state["final_conv.weight"].abs().max() <= bound


@torch.inference_mode()
def test_skips_add_scores_of_strides_16_and_8() -> None:
    net = lively("fcn8s-resnet18")
    x = torch.randn(1, 3, 64, 96)
    *_, stride8, stride16, stride32 = net.backbone(x)
    doubles, convs = net.skip_upsamplings, net.skip_convs
    scores = doubles[0](net.final_conv(stride32)) + convs[0](stride16)
    scores = doubles[1](scores) + convs[1](stride8)
    assert scores.shape == (1, 3, 8, 12)
    torch.testing.assert_close(net(x), net.transpose_conv(scores))
    fresh = create_model("fcn8s-resnet18", 3)
    assert not any(conv.weight.any() for conv in fresh.skip_convs)


def features(name: str, output_stride: int, image: Tensor) -> list[Tensor]:
    torch.manual_seed(1)
    net = ResNetFeatures(name, pretrained=False, output_stride=output_stride).double().eval()
    return list(net(image))


@pytest.mark.parametrize("name", ["resnet18", "resnet50"])
@torch.inference_mode()
def test_backbone_gives_every_stage(name: str) -> None:
    stages = features(name, 32, torch.randn(1, 3, 64, 96, dtype=torch.float64))
    widths = (64, 64, 128, 256, 512) if name == "resnet18" else (64, 256, 512, 1024, 2048)
    assert [tuple(x.shape[1:]) for x in stages] == [
        (width, 64 // stride, 96 // stride)
        for width, stride in zip(widths, (2, 4, 8, 16, 32), strict=True)
    ]


@pytest.mark.parametrize("name", ["resnet18", "resnet50"])
@torch.inference_mode()
def test_every_second_row_and_column_of_a_dilated_stage_is_the_strided_stage(name: str) -> None:
    # The "algorithme a trous": dilation computes the same values, and those between them.
    image = torch.randn(1, 3, 64, 96, dtype=torch.float64)
    expected = features(name, 32, image)[-1]
    for output_stride in (16, 8):
        step = 32 // output_stride
        dense = features(name, output_stride, image)[-1]
        assert dense.shape[2:] == (64 // output_stride, 96 // output_stride)
        torch.testing.assert_close(dense[..., ::step, ::step], expected)


@pytest.mark.parametrize("dilated", [(False, False, True), (False, True, True)])
@torch.inference_mode()
def test_dilation_of_bottlenecks_is_torchvisions(dilated: tuple[bool, bool, bool]) -> None:
    image = torch.randn(1, 3, 64, 96, dtype=torch.float64)
    torch.manual_seed(1)
    theirs = torchvision.models.resnet50(replace_stride_with_dilation=dilated).double().eval()
    stages = nn.Sequential(*list(theirs.children())[:-2])
    torch.testing.assert_close(features("resnet50", 32 >> sum(dilated), image)[-1], stages(image))


@pytest.mark.parametrize(
    ("architecture", "name"),
    [
        ("deeplabv3-resnet18", "DeepLabV3"),
        ("ddrnet23slim", "DDRNet23Slim"),
        ("ddrnet23slim4", "DDRNet23Slim4"),
    ],
)
def test_what_normalizes_pooled_features_needs_two_pictures_to_train_on(
    architecture: str, name: str
) -> None:
    net = create_model(architecture, 3)
    with refusal(
        ValueError,
        f"{name}: training needs at least 2 pictures in a batch, to normalize what is pooled, "
        "got 1; raise --batch",
    ):
        net(torch.randn(1, 3, 32, 32))
    net(torch.randn(2, 3, 32, 32))
    net.eval()(torch.randn(1, 3, 32, 32))


def test_the_family() -> None:
    families = ("fcn32s", "fcn16s", "fcn8s", "fpn", "unet", "deeplabv3", "deeplabv3os8")
    expected = {f"{family}-{backbone}" for family in families for backbone in RESNETS}
    alone = {"unet", "ddrnet23slim", "ddrnet23slim4", "lraspp-mobilenet_v3_large"}
    assert set(ARCHITECTURES) == expected | alone
    shown = CliRunner().invoke(app, ["train", "--help"], env={"COLUMNS": "200"}).output
    assert all(word in shown for name in ARCHITECTURES for word in name.split("-"))


def test_a_new_network_is_one_class(monkeypatch: pytest.MonkeyPatch) -> None:
    class Flat(SegmentationNet):
        def __init__(self, num_classes: int) -> None:
            super().__init__()
            self.conv = nn.Conv2d(3, num_classes, 1)

        def body(self, image_nchw: Tensor) -> Tensor:
            return image_nchw

        @property
        def last_step(self) -> nn.Module:
            return self.conv

    monkeypatch.setattr("fcnkit.train.models.NETWORKS", fresh := dict(NETWORKS))
    monkeypatch.setattr("fcnkit.train.models.registry.NETWORKS", fresh)
    register("flat")(Flat)
    net = create_model("flat", 4)
    assert net.labels(torch.randn(1, 3, 32, 64)).shape == (1, 32, 64)


def test_unknown_architecture_is_refused() -> None:
    with refusal(
        ValueError,
        f"create_model: architecture: must be one of {', '.join(ARCHITECTURES)}, got vgg; "
        "choose one of these",
    ):
        create_model("vgg", 3)


@pytest.mark.parametrize("classes", [0, 256, -1])
def test_classes_must_fit_into_a_byte(classes: int) -> None:
    with refusal(
        ValueError,
        f"create_model: num_classes: must be 1..255, got {classes}; pass a value from 1 to 255",
    ):
        create_model("unet", classes)


def test_pretrained_needs_a_backbone_of_torchvision() -> None:
    with refusal(
        ValueError,
        "create_model: pretrained weights are those of a backbone of torchvision, got unet; "
        "use a network on a ResNet or MobileNetV3, or train from scratch",
    ):
        create_model("unet", 3, pretrained=True)
