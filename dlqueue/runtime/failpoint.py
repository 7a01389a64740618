"""Named points at which a test can kill the process, to prove that dying there loses and repeats nothing.

Off unless ``DLQUEUE_FAILPOINT`` names points in the environment, with commas; then the process kills itself (SIGKILL,
so nothing is flushed or cleaned up) when it reaches one for the first time. ``POINT:stop`` halts it there instead
(SIGSTOP, until somebody sends SIGCONT), so that somebody else can be killed meanwhile. ``POINT:hang`` blocks only the
thread that gets there, for good, and says so on stderr: from outside it cannot be seen.
"""

from __future__ import annotations

import os
import signal
import sys
import threading

_ARMED = {name: how for name, _, how in (p.partition(":") for p in os.environ.get("DLQUEUE_FAILPOINT", "").split(","))}


def reach(point: str) -> None:
    """Die, halt once, or hang here if a test asked for it."""
    how = _ARMED.pop(point, None)
    if how == "hang":
        sys.stderr.write(f"failpoint {point}:hang reached\n")
        sys.stderr.flush()
        threading.Event().wait()
    elif how is not None:
        os.kill(os.getpid(), signal.SIGSTOP if how == "stop" else signal.SIGKILL)
