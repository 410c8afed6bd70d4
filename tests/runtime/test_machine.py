"""Reading what the machine does, from recorded text and from this machine."""

from __future__ import annotations

import json
import os
import platform
import subprocess
import sys
import time

import numpy as np
import pytest

from fcnkit.runtime import machine
from fcnkit.runtime.bench.environment import describe_environment, parse_gpu_state

STAT = "cpu  1000 20 300 50000 40 5 15 200 0 0\ncpu0 500 10 150 25000 20 2 7 100 0 0\nintr 1 2 3\n"
NVIDIA_SMI = (
    "NVIDIA H200, 580.65.06, 9.0, 143771 MiB, 1980 MHz, 3201 MHz, 1980 MHz, 700.00 W, 31, Enabled\n"
)


def test_cpu_times_of_recorded_text() -> None:
    assert machine.parse_cpu_times(STAT, ticks=100) == (13.4, 2.0)
    for text in (
        "",
        "intr 5\n",
        "cpu 1 2 3\n",
        "cpu  0 0 0 0 0 0 0 0 0 0\n",
        "cpu a b c d e f g h",
    ):
        assert machine.parse_cpu_times(text, ticks=100) is None


def meter_over(
    monkeypatch: pytest.MonkeyPatch, readings: list[tuple[float, float, tuple[float, float] | None]]
) -> machine.MachineLoad:
    left = iter(readings)
    monkeypatch.setattr(machine, "_now", lambda: next(left))
    return machine.LoadMeter().stop()


def test_load_is_the_machine_less_ourselves(monkeypatch: pytest.MonkeyPatch) -> None:
    # Ten seconds: 18 core-seconds of work, 8 of them ours, half a core stolen.
    load = meter_over(monkeypatch, [(100.0, 3.0, (50.0, 1.0)), (110.0, 11.0, (68.0, 6.0))])
    assert (load.other_cores, load.stolen_cores) == (pytest.approx(1.0), pytest.approx(0.5))


def test_what_cannot_be_known_is_none(monkeypatch: pytest.MonkeyPatch) -> None:
    short = meter_over(monkeypatch, [(100.0, 3.0, (50.0, 1.0)), (100.4, 3.1, (50.3, 1.0))])
    assert (short.other_cores, short.stolen_cores) == (None, None)
    other_system = meter_over(monkeypatch, [(100.0, 3.0, None), (110.0, 3.0, None)])
    assert other_system.other_cores is None


def test_our_own_work_does_not_count_as_others() -> None:
    before, start = time.process_time(), time.monotonic()
    meter = machine.LoadMeter()
    while time.monotonic() < start + 1.0:
        pass
    load = meter.stop()
    own = (time.process_time() - before) / (time.monotonic() - start)
    if load.other_cores is not None:
        # What was ours, nobody else can have used, however busy the machine is.
        assert load.other_cores < (os.cpu_count() or 1) - own + 0.15


def test_memory_has_a_peak() -> None:
    # In its own process: in this one, earlier tests' memory is given back at any moment.
    code = """
import json
import numpy as np
from fcnkit.runtime import machine
before, restarted = machine.host_memory(), machine.reset_peak()
held = np.ones(64 << 20, np.uint8)
after = machine.host_memory()
del held
print(json.dumps([before, restarted, after]))
"""
    printed = subprocess.run(
        [sys.executable, "-c", code], check=True, capture_output=True, text=True
    ).stdout
    before, restarted, after = json.loads(printed)
    if before["peak_mb"] is None:
        pytest.skip("/proc does not tell here")
    assert after["peak_mb"] >= after["resident_mb"] - 1
    if restarted:
        assert after["peak_mb"] >= before["resident_mb"] + 60


def test_gpus_of_recorded_text() -> None:
    gpus = parse_gpu_state(NVIDIA_SMI)
    assert gpus is not None
    assert gpus[0]["name"] == "NVIDIA H200"
    assert (gpus[0]["driver_version"], gpus[0]["clocks_sm"]) == ("580.65.06", "1980 MHz")
    assert parse_gpu_state("") is None
    assert parse_gpu_state("No devices were found\n") is None


def test_the_environment_says_what_is_here() -> None:
    found = describe_environment()
    assert found["packages"]["numpy"] == np.__version__
    assert found["cpu"]["cores"] >= found["cpu"]["usable_cores"] >= 1
    assert found["cpu"]["model"]
    assert found["kernels"] in ("scalar", "avx2", "avx512", "neon")


def test_freed_memory_is_kept_for_the_next_arrays() -> None:
    if platform.libc_ver()[0] != "glibc":
        pytest.skip("other C libraries have their own rules")
    code = """
import resource, sys
import numpy as np
from fcnkit.runtime.machine import keep_freed_memory

def faults():
    return resource.getrusage(resource.RUSAGE_SELF).ru_minflt

def some():
    arrays = [np.empty(600_000, np.uint8) for _ in range(5)]
    for array in arrays:
        array.fill(1)

if sys.argv[1] == "keep":
    keep_freed_memory()
some()
before = faults()
for _ in range(20):
    some()
print(faults() - before)
"""
    env = {key: value for key, value in os.environ.items() if not key.startswith("MALLOC_")}
    told = {
        how: int(subprocess.check_output([sys.executable, "-c", code, how], env=env))
        for how in ("keep", "plain")
    }
    # 20 times 5 arrays of 147 pages, if every page is fetched again.
    assert told["keep"] < 1000 < told["plain"]


FREED = """
import ctypes, resource
from pathlib import Path
from fcnkit.runtime.machine import return_freed_memory
libc = ctypes.CDLL(None)
libc.malloc.restype, libc.free.argtypes = ctypes.c_void_p, [ctypes.c_void_p]
def resident():
    pages = int(Path("/proc/self/statm").read_text().split()[1])
    return pages * resource.getpagesize() >> 20
blocks = [libc.malloc(50_000) for _ in range(2000)]
for block in blocks:
    ctypes.memset(block, 1, 50_000)
for block in blocks[:-1]:  # the last one holds the end of the heap
    libc.free(block)
before = resident()
return_freed_memory()
print(before - resident())
"""


@pytest.mark.skipif(sys.platform != "linux", reason="glibc keeps freed memory")
def test_freed_memory_goes_back_to_the_system() -> None:
    done = subprocess.run([sys.executable, "-c", FREED], check=True, capture_output=True, text=True)
    if "glibc" not in (os.confstr("CS_GNU_LIBC_VERSION") or ""):
        pytest.skip("another C library")
    assert int(done.stdout) > 50  # of 100 MB


def test_without_glibc_nothing_happens(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sys, "platform", "win32")
    machine.return_freed_memory()
