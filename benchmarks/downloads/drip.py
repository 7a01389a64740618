"""A web server on loopback for thousands of slow answers at once: ``/BYTES/SECONDS/anything`` takes that long,
and a range of it its share of that.

python -m benchmarks.downloads.drip         # prints its port and serves until its standard input closes
"""

from __future__ import annotations

import asyncio
import re
import sys

PIECES = 1.0
"""Seconds between two pieces of an answer."""


async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    try:
        while True:
            request = await reader.readuntil(b"\r\n\r\n")
            _, size, seconds, _ = request.split(b" ", 2)[1].split(b"/", 3)
            left, takes = int(size), float(seconds)
            if asked := re.search(rb"\r\nrange: bytes=(\d+)-(\d+)\r\n", request.lower()):
                first, last = int(asked[1]), int(asked[2])
                writer.write(b"HTTP/1.1 206 Partial Content\r\nContent-Range: bytes %d-%d/%d\r\n" % (first, last, left))
                left, takes = last - first + 1, takes * (last - first + 1) / left
            else:
                writer.write(b"HTTP/1.1 200 OK\r\n")
            pieces = max(1, round(takes / PIECES))
            writer.write(b"Content-Length: %d\r\n\r\n" % left)
            for number in range(pieces, 0, -1):
                piece = left // number
                writer.write(bytes(piece))
                left -= piece
                await writer.drain()
                await asyncio.sleep(takes / pieces)
    except (ConnectionError, asyncio.IncompleteReadError):
        writer.close()


async def main() -> None:
    server = await asyncio.start_server(serve, "127.0.0.1", 0, backlog=4096)
    print(server.sockets[0].getsockname()[1], flush=True)
    await asyncio.get_running_loop().run_in_executor(None, sys.stdin.read)


if __name__ == "__main__":
    asyncio.run(main())
