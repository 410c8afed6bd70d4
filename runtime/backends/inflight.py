"""Keeping a few batches in flight, in order and bounded, over any library."""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Iterator
from contextlib import suppress
from typing import Any, TypeVar

from numpy.typing import NDArray

__all__ = ["keep_in_flight"]

_Ticket = TypeVar("_Ticket")


def keep_in_flight(
    batches: Iterator[NDArray[Any]],
    *,
    submit: Callable[[NDArray[Any]], _Ticket],
    collect: Callable[[_Ticket], NDArray[Any]],
    depth: int,
) -> Iterator[NDArray[Any]]:
    """Run batches ahead of their results.

    Everything runs on the consumer's thread, so ``batches`` may use objects of that thread.

    Args:
        batches: The batches.
        submit: Starts one and returns at once.
        collect: Waits for a started one, returns its result, and releases what it held, also
            where it raises. Called once for every ticket.
        depth: How many are started before the first result is waited for.

    Yields:
        The results in order. Where ``batches`` or ``submit`` raises, the results of all batches
        before come first; where ``collect`` does, the error comes in the place of the result.
        Either ends the stream, and nothing is in flight after its end.
    """
    flying: deque[_Ticket] = deque()
    failure: Exception | None = None
    more = True
    try:
        while True:
            while more and len(flying) < depth:
                try:
                    flying.append(submit(next(batches)))
                except StopIteration:
                    more = False
                except Exception as error:
                    failure, more = error, False
            if not flying:
                break
            yield collect(flying.popleft())
    finally:
        # After an early exit or a failure, wait: the rest still reads the caller's arrays.
        for ticket in flying:
            with suppress(Exception):  # nobody needs this result
                collect(ticket)
    if failure is not None:
        raise failure
