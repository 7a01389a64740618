"""Named points at which a test can kill the process, to prove that dying there loses and repeats nothing.

Off unless ``DLQUEUE_FAILPOINT`` names a point in the environment; then the process kills itself (SIGKILL, so nothing
is flushed or cleaned up) when it reaches that point for the first time. ``POINT:stop`` halts it there instead (SIGSTOP,
until somebody sends SIGCONT), so that somebody else can be killed meanwhile.
"""

from __future__ import annotations

import os
import signal

_ARMED, _, _HOW = os.environ.get("DLQUEUE_FAILPOINT", "").partition(":")
_halted = False


def reach(point: str) -> None:
    """Die, or halt once, here if a test asked for it."""
    global _halted
    if point != _ARMED or _halted:
        return
    _halted = True
    os.kill(os.getpid(), signal.SIGSTOP if _HOW == "stop" else signal.SIGKILL)
