"""A GPU made of numpy: it really copies, as late and in as odd an order as CUDA may.

What is queued on a stream runs when somebody waits, streams in random turns, so that a missing
event gives a wrong result and memory freed too early is noticed. It is as strict as CUDA: a thread
must activate the GPU first, an event without timing has no time, memory has a limit, a failure
inside a capture spoils the capture, and after ``poison`` every call fails, also those that give
something back. What it cannot tell is whether the real driver takes these calls; the tests marked
``gpu`` do.
"""

from __future__ import annotations

import ctypes
import random
import threading
from collections import deque
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

import numpy as np

from fcnkit.errors import FcnkitError
from fcnkit.runtime.artifacts.spec import ModelSpec
from fcnkit.runtime.backends.base import output_shape
from fcnkit.runtime.backends.cuda import GpuLostError, host_view
from fcnkit.runtime.backends.cuda_slot import Dims

Operation = tuple[str, Any, tuple[object, ...]]

LOST = "cudaErrorIllegalAddress (an illegal memory access was encountered)"


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
    limit: int = 1 << 30
    """Bytes of device memory."""
    lost: str = ""

    def __post_init__(self) -> None:
        self.threads: set[int] = set()
        self.broken: set[int] = set()
        """Streams whose capture something has spoiled."""
        self.timers: set[int] = set()
        self.tried: set[object] = set()
        """What somebody tried to give back."""
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

    @property
    def forgotten(self) -> set[object]:
        """What was created and nobody ever tried to give back."""
        graphs = {f"graph {handle}" for handle in self.graphs}
        kept = {*self.memory, *self.pinned, *self.streams, *self.events, *graphs}
        return kept - self.tried

    def poison(self) -> None:
        """Queue what destroys the CUDA context, on every stream that has work."""
        for queue in self.streams.values():
            if queue:
                queue.append(("poison", None, ()))

    def _called(self, method: str, *, during_capture: bool = False) -> None:
        """Begin a call; what CUDA forbids during a capture spoils it."""
        assert threading.get_ident() in self.threads, f"{method} on a thread without activate"
        self.calls.append(method)
        if self.lost:
            raise GpuLostError(f"GPU 0: {method} must succeed, got {LOST}; start a new process")
        failing = False
        if method in self.fail:
            self.fail[method] -= 1
            failing = self.fail[method] < 0
        if self.capturing and (failing or not during_capture):
            self.broken |= set(self.capturing)
            if not failing:
                got = "cudaErrorStreamCaptureUnsupported"
                raise FcnkitError(f"GPU 0: {method} must succeed, got {got}; see the test")
        if failing:
            raise FcnkitError(f"GPU 0: {method} must succeed, got a failure; see the test")

    def _giving_back(self, method: str, what: object) -> None:
        self.tried.add(what)
        self._called(method)
        self.check_unused(what)

    def _new(self) -> int:
        self.handle += 1
        return self.handle

    def activate(self) -> None:
        self.threads.add(threading.get_ident())
        self._called("activate", during_capture=True)

    def free_bytes(self) -> int:
        return self.limit - sum(map(len, self.memory.values()))

    def malloc_host(self, size: int) -> int:
        self._called("malloc_host")
        return self._allocate(self.pinned, size)

    def malloc(self, size: int) -> int:
        self._called("malloc")
        if size > self.free_bytes():
            text = "cudaErrorMemoryAllocation (out of memory)"
            raise FcnkitError(f"GPU 0: malloc must succeed, got {text}; see the test")
        return self._allocate(self.memory, size)

    def _allocate(self, kind: dict[int, Any], size: int) -> int:
        block = (ctypes.c_uint8 * size)(*[0xA5] * min(size, 4))
        kind[ctypes.addressof(block)] = block
        return ctypes.addressof(block)

    def free_host(self, address: int) -> None:
        self._giving_back("free_host", address)
        del self.pinned[address]

    def free(self, address: int) -> None:
        self._giving_back("free", address)
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
        self._giving_back("destroy_stream", stream)
        assert not self.streams.pop(stream), "a busy stream is destroyed"

    def create_event(self) -> int:
        self._called("create_event")
        handle = self._new()
        self.events[handle] = [0, 0]
        return handle

    def create_timer(self) -> int:
        self.timers.add(event := self.create_event())
        return event

    def elapsed(self, first: int, second: int) -> float:
        self._called("elapsed")
        for event in (first, second):
            assert event in self.timers, "an event without timing"
            recorded, happened = self.events[event]
            assert recorded == happened > 0, "a timer has not happened"
        return float(self.times[second] - self.times[first])

    def destroy_event(self, event: int) -> None:
        self._giving_back("destroy_event", event)
        del self.events[event]

    def upload(self, target: int, source: int, size: int, stream: int) -> None:
        self._called("upload", during_capture=True)
        assert target in self.memory
        assert source in self.pinned
        self.queue(stream, lambda: self._copy(target, source, size), uses=(target, source))

    def download(self, target: int, source: int, size: int, stream: int) -> None:
        self._called("download", during_capture=True)
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
        if stream in self.broken:
            got = "cudaErrorStreamCaptureInvalidated"
            raise FcnkitError(f"GPU 0: the call must succeed, got {got}; see the test")
        if stream in self.capturing:
            self.capturing[stream].append(operation)
        else:
            self.streams[stream].append(operation)
            if self.eager:
                self.drain(stream)

    def record(self, event: int, stream: int) -> None:
        self._called("record", during_capture=True)
        self.events[event][0] += 1
        self._put(stream, ("record", (event, self.events[event][0]), (event,)))

    def wait(self, stream: int, event: int) -> None:
        self._called("wait", during_capture=True)
        self._put(stream, ("wait", (event, self.events[event][0]), (event,)))

    def synchronize(self, event: int) -> None:
        self._called("synchronize")
        recorded = self.events[event][0]
        self._run_until(lambda: self.events[event][1] >= recorded)

    def drain(self, stream: int) -> None:
        self._called("drain")
        self._run_until(lambda: not self.streams[stream])

    def _run_until(self, done: Callable[[], bool]) -> None:
        while not done():
            ready = [queue for queue in self.streams.values() if queue and self._ready(queue[0])]
            assert ready, "every stream waits for another"
            kind, what, _ = self.random.choice(ready).popleft()
            if kind == "work":
                self.clock += 1
                what()
            elif kind == "poison":
                self.lost = LOST
                for queue in self.streams.values():
                    queue.clear()  # nothing runs any more
                self._called("synchronize")
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
        broken = stream in self.broken
        try:
            self._called("end_capture", during_capture=True)
        finally:
            operations = self.capturing.pop(stream)
            self.broken.discard(stream)
        if broken:
            got = "cudaErrorStreamCaptureInvalidated"
            raise FcnkitError(f"GPU 0: end_capture must succeed, got {got}; see the test")
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
        self._giving_back("destroy_graph", f"graph {graph}")
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
        self.contexts = 1
        self.alive: list[FakeContext] = []
        self.freed = False
        self.fail_after: int | None = None

    def create(self, scratch: int) -> FakeContext:
        assert scratch in self.driver.memory or not self.scratch_bytes
        self.alive.append(FakeContext(self))
        return self.alive[-1]

    def free(self) -> None:
        assert not self.alive
        self.freed = True


class FakeContext:
    def __init__(self, executor: FakeExecutor) -> None:
        self.executor = executor
        self.shapes: set[Dims] = set()

    def enqueue(self, shape: Dims, *, source: int, target: int, stream: int) -> None:
        executor = self.executor
        if executor.fail_after is not None:
            executor.fail_after -= 1
            if executor.fail_after < 0:
                executor.driver.broken |= set(executor.driver.capturing)
                raise FcnkitError("the library must run, got a failure; see the test")
        self.shapes.add(shape)
        executor.driver.queue(
            stream, run_at(executor.session, executor.spec, shape, source, target)
        )

    def free(self) -> None:
        self.executor.alive.remove(self)


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
