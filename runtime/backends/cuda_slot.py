"""One batch on a GPU: page-locked buffers, its own stream, and graphs of recurring shapes.

A slot queues upload, network and download one behind the other on its stream. Several slots on
several streams let one's copies run while another's network does. The first batch of a shape is
queued call by call, the second one too, and what it queued is captured as a CUDA graph, which one
call launches from then on.
"""

from __future__ import annotations

import logging
import math
from collections import OrderedDict
from contextlib import ExitStack
from dataclasses import dataclass
from itertools import pairwise
from typing import Any, Protocol

import numpy as np
from numpy.typing import NDArray

from fcnkit.errors import FcnkitError
from fcnkit.runtime.artifacts.spec import ModelSpec
from fcnkit.runtime.backends.base import output_shape
from fcnkit.runtime.backends.cuda import CudaDriver, GpuLostError, host_view, release

__all__ = ["Dims", "Executor", "Slot", "Work"]

_log = logging.getLogger("fcnkit.cuda")

Dims = tuple[int, ...]


class Work(Protocol):
    """One execution context of a library."""

    def enqueue(self, shape: Dims, *, source: int, target: int, stream: int) -> None:
        """Queue the network on a stream.

        Args:
            shape: Of the input.
            source: Device address of the input.
            target: Device address of the output.
            stream: The stream.

        Raises:
            FcnkitError: The library refuses.
        """

    def free(self) -> None:
        """Drop the context, which is idle."""


class Executor(Protocol):
    """A model that a library holds on the GPU."""

    spec: ModelSpec
    """What the model promises."""
    scratch_bytes: int
    """Device memory that the contexts of one slot share: only one of them runs at a time."""
    stream: int | None
    """The only stream that the library computes on; None where any will do."""
    capturable: bool
    """Whether what a context queues may be captured as a graph from outside."""
    contexts: int
    """Contexts that a slot keeps, one per shape; 1 where one does for all shapes."""

    def create(self, scratch: int) -> Work:
        """Create a context that uses this scratch memory, 0 for none."""

    def free(self) -> None:
        """Drop the model, of which no context is left."""


@dataclass(frozen=True)
class _Job:
    """What one batch needs."""

    shape: Dims
    input_bytes: int
    output_shape: Dims
    output_dtype: np.dtype[Any]

    @property
    def output_bytes(self) -> int:
        return math.prod(self.output_shape) * self.output_dtype.itemsize


@dataclass(frozen=True)
class _Graph:
    """A captured shape, with the context that it was captured from and that it needs."""

    handle: int
    work: Work


class _Buffer:
    """The same number of bytes on the host, page-locked, and on the device; it only grows."""

    def __init__(self, driver: CudaDriver) -> None:
        self._driver = driver
        self.size = self.host = self.device = 0

    def grow(self, size: int) -> None:
        """Make room for this many bytes; growing changes the addresses."""
        if size > self.size:
            self.free()
            self.host = self._driver.malloc_host(size)
            self.device = self._driver.malloc(size)
            self.size = size

    def free(self) -> None:
        """Give both back; doing so twice is fine."""
        host, device = self.host, self.device
        self.size = self.host = self.device = 0
        if host:
            release(self._driver.free_host, host)
        if device:
            release(self._driver.free, device)


