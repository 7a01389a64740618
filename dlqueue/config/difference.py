"""What differs between two configurations, setting by setting."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

from dlqueue.config.problems import Key, dotted
from dlqueue.config.sections import Config


@dataclass(frozen=True, slots=True)
class Changed:
    """One setting, as it may be shown: secrets are ``***`` on both sides."""

    key: str
    before: Any
    """``None``: it was not there, or not set."""
    after: Any


def difference(old: Config, new: Config) -> list[Changed]:
    """Every setting that is not the same in both, in the order of the sections. A queue or downloader that is in one
    of them only is one change. Secrets are compared as they are."""
    shown = _leaves((), old.settings(), new.settings())
    real = _leaves((), old.settings(reveal=True), new.settings(reveal=True))
    return [
        Changed(dotted(key), before, after)
        for (key, before, after), (_, was, is_now) in zip(shown, real, strict=True)
        if not _same(was, is_now)
    ]


def _leaves(at: Key, old: Any, new: Any) -> Iterator[tuple[Key, Any, Any]]:
    if isinstance(old, dict) and isinstance(new, dict):
        for name in dict.fromkeys((*old, *new)):
            yield from _leaves((*at, name), old.get(name), new.get(name))
    else:
        yield at, old, new


def _same(old: Any, new: Any) -> bool:
    # 1 and true are equal in Python, and not to whoever reads them.
    return type(old) is type(new) and bool(old == new)
