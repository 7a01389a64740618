"""Task types of others, by entry point. A broken one is reported and does not stop the rest."""

from __future__ import annotations

import logging
from importlib.metadata import EntryPoint, entry_points

from dlqueue.queue import Queue, Task

log = logging.getLogger(__name__)

GROUP = "dlqueue.tasks"


def register_task_types(queue: Queue) -> None:
    """Add what is installed to the types that the queue can run. Tasks of a type that cannot be loaded are kept."""
    for entry in entry_points(group=GROUP):
        try:
            queue.register(_loaded(entry))
        except ModuleNotFoundError as error:
            log.warning("task type %s: needs the Python module %s", entry.name, error.name)
        except (Exception, SystemExit) as error:  # noqa: BLE001 - it may fail in any way while it is imported
            log.warning("task type %s: cannot be used: %s: %s", entry.name, type(error).__name__, error)


def _loaded(entry: EntryPoint) -> Task:
    found = entry.load()
    made = found() if isinstance(found, type) and issubclass(found, Task) else found
    if not isinstance(made, Task):
        raise TypeError(f"{entry.value} is not a subclass of dlqueue.queue.Task")
    if made.type != entry.name:
        raise ValueError(f"{entry.value} has the type {made.type!r}, not the name of its entry point")
    return made
