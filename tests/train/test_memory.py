"""Memory between the steps of a training: kept inside, given back after."""

from __future__ import annotations

import subprocess
import sys

import pytest

# In its own process, because the setting is the whole process's.
TRY = """
import gc, resource, numpy as np
from fcnkit.train.memory import kept_memory

def faults():
    before = resource.getrusage(resource.RUSAGE_SELF).ru_minflt
    for _ in range(4):
        np.ones(64 << 20, np.uint8)
    return resource.getrusage(resource.RUSAGE_SELF).ru_minflt - before

def resident():
    with open("/proc/self/statm") as file:
        return int(file.read().split()[1]) * resource.getpagesize() >> 20

with kept_memory():
    np.ones(64 << 20, np.uint8)
    inside, held = faults(), resident()
print(inside, faults(), held - resident())
"""


@pytest.mark.skipif(sys.platform != "linux", reason="mallopt is glibc's")
def test_pages_are_kept_and_given_back() -> None:
    done = subprocess.run([sys.executable, "-c", TRY], capture_output=True, text=True, check=True)
    inside, outside, given_back = map(int, done.stdout.split())
    assert inside < 1000
    # 64 MB in pages of 4 KiB, or of 2 MiB where the system makes huge ones
    assert outside > inside + 4 * 32 - 1
    assert given_back >= 60
