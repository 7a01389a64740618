"""systemd's journal, by its native protocol: fields beside the message, to pick out the records of one task.

Source: https://systemd.io/JOURNAL_NATIVE_PROTOCOL/ (systemd 252 and later read it so).
"""

from __future__ import annotations

import os
import socket
import struct
from collections.abc import Mapping
from pathlib import Path

SOCKET = Path("/run/systemd/journal/socket")
_PATIENCE = 1.0  # seconds: a journal that is full is waited for, but not for ever


def is_stderr(stream: str) -> bool:
    """Is our stderr the journal's, as ``JOURNAL_STREAM`` says? systemd sets the variable for all children; it counts
    only if our stderr is still that very stream."""
    try:
        device, inode = map(int, stream.split(":"))
        status = os.fstat(2)
    except (ValueError, OSError):
        return False
    return (status.st_dev, status.st_ino) == (device, inode)


def encode(fields: Mapping[str, object]) -> bytes:
    """One record. A value with a line feed has its length in front, so that none can forge another field."""
    parts = []
    for name, value in fields.items():
        raw = str(value).encode("utf-8", "backslashreplace")
        if b"\n" in raw:
            parts.append(b"%s\n%s%s\n" % (name.encode(), struct.pack("<Q", len(raw)), raw))
        else:
            parts.append(b"%s=%s\n" % (name.encode(), raw))
    return b"".join(parts)


def send(fields: Mapping[str, object], path: Path = SOCKET) -> None:
    """Write one record. :raises OSError: there is no journal, it does not take it, or the record is too long."""
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM | socket.SOCK_CLOEXEC) as sender:
        sender.settimeout(_PATIENCE)
        sender.connect(str(path))
        sender.sendall(encode(fields))
