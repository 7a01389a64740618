"""Which run of Transmission is this? It has no name for itself, but says for how long it has been running."""

from __future__ import annotations

import contextlib
import threading
import time
from pathlib import Path
from typing import TYPE_CHECKING

import msgspec

if TYPE_CHECKING:
    from dlqueue_transmission.rpc import Rpc

_SAME = 2.5
"""Seconds by which two estimates of one start may differ: whole seconds are told, and requests take their time."""
LOADED = 60.0
"""Seconds after its start in which Transmission may still load torrents."""
_SESSION_LASTS = 3600 - 60
"""Seconds. A run has one session id for an hour, then another (libtransmission/session-id.c)."""


class _Run(msgspec.Struct, frozen=True):
    name: str
    began: float
    count: int


class Runs:
    """:param folder: private; the present run is written down in it, to be known again after a restart of ours."""

    def __init__(self, folder: Path) -> None:
        self._path = folder / "run"
        self._lock = threading.Lock()
        self._session = ""
        self._run: _Run | None = None
        with contextlib.suppress(OSError, msgspec.DecodeError):
            self._run = msgspec.json.decode(self._path.read_bytes(), type=_Run)

    def name(self, rpc: Rpc) -> str:
        """The run that has answered the last call of this thread. Costs a request only if its session id is new."""
        return self._known(rpc).name

    def age(self, rpc: Rpc) -> float:
        """Seconds that this run has been running."""
        return time.time() - self._known(rpc).began

    def began_with(self, rpc: Rpc, moment: float) -> bool:
        """Was that when this run loaded its torrents?"""
        return -_SAME <= moment - self._known(rpc).began <= LOADED

    def _known(self, rpc: Rpc) -> _Run:
        with self._lock:
            if self._run is None or not self._session or rpc.session != self._session:
                self._run = self._look(rpc)
            return self._run

    def _look(self, rpc: Rpc) -> _Run:
        asked = time.monotonic()
        seen = rpc.statistics()
        # An answer that was long on its way is a late estimate by as much, not another start.
        apart = _SAME + time.monotonic() - asked
        began, former = time.time() - seen.seconds_active, self._run
        rotated = not self._session or rpc.session == self._session or seen.seconds_active > _SESSION_LASTS
        self._session = rpc.session
        if former and rotated and former.count == seen.session_count and abs(former.began - began) <= apart:
            return former
        run = _Run(f"{time.time_ns():x}", began, seen.session_count)
        with contextlib.suppress(OSError):  # then it is another run after our next start: no harm
            self._path.write_bytes(msgspec.json.encode(run))
        return run
