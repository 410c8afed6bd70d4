"""Every fact about a precision, in one row.

``PRECISIONS`` has a row for each precision that a model file can have. ``NUMBER_TYPES`` has a row
for each type of numbers that layers compute in, with the names that the libraries give it.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass, replace
from types import MappingProxyType
from typing import Final, Literal

__all__ = [
    "NUMBER_TYPES",
    "PRECISIONS",
    "Compute",
    "NumberType",
    "Part",
    "Precision",
    "PrecisionFacts",
    "Tolerance",
    "full_name",
    "less_exact",
    "precisions_taking",
]

Precision = Literal["fp32", "fp16", "int8"]
"""The precisions of a model file."""

Compute = Literal["auto", "fp32", "bf16", "fp16"]
"""The precision that a backend computes in. ``auto`` is that of the file, even where the library
would choose a lower one."""

Part = Literal["normalization", "first convolution", "class scores"]
"""A part of a network that a precision leaves in float32."""


@dataclass(frozen=True)
class NumberType:
    """A type of numbers that layers compute in: a row of ``NUMBER_TYPES``."""

    name: str
    onnx: tuple[int, ...]
    """Values of ONNX's ``TensorProto.DataType``."""
    tensorrt: str
    """Member of TensorRT's ``DataType``."""
    inspected: re.Pattern[str]
    """Words for it in the report of TensorRT's engine inspector."""
    openvino: str | None = None
    """OpenVINO's name; None where no backend can be told to compute in it. Users may write it."""
    torch: str | None = None
    """PyTorch's name; None where no backend can be told to compute in it."""
    cpu_capability: str | None = None
    """OpenVINO's name for a CPU that computes in it; None for every CPU."""


def _words(*words: str) -> re.Pattern[str]:
    return re.compile(rf"\b({'|'.join(words)})\b", re.IGNORECASE)


NUMBER_TYPES: Final[Mapping[str, NumberType]] = MappingProxyType(
    {
        kind.name: kind
        for kind in (
            NumberType("fp32", (1,), "FLOAT", _words("fp32", "float", "float32"), "f32", "float32"),
            NumberType(
                "bf16", (16,), "BF16", _words("bf16", "bfloat16"), "bf16", "bfloat16", "BF16"
            ),
            NumberType(
                "fp16", (10,), "HALF", _words("fp16", "half", "float16"), "f16", "float16", "FP16"
            ),
            NumberType("int8", (2, 3), "INT8", _words("int8")),
        )
    }
)
"""Every type of numbers that a layer of a model file or engine may compute in, by its name."""


@dataclass(frozen=True, kw_only=True)
class Tolerance:
    """How much two models may differ and still count as the same.

    Errors and margins are shares of the batch's largest logit, agreements are shares of pixels.
    """

    max_error: float
    """Of a logit."""
    mean_error: float
    max_margin: float
    """How far a differing label's logit may lie below the largest one."""
    min_agreement: float
    """Equal labels of all pixels, on noise and on data."""
    min_picture_agreement: float
    """Equal labels in each picture of the noise, however small."""
    min_balanced_agreement: float
    """Equal labels where all classes win equally often."""
    max_miou_drop: float
    """Mean IoU of the first side minus that of the second."""
    max_confidence_error: float
    """Of the probability of a label, in the second output of a graph. It is rounded to 1/255."""
    mean_confidence_error: float


@dataclass(frozen=True, kw_only=True)
class PrecisionFacts:
    """What the whole toolkit knows about one precision of model files."""

    name: Precision
    words: str
    """What a graph of this precision holds, for the documents."""
    compute: Compute
    """What ``compute="auto"`` means: the type of the layers that are not quantized."""
    tolerance: Tolerance
    """Of a comparison whose less exact side has this precision."""
    gpu_tolerance: Tolerance
    """The same where a side runs on a GPU."""
    remedy: str
    """What helps if an export is out of tolerance."""
    kept: tuple[Part, ...] = ()
    """What stays in float32 unless more is named."""
    takes: tuple[str, ...] = ()
    """Options of ``fcnkit export onnx`` that go with it."""
    quantized: bool = False
    """Whether layers compute in integers, whose ranges come from pictures."""
    tf32: bool = False
    """Whether GPU libraries replace it by TensorFloat-32 unless they are told not to."""


