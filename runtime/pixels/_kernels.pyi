from collections.abc import Sequence
from typing import Any, TypeAlias, TypedDict

import numpy as np
from numpy.typing import NDArray

_Bytes: TypeAlias = NDArray[np.uint8]

class BuildInfo(TypedDict):
    compiler: str
    asserts: bool
    variants: list[str]
    active: str

class Encoder:
    def __init__(self, keys: _Bytes, labels: _Bytes) -> None: ...

class Plan:
    def __init__(
        self,
        height: int,
        width: int,
        tile_height: int,
        tile_width: int,
        tops: Sequence[int],
        lefts: Sequence[int],
        /,
    ) -> None: ...
    @property
    def held(self) -> list[int]: ...

class Upsampling:
    def __init__(
        self,
        weights: NDArray[np.float32],
        bias: NDArray[np.float32],
        stride: int,
        edge: bool,
    ) -> None: ...
    @property
    def gain(self) -> float: ...

class Normalize:
    def __init__(
        self,
        scale: Sequence[float],
        bias: Sequence[float],
        exact: NDArray[np.float32],
        exact_half: NDArray[np.uint16],
    ) -> None: ...

class LabelDeflate:
    def __init__(self, width: int) -> None: ...
    def add(self, labels: _Bytes) -> bytes: ...
    def end(self) -> bytes: ...

def decode(
    labels: _Bytes, palette: _Bytes, void_color: Sequence[int], rgb: _Bytes, threads: int
) -> bool: ...
def encode(rgb: _Bytes, encoder: Encoder, unknown: int, labels: _Bytes, threads: int) -> int: ...
def overlay(
    image: _Bytes, labels: _Bytes, palette: _Bytes, weight: int, out: _Bytes, threads: int
) -> bool: ...
def cut(image: _Bytes, plan: Plan, out: _Bytes, threads: int) -> None: ...
def gather(
    image: _Bytes, plan: Plan, normalize: Normalize, out: NDArray[np.floating[Any]], threads: int
) -> None: ...
def argmax(logits: NDArray[Any], labels: _Bytes, threads: int) -> None: ...
def stitch(
    logits: NDArray[Any], plan: Plan, labels: _Bytes, sure: _Bytes | None, threads: int
) -> None: ...
def add_tile(
    logits: NDArray[Any],
    plan: Plan,
    i: int,
    j: int,
    below: NDArray[np.float32],
    right: NDArray[np.float32],
    labels: _Bytes,
    sure: _Bytes | None,
    threads: int,
) -> None: ...
def largest_score(scores: NDArray[Any]) -> float: ...
def upsample_argmax(
    scores: NDArray[Any],
    plan: Plan,
    upsampling: Upsampling,
    first: int,
    top: int,
    bounded: bool,
    labels: _Bytes,
    sure: _Bytes | None,
    threads: int,
) -> None: ...
def confusion(
    target: _Bytes, predicted: _Bytes, ignore: int, counts: NDArray[np.int64], threads: int
) -> bool: ...
def build_info() -> BuildInfo: ...
def select(name: str) -> None: ...
