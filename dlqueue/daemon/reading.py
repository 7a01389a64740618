"""From the options of a command to the configuration: which instance, which kinds, which files."""

from __future__ import annotations

import dataclasses
import os
from collections.abc import Callable, Mapping
from pathlib import Path

from dlqueue.config import Config, config_places, load
from dlqueue.downloads.registry import Kinds, find_kinds
from dlqueue.places import Mode, Places, places
from dlqueue.sdk import Downloader


@dataclasses.dataclass(frozen=True, slots=True)
class Reader:
    """Reads the files of one instance, each time anew. Plug-ins are looked for once.

    :param file: the config file, if one was named.
    :param socket: the socket, if one was named.
    """

    file: str | None
    socket: str | None
    mode: Mode
    kinds: Kinds = dataclasses.field(default_factory=find_kinds)
    learn: Callable[[frozenset[str]], object] = frozenset
    """Is told the secrets, before anybody else has them."""

    @property
    def places(self) -> Places:
        """Which files are read, and the socket, as far as they do not depend on what is in the files."""
        here = config_places(Path(self.file) if self.file is not None else None, self.mode)
        return here if self.socket is None else dataclasses.replace(here, socket=Path(self.socket).absolute())

    @property
    def usable(self) -> Mapping[str, type[Downloader]]:
        return self.kinds.usable

    def __call__(self) -> Config:
        """Raises `ConfigError` with every problem at once."""
        named = Path(self.file) if self.file is not None else None
        config = load(named, mode=self.mode, kinds=self.usable, broken=self.kinds.broken)
        self.learn(config.secret_values())
        return dataclasses.replace(config, places=self.places)


def default_mode() -> Mode:
    """Which instance is meant where nobody says: the system's if systemd starts it as root."""
    return "system" if os.geteuid() == 0 and "INVOCATION_ID" in os.environ else "user"


def likely_mode(file: str | None) -> Mode:
    """Which instance's files a person means who does not say: those that are there, their own first."""
    file = file or os.environ.get("DLQUEUE_CONFIG")
    system = places("system", {})
    if file is not None:
        return "system" if Path(file).absolute() == system.config_file else "user"
    own = places("user")
    if own.config_file.exists() or own.conf_d.exists():
        return "user"
    # Not `Path.exists`, which raises where the folder is closed to who is not in the group.
    return "system" if os.path.exists(system.config_file) else default_mode()  # noqa: PTH110
