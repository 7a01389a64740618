"""What a task will need, as it crosses the socket."""

from __future__ import annotations

import math
from dataclasses import asdict, dataclass
from typing import Any

from dlqueue.protocol.errors import InvalidParams


@dataclass(frozen=True, kw_only=True)
class Estimate:
    """Of one step at its most: bytes of memory, cores, bytes in the task's temporary folder, seconds."""

    memory: int | None = None
    cpu: float | None = None
    temp: int | None = None
    seconds: float | None = None

    def __post_init__(self) -> None:
        for name, value in asdict(self).items():
            if value is not None and not (math.isfinite(value) and value >= 0):
                raise InvalidParams(name, "must be a number from 0")

    def parts(self) -> dict[str, Any]:
        """What is given."""
        return {name: value for name, value in asdict(self).items() if value is not None}
