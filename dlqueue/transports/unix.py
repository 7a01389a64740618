"""The Unix socket: who may come in, how many, and how it all ends."""

from __future__ import annotations

import asyncio
import contextlib
import fcntl
import grp
import logging
import os
import pwd
import resource
import socket
import stat
import struct
import time
from collections.abc import Callable
from functools import lru_cache
from pathlib import Path

from dlqueue.protocol import envelope
from dlqueue.protocol.caller import Caller
from dlqueue.protocol.errors import LimitExceeded
from dlqueue.transports.connection import CHUNK, STALL_SECONDS, Connection
from dlqueue.transports.dispatch import Dispatcher

_log = logging.getLogger(__name__)

_LONGEST_PATH = 107
_CREDENTIALS = struct.Struct("3i")
_REFUSAL_SECONDS = 1.0


class SocketError(Exception):
    """The socket cannot be opened; the message says why and what to do."""


class UnixServer:
    """Listens on one socket file and keeps count of its clients."""

    def __init__(
        self,
        dispatcher: Dispatcher,
        path: Path,
        *,
        mode: int = 0o600,
        group: str | None = None,
        max_connections: int | None = None,
        stall: float = STALL_SECONDS,
        monotonic: Callable[[], float] = time.monotonic,
    ) -> None:
        """``mode`` and ``group`` are the socket file's. ``max_connections``: by default half of the open files that
        the process may have, at most 1000. ``stall``: seconds after which a client that does not read is dropped."""
        self._dispatcher = dispatcher
        self._path = path
        self._mode = mode
        self._group = group
        self._limit = max_connections or min(1000, max(8, resource.getrlimit(resource.RLIMIT_NOFILE)[0] // 2))
        self._stall = stall
        self._monotonic = monotonic
        self._server: asyncio.Server | None = None
        self._lock = -1
        self._identity: tuple[int, int] | None = None
        self._connections: set[Connection] = set()
        self._idle_since = monotonic()

    @property
    def connections(self) -> int:
        """Clients connected now."""
        return len(self._connections)

    @property
    def idle_since(self) -> float | None:
        """When the last client left (at first: when this was made), by ``monotonic``; ``None`` while one is here."""
        return None if self._connections else self._idle_since

    async def start(self) -> None:
        """Listen. A socket file that nobody answers on is replaced. Raises :class:`SocketError`."""
        listening = self._open()
        self._server = await asyncio.start_unix_server(self._serve, sock=listening, limit=CHUNK)

    def interrupt(self) -> None:
        """Begin to stop: new requests are answered −32009, and so are waits; subscriptions end."""
        self._dispatcher.stopping = True
        for connection in list(self._connections):
            connection.interrupt()

    async def stop(self, grace: float = 5.0) -> None:
        """Stop listening, answer what is in flight within ``grace`` seconds, close every connection."""
        self.interrupt()
        if self._server is not None:
            self._server.close()
            self._forget_file()
        if endings := [asyncio.ensure_future(one.finish(grace)) for one in list(self._connections)]:
            await asyncio.wait(endings)
        if self._lock >= 0:
            os.close(self._lock)
            self._lock = -1

    # ------------------------------------------------------------------------------------------------------- opening

    def _open(self) -> socket.socket:
        path = str(self._path)
        if len(os.fsencode(path)) > _LONGEST_PATH:
            raise SocketError(f"the socket path {path} is longer than {_LONGEST_PATH} bytes; choose a shorter one")
        group = self._group_id()
        try:
            self._path.parent.mkdir(mode=0o700 if group is None else 0o750, parents=True, exist_ok=True)
            self._take_lock()
            self._remove_stale()
            listening = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM | socket.SOCK_CLOEXEC)
            try:
                # The file is made with the mode of the socket: at no moment may others connect.
                os.fchmod(listening.fileno(), 0o600)
                listening.bind(path)
                if group is not None:
                    os.chown(path, -1, group)
                self._path.chmod(self._mode)
                listening.listen(1024)
                listening.setblocking(False)
            except BaseException:
                listening.close()
                raise
        except OSError as error:
            self._unlock()
            raise SocketError(f"cannot listen on {path}: {error.strerror or error}") from error
        except SocketError:
            self._unlock()
            raise
        made = self._path.stat()
        self._identity = (made.st_dev, made.st_ino)
        return listening

    def _group_id(self) -> int | None:
        if self._group is None:
            return None
        try:
            return grp.getgrnam(self._group).gr_gid
        except KeyError:
            raise SocketError(f'there is no group "{self._group}" for the socket; create it with groupadd') from None

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

    def _remove_stale(self) -> None:
        try:
            found = self._path.lstat()
        except FileNotFoundError:
            return
        if not stat.S_ISSOCK(found.st_mode):
            raise SocketError(f"{self._path} is in the way: it is not a socket; remove it or choose another path")
        with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) as probe:
            probe.settimeout(1)
            try:
                probe.connect(str(self._path))
            except (ConnectionRefusedError, FileNotFoundError):
                self._path.unlink(missing_ok=True)
                return
            except OSError as error:
                raise SocketError(f"cannot tell whether {self._path} is in use: {error.strerror or error}") from error
        raise SocketError(f"another program is listening on the socket {self._path}")

    def _forget_file(self) -> None:
        """Remove the socket file, if it is still ours."""
        with contextlib.suppress(OSError):
            found = self._path.lstat()
            if (found.st_dev, found.st_ino) == self._identity:
                self._path.unlink()

    # ------------------------------------------------------------------------------------------------------- serving

    async def _serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        if len(self._connections) >= self._limit:
            await _refuse(reader, writer, self._limit)
            return
        try:
            caller = _caller(writer.get_extra_info("socket"))
        except OSError:  # gone before it was looked at
            writer.transport.abort()
            return
        connection = Connection(self._dispatcher, caller, reader, writer, self._stall)
        self._connections.add(connection)
        try:
            await connection.run()
        except asyncio.CancelledError:
            pass  # the end of the daemon: `finish` waits for this task
        except Exception:  # noqa: BLE001 - one client's defect must not reach the others
            _log.exception("defect in a connection of %s", caller.name)
            writer.transport.abort()
        finally:
            self._connections.discard(connection)
            self._idle_since = self._monotonic()


async def _refuse(reader: asyncio.StreamReader, writer: asyncio.StreamWriter, limit: int) -> None:
    """An error answer instead of a bare hang-up, and a moment to read it."""
    error = LimitExceeded(f"{limit} clients are connected already; try again later", kind="connections", retry_after=5)
    try:
        writer.write(envelope.refusal(None, error))
        writer.write_eof()
        async with asyncio.timeout(_REFUSAL_SECONDS):
            while await reader.read(CHUNK):
                pass
    except (OSError, TimeoutError):
        pass
    finally:
        writer.transport.abort()


def _caller(peer: socket.socket) -> Caller:
    """What the kernel says about the process that connected."""
    raw = peer.getsockopt(socket.SOL_SOCKET, socket.SO_PEERCRED, _CREDENTIALS.size)
    _, uid, gid = _CREDENTIALS.unpack(raw)
    return Caller(uid=uid, gid=gid, name=_user_name(uid), trusted_cwd=uid == os.geteuid())


@lru_cache(maxsize=256)
def _user_name(uid: int) -> str:
    try:
        return pwd.getpwuid(uid).pw_name
    except KeyError:
        return str(uid)