class Slot:
    """Runs one batch at a time: ``submit``, then ``collect``."""

    def __init__(self, driver: CudaDriver, executor: Executor, *, graphs: int) -> None:
        """Create stream and events; contexts are created when their shape comes.

        Args:
            driver: The GPU.
            executor: The model.
            graphs: How many CUDA graphs are kept; the least recently used one goes first.
        """
        self._driver, self._executor = driver, executor
        self._limit = graphs if executor.capturable and executor.stream is None else 0
        self._graphs: OrderedDict[Dims, _Graph] = OrderedDict()
        self._works: OrderedDict[Dims, Work] = OrderedDict()
        self._seen: set[Dims] = set()
        self._job: _Job | None = None
        with ExitStack() as stack:
            self._stream = driver.create_stream()
            stack.callback(release, driver.destroy_stream, self._stream)
            events = []
            for _ in range(3):
                events.append(driver.create_event())
                stack.callback(release, driver.destroy_event, events[-1])
            self._uploaded, self._computed, self._done = events
            self._source, self._target = _Buffer(driver), _Buffer(driver)
            stack.callback(self._source.free)
            stack.callback(self._target.free)
            self._scratch = 0
            if executor.scratch_bytes:
                self._scratch = driver.malloc(executor.scratch_bytes)
                stack.callback(release, driver.free, self._scratch)
            stack.callback(self._drop_works)
            stack.callback(self._drop_graphs)
            # Last in, first out: graphs, contexts, memory, events, stream. Each is tried.
            self._resources = stack.pop_all()

    @property
    def graphs(self) -> tuple[Dims, ...]:
        """The shapes whose graphs are kept, least recently used first."""
        return tuple(self._graphs)

    def submit(self, batch: NDArray[Any]) -> None:
        """Copy a batch into page-locked memory and queue everything that it needs.

        Args:
            batch: Contiguous; it may be changed afterwards.

        Raises:
            FcnkitError: The driver or the library refuses; the slot is idle again.
        """
        job = self._begin(batch)
        try:
            graph = self._graphs.get(job.shape)
            if graph is not None:
                self._graphs.move_to_end(job.shape)
                self._driver.launch(graph.handle, self._stream)
                self._driver.record(self._done, self._stream)
            elif job.shape in self._seen and self._limit:
                self._run_and_capture(job)
            else:
                self._queue(self._work_for(job.shape), job)
                self._driver.record(self._done, self._stream)
                self._seen.add(job.shape)
        except BaseException:
            # Half of it may be queued and must not run into the next batch.
            self._drain()
            raise

    def run_timed(self, batch: NDArray[Any]) -> tuple[NDArray[Any], tuple[float, float, float]]:
        """Run a batch with timers between its three parts, and so without a graph.

        Args:
            batch: Contiguous.

        Returns:
            Its output, the caller's own, and the GPU's seconds of upload, network and download.

        Raises:
            FcnkitError: The driver or the library refuses; the slot is idle again.
        """
        job, driver, stream = self._begin(batch), self._driver, self._stream
        with ExitStack() as stack:
            timers = []
            for _ in range(4):
                timers.append(driver.create_timer())
                stack.callback(release, driver.destroy_event, timers[-1])
            stack.callback(self._drain)  # before the timers go, whatever happened
            driver.record(timers[0], stream)
            self._queue(self._work_for(job.shape), job, timers=(timers[1], timers[2]))
            driver.record(timers[3], stream)
            driver.record(self._done, stream)
            result = self.collect()
            upload, network, download = (
                driver.elapsed(first, second) for first, second in pairwise(timers)
            )
        return result, (upload, network, download)

    def collect(self) -> NDArray[Any]:
        """Wait for the submitted batch.

        Returns:
            Its output, the caller's own.

        Raises:
            FcnkitError: The GPU failed.
        """
        job = self._job
        assert job is not None  # submit came before
        try:
            self._driver.synchronize(self._done)
        except BaseException:
            # What is still queued must not run into the next batch.
            self._drain()
            raise
        result = host_view(self._target.host, job.output_bytes).view(job.output_dtype)
        return result.reshape(job.output_shape).copy()

    def free(self) -> None:
        """Wait for what runs and give everything back; doing so twice is fine."""
        self._drain()
        self._resources.close()

    def _begin(self, batch: NDArray[Any]) -> _Job:
        """Find room for a batch and copy it into page-locked memory."""
        job = self._job = _job_of(batch, self._executor.spec)
        self._make_room(job)
        np.copyto(host_view(self._source.host, job.input_bytes), batch.reshape(-1).view(np.uint8))
        return job

    def _work_for(self, shape: Dims) -> Work:
        """Return the context of a shape; beyond the executor's limit the least used one goes."""
        limit = self._executor.contexts
        key = shape if limit > 1 else ()
        if key not in self._works:
            if len(self._works) >= limit:
                release(self._works.popitem(last=False)[1].free)
            self._works[key] = self._executor.create(self._scratch)
        self._works.move_to_end(key)
        return self._works[key]

    def _queue(self, work: Work, job: _Job, *, timers: tuple[int, ...] = ()) -> None:
        """Queue upload, network and download; the network where the library insists on it."""
        driver, stream, source, target = self._driver, self._stream, self._source, self._target
        compute = self._executor.stream
        driver.upload(source.device, source.host, job.input_bytes, stream)
        for timer in timers[:1]:
            driver.record(timer, stream)
        if compute is not None:
            driver.record(self._uploaded, stream)
            driver.wait(compute, self._uploaded)
        work.enqueue(
            job.shape,
            source=source.device,
            target=target.device,
            stream=stream if compute is None else compute,
        )
        if compute is not None:
            driver.record(self._computed, compute)
            driver.wait(stream, self._computed)
        for timer in timers[1:]:
            driver.record(timer, stream)
        driver.download(target.host, target.device, job.output_bytes, stream)

    def _run_and_capture(self, job: _Job) -> None:
        """Run a batch in a context of its shape's own and capture that as a graph.

        TensorRT asks for both: a context that was run since its shape was set, for the capture,
        and one that takes no other shape afterwards, for the graph.
        """
        driver, stream = self._driver, self._stream
        if len(self._graphs) >= self._limit:
            self._drop(self._graphs.popitem(last=False)[1])
        work = self._executor.create(self._scratch)
        try:
            self._queue(work, job)
            driver.record(self._done, stream)
            driver.drain(stream)
            handle = self._capture(work, job)
        except BaseException:
            self._drain()
            release(work.free)
            raise
        if handle is None:
            release(work.free)
        else:
            self._graphs[job.shape] = _Graph(handle, work)

    def _capture(self, work: Work, job: _Job) -> int | None:
        """Return the graph, or None where this network allows none: the result is there anyway."""
        driver, stream = self._driver, self._stream
        try:
            driver.begin_capture(stream)
            try:
                self._queue(work, job)
            except BaseException:
                self._abandon_capture()
                raise
            return driver.end_capture(stream)
        except GpuLostError:
            raise
        except FcnkitError as error:
            _log.warning("no CUDA graphs from here on: %s", error)
            self._limit = 0
            return None

    def _abandon_capture(self) -> None:
        """Bring the stream back from a capture in which something failed."""
        try:
            self._driver.destroy_graph(self._driver.end_capture(self._stream))
        except FcnkitError as error:  # the usual case: a broken capture gives no graph
            _log.debug("%s", error)

    def _make_room(self, job: _Job) -> None:
        source, target = self._source, self._target
        if job.input_bytes > source.size or job.output_bytes > target.size:
            self._drop_graphs()  # they hold the addresses
            source.grow(job.input_bytes)
            target.grow(job.output_bytes)

    def _drop_graphs(self) -> None:
        while self._graphs:
            self._drop(self._graphs.popitem(last=False)[1])

    def _drop(self, graph: _Graph) -> None:
        release(self._driver.destroy_graph, graph.handle)
        release(graph.work.free)

    def _drop_works(self) -> None:
        while self._works:
            release(self._works.popitem()[1].free)

    def _drain(self) -> None:
        """Wait for what is queued; where that fails, what follows must still happen."""
        release(self._driver.drain, self._stream)


def _job_of(batch: NDArray[Any], spec: ModelSpec) -> _Job:
    return _Job(
        shape=batch.shape,
        input_bytes=batch.nbytes,
        output_shape=output_shape(batch.shape, spec),
        output_dtype=np.dtype(spec.output.dtype),
    )
