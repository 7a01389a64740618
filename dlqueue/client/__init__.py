"""Talk to a running daemon: `Client` blocks, `AsyncClient` does not.

::

    with Client() as client:
        task = client.downloads.add(url="https://…", directory="/srv/files")
        done = client.tasks.wait(id=task["id"], until="delivered")

Errors of the daemon are raised as :class:`dlqueue.protocol.errors.RpcError`.
"""

from typing import TYPE_CHECKING, Any

from dlqueue.client.client import Client, Events
from dlqueue.client.connection import DaemonForbidden, DaemonUnreachable
from dlqueue.protocol.errors import RpcError

__all__ = ["AsyncClient", "Client", "DaemonForbidden", "DaemonUnreachable", "Events", "RpcError"]

if TYPE_CHECKING:
    from dlqueue.client.asynchronous import AsyncClient


def __getattr__(name: str) -> Any:
    # Loaded when asked for: the command line starts often and never needs it.
    if name == "AsyncClient":
        from dlqueue.client.asynchronous import AsyncClient

        return AsyncClient
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
