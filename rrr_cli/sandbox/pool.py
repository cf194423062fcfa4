"""The pool of workers: many jobs at once, their outcomes in the jobs' order.

Workers are started when first needed, two a CPU, and end with this process; a dead one is replaced. Nothing is written.
"""

from __future__ import annotations

import atexit
import os
import queue
import threading
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor

from rrr_cli.sandbox.rung import Rung
from rrr_cli.sandbox.worker import Job, Outcome, Worker

__all__ = ["Job", "Outcome", "Pool", "Worker", "shared_pool"]


class Pool:
    """Workers of one rung, at most two a CPU, and a thread for each that waits on it."""

    def __init__(self, rung: Rung, workers: int | None = None) -> None:
        self.rung = rung
        count = workers or 2 * len(os.sched_getaffinity(0))  # programs often wait for this process
        self._workers: queue.LifoQueue[Worker | None] = queue.LifoQueue()
        for _ in range(count):
            self._workers.put(None)
        self._threads = ThreadPoolExecutor(count, thread_name_prefix="sandbox")
        self._running: set[Worker] = set()
        self.stopped = False

    def run(self, jobs: Sequence[Job]) -> list[Outcome]:
        """The outcomes of `jobs`, in their order. Raises OSError: the sandbox doesn't work any more."""
        try:
            return list(self._threads.map(self._run, jobs))
        except KeyboardInterrupt:  # no thread may wait for a program that still runs: this process couldn't end
            self.stopped = True
            for worker in tuple(self._running):
                worker.kill()
            raise

    def close(self) -> None:
        """End the threads, then the workers."""
        self._threads.shutdown(cancel_futures=True)
        while not self._workers.empty():
            worker = self._workers.get()
            if worker:
                worker.close()

    def _run(self, job: Job) -> Outcome:
        worker = self._workers.get()
        try:
            try:
                worker = worker or Worker(self.rung)
                return self._watched(worker, job)
            except OSError:  # killed from outside, which a job can't do: it gets one new worker
                if self.stopped:
                    raise
                worker = Worker(self.rung)
                return self._watched(worker, job)
        finally:
            if worker and worker.spent:
                worker.close()
                worker = None
            self._workers.put(worker)

    def _watched(self, worker: Worker, job: Job) -> Outcome:
        self._running.add(worker)
        try:
            return worker.run(job)
        finally:
            self._running.discard(worker)


_lock = threading.Lock()
_pools: dict[tuple[str, int], Pool] = {}


def shared_pool(rung: Rung) -> Pool:
    """This process's pool of `rung`; a forked process gets its own."""
    with _lock:
        key = (rung.name, os.getpid())
        if key not in _pools or _pools[key].stopped:
            _pools[key] = Pool(rung)
            atexit.register(_pools[key].close)
        return _pools[key]
