"""THE table of REST routes: each is one method of `dlqueue.protocol.methods` by another name."""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import Literal

Verb = Literal["GET", "POST", "PUT", "DELETE"]

API = "/api/v1"
"""Where the paths begin."""
_IN_PATH = re.compile(r"\{(\w+)(?::path)?\}")


@dataclass(frozen=True)
class Route:
    """``path`` names params of the method in braces; ``:path`` in one means that it may hold slashes.

    :param takes: the other params that this route knows; ``None`` = all of the method.
    :param makes: the path of what a call makes, if it makes something: it is answered 201 then, else 200.
    """

    verb: Verb
    path: str
    method: str
    takes: tuple[str, ...] | None = None
    makes: str | None = None

    @property
    def in_path(self) -> tuple[str, ...]:
        """The params that the path holds."""
        return tuple(_IN_PATH.findall(self.path))

    @property
    def template(self) -> str:
        """The whole path, with plain names in braces."""
        return API + _IN_PATH.sub(r"{\1}", self.path)

    @property
    def has_body(self) -> bool:
        return self.verb in ("POST", "PUT")


ROUTES: tuple[Route, ...] = (
    Route("GET", "/tasks", "tasks.list"),
    Route("POST", "/tasks", "tasks.submit", makes="/tasks/{id}"),
    Route("GET", "/tasks/stats", "tasks.stats"),
    Route("GET", "/tasks/by-correlation/{correlation_id:path}", "tasks.get", takes=()),
    Route("GET", "/tasks/{id}", "tasks.get", takes=()),
    Route("DELETE", "/tasks/{id}", "tasks.remove", takes=("delete_data",)),
    Route("GET", "/tasks/{id}/progress", "tasks.progress"),
    Route("GET", "/tasks/{id}/result", "tasks.result"),
    Route("GET", "/tasks/{id}/history", "tasks.history"),
    Route("GET", "/tasks/{id}/why", "tasks.why"),
    Route("POST", "/tasks/{id}/cancel", "tasks.cancel", takes=("delete_data",)),
    Route("POST", "/tasks/{id}/pause", "tasks.pause", takes=()),
    Route("POST", "/tasks/{id}/resume", "tasks.resume", takes=()),
    Route("POST", "/tasks/{id}/retry", "tasks.retry", takes=()),
    Route("POST", "/downloads", "downloads.add", makes="/tasks/{id}"),
    Route("GET", "/downloads/{id}/files", "downloads.files"),
    Route("PUT", "/downloads/{id}/files", "downloads.select"),
    Route("GET", "/queues", "queues.list"),
    Route("POST", "/queues", "queues.create", makes="/queues/{name}"),
    Route("GET", "/queues/{name}", "queues.get"),
    Route("PUT", "/queues/{name}", "queues.update"),
    Route("GET", "/queues/{name}/stats", "queues.stats"),
    Route("POST", "/queues/{name}/pause", "queues.pause"),
    Route("POST", "/queues/{name}/resume", "queues.resume"),
    Route("GET", "/schedules", "schedules.list"),
    Route("POST", "/schedules", "schedules.create", makes="/schedules/{name}"),
    Route("GET", "/schedules/{name}", "schedules.get"),
    Route("PUT", "/schedules/{name}", "schedules.update"),
    Route("DELETE", "/schedules/{name}", "schedules.delete"),
    Route("POST", "/schedules/{name}/pause", "schedules.pause"),
    Route("POST", "/schedules/{name}/resume", "schedules.resume"),
    Route("POST", "/schedules/{name}/run", "schedules.run"),
    Route("GET", "/downloaders", "downloaders.list"),
    Route("POST", "/downloaders/{name}/test", "downloaders.test"),
)
"""In the order in which they are tried."""
