"""From files to `Config`: which files, which sections, and what must agree between them."""

from __future__ import annotations

import dataclasses
import os
import re
import stat
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

from pydantic.errors import PydanticSchemaGenerationError

from dlqueue.address import parse_address
from dlqueue.config.doubts import find_doubts
from dlqueue.config.files import Sources
from dlqueue.config.matching import read_match
from dlqueue.config.notify import read_hooks, read_notify
from dlqueue.config.problems import ConfigError, Key, Problem, dotted, nearest, quoted
from dlqueue.config.sections import (
    DOWNLOADS_QUEUE,
    Config,
    DaemonSection,
    DownloaderSection,
    HttpSection,
    NotifySection,
    OwnerSection,
    PathSection,
    PolicySection,
    QueueSection,
    RetentionSection,
    RouteSection,
    SeedingSection,
    StoreSection,
)
from dlqueue.config.tables import NOT_YET, Checker
from dlqueue.places import Mode, Places, home, places
from dlqueue.sdk import Downloader

SECTIONS = (
    "daemon", "store", "queues", "downloaders", "routes", "seeding", "retention", "policy", "owners", "http", "notify",
    "hooks",
)  # fmt: skip
SECTIONS_LATER = ("node",)
_HOST = re.compile(r"(\[[0-9A-Fa-f:.]+\]|[A-Za-z0-9._-]+)(:[0-9]{1,5})?", re.ASCII)
_KEYED: tuple[tuple[str, type[Any]], ...] = (
    ("daemon", DaemonSection),
    ("store", StoreSection),
    ("seeding", SeedingSection),
    ("retention", RetentionSection),
    ("policy", PolicySection),
    ("http", HttpSection),
    ("notify", NotifySection),
    ("queues.downloads", QueueSection),
    ("downloaders.NAME", DownloaderSection),
    ("owners.NAME", OwnerSection),
)


def load(
    path: Path | None,
    *,
    mode: Mode,
    kinds: Mapping[str, type[Downloader]],
    broken: Mapping[str, str] | None = None,
    environ: Mapping[str, str] | None = None,
) -> Config:
    """Read the configuration of an instance.

    :param path: the config file, where the caller names one; else ``DLQUEUE_CONFIG``, else the instance's default
        place. A file that was named must exist. ``conf.d/*.toml`` beside it is laid over it in the order of names.
    :param kinds: the downloader kinds that are installed.
    :param broken: those that are installed and cannot be used, and why.

    Raises `ConfigError` with every problem at once.
    """
    env = os.environ if environ is None else environ
    here = config_places(path, mode, env)
    named = path is not None or bool(env.get("DLQUEUE_CONFIG"))
    sources = Sources()
    sources.read(here.config_file, named=named)
    sources.read_folder(here.conf_d)
    checker = Checker(sources, env)
    builder = _Builder(checker, here, kinds, home(env) if mode == "user" else None, broken or {})
    config = builder.build()
    readable = list(_readable_secrets(checker, system=mode == "system"))
    if mode == "system":
        sources.problems += readable
    if sources.problems:
        order = {file: position for position, file in enumerate(sources.files)}
        raise ConfigError(
            sorted(sources.problems, key=lambda p: (order.get(p.file, -1) if p.file else -1, p.line or 0))
        )
    doubts = find_doubts(config, sources, kinds)
    return dataclasses.replace(config, warnings=(*builder.warnings, *readable, *doubts))


def config_places(path: Path | None, mode: Mode, environ: Mapping[str, str] | None = None) -> Places:
    """The places of an instance, where the caller may name the config file."""
    here = places(mode, os.environ if environ is None else environ)
    if path is None:
        return here
    path = path.absolute()
    return dataclasses.replace(here, config_file=path, conf_d=path.parent / here.conf_d.name)


