from __future__ import annotations

from collections.abc import Callable

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from torch import nn

from fcnkit.train.models.upsample import (
    SubpixelConvTranspose2d,
    bilinear_kernel,
    subpixel_weight,
)
from tests.refusal import refusal

STRIDES = (2, 4, 8, 16, 32)


def plain_and_fast(
    in_channels: int, out_channels: int, stride: int
) -> tuple[nn.ConvTranspose2d, SubpixelConvTranspose2d]:
    torch.manual_seed(stride)
    plain = nn.ConvTranspose2d(in_channels, out_channels, 2 * stride, stride, stride // 2).double()
    fast = SubpixelConvTranspose2d(in_channels, out_channels, stride=stride).double()
    fast.load_state_dict(plain.state_dict())
    return plain, fast


@pytest.mark.parametrize("stride", STRIDES)
@pytest.mark.parametrize(("height", "width"), [(1, 1), (1, 3), (3, 2), (5, 4)])
def test_equals_the_transposed_convolution_forward_and_backward(
    stride: int, height: int, width: int
) -> None:
    plain, fast = plain_and_fast(3, 5, stride)
    x = torch.randn(2, 3, height, width, dtype=torch.float64, requires_grad=True)
    y = x.detach().clone().requires_grad_()
    expected, got = plain(x), fast(y)
    torch.testing.assert_close(got, expected, rtol=1e-12, atol=1e-12)
    weights = torch.randn_like(expected)
    (expected * weights).sum().backward()
    (got * weights).sum().backward()
    for a, b in ((x, y), (plain.weight, fast.weight), (plain.bias, fast.bias)):
        assert a is not None
        assert b is not None
        torch.testing.assert_close(b.grad, a.grad, rtol=1e-10, atol=1e-10)


def test_float32_error_is_a_few_units_in_the_last_place() -> None:
    plain, fast = plain_and_fast(21, 21, 32)
    x = torch.randn(1, 21, 10, 15)
    error = (plain.float()(x) - fast.float()(x)).abs().max()
    assert error < 1e-5


def test_state_dict_is_that_of_the_transposed_convolution() -> None:
    plain, fast = plain_and_fast(4, 6, 8)
    shapes = {key: value.shape for key, value in fast.state_dict().items()}
    assert shapes == {key: value.shape for key, value in plain.state_dict().items()}
    fast.precompute()
    assert set(fast.state_dict()) == {"weight", "bias"}


@pytest.mark.parametrize("precomputed", [False, True])
def test_labels_are_the_argmax_of_the_logits(*, precomputed: bool) -> None:
    _, fast = plain_and_fast(4, 6, 8)
    x = torch.randn(2, 4, 3, 5, dtype=torch.float64)
    expected = fast(x).argmax(1)
    if precomputed:
        fast.precompute()
    labels = fast.labels(x)
    assert labels.dtype == torch.float32
    assert torch.equal(labels.long(), expected)


def test_first_class_wins_a_tie() -> None:
    fast = SubpixelConvTranspose2d(2, 3, stride=2)
    nn.init.zeros_(fast.weight)
    nn.init.zeros_(fast.bias)
    assert torch.equal(fast.labels(torch.randn(1, 2, 4, 4)), torch.zeros(1, 8, 8))


def test_bilinear_kernel_interpolates_as_torch_does_away_from_the_border() -> None:
    up = SubpixelConvTranspose2d(3, 3, stride=4)
    up.weight.data.copy_(bilinear_kernel(3, 8))
    nn.init.zeros_(up.bias)
    x = torch.randn(1, 3, 6, 7)
    expected = F.interpolate(x, scale_factor=4, mode="bilinear", align_corners=False)
    inner = (..., slice(2, -2), slice(2, -2))
    torch.testing.assert_close(up(x)[inner], expected[inner], rtol=1e-5, atol=1e-5)


def test_bilinear_kernel_of_the_chapter() -> None:
    # d2l.ai writes the same kernel as (1 - |i - center| / factor) outer product.
    kernel = bilinear_kernel(2, 4)
    row = torch.tensor([0.25, 0.75, 0.75, 0.25])
    torch.testing.assert_close(kernel[0, 0], torch.outer(row, row))
    assert torch.equal(kernel[0, 1], torch.zeros(4, 4))


def test_odd_stride_is_refused() -> None:
    with pytest.raises(ValueError, match="stride") as caught:
        SubpixelConvTranspose2d(1, 1, stride=3)
    assert str(caught.value) == (
        "SubpixelConvTranspose2d: stride must be even, got 3; use 2, 4, 8, 16 or 32"
    )


@pytest.mark.parametrize(
    ("call", "error", "text"),
    [
        (
            lambda: bilinear_kernel(0, 4),
            ValueError,
            f"bilinear_kernel: channels: must be 1..{2**28}, got 0; pass a value from 1 to {2**28}",
        ),
        (
            lambda: bilinear_kernel(2, 2**31),
            ValueError,
            f"bilinear_kernel: kernel_size: must be 1..{2**28}, got {2**31}; "
            f"pass a value from 1 to {2**28}",
        ),
        (
            lambda: bilinear_kernel(256, 128),
            ValueError,
            f"bilinear_kernel: the weight must have at most {2**28} values, "
            "got 256 x 256 x 128 x 128; use fewer channels or a smaller kernel",
        ),
        (
            lambda: subpixel_weight(torch.zeros(3, 3, 4, 4), 3),
            ValueError,
            "subpixel_weight: weight must have shape (C, O, 6, 6), got (3, 3, 4, 4); "
            "pass a transposed convolution's, whose kernel is two strides wide",
        ),
        (
            lambda: subpixel_weight(np.zeros((3, 3, 4, 4)), 2),  # type: ignore[arg-type]
            TypeError,
            "subpixel_weight: weight: must be of type Tensor, got one of type ndarray; pass one",
        ),
    ],
)
def test_wrong_arguments_are_refused(
    call: Callable[[], object], error: type[Exception], text: str
) -> None:
    with refusal(error, text):
        call()
