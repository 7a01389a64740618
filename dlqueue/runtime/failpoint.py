"""Named points at which a test can kill the process, to prove that dying there loses and repeats nothing.

Off unless ``DLQUEUE_FAILPOINT`` names a point in the environment; then the process kills itself (SIGKILL, so nothing
is flushed or cleaned up) when it reaches that point for the first time.
"""

from __future__ import annotations

import os
import signal

_ARMED = os.environ.get("DLQUEUE_FAILPOINT")


def reach(point: str) -> None:
    """Die here if a test asked for it."""
    if point == _ARMED:
        os.kill(os.getpid(), signal.SIGKILL)
