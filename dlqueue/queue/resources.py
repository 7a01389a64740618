"""What there is of memory, processors and temporary space, and how much of it running tasks have spoken for."""

from __future__ import annotations

import math
import os
import shutil
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Protocol

import msgspec

from dlqueue.queue.errors import InvalidTask
from dlqueue.queue.estimate import Estimate
from dlqueue.units import format_size

SETTLING = 10.0
"""Seconds after its start in which a task has not taken all of its memory yet: until then the machine's figure of what
is available is counted without it."""


class Machine(Protocol):
    """What this computer has. Bytes, cores."""

    def memory(self) -> tuple[int, int]:
        """All of it, and what is available without swapping."""
        ...

    def cores(self) -> float: ...

    def disk(self, folder: Path) -> tuple[int, int]:
        """The size of the file system of ``folder`` (which need not exist yet), and what is free there."""
        ...


class ThisMachine:
    """As psutil and the kernel say."""

    def memory(self) -> tuple[int, int]:
        # 45 ms to import: only where a task has an estimate.
        import psutil  # type: ignore[import-untyped]

        told = psutil.virtual_memory()
        return int(told.total), int(told.available)

    def cores(self) -> float:
        return len(os.sched_getaffinity(0))

    def disk(self, folder: Path) -> tuple[int, int]:
        there = next((place for place in (folder, *folder.parents) if place.exists()), Path("/"))
        usage = shutil.disk_usage(there)
        return usage.total, usage.free


class Lack(msgspec.Struct, frozen=True):
    """Why a task has to wait."""

    resource: str
    """``memory``, ``cpu`` or ``temp``."""
    needed: float
    left: float
    """What is left for this task: of the budget beside what runs, or of what the machine has free."""

    def __str__(self) -> str:
        needed, left = amount(self.resource, self.needed), amount(self.resource, max(self.left, 0))
        return f"{self.resource}: it needs {needed}, {left} left"


def amount(resource: str, value: float) -> str:
    """For a person."""
    return f"{round(value, 2):g} cores" if resource == "cpu" else format_size(value)


class Room(msgspec.Struct):
    """What is left at one moment, as far as the running tasks and the machine are concerned."""

    memory: float
    cpu: float
    temp: float
    disk: float
    sizes: Mapping[int, int]
    """What each task has in its temporary folder already."""

    def lack(self, task_id: int, estimate: Estimate) -> Lack | None:
        """The first thing that is short for this task; None = it fits."""
        own = self.sizes.get(task_id, 0)
        parts = (
            ("memory", estimate.memory, self.memory),
            ("cpu", estimate.cpu, self.cpu),
            # What it has written is a part of what it has said.
            ("temp", estimate.temp, min(self.temp + own, self.disk + own)),
        )
        for name, needed, left in parts:
            if needed and needed > left + 1e-9:
                return Lack(name, needed, left)
        return None

    def take(self, task_id: int, estimate: Estimate) -> None:
        """Set so much aside."""
        own = self.sizes.get(task_id, 0)
        self.memory -= estimate.memory
        self.cpu -= estimate.cpu
        self.temp -= max(estimate.temp - own, 0)
        self.disk -= max(estimate.temp - own, 0)


class Resources:
    """The budgets. Not synchronised: `Admission` is.

    :param memory: bytes that tasks with an estimate may use together; None = all that the machine has.
    :param cpu: cores, likewise.
    :param temp: bytes of temporary folders, likewise.
    :param folder: where the temporary folders are.
    """

    def __init__(self, machine: Machine, memory: int | None, cpu: float | None, temp: int | None, folder: Path) -> None:
        self._machine = machine
        self._memory = memory
        self._cpu = cpu
        self._temp = temp
        self._folder = folder

    def check(self, estimate: Estimate) -> None:
        """:raises InvalidTask: it could not even run alone."""
        for name, needed in (("memory", estimate.memory), ("cpu", estimate.cpu), ("temp", estimate.temp)):
            if needed and needed > (most := self._whole(name)):
                whole = amount(name, most)
                told = f"{amount(name, needed)} can never fit: there are {whole} in all"
                raise InvalidTask(told, f"estimate.{name}")

    def _whole(self, name: str) -> float:
        match name:
            case "memory":
                return min(self._memory or math.inf, self._machine.memory()[0])
            case "cpu":
                # More than there are cores is slow, not wrong: who says so may have it.
                return self._cpu or self._machine.cores()
        return min(self._temp or math.inf, self._machine.disk(self._folder)[0])

    def room(
        self, running: Iterable[tuple[int, Estimate, float]], sizes: Mapping[int, int], now: float, needed: Estimate
    ) -> Room:
        """What is left beside these tasks: (id, estimate, running since).

        :param needed: what is not asked for here is not looked at.
        """
        room = Room(math.inf, math.inf, math.inf, math.inf, sizes)
        of_tasks = tuple(running)
        if needed.memory:
            total, available = self._machine.memory()
            used = sum(estimate.memory for _, estimate, _ in of_tasks)
            young = sum(estimate.memory for _, estimate, since in of_tasks if now - since < SETTLING)
            room.memory = min(min(self._memory or math.inf, total) - used, available - young)
        if needed.cpu:
            room.cpu = self._whole("cpu") - sum(estimate.cpu for _, estimate, _ in of_tasks)
        if needed.temp:
            said = {task_id: estimate.temp for task_id, estimate, _ in of_tasks}
            room.temp = (self._temp or math.inf) - sum(
                max(sizes.get(task_id, 0), said.get(task_id, 0)) for task_id in {*sizes, *said}
            )
            coming = sum(max(temp - sizes.get(task_id, 0), 0) for task_id, temp in said.items())
            room.disk = self._machine.disk(self._folder)[1] - coming
        return room
