"""A static web server on loopback that costs next to nothing, so that a benchmark measures the client.

One thread per connection, keep-alive, one range per request, bodies by sendfile(2). Run it in a process of its own:
``python -m benchmarks.downloads.server FOLDER`` prints its port and serves until its standard input closes.
"""

from __future__ import annotations

import os
import re
import socket
import sys
import threading
from pathlib import Path

RANGE = re.compile(rb"\r\nrange: *bytes=(\d+)-(\d*)", re.IGNORECASE)


def main() -> None:
    folder = Path(sys.argv[1])
    files = {f"/{path.name}".encode(): os.open(path, os.O_RDONLY) for path in folder.iterdir() if path.is_file()}
    listener = socket.create_server(("127.0.0.1", 0), backlog=512)
    threading.Thread(target=accept, args=(listener, files), daemon=True).start()
    print(listener.getsockname()[1], flush=True)
    sys.stdin.read()


def accept(listener: socket.socket, files: dict[bytes, int]) -> None:
    while True:
        connection, _ = listener.accept()
        connection.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        threading.Thread(target=serve, args=(connection, files), daemon=True).start()


def serve(connection: socket.socket, files: dict[bytes, int]) -> None:
    pending = b""
    with connection:
        try:
            while True:
                while b"\r\n\r\n" not in pending:
                    received = connection.recv(65536)
                    if not received:
                        return
                    pending += received
                request, _, pending = pending.partition(b"\r\n\r\n")
                answer(connection, request, files)
        except ConnectionError:
            return


def answer(connection: socket.socket, request: bytes, files: dict[bytes, int]) -> None:
    file = files.get(request.split(b" ", 2)[1])
    if file is None:
        connection.sendall(b"HTTP/1.1 404 Not Found\r\nContent-Length: 0\r\n\r\n")
        return
    size = os.fstat(file).st_size
    start, end, status, extra = 0, size, b"200 OK", b""
    if match := RANGE.search(request):
        start = int(match[1])
        end = int(match[2]) + 1 if match[2] else size
        status, extra = b"206 Partial Content", b"Content-Range: bytes %d-%d/%d\r\n" % (start, end - 1, size)
    head = b'HTTP/1.1 %s\r\nContent-Length: %d\r\nAccept-Ranges: bytes\r\nETag: "%d"\r\n%s\r\n'
    connection.send(head % (status, end - start, size, extra), socket.MSG_MORE)
    while start < end:
        start += os.sendfile(connection.fileno(), file, start, end - start)


if __name__ == "__main__":
    main()
