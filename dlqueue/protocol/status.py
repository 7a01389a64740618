"""The statuses of a task, by their names on the wire."""

from __future__ import annotations

from typing import Literal

Status = Literal["queued", "blocked", "processing", "suspending", "paused", "completed", "error", "canceled"]

UNFINISHED: tuple[Status, ...] = ("queued", "blocked", "processing", "suspending", "paused")
FINAL: tuple[Status, ...] = ("completed", "error", "canceled")
