"""The downloaders that were found: offered, tried out, and written down."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Protocol
from urllib.parse import urlsplit

from dlqueue.config import Config
from dlqueue.install.find import Found, version_of
from dlqueue.install.recipe import Recipe, toml
from dlqueue.sdk import AuthFailed
from dlqueue.sdk.errors import DownloaderError

_TRIES = 3  # qBittorrent locks us out after five
_LOCAL = ("127.0.0.1", "localhost", "::1")


class Person(Protocol):
    """Who is asked."""

    @property
    def answers(self) -> bool:
        """Is there one? Else each question has its default answer, and secrets are not asked for."""

    def agrees(self, question: str) -> bool: ...
    def says(self, question: str, default: str) -> str: ...
    def tells_secret(self, question: str) -> str: ...


def offer(recipe: Recipe, config: Config, found: Sequence[Found], ports: Mapping[str, int], person: Person) -> None:
    """Settle with each of them what becomes of it."""
    note = recipe.site.note
    chosen_before = recipe.named_downloaders()
    taken: list[str] = []
    for one in found:
        there = _configured(config, one, chosen_before)
        if there is not None:
            note(f"{one.kind} on port {one.port}: configured already, as {there}")
        elif (name := _use(recipe, config, one, person, chosen_before)) is not None:
            taken.append(name)
    if not found:
        asked = ", ".join(f"{kind} {port}" for kind, port in ports.items())
        note(f"no downloader answers on this machine (asked: {asked})")
    if chosen_before:
        return
    # With the first that is configured, those that were there by themselves would be gone.
    stay = [name for name in config.downloaders if name not in taken]
    if taken:
        lines = ["# Written by dlqueue setup: what was there as long as no downloader was configured."]
        for name in stay:
            lines += [f"[downloaders.{name}]", f"kind = {toml(config.downloaders[name].kind)}"]
        recipe.setting("90-builtin", "\n".join(lines) + "\n")
    for name in stay:
        try:
            version = version_of(recipe.kinds.usable[config.downloaders[name].kind], name, {})
        except (DownloaderError, OSError) as error:
            note(f"{name}: does not work: {error}")
        else:
            note(f"{name}: {version}, looked after by dlqueue itself")


def _configured(config: Config, found: Found, chosen: bool) -> str | None:
    """The name of the downloader that leads there already."""
    for section in config.downloaders.values() if chosen else ():
        parts = urlsplit(getattr(section.options, "url", None) or "")
        if section.kind == found.kind and parts.hostname in _LOCAL and parts.port == found.port:
            return section.name
    return None


def _use(recipe: Recipe, config: Config, found: Found, person: Person, chosen_before: bool) -> str | None:
    """Answers the name that it has now; ``None`` = it is not used."""
    note = recipe.site.note
    if found.kind not in recipe.kinds.usable:
        note(f"{found.kind} on port {found.port}: {recipe.kinds.broken.get(found.kind, 'there is no plug-in for it')}")
        return None
    if not person.agrees(f"{found.kind} answers on port {found.port}. Use it?"):
        note(f"{found.kind} on port {found.port}: not used")
        return None
    if found.needs != "nothing" and not person.answers:
        asks = "without --dry-run" if recipe.site.dry_run else "at a terminal, without --yes, to tell it"
        note(f"{found.kind} on port {found.port}: wants a {_wanted(found)}: left out; run setup {asks}")
        return None
    user = "admin"
    for _ in range(_TRIES if found.needs != "nothing" else 1):
        options = _credentials(found, person, user)
        if not all(options.values()):
            break
        user = options.get("username", user)
        try:
            version = version_of(recipe.kinds.usable[found.kind], found.kind, {"url": found.url, **options})
        except AuthFailed as error:
            note(f"{found.kind}: {error}")
        except (DownloaderError, ValueError, OSError) as error:
            note(f"{found.kind} on port {found.port}: does not work, so it is left out: {error}")
            return None
        else:
            taken = config.downloaders if chosen_before else {}
            name = found.kind if found.kind not in taken else f"{found.kind}-{found.port}"
            note(f"{name}: {version} answers")
            _write(recipe, name, found, options)
            return name
    note(f"{found.kind} on port {found.port}: left out")
    return None


def _wanted(found: Found) -> str:
    return "secret" if found.needs == "secret" else "user name and a password"


def _credentials(found: Found, person: Person, user: str) -> dict[str, str]:
    """An empty one: it is to be left out."""
    if found.needs == "secret":
        return {"secret": person.tells_secret("its --rpc-secret")}
    if found.needs == "login":
        return {"username": person.says("user name", user), "password": person.tells_secret("password")}
    return {}


def _write(recipe: Recipe, name: str, found: Found, options: Mapping[str, str]) -> None:
    lines = ["# Written by dlqueue setup.", f"[downloaders.{name}]"]
    lines += [f"kind = {toml(found.kind)}", f"url = {toml(found.url)}"]
    for key, value in options.items():
        if key == "username":
            lines.append(f"username = {toml(value)}")
        else:
            file: Path = recipe.secret(name, value)
            lines.append(f"{key} = {{ file = {toml(str(file))} }}")
    recipe.setting(f"20-{name}", "\n".join(lines) + "\n")
