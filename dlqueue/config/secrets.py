"""Secrets: written as plain text, or as a reference to a file, an environment variable or a systemd credential."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from dlqueue.config.problems import nearest, quoted
from dlqueue.places import home
from dlqueue.runtime.files import read_whole

SOURCES = ("credential", "env", "file")
_LARGEST = 64 * 1024


def resolve_secret(value: Any, environ: Mapping[str, str]) -> str:
    """The secret itself. One newline at the end of a file is not part of it.

    Raises `ValueError` with a message that names the source, never the secret.
    """
    if isinstance(value, str):
        return _not_empty(value, "the secret")
    if not isinstance(value, dict):
        raise ValueError('must be text, or one of { file = "…" }, { env = "…" }, { credential = "…" }')  # noqa: TRY004
    if len(value) != 1:
        raise ValueError("give exactly one of file, env and credential")
    [(source, name)] = value.items()
    if source not in SOURCES:
        raise ValueError(f"unknown source of a secret {quoted(source)}; {nearest(source, SOURCES)}")
    if not isinstance(name, str) or not name:
        raise ValueError(f"{source} must be a text that is not empty")
    if source == "env":
        if name not in environ:
            raise ValueError(f"the environment variable {quoted(name)} is not set")
        return _not_empty(environ[name], f"the environment variable {quoted(name)}")
    file = _credential(name, environ) if source == "credential" else _file(name, environ)
    return _not_empty(_read(file), f"the file {quoted(str(file))}")


def expand_home(text: str, environ: Mapping[str, str]) -> Path:
    """The path with a leading ``~`` replaced by the home directory."""
    return home(environ) / text[2:] if text == "~" or text.startswith("~/") else Path(text)


def _file(name: str, environ: Mapping[str, str]) -> Path:
    file = expand_home(name, environ)
    if not file.is_absolute():
        raise ValueError(f"the file {quoted(name)} must be an absolute path")
    return file


def _credential(name: str, environ: Mapping[str, str]) -> Path:
    folder = environ.get("CREDENTIALS_DIRECTORY", "")
    if not folder:
        raise ValueError("there are no credentials: CREDENTIALS_DIRECTORY is set only when systemd starts the daemon")
    if "/" in name or name in (".", ".."):
        raise ValueError(f"{quoted(name)} is not the name of a credential")
    return Path(folder) / name


def _read(file: Path) -> str:
    try:
        raw = read_whole(file, _LARGEST)
    except OSError as error:
        raise ValueError(f"the file {quoted(str(file))} cannot be read: {error.strerror or error}") from None
    if len(raw) > _LARGEST:
        raise ValueError(f"the file {quoted(str(file))} is larger than 64 KiB")
    try:
        text = raw.decode("utf-8")
    except UnicodeDecodeError:
        raise ValueError(f"the file {quoted(str(file))} is not UTF-8") from None
    return text.removesuffix("\n").removesuffix("\r")


def _not_empty(secret: str, source: str) -> str:
    if not secret:
        raise ValueError(f"{source} is empty")
    if "\0" in secret:
        raise ValueError(f"{source} holds a NUL character")
    return secret
