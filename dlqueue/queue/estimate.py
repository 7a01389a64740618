"""What a task says that it will need, so that it is begun only when it fits."""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Any

import msgspec

from dlqueue.queue.errors import InvalidTask

_MOST = {"memory": 2**63 - 1, "cpu": 100_000, "temp": 2**63 - 1, "seconds": 10 * 365 * 86400}
_WHOLE = ("memory", "temp")


class Estimate(msgspec.Struct, frozen=True, omit_defaults=True):
    """Of one step at its most; 0 = nothing worth mentioning."""

    memory: int = 0
    """Bytes."""
    cpu: float = 0
    """Cores."""
    temp: int = 0
    """Bytes in the task's temporary folder."""
    seconds: float = 0
    """How long it takes; kept, and looked at by nobody who admits."""

    @property
    def needs_room(self) -> bool:
        """Is there anything to be counted?"""
        return bool(self.memory or self.cpu or self.temp)


def read_estimate(given: Estimate | Mapping[str, Any] | None) -> Estimate | None:
    """:raises InvalidTask: naming the part that cannot be right, such as ``estimate.memory``."""
    if given is None:
        return None
    if isinstance(given, Estimate):
        given = msgspec.structs.asdict(given)
    if not isinstance(given, Mapping):
        raise InvalidTask(f"must be an object of {', '.join(_MOST)}", "estimate")
    parts: dict[str, Any] = {}
    for name, value in given.items():
        if name not in _MOST:
            raise InvalidTask(f"no such part; there are {', '.join(_MOST)}", f"estimate.{name}"[:100])
        if value is None:
            continue
        if isinstance(value, bool) or not isinstance(value, int if name in _WHOLE else (int, float)):
            kind = "a whole number" if name in _WHOLE else "a number"
            raise InvalidTask(f"must be {kind}", f"estimate.{name}")
        if not math.isfinite(value) or not 0 <= value <= _MOST[name]:
            raise InvalidTask(f"must be between 0 and {_MOST[name]}", f"estimate.{name}")
        parts[name] = value
    return Estimate(**parts) if any(parts.values()) else None
