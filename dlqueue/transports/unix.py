"""The Unix socket: who may come in, how many, and how it all ends."""

from __future__ import annotations

import asyncio
import contextlib
import errno
import fcntl
import logging
import os
import resource
import socket
import struct
import time
from collections.abc import Callable
from pathlib import Path

from dlqueue.protocol import envelope
from dlqueue.protocol.caller import Caller
from dlqueue.protocol.errors import LimitExceeded, RpcError, Stopping
from dlqueue.runtime.users import user_name
from dlqueue.transports.backlog import Backlog
from dlqueue.transports.connection import CHUNK, STALL_SECONDS, Connection
from dlqueue.transports.dispatch import Dispatcher
from dlqueue.transports.socketfile import SocketError, make_way, socket_file

_log = logging.getLogger(__name__)

_CONNECTIONS = 4000
_CREDENTIALS = struct.Struct("3i")
_GROUP = struct.Struct("I")
_MOST_GROUPS = 250
_SO_PEERGROUPS = 59
"""socket(7), since Linux 4.13; Python has no name for it."""
_REFUSAL_SECONDS = 1.0
_PAUSE_SECONDS = 0.1
_ACCEPTED_AT_ONCE = 64


class UnixServer:
    """Listens on one socket file and keeps count of its clients."""

    def __init__(
        self,
        dispatcher: Dispatcher,
        path: Path,
        *,
        mode: int = 0o600,
        group: str | None = None,
        inherited: socket.socket | None = None,
        max_connections: int | None = None,
        stall: float = STALL_SECONDS,
        monotonic: Callable[[], float] = time.monotonic,
    ) -> None:
        """``mode`` and ``group`` are the socket file's. ``inherited``: a socket that listens already, in place of one
        made at ``path``; its file is whoever's made it, and clients that come while we stop are left to the next who
        gets it. ``max_connections``: by default half of the open files that
        the process may have, at most 4000. ``stall``: seconds after which a client that does not read is dropped."""
        self._dispatcher = dispatcher
        self._path = path
        self._mode = mode
        self._group = group
        self._inherited = inherited
        self._limit = max_connections or min(_CONNECTIONS, max(8, resource.getrlimit(resource.RLIMIT_NOFILE)[0] // 2))
        self._stall = stall
        self._backlog = Backlog()
        self._monotonic = monotonic
        self._lock = -1
        self._identity: tuple[int, int] | None = None
        self._listening: socket.socket | None = None
        self._spare = -1
        self._refusing = False
        """Said once: whoever knocks meanwhile is told, ten times a second."""
        self._ended = False
        self._serving: set[asyncio.Task[None]] = set()
        self._connections: set[Connection] = set()
        self._count = 0
        self._idle_since = monotonic()

    @property
    def connections(self) -> int:
        """Clients connected now."""
        return self._count

    @property
    def idle_since(self) -> float | None:
        """When the last client left (at first: when this was made), by ``monotonic``; ``None`` while one is here."""
        return None if self._count else self._idle_since

    async def start(self) -> None:
        """Listen. A socket file that nobody answers on is replaced. Raises :class:`SocketError`."""
        self._listening = self._open() if self._inherited is None else self._take_over(self._inherited)
        self._spare = os.open(os.devnull, os.O_RDONLY | os.O_CLOEXEC)
        asyncio.get_running_loop().add_reader(self._listening, self._accept, self._listening)

    def interrupt(self) -> None:
        """Begin to stop: new requests are answered −32009, and so are waits; subscriptions end."""
        self._dispatcher.stopping = True
        for connection in list(self._connections):
            connection.interrupt()

    async def stop(self, grace: float = 5.0) -> None:
        """Stop listening, answer what is in flight within ``grace`` seconds, close every connection."""
        self.interrupt()
        self._ended = True
        if self._listening is not None:
            if self._inherited is None:
                self._accept(self._listening)  # who has come already is told, instead of being cut off
            asyncio.get_running_loop().remove_reader(self._listening)
            self._listening.close()
            self._listening = None
            self._close_spare()
            self._forget_file()
        if endings := [asyncio.ensure_future(one.finish(grace)) for one in list(self._connections)]:
            await asyncio.wait(endings)
        if self._serving:
            await asyncio.wait(set(self._serving), timeout=_REFUSAL_SECONDS)
        for task in self._serving:
            task.cancel()
        await asyncio.sleep(0)  # a transport closes its socket in the next turn of the loop
        self._unlock()

    # ------------------------------------------------------------------------------------------------------- opening

    def _open(self) -> socket.socket:
        try:
            group = make_way(self._path, self._group)
            self._take_lock()
            listening = socket_file(self._path, self._mode, group)
            listening.listen(1024)
        except OSError as error:
            self._unlock()
            raise SocketError(f"cannot listen on {self._path}: {error.strerror or error}") from error
        except SocketError:
            self._unlock()
            raise
        made = self._path.stat()
        self._identity = (made.st_dev, made.st_ino)
        return listening

    def _take_over(self, listening: socket.socket) -> socket.socket:
        try:
            self._take_lock()
            listening.setblocking(False)
        except OSError as error:
            self._unlock()
            raise SocketError(f"cannot take over the socket {self._path}: {error.strerror or error}") from error
        return listening

    def _take_lock(self) -> None:
        """Two daemons that start at once must not both find the socket file stale."""
        self._lock = os.open(f"{self._path}.lock", os.O_RDWR | os.O_CREAT | os.O_CLOEXEC | os.O_NOFOLLOW, 0o600)
        try:
            fcntl.flock(self._lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            raise SocketError(f"another dlqueue daemon is using the socket {self._path}") from None

    def _unlock(self) -> None:
        if self._lock >= 0:
            os.close(self._lock)
            self._lock = -1

    def _forget_file(self) -> None:
        """Remove the socket file, if it is still ours."""
        with contextlib.suppress(OSError):
            found = self._path.lstat()
            if (found.st_dev, found.st_ino) == self._identity:
                self._path.unlink()

    # ------------------------------------------------------------------------------------------------------- serving

    def _accept(self, listening: socket.socket) -> None:
        """Let clients in. Not asyncio's own server: that one loses track of who was accepted just before the end."""
        loop = asyncio.get_running_loop()
        for _ in range(_ACCEPTED_AT_ONCE):
            try:
                peer, _address = listening.accept()
            except (BlockingIOError, InterruptedError, ConnectionAbortedError):
                return
            except OSError as error:
                if not self._refusing:
                    _log.warning("cannot accept clients: %s", error.strerror)
                self._refusing = True
                if error.errno in (errno.EMFILE, errno.ENFILE):
                    self._turn_away(listening)
                # The socket stays ready: look again only after a pause, instead of spinning.
                loop.remove_reader(listening)
                loop.call_later(_PAUSE_SECONDS, self._accept_again, listening)
                return
            self._refusing = False
            peer.setblocking(False)
            task = loop.create_task(self._serve(peer))
            self._serving.add(task)
            task.add_done_callback(self._serving.discard)

    def _accept_again(self, listening: socket.socket) -> None:
        if not self._ended:
            asyncio.get_running_loop().add_reader(listening, self._accept, listening)

    def _turn_away(self, listening: socket.socket) -> None:
        """No more files may be opened: give up the spare one for a moment, to tell the client who waits longest."""
        error = LimitExceeded("the daemon has no more open files; try again later", kind="connections", retry_after=5)
        self._close_spare()
        with contextlib.suppress(OSError):
            peer, _ = listening.accept()
            with peer:
                peer.send(envelope.refusal(None, error))
        with contextlib.suppress(OSError):
            self._spare = os.open(os.devnull, os.O_RDONLY | os.O_CLOEXEC)

    def _close_spare(self) -> None:
        if self._spare >= 0:
            os.close(self._spare)
            self._spare = -1

    def _is_over(self) -> bool:
        return self._ended

    async def _serve(self, peer: socket.socket) -> None:
        if self._is_over():
            await _refuse(peer, Stopping("the daemon is stopping", retry_after=5))
            return
        if self._count >= self._limit:
            full = f"{self._limit} clients are connected already; try again later"
            await _refuse(peer, LimitExceeded(full, kind="connections", retry_after=5))
            return
        self._count += 1
        try:
            caller = _caller(peer)
            reader, writer = await asyncio.open_unix_connection(sock=peer, limit=CHUNK)
            connection = Connection(self._dispatcher, caller, reader, writer, self._stall, self._backlog)
            self._connections.add(connection)
            try:
                await (connection.end() if self._is_over() else connection.run())
            finally:
                self._connections.discard(connection)
        except asyncio.CancelledError:
            pass  # the end of the daemon: `stop` waits for this task
        except OSError:
            peer.close()  # gone before it was looked at
        except Exception:  # noqa: BLE001 - one client's defect must not reach the others
            _log.exception("defect in a connection")
        finally:
            self._count -= 1
            self._idle_since = self._monotonic()


async def _refuse(peer: socket.socket, error: RpcError) -> None:
    """An error answer instead of a bare hang-up, and a moment to read it."""
    loop = asyncio.get_running_loop()
    with peer, contextlib.suppress(OSError, TimeoutError):
        peer.send(envelope.refusal(None, error))
        peer.shutdown(socket.SHUT_WR)
        async with asyncio.timeout(_REFUSAL_SECONDS):
            while await loop.sock_recv(peer, CHUNK):
                pass


def _caller(peer: socket.socket) -> Caller:
    """What the kernel says about the process that connected."""
    raw = peer.getsockopt(socket.SOL_SOCKET, socket.SO_PEERCRED, _CREDENTIALS.size)
    _, uid, gid = _CREDENTIALS.unpack(raw)
    own = uid == os.geteuid()
    return Caller(uid=uid, gid=gid, name=user_name(uid), trusted_cwd=own, groups=_groups(peer))


def _groups(peer: socket.socket) -> frozenset[int]:
    """Of the process: a service may run with groups that its account has not (systemd: SupplementaryGroups)."""
    try:
        raw = peer.getsockopt(socket.SOL_SOCKET, _SO_PEERGROUPS, _MOST_GROUPS * _GROUP.size)
    except OSError:  # more than we ask about, or another system than Linux
        return frozenset()
    return frozenset(gid for (gid,) in _GROUP.iter_unpack(raw))
