from collections.abc import Sequence
from typing import Any, TypedDict

import numpy as np
from numpy.typing import NDArray

class BuildInfo(TypedDict):
    compiler: str
    asserts: bool
    variants: list[str]
    active: str

class Encoder:
    def __init__(self, keys: NDArray[np.uint8], labels: NDArray[np.uint8]) -> None: ...

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

def decode(
    labels: NDArray[np.uint8],
    palette: NDArray[np.uint8],
    void_color: Sequence[int],
    rgb: NDArray[np.uint8],
    threads: int,
) -> bool: ...
def encode(
    rgb: NDArray[np.uint8],
    encoder: Encoder,
    unknown: int,
    labels: NDArray[np.uint8],
    threads: int,
) -> int: ...
def overlay(
    image: NDArray[np.uint8],
    labels: NDArray[np.uint8],
    palette: NDArray[np.uint8],
    weight: int,
    out: NDArray[np.uint8],
    threads: int,
) -> bool: ...
def cut(image: NDArray[np.uint8], plan: Plan, out: NDArray[np.uint8], threads: int) -> None: ...
def gather(
    image: NDArray[np.uint8],
    plan: Plan,
    normalize: Normalize,
    out: NDArray[np.floating[Any]],
    threads: int,
) -> None: ...
def argmax(logits: NDArray[Any], labels: NDArray[np.uint8], threads: int) -> None: ...
def stitch(
    logits: NDArray[Any],
    plan: Plan,
    labels: NDArray[np.uint8],
    sure: NDArray[np.uint8] | None,
    threads: int,
) -> None: ...
def add_tile(
    logits: NDArray[Any],
    plan: Plan,
    i: int,
    j: int,
    below: NDArray[np.float32],
    right: NDArray[np.float32],
    labels: NDArray[np.uint8],
    sure: NDArray[np.uint8] | None,
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
    labels: NDArray[np.uint8],
    sure: NDArray[np.uint8] | None,
    threads: int,
) -> None: ...
def confusion(
    target: NDArray[np.uint8],
    predicted: NDArray[np.uint8],
    ignore: int,
    counts: NDArray[np.int64],
    threads: int,
) -> bool: ...
def build_info() -> BuildInfo: ...
def select(name: str) -> None: ...
