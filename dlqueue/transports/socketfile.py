"""A socket file at a path, for those only who may have it."""

from __future__ import annotations

import grp
import os
import socket
import stat
from pathlib import Path

_LONGEST_PATH = 107


class SocketError(Exception):
    """The socket cannot be opened; the message says why and what to do."""


def make_way(path: Path, group: str | None) -> int | None:
    """Make its folder; answers the number of the group.

    Raises :class:`SocketError`: there cannot be a socket at ``path``, or no such group; :class:`OSError`.
    """
    if len(os.fsencode(path)) > _LONGEST_PATH:
        raise SocketError(f"the socket path {path} is longer than {_LONGEST_PATH} bytes; choose a shorter one")
    try:
        number = None if group is None else grp.getgrnam(group).gr_gid
    except KeyError:
        raise SocketError(f'there is no group "{group}" for the socket; create it with groupadd') from None
    folder = path.parent
    ours = not folder.exists()
    folder.mkdir(mode=0o700 if group is None else 0o750, parents=True, exist_ok=True)
    if ours and number is not None:
        _hand_over(folder, number)  # the group has to get to the socket, whatever the umask
        folder.chmod(0o750)
    return number


def socket_file(path: Path, mode: int, group: int | None) -> socket.socket:
    """Bind to ``path``, in a folder that is there; a socket file that nobody answers on is replaced.

    Raises :class:`SocketError`: somebody answers there, or something else is in the way; :class:`OSError`.
    """
    _remove_stale(path)
    listening = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM | socket.SOCK_CLOEXEC)
    try:
        # The file is made with the mode of the socket: at no moment may others connect.
        os.fchmod(listening.fileno(), 0o600)
        listening.bind(str(path))
        if group is not None:
            _hand_over(path, group)
        path.chmod(mode)
        listening.setblocking(False)
    except BaseException:
        listening.close()
        raise
    return listening


def _hand_over(path: Path, group: int) -> None:
    if path.stat().st_gid != group:  # chown may be forbidden altogether
        os.chown(path, -1, group)


def _remove_stale(path: Path) -> None:
    try:
        found = path.lstat()
    except FileNotFoundError:
        return
    if not stat.S_ISSOCK(found.st_mode):
        raise SocketError(f"{path} is in the way: it is not a socket; remove it or choose another path")
    with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) as probe:
        probe.settimeout(1)
        try:
            probe.connect(str(path))
        except (ConnectionRefusedError, FileNotFoundError):
            path.unlink(missing_ok=True)
            return
        except OSError as error:
            raise SocketError(f"cannot tell whether {path} is in use: {error.strerror or error}") from error
    raise SocketError(f"another program is listening on the socket {path}")
