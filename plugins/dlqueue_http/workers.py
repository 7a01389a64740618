"""Threads that are kept for the next job: starting one costs more than fetching a small file."""

from __future__ import annotations

import queue
import threading
import time
from collections.abc import Callable

Job = Callable[[], object]

IDLE_SECONDS = 30.0
"""A thread without work for so long ends."""


class Workers:
    """As many threads as there are jobs at once. They are daemon threads: one that waits for a name server holds up
    nobody's exit."""

    def __init__(self, name: str) -> None:
        self._name = name
        self._lock = threading.Lock()
        self._jobs: queue.SimpleQueue[Job | None] = queue.SimpleQueue()
        self._idle = 0
        self._threads: set[threading.Thread] = set()
        self._closed = False

    def submit(self, job: Job) -> None:
        """Start it at once, in a waiting thread or a new one. After `close` it is dropped."""
        with self._lock:
            if self._closed:
                return
            if self._idle:
                self._idle -= 1
                self._jobs.put(job)
                return
            thread = threading.Thread(target=self._run, args=(job,), name=self._name, daemon=True)
            self._threads.add(thread)
        thread.start()

    def close(self, seconds: float) -> None:
        """Let the threads end; wait that long at most."""
        with self._lock:
            self._closed = True
            for _ in range(self._idle):
                self._jobs.put(None)
            self._idle = 0
            threads = list(self._threads)
        until = time.monotonic() + seconds
        for thread in threads:
            thread.join(max(0.0, until - time.monotonic()))

    def _run(self, job: Job | None) -> None:
        try:
            while job is not None:
                job()
                del job
                job = self._next()
        finally:
            with self._lock:
                self._threads.discard(threading.current_thread())

    def _next(self) -> Job | None:
        with self._lock:
            if self._closed:
                return None
            self._idle += 1
        try:
            return self._jobs.get(timeout=IDLE_SECONDS)
        except queue.Empty:
            with self._lock:
                # `submit` counts a thread as busy when it hands over a job: then that job is for us.
                if self._jobs.empty():
                    self._idle -= 1
                    return None
            return self._jobs.get()
