"""What a backend leaves behind in a process, seen from outside."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

from fcnkit.runtime import list_backends
from tests.runtime.models import make_spec, write_model

OPEN = [status.name for status in list_backends() if status.opens and status.name != "torch"]

CODE = """
import gc, signal, subprocess, sys, threading
from fcnkit.runtime import open_backend
opened = [open_backend(sys.argv[1], backend=sys.argv[2], threads=1)]
def close():
    backend = opened.pop()
    backend.close()
    del backend
    gc.collect()
thread = threading.Thread(target=close)
thread.start()
thread.join()
# A handler runs on the signal stack, if the thread was given one.
signal.signal(signal.SIGCHLD, lambda *_: None)
subprocess.run([sys.executable, "-c", "pass"], check=True)
print("alive")
"""


@pytest.mark.parametrize("backend", OPEN)
def test_a_model_closed_by_another_thread_leaves_signals_alone(
    tmp_path: Path, backend: str
) -> None:
    model = write_model(tmp_path / "m.onnx", make_spec("logits"))
    done = subprocess.run(
        [sys.executable, "-c", CODE, str(model), backend],
        capture_output=True,
        text=True,
        check=False,
    )
    assert (done.returncode, done.stdout) == (0, "alive\n"), done.stderr


AT_ONCE = """
import sys, time
from concurrent.futures import ThreadPoolExecutor
import openvino
from fcnkit.runtime import open_backend
made = []
class Slow(openvino.Core):
    def __init__(self):
        time.sleep(0.2)
        super().__init__()
        made.append(self)
openvino.Core = Slow
with ThreadPoolExecutor(4) as pool:
    for backend in pool.map(lambda _: open_backend(sys.argv[1], backend="openvino"), range(4)):
        backend.close()
print(len(made))
"""


def test_threads_that_open_at_once_share_a_core(tmp_path: Path) -> None:
    pytest.importorskip("openvino")
    model = write_model(tmp_path / "m.onnx", make_spec("logits"))
    done = subprocess.run(
        [sys.executable, "-c", AT_ONCE, str(model)], capture_output=True, text=True, check=False
    )
    assert (done.returncode, done.stdout) == (0, "1\n"), done.stderr