@dataclasses.dataclass
class _Builder:
    checker: Checker
    places: Places
    kinds: Mapping[str, type[Downloader]]
    home: Path | None
    """Allowed as a destination by default; ``None`` for the system's instance."""
    broken: Mapping[str, str]
    """Kinds that cannot be used, and why."""
    warnings: list[Problem] = dataclasses.field(default_factory=list)

    def build(self) -> Config:
        for name in self.checker.sources.data:
            if name in SECTIONS_LATER:
                self._problem(name, message=NOT_YET)
            elif name not in SECTIONS:
                self._problem(name, message=self._stranger(name))
        downloaders = self._downloaders()
        daemon = self._daemon()
        return Config(
            mode=self.places.mode,
            places=self.places,
            daemon=daemon,
            store=self._store(),
            queues=self._queues(),
            downloaders=downloaders,
            routes=self._routes(self._named("downloaders", quiet=True) or list(downloaders)),
            seeding=self._section(SeedingSection, "seeding"),
            retention=self._section(RetentionSection, "retention"),
            policy=self._section(PolicySection, "policy"),
            http=self._http(),
            owners=self._owners(daemon.allow_destinations),
            notify=read_notify(self.checker),
            hooks=read_hooks(self.checker),
            files=tuple(self.checker.sources.files),
        )

    def _stranger(self, name: str) -> str:
        """A section that does not exist, or a key in front of all sections."""
        if isinstance(self.checker.sources.data[name], (dict, list)):
            return f"unknown section; {nearest(name, SECTIONS)}"
        for section, cls in _KEYED:
            if name in (one.name for one in dataclasses.fields(cls)):
                return f"a key outside of any section; it belongs below a line [{section}]"
        return "a key outside of any section"

    def _named(self, section: str, *, quiet: bool = False) -> list[str]:
        """The tables of a section whose tables have names.

        :param quiet: what is wrong with it has been said before.
        """
        if quiet:
            found = self.checker.sources.data.get(section, {})
            return [name for name, value in found.items() if isinstance(value, dict)] if isinstance(found, dict) else []
        names = []
        for name, value in self.checker.table((section,), f"write [{section}.NAME]").items():
            if isinstance(value, dict):
                names.append(name)
            else:
                self._problem(section, name, message=f"must be a table; write [{section}.NAME] and the keys below it")
        return names

    def _section(self, cls: type[Any], *at: str) -> Any:
        table = self.checker.table(at)
        self.checker.keys(table, at, [one.name for one in dataclasses.fields(cls)])
        return cls(**self.checker.values(cls, table, at))

    def _daemon(self) -> DaemonSection:
        before = len(self.checker.sources.problems)
        daemon: DaemonSection = self._section(DaemonSection, "daemon")
        if len(self.checker.sources.problems) > before:
            return daemon  # what one key means for another is worth saying only when both are right
        downloads = daemon.downloads or self.places.downloads
        allowed = daemon.allow_destinations or tuple(p for p in (self.home, downloads) if p)
        if downloads and not any(downloads.is_relative_to(root) for root in allowed):
            key = "downloads" if daemon.downloads else "allow_destinations"
            default = "" if daemon.downloads else " (the default destination)"
            self._problem(
                "daemon", key, message=f"downloads = {quoted(str(downloads))}{default} is in none of allow_destinations"
            )
        return dataclasses.replace(daemon, downloads=downloads, allow_destinations=allowed)

    def _store(self) -> StoreSection:
        store: StoreSection = self._section(StoreSection, "store")
        scheme, _, rest = store.url.partition("://")
        database = scheme.partition("+")[0]
        if not store.url:
            return dataclasses.replace(store, url=self.places.database_url)
        if database in ("postgresql", "mysql", "mariadb"):
            self._problem("store", "url", message=f"{database} is {NOT_YET}; use sqlite:////absolute/path")
        elif scheme != "sqlite":
            self._problem("store", "url", message="unknown database; write sqlite:////absolute/path")
        elif not rest.startswith("//") or len(rest.strip("/")) == 0 or "?" in rest:
            self._problem("store", "url", message="must be sqlite:////absolute/path, with four slashes and no options")
        return store

    def _http(self) -> HttpSection:
        http: HttpSection = self._section(HttpSection, "http")
        if http.listen is not None:
            try:
                parse_address(http.listen)
            except ValueError as error:
                self._problem("http", "listen", message=str(error))
        for index, host in enumerate(http.hosts):
            if not _HOST.fullmatch(host):
                self._problem("http", "hosts", index, message='must be NAME or NAME:PORT, such as "nas.example.org"')
        for index, origin in enumerate(http.origins):
            scheme, _, host = origin.partition("://")
            if scheme not in ("http", "https") or not _HOST.fullmatch(host.removesuffix("/")):
                self._problem("http", "origins", index, message='must be such as "https://nas.example.org"')
        return http

    def _queues(self) -> dict[str, QueueSection]:
        queues = {"downloads": DOWNLOADS_QUEUE}
        for name in self._named("queues"):
            self._check_name("queues", name)
            queue = self._section(QueueSection, "queues", name)
            default = queues.get(name, QueueSection())
            queues[name] = dataclasses.replace(
                default, **{k: v for k, v in dataclasses.asdict(queue).items() if v is not None}
            )
        return queues

    def _downloaders(self) -> dict[str, DownloaderSection]:
        names = self._named("downloaders")
        if names:
            return {name: section for name in names if (section := self._downloader(name)) is not None}
        sections = {}
        for kind in sorted(self.kinds, key=lambda kind: (kind != "http", kind)):
            options = self._default_options(kind)
            if options is not None:
                sections[kind] = DownloaderSection(kind, kind, options=options)
        return sections

    def _default_options(self, kind: str) -> Any | None:
        """With which options this kind is there unasked; None = not at all."""
        try:
            options = self.kinds[kind].default_config()
            if options is None or isinstance(options, self.kinds[kind].config_type):
                return options
            reason = f"its plug-in answers a {type(options).__name__} as its default configuration"
        except Exception as error:  # noqa: BLE001 - a plug-in may fail in any way, and must not stop the others
            reason = f"its plug-in failed to say its default configuration: {type(error).__name__}: {error}"
        self.warnings.append(Problem(None, None, dotted(("downloaders", kind)), f"{reason}; it is left out"))
        return None

    def _downloader(self, name: str) -> DownloaderSection | None:
        at = ("downloaders", name)
        self._check_name(*at)
        table = self.checker.table(at)
        common = [one.name for one in dataclasses.fields(DownloaderSection) if one.name not in ("name", "options")]
        absent = () if "kind" in table else ("kind",)
        values = self.checker.values(DownloaderSection, table, at, leave=("name", "options", "paths", *absent))
        kind = self.kinds.get(values.get("kind", ""))
        if kind is None:
            if "kind" not in table and not self.checker.sources.broken:
                self._problem(*at, "kind", message=f"is required; one of {', '.join(sorted(self.kinds))}")
            known = list(table)
            if "kind" in values and values["kind"] not in self.broken:
                # What no kind that is here understands is a mistake, whichever is meant.
                types = [one.config_type for one in self.kinds.values() if dataclasses.is_dataclass(one.config_type)]
                known = [*common, *(field.name for one in types for field in dataclasses.fields(one) if field.init)]
            self.checker.keys(table, at, known)
            if "kind" in values:
                named = values["kind"]
                unknown = f"unknown kind {quoted(named)}; {nearest(named, list(self.kinds))}"
                why = self.broken.get(named)
                self._problem(*at, "kind", message=f"{quoted(named)} cannot be used: it {why}" if why else unknown)
            return None
        before = len(self.checker.sources.problems)
        try:
            own = [one.name for one in dataclasses.fields(kind.config_type) if one.init]
            options = self.checker.values(kind.config_type, table, at)
        except (TypeError, NameError, PydanticSchemaGenerationError) as error:
            self._problem(*at, "kind", message=f"the plug-in declares options that cannot be checked: {error}")
            return None
        self.checker.keys(table, at, [*common, *own])
        paths = self._paths(table.get("paths", []), at)
        self._check_directory(values.get("directory"), paths, at)
        if self.checker.sources.broken or len(self.checker.sources.problems) > before:
            return None
        try:
            return DownloaderSection(name=name, **values, paths=paths, options=kind.config_type(**options))
        except (TypeError, ValueError) as error:
            # The dataclass of a plug-in may check in __post_init__ what a type cannot say; such a message begins
            # with the name of the key, which leads to its line.
            first, _, rest = str(error).partition(" ")
            if first in table:
                self._problem(*at, first, message=rest)
            else:
                self._problem(*at, message=str(error))
            return None

    def _paths(self, tables: Any, at: Key) -> tuple[PathSection, ...]:
        if not isinstance(tables, list) or not all(isinstance(table, dict) for table in tables):
            form = 'must be a list of tables, such as [{ remote = "/downloads", local = "/mnt/box" }]'
            self._problem(*at, "paths", message=form)
            return ()
        made: list[PathSection] = []
        for index, table in enumerate(tables):
            here: Key = (*at, "paths", index)
            self.checker.keys(table, here, [one.name for one in dataclasses.fields(PathSection)])
            values = self.checker.values(PathSection, table, here)
            if len(values) < 2:
                continue
            pair = PathSection(remote=self._remote(values["remote"], (*here, "remote")), local=values["local"])
            for name in ("remote", "local"):
                if getattr(pair, name) in [getattr(other, name) for other in made]:
                    self._problem(*here, name, message=f"is mapped twice: {quoted(str(getattr(pair, name)))}")
            made.append(pair)
        return tuple(made)

    def _remote(self, path: str, at: Key) -> str:
        """Without what does not matter in it."""
        parts = [part for part in path.split("/") if part not in ("", ".")]
        if ".." in parts:
            self._problem(*at, message='a path must not hold ".."')
        return "/" + "/".join(parts)

    def _check_directory(self, directory: str | None, paths: tuple[PathSection, ...], at: Key) -> None:
        if directory is None:
            return
        plain = self._remote(directory, (*at, "directory"))
        inside = [pair for pair in paths if Path(plain).is_relative_to(pair.remote)]
        if paths and not inside:
            known = ", ".join(pair.remote for pair in paths)
            self._problem(*at, "directory", message=f"is in none of the remote folders of paths ({known})")

    def _routes(self, downloaders: list[str]) -> tuple[RouteSection, ...]:
        """
        :param downloaders: all that are configured, even wrongly.
        """
        tables = self.checker.sources.data.get("routes", [])
        if not isinstance(tables, list) or not all(isinstance(table, dict) for table in tables):
            self._problem("routes", message="must be a list of tables; write [[routes]] and the keys below it")
            return ()
        routes = []
        for index, table in enumerate(tables):
            at: Key = ("routes", index)
            before = len(self.checker.sources.problems)
            self.checker.keys(table, at, [one.name for one in dataclasses.fields(RouteSection)])
            values = self.checker.values(RouteSection, table, at, leave=("match",))
            match = read_match(self.checker, table, at)
            for name in dict.fromkeys(values.get("use", ())):
                if name not in downloaders:
                    message = f"unknown downloader {quoted(name)}; {nearest(name, downloaders)}"
                    self._problem(*at, "use", message=message)
            if len(self.checker.sources.problems) == before:
                routes.append(RouteSection(**values, match=match))
        return tuple(routes)

    def _owners(self, allowed: tuple[Path, ...]) -> dict[str, OwnerSection]:
        """
        :param allowed: of the daemon: nothing is ever written elsewhere.
        """
        owners = {}
        for name in self._named("owners"):
            owner: OwnerSection = self._section(OwnerSection, "owners", name)
            for folder in owner.allow_destinations:
                if allowed and not any(folder.is_relative_to(root) for root in allowed):
                    listed = ", ".join(map(str, allowed))
                    message = f"{quoted(str(folder))} is in none of daemon.allow_destinations ({listed})"
                    self._problem("owners", name, "allow_destinations", message=message)
            owners[name] = owner
        return owners

    def _check_name(self, section: str, name: str) -> None:
        self.checker.name((section, name))

    def _problem(self, *at: str | int, message: str) -> None:
        self.checker.sources.problem(at, message)


def _readable_secrets(checker: Checker, *, system: bool) -> Iterator[Problem]:
    """A secret in plain text must not be readable by everybody on the machine: one problem for each such file."""
    seen = set()
    for key in checker.plain_secrets:
        file, line = checker.sources.origin(key)
        if file is None or file in seen:
            continue
        seen.add(file)
        mode = stat.S_IMODE(file.stat().st_mode)
        if mode & 0o027:
            cure = f"chown root:dlqueue {file} && chmod 0640 {file}" if system else f"chmod 0600 {file}"
            yield Problem(
                file,
                line,
                dotted(key),
                f"a secret in plain text, in a file with mode {mode:04o}; cure: {cure} "
                "(or keep the secret in a file of its own)",
            )
