"""What a step answers. A raised exception is the fourth answer: retry by policy, or error."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Any, TypeAlias

from dlqueue.queue.record import storable


@dataclass(frozen=True, slots=True)
class Completed:
    """Done. ``result`` is any JSON; a result delivered earlier is kept if it is None."""

    result: Any = None


@dataclass(frozen=True, slots=True)
class ResumeAfter:
    """Not done: run the next step after ``seconds``, and leave the worker to others meanwhile.

    :param seconds: ``None`` = only when woken (needs a hold).
    :param hold: what is waited for (``slot:box``); `Queue.wake` with the same word ends the wait early.
    :param renew: the retry budget starts anew. A step that merely waited again says False.
    """

    seconds: float | None
    hold: str | None = None
    renew: bool = True

    def __post_init__(self) -> None:
        if self.seconds is None and self.hold is None:
            raise ValueError("ResumeAfter(None) needs a hold, or the task would never run again")
        if self.seconds is not None and not math.isfinite(self.seconds):
            raise ValueError(f"ResumeAfter({self.seconds}) is no number of seconds")
        if self.hold is not None and not (self.hold and storable(self.hold) == self.hold):
            raise ValueError(f"hold: must be a word, such as slot:box, not {self.hold!r}")


@dataclass(frozen=True, slots=True)
class Canceled:
    """The task itself gives up, without error."""

    reason: str | None = None


Outcome: TypeAlias = Completed | ResumeAfter | Canceled
