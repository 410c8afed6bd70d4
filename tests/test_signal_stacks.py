"""The fixture ``signal_stack``, and what it is for."""

from __future__ import annotations

import ctypes
import mmap
import sys
from concurrent.futures import ThreadPoolExecutor

import pytest

from tests.signal_stacks import Stack, give_up, is_there, use


@pytest.mark.skipif(sys.platform != "linux", reason="signal_stacks is for Linux")
def test_a_freed_stack_is_noticed() -> None:
    size = 16 * mmap.PAGESIZE
    memory = mmap.mmap(-1, size)
    start = ctypes.addressof(ctypes.c_char.from_buffer(memory))

    def found() -> list[bool]:  # in a thread, which has its own
        answers = [is_there()]
        use(Stack(start, 0, size))
        answers.append(is_there())
        memory.close()
        answers.append(is_there())
        give_up()
        return [*answers, is_there()]

    with ThreadPoolExecutor(1) as pool:
        assert pool.submit(found).result() == [True, True, False, True]
