"""What there is to do for an instance, apart from its downloaders."""

from __future__ import annotations

import dataclasses
import json
import os
import subprocess
import sys
import time
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path

from dlqueue.client import Client, DaemonUnreachable, RpcError
from dlqueue.config import Config, load
from dlqueue.config.files import Sources
from dlqueue.downloads.registry import Kinds, find_kinds
from dlqueue.install import units
from dlqueue.install.site import Owner, Site, has_program, hindrance
from dlqueue.places import Mode, Places, places

USER = "dlqueue"
_HIDDEN = tuple(map(Path, ("/home", "/root", "/run/user", "/tmp", "/var/tmp")))  # noqa: S108 - by ProtectHome, PrivateTmp
_STOP_SECONDS = 20.0
SYSTEM_DOWNLOADS = Path("/srv/downloads")
"""What setup proposes. The daemon's own default is in its state directory, which nobody else may enter."""
SYSTEM_UNITS = Path("/etc/systemd/system")

_SKELETON = """\
# dlqueue: everything works without this file. What can be said here: docs/configuration.md, or
#   dlqueue config show     everything that is in force
#   dlqueue config check    every mistake, before the daemon sees it
#   dlqueue config reload   let the running daemon read it anew
# Files in conf.d/ are laid over this one; `dlqueue setup` writes what it asked for there.

#[daemon]
#downloads = "/srv/downloads"
#allow_destinations = ["/srv"]
#admins = ["wheel"]

#[queues.downloads]
#concurrency = 16
"""


