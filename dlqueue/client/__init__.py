"""Talk to a running daemon: `Client` blocks, `AsyncClient` does not.

::

    with Client() as client:
        task = client.downloads.add(url="https://…", directory="/srv/files")
        done = client.tasks.wait(id=task["id"], until="delivered")

Errors of the daemon are raised as :class:`dlqueue.protocol.errors.RpcError`.
"""

from dlqueue.client.asynchronous import AsyncClient
from dlqueue.client.client import Client, Events
from dlqueue.client.connection import DaemonForbidden, DaemonUnreachable
from dlqueue.protocol.errors import RpcError

__all__ = ["AsyncClient", "Client", "DaemonForbidden", "DaemonUnreachable", "Events", "RpcError"]
