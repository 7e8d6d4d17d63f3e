"""An engine whose workers are those of Ray: processes on this machine, or on the machines of a cluster."""

import logging
import os
import platform
import socket
import warnings
from collections import deque
from collections.abc import Callable, Iterable, Iterator, Mapping
from importlib import import_module
from importlib.metadata import version
from typing import Any

import cascade
from cascade.models.factory import build
from cascade.models.protocol import Model
from cascade.policy.schema import ModelSpec

from .protocol import Common, EngineError, Output, SomeShard
from .ray_model import ModelWorkers, WorkerModel, exceptions, ray

_TRIES = 5  # more workers that a shard may lose, before the shard itself is at fault
_CONNECT_S = 10.0
_IN_PROCESS = ("recorded", "scripted")  # providers whose models send nothing


class RayEngine:
    """Implements Engine.

    Attributes:
        workers: How many shards are worked on at once.
    """

    def __init__(self, *, is_local: bool) -> None:
        self.is_local = is_local
        self.workers = max(1, int(ray.cluster_resources().get("CPU", 1)))
        self._models: list[ModelWorkers] = []

    @classmethod
    def on_this_machine(cls, workers: int | None = None) -> "RayEngine":
        """Starts Ray for this process alone.

        Args:
            workers: How many workers; None: one for each core.

        Raises:
            EngineError: Ray does not start.
        """
        cores = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
        _init("--engine ray", "local", {"num_cpus": workers or cores, "include_dashboard": False})
        return cls(is_local=True)

    @classmethod
    def at(cls, host: str, port: int) -> "RayEngine":
        """Connects to the Ray Client server of a cluster.

        Raises:
            EngineError: No cluster answers, or its machines have another version of Python or of this package.
        """
        written = f"[{host}]" if ":" in host else host
        text = f"--engine ray://{written}:{port}"
        try:
            socket.create_connection((host, port), timeout=_CONNECT_S).close()
        except OSError as error:
            raise EngineError(
                f"{text}: no Ray cluster answers there ({error.strerror or error}); give the address of the head node and "
                "the port of its Ray Client server, usually 10001"
            ) from None
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # of a connection that times out: the error says it
            try:
                _init(text, f"ray://{written}:{port}", {})
            except EngineError as error:
                raise EngineError(
                    f"{error}; the port must be that of the Ray Client server, usually 10001, and a cluster with "
                    "authentication needs RAY_AUTH_MODE=token and its RAY_AUTH_TOKEN in the environment"
                ) from None
        engine = cls(is_local=False)
        try:
            engine._check_version(text)
        except BaseException:
            engine.close()
            raise
        return engine

    def _check_version(self, text: str) -> None:
        """Raises EngineError unless the workers run the Python and the package that this process runs."""
        here = _versions()
        try:
            there = ray.get(ray.remote(_versions).remote())
        except exceptions.RayError as error:
            raise EngineError(
                f"{text}: the workers cannot import cascade-gate ({_reason(error)}); install cascade-gate[ray] on every node"
            ) from None
        if there != here:
            raise EngineError(f"{text}: the workers have {there}, this process {here}; install the same on every node")

    def map(
        self, work: Callable[[Common, SomeShard], Output], common: Common, shards: Iterable[SomeShard]
    ) -> Iterator[Output]:
        """See Engine."""
        stored = ray.put(common)
        task = ray.remote(max_retries=_TRIES)(_run)
        pending: deque[tuple[SomeShard, Any]] = deque()
        try:
            for shard in shards:
                pending.append((shard, task.options(name=f"shard {shard.key[:16]}").remote(work, stored, shard)))
                # One more than the workers, so that none waits while this process is busy with an output.
                while len(pending) > 2 * self.workers:
                    yield self._output(*pending.popleft())
            while pending:
                yield self._output(*pending.popleft())
        finally:
            for _, unread in pending:
                ray.cancel(unread, force=False)

    def _output(self, shard: SomeShard, output: Any) -> Any:
        try:
            return ray.get(output)
        except exceptions.RayTaskError as error:
            cause = error.cause
            raise (cause if isinstance(cause, Exception) else error) from None
        except exceptions.RayError as error:
            raise EngineError(
                f"no worker finished the shard {shard.key[:16]}; it ended {_TRIES + 1} of them: {_reason(error)}; check how "
                "much memory the machines have"
            ) from None

    def model(self, name: str, spec: ModelSpec) -> Model:
        """See Engine."""
        if spec.provider in _IN_PROCESS:
            return build(name, spec)
        if not self._models:
            if self.is_local:
                build(name, spec)  # raises here where its key is missing
            self._models.append(ModelWorkers(self.workers))
        return WorkerModel(name, spec, self._models[0])

    def close(self) -> None:
        """Ends the workers' work, and Ray where this process has started it."""
        for workers in self._models:
            workers.end()
        ray.shutdown()


def _init(text: str, address: str, cluster: Mapping[str, object]) -> None:
    if ray.is_initialized():
        raise EngineError(f"{text}: this process is connected to Ray already; call ray.shutdown() first")
    # Where a worker dies Ray prints a page about it into the command's output, whatever its settings for logs.
    private: Any = import_module("ray._private.worker")
    if hasattr(private, "print_to_stdstream"):
        private.print_to_stdstream = lambda *_, **__: None
    try:
        ray.init(address=address, log_to_driver=False, logging_level=logging.ERROR, **cluster)
    except Exception as error:  # Ray raises what its parts raise: RuntimeError, ConnectionError, TimeoutError, ...
        raise EngineError(f"{text}: {_reason(error)}") from None


def _run(work: Callable[[Any, Any], Any], common: Any, shard: Any) -> Any:
    return work(common, shard)


def _versions() -> str:
    assert cascade.__file__
    return f"cascade-gate {version('cascade-gate')} on Python {'.'.join(platform.python_version_tuple()[:2])}"


def _reason(error: Exception) -> str:
    """The last line of an error of Ray, whose texts hold tracebacks of several pages."""
    lines = str(error).strip().splitlines()
    return lines[-1].strip()[:300] if lines else type(error).__name__