@dataclass(slots=True)
class Recipe:
    """One instance on a site.

    :param environ: of the person (for the user's instance: where things are).
    """

    site: Site
    mode: Mode
    environ: Mapping[str, str]
    kinds: Kinds = field(default_factory=find_kinds)
    owner: Owner | None = None
    """Who the daemon will be; ``None`` = whoever runs this, or not known (yet)."""
    moved: bool = False
    """Has something changed that needs a new start?"""
    failed: bool = False
    """Has a step not worked?"""
    places: Places = field(init=False)

    def __post_init__(self) -> None:
        self.places = places(self.mode, self._plain)
        if self.mode == "system":
            self.owner = self.site.user(USER)

    @property
    def _plain(self) -> dict[str, str]:
        # What names another config file or socket for one command does not name them for good.
        return {name: value for name, value in self.environ.items() if not name.startswith("DLQUEUE_")}

    @property
    def shared(self) -> Owner | None:
        """Of what the daemon may read and not write."""
        return None if self.owner is None else Owner(0, self.owner.gid)

    @property
    def config_mode(self) -> int:
        """Of config files: some hold secrets, or tell where they are."""
        return 0o640 if self.mode == "system" else 0o600

    def read(self) -> Config:
        """The configuration as it is now. :raises ConfigError: it cannot be used."""
        file = self.site.at(self.places.config_file)
        if not file.exists():  # only in a dry run, or if somebody keeps everything in conf.d
            file = file if self.site.at(self.places.conf_d).exists() else Path(os.devnull)
        return load(
            file if file.exists() else None,
            mode=self.mode,
            kinds=self.kinds.usable,
            broken=self.kinds.broken,
            environ=self._plain,
        )

    def named_downloaders(self) -> bool:
        """Does the configuration name any? Else those that need no configuration are there by themselves."""
        sources = Sources()
        sources.read(self.site.at(self.places.config_file), named=False)
        sources.read_folder(self.site.at(self.places.conf_d))
        return bool(sources.data.get("downloaders"))

    # -- steps --------------------------------------------------------------------------------------------------------

    def account(self) -> None:
        """The user that the system's daemon runs as."""
        if self.owner is not None:
            self.site.note(f"user {USER}: is there")
            return
        self.site.write(Path("/etc/sysusers.d/dlqueue.conf"), units.shipped("sysusers.d/dlqueue.conf"))
        if has_program("systemd-sysusers"):
            at = () if self.site.is_real else (f"--root={self.site.root}",)
            self._run("systemd-sysusers", *at, "dlqueue.conf", why=f"the user {USER}")
        elif self.site.is_real:
            places = ("--home-dir", "/var/lib/dlqueue", "--no-create-home", "--shell", "/usr/sbin/nologin")
            self._run("useradd", "--system", "--user-group", *places, USER, why=f"the user {USER}")
        else:
            self.site.note(f"the user {USER} is to be made at the first start of that machine, by systemd-sysusers")
        self.owner = self.site.user(USER)

    def folders(self) -> None:
        """Configuration and state."""
        system = self.mode == "system"
        for folder in (self.places.config_file.parent, self.places.conf_d):
            self.site.folder(folder, 0o750 if system else 0o700, self.shared)
        self.site.folder(self.places.state, 0o700, self.owner)
        self.site.write(self.places.config_file, _SKELETON, self.config_mode, self.shared, keep=True)

    def downloads(self, folder: Path | None, config: Config) -> Config:
        """The folder for downloads, and the settings that lead there. Answers what is in force then."""
        wanted = folder or config.daemon.downloads
        daemon = config.daemon
        if folder is not None and folder != config.daemon.downloads:
            allowed = daemon.allow_destinations
            lines = ["# Written by dlqueue setup.", "[daemon]", f"downloads = {toml(str(folder))}"]
            if not any(folder.is_relative_to(root) for root in allowed):
                # The default gives way; what somebody has written down stays.
                kept = [root for root in allowed if root != self.places.downloads]
                allowed = (*kept, folder)
                lines.append(f"allow_destinations = [{', '.join(toml(str(root)) for root in allowed)}]")
            daemon = dataclasses.replace(daemon, downloads=folder, allow_destinations=allowed)
            self.setting("10-downloads", "\n".join(lines) + "\n")
        if wanted is not None:
            # In a new one the members of the group may tidy up.
            self.site.folder(wanted, None, self.owner, new=0o2775 if self.mode == "system" else 0o755)
            there = self.site.at(wanted)
            if self.owner is not None and self.site.is_real and there.is_dir():
                why = hindrance(there, self.owner, os.W_OK | os.X_OK)
                if why is not None:
                    self.site.note(f"NOTE: {USER} cannot write into {wanted}: {why}; cure: chgrp or setfacl")
        return dataclasses.replace(config, daemon=daemon)

    def setting(self, name: str, text: str) -> None:
        """A drop-in of the configuration."""
        self.moved |= self.site.write(self.places.conf_d / f"{name}.toml", text, self.config_mode, self.shared)

    def secret(self, name: str, value: str) -> Path:
        """Keep a secret in a file that only the daemon can read."""
        file = self.places.config_file.parent / f"{name}.secret"
        self.moved |= self.site.write(file, f"{value}\n", 0o600, self.owner)
        return file

    def reachable(self) -> bool:
        """Can the system's daemon run this program at all? It cannot if that is in somebody's home."""
        if self.mode == "user" or not self.site.is_real:
            return True
        for path in (Path(units.program()[0]), Path(sys.executable), Path(units.__file__)):
            real = path.resolve()
            hidden = next((folder for folder in _HIDDEN if real.is_relative_to(folder)), None)
            if hidden:
                why: str | None = f"the service does not see {hidden}"
            else:  # in a dry run there may be no such user yet
                why = None if self.owner is None else hindrance(real, self.owner, os.R_OK)
            if why is not None:
                self.site.note(
                    f"FAILED: the user {USER} cannot run {real}: {why}; install dlqueue for the machine, such as: "
                    "/usr/bin/python3 -m venv /opt/dlqueue && /opt/dlqueue/bin/pip install dlqueue, and use that one"
                )
                self.failed = True
                return False
        return True

    # -- the service --------------------------------------------------------------------------------------------------

    def service(self, config: Config | None) -> bool:
        """Install the units and start them. Answers whether the daemon runs now.

        :param config: as it is now; ``None`` = it has mistakes, and nothing is started.
        """
        if not (has_program("systemctl") or not self.site.is_real):
            self.site.note(f"there is no systemd here; start it as you start other services: {self._by_hand()}")
            return False
        self._install(config)
        if not self.site.is_real:
            at = f"--root={self.site.root}"
            if self.mode == "user":
                self.site.note("its user enables it: systemctl --user enable --now dlqueue.socket dlqueue.service")
            elif has_program("systemctl"):
                self._run("systemctl", at, "enable", "dlqueue.socket", "dlqueue.service", why="at every start")
            return False
        if not self._manager_answers():
            units = "would be" if self.site.dry_run else "are"
            then = f"the units {units} installed. Then: {self._by_hand()}"
            self.site.note(f"systemd does not run here{self._why()}; {then}")
            return False
        self._systemctl("daemon-reload", why="it reads the units")
        self._systemctl("enable", "dlqueue.socket", "dlqueue.service", why="at every start")
        if config is None:
            return False
        self._relieve()
        # A restart takes up the new socket too, and costs nothing: what runs goes on afterwards.
        verb = "restart" if self.moved else "start"
        runs = self._systemctl(verb, "dlqueue.socket", "dlqueue.service", why="returns when it is ready")
        if not runs:
            scope = "" if self.mode == "system" else "--user "
            self.site.note(f"why: journalctl {scope}-u dlqueue -n 20")
        return runs

    def _relieve(self) -> None:
        """End a daemon that was started otherwise (by hand, or by `get`): it has the database and the socket."""
        scope = () if self.mode == "system" else ("--user",)
        if self.site.dry_run or _quietly("systemctl", *scope, "is-active", "dlqueue.service"):
            return
        try:
            with Client(self.places.socket, timeout=10) as client:
                client.daemon.shutdown()
        except (DaemonUnreachable, RpcError):
            return
        self.site.note("stopped the daemon that ran without the service; its work goes on in the service", changed=True)
        end = time.monotonic() + _STOP_SECONDS
        while time.monotonic() < end:
            try:
                Client(self.places.socket, timeout=10).close()
            except DaemonUnreachable:
                return
            time.sleep(0.1)

    def _install(self, config: Config | None) -> None:
        command = units.program()
        if self.mode == "system":
            folder, source = SYSTEM_UNITS, ""
            files = {Path("/etc/tmpfiles.d/dlqueue.conf"): units.shipped("tmpfiles.d/dlqueue.conf")}
        else:
            folder, source, files = self.places.config_file.parent.parent / "systemd" / "user", "user/", {}
        files[folder / "dlqueue.service"] = units.service(f"{source}dlqueue.service", command)
        files[folder / "dlqueue.socket"] = units.shipped(f"{source}dlqueue.socket")
        drop_ins = folder / "dlqueue.service.d"
        if self.mode == "system" and config is not None:
            staging = [config.daemon.staging] if config.daemon.staging is not None else []
            outside = [one for one in (*config.daemon.allow_destinations, *staging) if not self._is_ours(one)]
            for one in [one for one in outside if not str(one).isprintable()]:
                self.site.note(f"NOTE: the service cannot write into {one}: systemd knows no such names; rename it")
                outside.remove(one)
            if outside or self.site.at(drop_ins / "10-folders.conf").exists():
                files[drop_ins / "10-folders.conf"] = units.writable(outside)
        if self.mode == "user" and (told := [n for n in ("XDG_CONFIG_HOME", "XDG_STATE_HOME") if self.environ.get(n)]):
            lines = [f"Environment={units.quoted(f'{name}={self.environ[name]}')}" for name in told]
            files[drop_ins / "10-places.conf"] = "\n".join(["# Written by dlqueue setup.", "[Service]", *lines]) + "\n"
        for path, text in files.items():
            self.moved |= self.site.write(path, text)
        if self.mode == "system" and self.site.is_real and has_program("systemd-tmpfiles"):
            self._run("systemd-tmpfiles", "--create", "dlqueue.conf", why="the folder of the socket")

    def _is_ours(self, folder: Path) -> bool:
        return folder.is_relative_to(self.places.state)

    def _systemctl(self, *arguments: str, why: str) -> bool:
        return self._run("systemctl", *(() if self.mode == "system" else ("--user",)), *arguments, why=why)

    def _manager_answers(self) -> bool:
        return _quietly("systemctl", *(() if self.mode == "system" else ("--user",)), "show-environment")

    def _why(self) -> str:
        if self.mode == "user" and not self.environ.get("XDG_RUNTIME_DIR"):
            return " for you (XDG_RUNTIME_DIR is not set: log in anew, instead of with su or sudo)"
        return ""

    def _by_hand(self) -> str:
        command = " ".join(units.program())
        if self.mode == "user":
            return f"{command} daemon --user"
        return f"{command} daemon --system, as the user {USER}, after making /run/dlqueue for it"

    def _run(self, *command: str, why: str) -> bool:
        well = self.site.run(*command, why=why)
        self.failed |= not well
        return well


def _quietly(*command: str) -> bool:
    """Ask a program something that its exit code answers."""
    asked = subprocess.run(command, stdin=subprocess.DEVNULL, capture_output=True, timeout=30, check=False)
    return asked.returncode == 0


def toml(text: str) -> str:
    """A TOML string: JSON's form is one, but for DEL."""
    return json.dumps(text, ensure_ascii=False).replace("\x7f", "\\u007f")
