"""The loop around a backend: many images' tiles in, in batches of one shape, images out.

Tiles of different images share a batch where they have the same shape. At most two batches of tiles
wait for others of their shape.
"""

from __future__ import annotations

import contextlib
import time
from collections import deque
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import Executor, Future
from dataclasses import dataclass, field
from typing import Any, Generic, TypeVar

import numpy as np
from numpy.typing import NDArray

from fcnkit.errors import DataError
from fcnkit.runtime.artifacts.spec import ModelSpec
from fcnkit.runtime.backends.base import Backend
from fcnkit.runtime.checks import MAX_THREADS, PROCESSORS
from fcnkit.runtime.predict.passes import Pass, filled

__all__ = [
    "Behind",
    "Finished",
    "Run",
    "Work",
    "ahead_of",
    "default_batch",
    "default_workers",
    "most_ahead",
    "on_cpu",
    "run_works",
]

T = TypeVar("T")
A = TypeVar("A")
B = TypeVar("B")

Run = Callable[[Iterator[NDArray[Any]]], Iterable[NDArray[Any]]]
"""Runs batches and gives the outputs in the same order, such as a backend's ``stream``."""

_MOST_BROKEN = 8
"""Failures that are reported at the latest, even if no batch completes."""

_TROUBLE = (DataError, ValueError, OSError, MemoryError)
"""What one picture may raise without the others suffering."""


@dataclass
class Work(Generic[T]):
    """A picture that is ready for the model, or is not."""

    owner: T
    """Whatever the caller wants back with the result."""
    picture: Pass | None
    error: Exception | None = None
    """Why there is no picture."""
    seconds: float = 0.0
    """Time spent on it: by its maker, and its share of the model's."""
    ended: bool = False


@dataclass
class Finished(Generic[T]):
    """An image that came out of the loop."""

    owner: T
    picture: Pass | None
    """Its pass, which the caller finishes; None where there is an error."""
    error: Exception | None
    seconds: float


class _Part(Generic[T]):
    def __init__(self, work: Work[T], tiles: NDArray[Any], *, last: bool) -> None:
        self.work, self.tiles, self.last = work, tiles, last
        self.count = len(tiles)


@dataclass
class _State(Generic[T]):
    sent: deque[list[_Part[T]]] = field(default_factory=deque)
    """What is in the batches that the backend has and has not answered, oldest first."""
    broken: deque[Finished[T]] = field(default_factory=deque)
    more: bool = True
    """Whether there may be pictures left."""


def run_works(
    spec: ModelSpec, run: Run, works: Iterable[Work[T]], *, batch: int
) -> Iterator[Finished[T]]:
    """Run images through a model.

    Args:
        spec: The model's promises.
        run: Runs the batches, on this thread only.
        works: The images; the next one is requested when the model can use it.
        batch: Tiles that share a batch at most; one image's may be more.

    Returns:
        An iterator that does the work as it is consumed: every image once, as soon as its last
        tile is answered. Images of other shapes may overtake each other.
    """
    state: _State[T] = _State()
    most = min(batch, spec.shapes.max[0])
    before = time.perf_counter()
    left = iter(works)
    while state.more:
        for outputs in run(_feed(left, most, spec.shapes.min[0], state)):
            now = time.perf_counter()
            # Results come one after the other: what lies between two is this batch's time.
            per_tile, before = (now - before) / len(outputs), now
            while state.broken:
                yield state.broken.popleft()
            yield from _answered(state.sent.popleft(), outputs, per_tile)
            before = time.perf_counter()
        while state.broken:
            yield state.broken.popleft()


def _feed(
    works: Iterator[Work[T]], most: int, least: int, state: _State[T]
) -> Iterator[NDArray[Any]]:
    for parts in _pack(works, most, state):
        state.sent.append(parts)
        tiles = parts[0].tiles
        if len(parts) > 1:
            tiles = np.concatenate([part.tiles for part in parts])
        tiles = filled(tiles, least)
        for part in parts:
            part.tiles = tiles  # in one piece; kept until the backend has answered
        yield tiles


def _answered(
    parts: list[_Part[T]], outputs: NDArray[Any], per_tile: float
) -> Iterator[Finished[T]]:
    end = 0
    for part in parts:
        work, begin, end = part.work, end, end + part.count
        if work.ended:  # it failed while later tiles of it were under way
            continue
        assert work.picture is not None
        work.seconds += per_tile * part.count
        start = time.perf_counter()
        try:
            work.picture.take(outputs[begin:end])
        except _TROUBLE as error:
            yield _end(work, error)
        else:
            work.seconds += time.perf_counter() - start
            if part.last:
                yield _end(work, None)


def _end(work: Work[T], error: Exception | None) -> Finished[T]:
    work.ended = True
    picture = work.picture
    if error is not None:
        picture = None
        # Its frames hold the image, and errors may have to wait for each other.
        error.__traceback__ = error.__cause__ = error.__context__ = None
    return Finished(work.owner, picture, error, work.seconds)


