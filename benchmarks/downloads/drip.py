"""A web server on loopback for thousands of slow answers at once: ``/BYTES/SECONDS/anything`` takes that long.

python -m benchmarks.downloads.drip         # prints its port and serves until its standard input closes
"""

from __future__ import annotations

import asyncio
import sys

PIECES = 1.0
"""Seconds between two pieces of an answer."""


async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    try:
        while True:
            request = await reader.readuntil(b"\r\n\r\n")
            _, size, seconds, _ = request.split(b" ", 2)[1].split(b"/", 3)
            left = int(size)
            pieces = max(1, round(float(seconds) / PIECES))
            writer.write(b"HTTP/1.1 200 OK\r\nContent-Length: %d\r\n\r\n" % left)
            for number in range(pieces, 0, -1):
                piece = left // number
                writer.write(bytes(piece))
                left -= piece
                await writer.drain()
                await asyncio.sleep(float(seconds) / pieces)
    except (ConnectionError, asyncio.IncompleteReadError):
        writer.close()


async def main() -> None:
    server = await asyncio.start_server(serve, "127.0.0.1", 0, backlog=4096)
    print(server.sockets[0].getsockname()[1], flush=True)
    await asyncio.get_running_loop().run_in_executor(None, sys.stdin.read)


if __name__ == "__main__":
    asyncio.run(main())
