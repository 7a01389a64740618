"""Kinds by entry point, and the configured downloaders. A broken plug-in is reported and does not stop the others."""

from __future__ import annotations

import inspect
from dataclasses import dataclass, field
from importlib.metadata import entry_points

from dlqueue.sdk import Downloader

GROUP = "dlqueue.downloaders"


@dataclass(slots=True)
class Kinds:
    """What is installed: usable kinds, and for the others why not."""

    usable: dict[str, type[Downloader]] = field(default_factory=dict)
    broken: dict[str, str] = field(default_factory=dict)


def find_kinds() -> Kinds:
    """Look through what is installed. Takes some 10 ms. What is broken is told to those who want to use it."""
    kinds = Kinds()
    for entry in entry_points(group=GROUP):
        try:
            loaded = entry.load()
        except ModuleNotFoundError as error:
            kinds.broken[entry.name] = f"needs the Python module {error.name}: install dlqueue[{entry.name}]"
            continue
        except (Exception, SystemExit) as error:  # noqa: BLE001 - a plug-in may fail in any way while it is imported
            kinds.broken[entry.name] = f"cannot be loaded: {type(error).__name__}: {error}"
            continue
        if not (isinstance(loaded, type) and issubclass(loaded, Downloader)):
            kinds.broken[entry.name] = "is not a subclass of dlqueue.sdk.Downloader"
            continue
        if inspect.isabstract(loaded):
            kinds.broken[entry.name] = f"lacks {', '.join(sorted(loaded.__abstractmethods__))}"
            continue
        kinds.usable[entry.name] = loaded
    return kinds
