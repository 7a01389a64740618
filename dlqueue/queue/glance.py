"""One look at everything, at a cost that does not depend on how many tasks there are."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import msgspec

from dlqueue.queue.record import TaskRecord
from dlqueue.queue.status import Status


class Look(msgspec.Struct, frozen=True, kw_only=True):
    """What is wanted of it."""

    owner: str | None = None
    """Whose tasks; None = everybody's."""
    holds: Sequence[str] = ()
    """Beginnings of holds: who waits for these?"""
    newest: int = 10_000
    """Of one owner's tasks, and of those that have failed, no more than so many are looked at, the newest ones."""
    errors: int = 200
    """Tasks in status error that are answered at most."""
    held: int = 100
    """Tasks of each hold that are answered at most."""


class Glance(msgspec.Struct, frozen=True, kw_only=True):
    tally: Mapping[Status, int]
    """How many there are in each status; those without any may be left out."""
    whole: bool
    """Are they all in the tally, or only the ``newest``?"""
    errors: Sequence[TaskRecord]
    """Those in status error, newest first."""
    held: Mapping[str, Sequence[int]]
    """By beginning of hold: ids, whose tasks they ever are."""
    processing: Sequence[int]
    """Those in the middle of a step, whose they ever are."""
