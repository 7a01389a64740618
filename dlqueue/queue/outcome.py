"""What a step answers. A raised exception is the fourth answer: retry by policy, or error."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, TypeAlias


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


@dataclass(frozen=True, slots=True)
class Canceled:
    """The task itself gives up, without error."""

    reason: str | None = None


Outcome: TypeAlias = Completed | ResumeAfter | Canceled
