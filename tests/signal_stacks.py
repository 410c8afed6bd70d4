"""The stack on which this thread handles signals, on Linux (sigaltstack(2))."""

from __future__ import annotations

import ctypes
import mmap
import sys

__all__ = ["Stack", "give_up", "is_there", "use"]

DISABLED = 2
"""SS_DISABLE: signals are handled on the thread's own stack."""


class Stack(ctypes.Structure):
    """stack_t of the C library."""

    _fields_ = (("start", ctypes.c_void_p), ("flags", ctypes.c_int), ("size", ctypes.c_size_t))


def is_there() -> bool:
    """Say if all of its memory is mapped, or if there is none; a library may have freed it."""
    if sys.platform != "linux":
        return True
    libc, stack = ctypes.CDLL(None), Stack()
    libc.sigaltstack(None, ctypes.byref(stack))
    if stack.flags & DISABLED:
        return True
    first = stack.start - stack.start % mmap.PAGESIZE
    size = stack.start + stack.size - first
    resident = (ctypes.c_ubyte * -(-size // mmap.PAGESIZE))()
    return bool(libc.mincore(ctypes.c_void_p(first), ctypes.c_size_t(size), resident) == 0)


def use(stack: Stack) -> None:
    """Handle signals there from here on."""
    if ctypes.CDLL(None, use_errno=True).sigaltstack(ctypes.byref(stack), None):
        raise OSError(ctypes.get_errno(), "sigaltstack")


def give_up() -> None:
    """Handle signals on the thread's own stack from here on."""
    use(Stack(None, DISABLED, 0))
