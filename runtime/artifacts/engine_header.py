"""The first bytes of a TensorRT plan: which library built it, and how long it is."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final, Literal

from fcnkit.errors import ArtifactError, message

__all__ = ["Flavor", "FlavorChoice", "PlanHeader", "check_length", "read_plan_header"]

Flavor = Literal["tensorrt", "tensorrt-rtx"]
FlavorChoice = Literal["auto", Flavor]
"""``auto`` takes ordinary TensorRT where it is installed, else TensorRT-RTX."""

_MAGIC: Final[dict[bytes, Flavor]] = {b"ftrt": "tensorrt", b"vtrt": "tensorrt-rtx"}
_HEADER_BYTES: Final = 64
_CAPABILITIES: Final = ("7.5", "8.0", "8.6", "8.9", "12.0", "12.1")


@dataclass(frozen=True, kw_only=True)
class PlanHeader:
    """What the first bytes of a plan say."""

    flavor: Flavor
    version: str
    """Of the library that built it, such as ``1.7.1.116``."""
    bytes: int | None
    """Length of the whole plan; None where it is not known how to read it."""
    compute_capability: tuple[str, ...]
    """Of a TensorRT-RTX plan: the GPU generations it holds code for."""


def read_plan_header(plan: bytes, *, where: str, rebuild: str) -> PlanHeader:
    """Read who built a plan from its first 64 bytes, and check that none is missing at its end.

    The layout is not documented. Common to both flavors: four letters, and the version as one byte
    each at 24 to 27, which NVIDIA names in issue 3073 of its TensorRT repository. As TensorRT-RTX
    1.7 writes it, the length stands at 16 to 23 and a bit per GPU generation at 32 to 39.

    Args:
        plan: The whole plan.
        where: The file, for the error.
        rebuild: The command that builds it, for the error.

    Returns:
        What the header says.

    Raises:
        ArtifactError: These are not the bytes of a plan, or some are missing.
    """
    flavor = _MAGIC.get(plan[:4])
    if flavor is None or len(plan) < _HEADER_BYTES:
        rule = "must be a TensorRT plan, which begins with ftrt, or with vtrt for TensorRT-RTX"
        got = f"a file of {len(plan)} bytes that begins with {plan[:4]!r}"
        raise ArtifactError(message(where, rule, got, f"build it again: {rebuild}"))
    version = ".".join(str(number) for number in plan[24:28])
    if flavor == "tensorrt":
        return PlanHeader(flavor=flavor, version=version, bytes=None, compute_capability=())
    length = int.from_bytes(plan[16:24], "little")
    check_length(len(plan), length, where=where, rebuild=rebuild)
    bits = int.from_bytes(plan[32:40], "little")
    # A bit that this list does not know stands for a generation that came later.
    named = tuple(name for bit, name in enumerate(_CAPABILITIES) if bits >> bit & 1)
    return PlanHeader(flavor=flavor, version=version, bytes=length, compute_capability=named)


def check_length(length: int, wanted: int, *, where: str, rebuild: str) -> None:
    """Refuse a plan whose end is missing.

    Args:
        length: Of the file in bytes.
        wanted: Its length in bytes when it was written.
        where: The file, for the error.
        rebuild: The command that builds it, for the error.

    Raises:
        ArtifactError: The plan is shorter.
    """
    if length < wanted:
        rule = f"must be a whole plan of {wanted} bytes"
        remedy = f"copy the file again or build it again: {rebuild}"
        raise ArtifactError(message(where, rule, f"{length} bytes", remedy))
