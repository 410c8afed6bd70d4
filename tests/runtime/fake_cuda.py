"""A GPU made of numpy: it really copies, as late and in as odd an order as CUDA may.

What is queued on a stream runs when somebody waits, streams in random turns, so that a missing
event gives a wrong result and memory freed too early is noticed. What it cannot tell is whether
the real driver takes these calls; the tests marked ``gpu`` do.
"""

from __future__ import annotations

import ctypes
import random
from collections import deque
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

import numpy as np

from fcnkit.errors import FcnkitError
from fcnkit.runtime.artifacts.spec import ModelSpec
from fcnkit.runtime.backends.base import output_shape
from fcnkit.runtime.backends.cuda import host_view
from fcnkit.runtime.backends.cuda_slot import Dims

Operation = tuple[str, Any, tuple[object, ...]]


@dataclass
class FakeCuda:
    """See fcnkit.runtime.backends.cuda.CudaDriver."""

    seed: int = 0
    eager: bool = False
    """Run every operation at once, for libraries that do not queue."""
    fail: dict[str, int] = field(default_factory=dict)
    """Method to the number of its calls that still succeed."""
    calls: list[str] = field(default_factory=list)
    device: int = 0
    name: str = "fake"

    def __post_init__(self) -> None:
        self.random = random.Random(self.seed)
        self.memory: dict[int, Any] = {}
        self.pinned: dict[int, Any] = {}
        self.streams: dict[int, deque[Operation]] = {}
        self.events: dict[int, list[int]] = {}  # recorded, happened
        self.graphs: dict[int, list[Operation]] = {}
        self.capturing: dict[int, list[Operation]] = {}
        self.handle = 0
        self.clock = 0
        self.times: dict[int, int] = {}

    @property
    def alive(self) -> int:
        """What was created and not destroyed."""
        kinds = (self.memory, self.pinned, self.streams, self.events, self.graphs)
        return sum(len(kind) for kind in kinds)

    def _called(self, method: str) -> None:
        self.calls.append(method)
        if method in self.fail:
            self.fail[method] -= 1
            if self.fail[method] < 0:
                raise FcnkitError(f"GPU 0: {method} must succeed, got a failure; see the test")

    def _new(self) -> int:
        self.handle += 1
        return self.handle

    def activate(self) -> None:
        pass

    def malloc_host(self, size: int) -> int:
        self._called("malloc_host")
        return self._allocate(self.pinned, size)

    def malloc(self, size: int) -> int:
        self._called("malloc")
        return self._allocate(self.memory, size)

    def _allocate(self, kind: dict[int, Any], size: int) -> int:
        block = (ctypes.c_uint8 * size)(*[0xA5] * min(size, 4))
        kind[ctypes.addressof(block)] = block
        return ctypes.addressof(block)

    def free_host(self, address: int) -> None:
        self.check_unused(address)
        del self.pinned[address]

    def free(self, address: int) -> None:
        self.check_unused(address)
        del self.memory[address]

    def check_unused(self, what: object) -> None:
        """Fail where queued work still needs an address, a graph or a context."""
        queued = [used for queue in self.streams.values() for _, _, uses in queue for used in uses]
        assert what not in queued, "freed while queued work needs it"

    def create_stream(self) -> int:
        self._called("create_stream")
        handle = self._new()
        self.streams[handle] = deque()
        return handle

    def destroy_stream(self, stream: int) -> None:
        assert not self.streams.pop(stream), "a busy stream is destroyed"

    def create_event(self) -> int:
        self._called("create_event")
        handle = self._new()
        self.events[handle] = [0, 0]
        return handle

    def create_timer(self) -> int:
        return self.create_event()

    def elapsed(self, first: int, second: int) -> float:
        for event in (first, second):
            recorded, happened = self.events[event]
            assert recorded == happened > 0, "a timer has not happened"
        return float(self.times[second] - self.times[first])

    def destroy_event(self, event: int) -> None:
        self.check_unused(event)
        del self.events[event]

    def upload(self, target: int, source: int, size: int, stream: int) -> None:
        self._called("upload")
        assert target in self.memory
        assert source in self.pinned
        self.queue(stream, lambda: self._copy(target, source, size), uses=(target, source))

    def download(self, target: int, source: int, size: int, stream: int) -> None:
        self._called("download")
        assert target in self.pinned
        assert source in self.memory
        self.queue(stream, lambda: self._copy(target, source, size), uses=(target, source))

    def _copy(self, target: int, source: int, size: int) -> None:
        blocks = self.memory | self.pinned
        assert size <= min(len(blocks[target]), len(blocks[source]))
        host_view(target, size)[:] = host_view(source, size)

    def queue(
        self, stream: int, work: Callable[[], None], *, uses: tuple[object, ...] = ()
    ) -> None:
        """Queue anything, as a library does."""
        self._put(stream, ("work", work, uses))

    def _put(self, stream: int, operation: Operation) -> None:
        self.streams[stream]  # it exists
        if stream in self.capturing:
            self.capturing[stream].append(operation)
        else:
            self.streams[stream].append(operation)
            if self.eager:
                self.drain(stream)

    def record(self, event: int, stream: int) -> None:
        self._called("record")
        self.events[event][0] += 1
        self._put(stream, ("record", (event, self.events[event][0]), (event,)))

    def wait(self, stream: int, event: int) -> None:
        self._called("wait")
        self._put(stream, ("wait", (event, self.events[event][0]), (event,)))

    def synchronize(self, event: int) -> None:
        self._called("synchronize")
        recorded = self.events[event][0]
        self._run_until(lambda: self.events[event][1] >= recorded)

    def drain(self, stream: int) -> None:
        self._called("drain")
        if stream in self.capturing:
            raise FcnkitError("GPU 0: drain must succeed, got a capturing stream; see the test")
        self._run_until(lambda: not self.streams[stream])

    def _run_until(self, done: Callable[[], bool]) -> None:
        while not done():
            ready = [queue for queue in self.streams.values() if queue and self._ready(queue[0])]
            assert ready, "every stream waits for another"
            kind, what, _ = self.random.choice(ready).popleft()
            if kind == "work":
                self.clock += 1
                what()
            elif kind == "record":
                self.events[what[0]][1] = what[1]
                self.times[what[0]] = self.clock

    def _ready(self, operation: Operation) -> bool:
        kind, what, _ = operation
        return kind != "wait" or self.events[what[0]][1] >= what[1]

    def begin_capture(self, stream: int) -> None:
        self._called("begin_capture")
        assert not self.streams[stream], "TensorRT wants the context's first run to be over"
        self.capturing[stream] = []

    def end_capture(self, stream: int) -> int:
        operations = self.capturing.pop(stream)
        self._called("end_capture")
        handle = self._new()
        self.graphs[handle] = operations
        return handle

    def launch(self, graph: int, stream: int) -> None:
        self._called("launch")
        operations = self.graphs[graph]
        uses = tuple(used for *_, each in operations for used in each)
        work = lambda: [work() for _, work, _ in operations]  # noqa: E731
        self._put(stream, ("work", work, (f"graph {graph}", *uses)))

    def destroy_graph(self, graph: int) -> None:
        self.check_unused(f"graph {graph}")
        del self.graphs[graph]


