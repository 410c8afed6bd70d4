"""A run that ends as by a kill, in this process, and what the model had to do then."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any
from unittest import mock

from fcnkit.runtime.predict.passes import _BandPass


class Killed(BaseException):
    """Ends a run in this process as a kill would: nothing catches it."""


@contextmanager
def counted_tiles() -> Iterator[list[int]]:
    """Count the tiles that are cut for the model."""
    counts, cut = [0], _BandPass._tiles

    def counting(one: _BandPass, band: Any, lefts: tuple[int, ...]) -> Any:
        counts[0] += len(lefts)
        return cut(one, band, lefts)

    with mock.patch.object(_BandPass, "_tiles", counting):
        yield counts