# The agreements are limits just under the lowest that was measured: over the untrained networks of
# docs/export.csv, which are full of near ties, and on trained ones.
_FP32: Final = Tolerance(
    # Libraries only add in another order: errors of 1e-6 were measured. A change of 0.5 % in the
    # weights of one layer gives 3e-5.
    max_error=2e-5,
    mean_error=2e-6,
    max_margin=2e-5,
    min_agreement=0.9999,  # 99.998 %
    min_picture_agreement=0.999,  # 99.976 %; one pixel of a picture of 32x32 may differ
    min_balanced_agreement=0.999,  # 99.995 %
    max_miou_drop=0.001,
    max_confidence_error=0.005,
    mean_confidence_error=0.002,
)
_FP16: Final = Tolerance(
    max_error=2e-2,
    mean_error=2e-3,
    max_margin=2e-2,
    min_agreement=0.998,  # 99.83 % on a trained FCN-32s, 99.84 % on an untrained U-Net
    min_picture_agreement=0.9,  # 94.2 % of one picture of 32x32, where a score decides 1024 pixels
    min_balanced_agreement=0.98,  # 99.24 %
    max_miou_drop=0.005,
    max_confidence_error=0.25,
    mean_confidence_error=0.008,
)
_INT8: Final = Tolerance(
    max_error=0.5,
    mean_error=1e-1,
    max_margin=0.5,
    min_agreement=0.9,  # 92.1 % on noise after two epochs of training, 95.1 % untrained
    min_picture_agreement=0.0,  # 0 %: one tie that falls otherwise may fill a picture of 32x32
    min_balanced_agreement=0.5,  # 59.7 %
    max_miou_drop=0.01,
    max_confidence_error=1.0,
    mean_confidence_error=0.1,
)

PRECISIONS: Final[Mapping[Precision, PrecisionFacts]] = MappingProxyType(
    {
        row.name: row
        for row in (
            PrecisionFacts(
                name="fp32",
                words="float32 throughout",
                compute="fp32",
                tolerance=_FP32,
                # GPUs may transform convolutions (Winograd), which is float32 too, but less exact.
                gpu_tolerance=replace(
                    _FP32,
                    max_error=1e-3,
                    mean_error=1e-4,
                    max_margin=1e-3,
                    max_confidence_error=0.02,
                ),
                remedy="this is a bug of the exporter or a library, please report it",
                tf32=True,
            ),
            PrecisionFacts(
                name="fp16",
                words="float16 weights and arithmetic between explicit casts",
                compute="fp16",
                tolerance=_FP16,
                gpu_tolerance=_FP16,
                remedy="keep more in float32 with --keep-fp32, or use --precision fp32",
                kept=("normalization",),  # its input is exact only in float32
                takes=("--calibration", "--keep-fp32"),
            ),
            PrecisionFacts(
                name="int8",
                words="explicit QuantizeLinear and DequantizeLinear nodes",
                compute="fp32",
                tolerance=_INT8,
                gpu_tolerance=_INT8,
                remedy=(
                    "keep more in float32 with --keep-fp32, give more typical pictures, or use fp16"
                ),
                # 8 bits cost most in these layers.
                kept=("normalization", "first convolution", "class scores"),
                takes=(
                    *("--calibration", "--keep-fp32", "--activations", "--max-miou-drop"),
                    "--search",
                ),
                quantized=True,
            ),
        )
    }
)
"""One row per precision, from the most to the least exact."""


def less_exact(a: Precision, b: Precision) -> Precision:
    """Return the less exact of two precisions, whose tolerance a comparison has."""
    return max(a, b, key=tuple(PRECISIONS).index)


def precisions_taking(option: str) -> tuple[Precision, ...]:
    """Return the precisions that an option of ``fcnkit export onnx`` goes with."""
    return tuple(name for name, facts in PRECISIONS.items() if option in facts.takes)


def full_name(name: str) -> str:
    """Return fcnkit's name of a number type: ``fp32`` for ``f32``. Other names are returned as is.

    Users, older reports and older manifests may have OpenVINO's names.
    """
    return next((kind.name for kind in NUMBER_TYPES.values() if kind.openvino == name), name)
