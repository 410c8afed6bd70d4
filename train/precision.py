"""Which precision a run trains in, where its recipe leaves that to the device."""

from __future__ import annotations

import warnings
from dataclasses import replace

import torch

from fcnkit.errors import FcnkitWarning, message
from fcnkit.train import parallel
from fcnkit.train.recipe import Recipe

__all__ = ["has_bf16", "with_precision"]


def has_bf16(device: torch.device) -> bool:
    """Say whether a device has bfloat16 instructions that PyTorch uses, so that bf16 is fast.

    Args:
        device: A GPU, or the processor. Of processors those with AVX512-BF16 count.
    """
    if device.type == "cuda":
        with torch.cuda.device(device):
            return bool(torch.cuda.is_bf16_supported(including_emulation=False))
    return bool(torch.cpu._is_avx512_bf16_supported())


def with_precision(recipe: Recipe, device: torch.device, *, began: Recipe | None = None) -> Recipe:
    """Replace ``auto`` by a precision: that of the run so far, else the device's fast one.

    Of several processes, as torchrun starts them, all must have fast bfloat16 to train in it.

    Args:
        recipe: How to train.
        device: Where.
        began: The recipe of the run that is resumed.

    Returns:
        The recipe, its precision fp32 or bf16. An FcnkitWarning says if the device computes bf16
        without instructions for it.
    """
    fast = torch.tensor(int(has_bf16(device)), device=device)
    everywhere = int(parallel.total(fast)) == parallel.world()
    if recipe.precision == "auto" and began is not None:
        recipe = replace(recipe, precision=began.precision)
    if recipe.precision == "auto":
        return replace(recipe, precision="bf16" if everywhere else "fp32")
    if recipe.precision == "bf16" and not everywhere:
        rule = "bf16 is fast where the device has instructions for it"
        got = f"{device} without them"
        remedy = "expect several times the time of a new run with --precision fp32"
        warnings.warn(message("--precision", rule, got, remedy), FcnkitWarning, stacklevel=2)
    return recipe