def _pack(works: Iterator[Work[T]], most: int, state: _State[T]) -> Iterator[list[_Part[T]]]:
    """Yield what goes into each batch: parts of one shape, together at most ``most`` tiles.

    Ends early where pictures break one after the other, so that they are handed out.
    """
    waiting: dict[tuple[int, ...], list[_Part[T]]] = {}
    for work in works:
        for part in _parts(work, state.broken):
            shape, count = part.tiles.shape[1:], part.count
            if shape in waiting and _count(waiting[shape]) + count > most:
                yield waiting.pop(shape)
            waiting.setdefault(shape, []).append(part)
            if _count(waiting[shape]) >= most:
                yield waiting.pop(shape)
            while sum(map(_count, waiting.values())) > 2 * most:
                yield waiting.pop(next(iter(waiting)))
        if len(state.broken) >= _MOST_BROKEN:
            break
    else:
        state.more = False
    yield from waiting.values()


def _count(parts: list[_Part[T]]) -> int:
    return sum(part.count for part in parts)


def _parts(work: Work[T], broken: deque[Finished[T]]) -> Iterator[_Part[T]]:
    """Yield a picture's tiles; one that breaks on the way, or needs no model, is put aside."""
    if work.picture is None:
        broken.append(_end(work, work.error))
        return
    batches = work.picture.batches()
    tiles = _next_tiles(work, batches, broken)
    if tiles is None and not work.ended:
        broken.append(_end(work, None))
    while tiles is not None:
        if work.picture.goes_on:
            yield _Part(work, tiles, last=False)
            tiles = _next_tiles(work, batches, broken)
            continue
        # One batch ahead: whether this is the last one is not known before.
        following = _next_tiles(work, batches, broken)
        if work.ended:
            return
        yield _Part(work, tiles, last=following is None)
        tiles = following


def _next_tiles(
    work: Work[T], batches: Iterator[NDArray[Any]], broken: deque[Finished[T]]
) -> NDArray[Any] | None:
    """Return a picture's next tiles, None where there are none, or it breaks or broke before."""
    if work.ended:
        return None
    start = time.perf_counter()
    try:
        return next(batches, None)
    except _TROUBLE as error:
        broken.append(_end(work, error))
        return None
    finally:
        work.seconds += time.perf_counter() - start


def on_cpu(backend: Backend) -> bool:
    """Return whether the model runs on the CPU."""
    return backend.info.device == "cpu"


def default_batch(backend: Backend) -> int:
    """Return how many tiles share a batch: what pays on the device that the backend runs on."""
    # On a CPU one tile keeps every core busy, and the next one finds its memory in the cache.
    return 1 if on_cpu(backend) else min(8, backend.spec.shapes.max[0])


def default_workers(backend: Backend) -> int:
    """Return how many threads read, cut, stitch and write beside a model."""
    # A model on the CPU uses the cores itself. On a GPU decoding is what takes them.
    return 2 if on_cpu(backend) else min(MAX_THREADS, max(2, PROCESSORS))


def most_ahead(workers: int) -> int:
    """Return how many pictures are prepared ahead of the model, and may wait behind it."""
    return 4 * max(1, workers // 2)


def ahead_of(
    pool: Executor,
    begin: Callable[[A], B],
    items: Iterable[A],
    *,
    limit: int,
    halted: Callable[[], bool] = lambda: False,
) -> Iterator[B]:
    """Yield ``begin(item)`` of all items in order, worked out by the pool a few ahead.

    Args:
        pool: Does the work.
        begin: What to do with an item.
        items: Asked for by the caller's thread.
        limit: How many more than the one that is waited for.
        halted: Once true, nothing is begun any more, and what was begun is dropped.
    """
    ahead: deque[Future[B]] = deque()
    more = iter(items)
    try:
        while not halted():
            while len(ahead) <= limit:
                try:
                    ahead.append(pool.submit(begin, next(more)))
                except StopIteration:
                    break
            if not ahead:
                return
            yield ahead.popleft().result()
    finally:
        for begun in ahead:
            begun.cancel()


class Behind(Generic[A, B]):
    """What is done with images behind the model: worked out by a pool, handed out in order."""

    def __init__(self, pool: Executor, finish: Callable[[A], B], *, limit: int) -> None:
        """Begin with nothing.

        Args:
            pool: Does the work.
            finish: What to do with an item.
            limit: How many items may be under way.
        """
        self._pool, self._finish, self._limit = pool, finish, limit
        self._waiting: deque[Future[B]] = deque()

    def results(self, items: Iterable[A]) -> Iterator[B]:
        """Yield ``finish(item)`` of all items in order, each once it is there.

        Raises:
            Exception: What ``finish`` raised for an item; further items are still under way.
        """
        waiting = self._waiting
        for item in items:
            self._put(item)
            while len(waiting) > self._limit or (waiting and waiting[0].done()):
                yield waiting.popleft().result()
        while waiting:
            yield waiting.popleft().result()

    def drain(self, items: Iterable[A], keep: Callable[[B], object]) -> None:
        """Finish what is under way and the items that are left, after an interruption.

        What goes wrong here is passed over: something worse is on its way out already.
        """
        with contextlib.suppress(Exception):
            for item in items:
                self._put(item)
        while self._waiting:
            with contextlib.suppress(Exception):
                keep(self._waiting.popleft().result())

    def _put(self, item: A) -> None:
        self._waiting.append(self._pool.submit(self._finish, item))