class FakeExecutor:
    """The network of an ONNX session, queued on a FakeCuda like a library's."""

    def __init__(
        self,
        session: Any,
        spec: ModelSpec,
        driver: FakeCuda,
        *,
        stream: int | None = None,
        scratch_bytes: int = 64,
    ) -> None:
        self.session, self.spec, self.driver, self.stream = session, spec, driver, stream
        self.capturable, self.scratch_bytes = True, scratch_bytes
        self.contexts = 0
        self.freed = False
        self.fail_after: int | None = None

    def create(self, scratch: int) -> FakeContext:
        assert scratch in self.driver.memory or not self.scratch_bytes
        self.contexts += 1
        return FakeContext(self)

    def free(self) -> None:
        assert not self.contexts
        self.freed = True


class FakeContext:
    def __init__(self, executor: FakeExecutor) -> None:
        self.executor = executor

    def enqueue(self, shape: Dims, *, source: int, target: int, stream: int) -> None:
        executor = self.executor
        if executor.fail_after is not None:
            executor.fail_after -= 1
            if executor.fail_after < 0:
                raise FcnkitError("the library must run, got a failure; see the test")
        executor.driver.queue(
            stream, run_at(executor.session, executor.spec, shape, source, target)
        )

    def free(self) -> None:
        self.executor.contexts -= 1


def run_at(
    session: Any, spec: ModelSpec, shape: Dims, source: int, target: int
) -> Callable[[], None]:
    """Run a session on memory that is read and written when the work runs, not before."""

    def work() -> None:
        dtype = np.dtype(spec.input.dtype)
        count = int(np.prod(shape)) * dtype.itemsize
        batch = host_view(source, count).view(dtype).reshape(shape)
        result = session.run(None, {spec.input.name: batch})[0]
        assert result.shape == output_shape(shape, spec)
        host_view(target, result.nbytes)[:] = result.reshape(-1).view(np.uint8)

    return work
