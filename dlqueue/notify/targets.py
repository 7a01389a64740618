"""Where a letter goes, as one text: ``webhook:URL``, ``hook:NAME``, ``to:NAME`` (configured), ``url:URL`` (apprise)."""

from __future__ import annotations

from urllib.parse import urlsplit

from dlqueue.queue.outbox import BUNDLE
from dlqueue.runtime.redaction import HIDDEN

WEBHOOK, HOOK, NAMED, MESSAGE = "webhook", "hook", "to", "url"


KINDS = {WEBHOOK: "webhook", HOOK: "hook", NAMED: "message", MESSAGE: "message"}
"""What they are called where they are counted."""


def target(kind: str, value: str) -> str:
    """The text."""
    return f"{kind}:{value}"


def parts(target: str) -> tuple[str, str]:
    """Its kind and its value."""
    kind, _, value = target.partition(":")
    return kind, value


def lane(target: str, chosen_by: str | None = None) -> str:
    """Letters of one lane go to one receiver. What is behind a scheme of apprise only apprise knows: one lane each.

    :param chosen_by: whose own idea the receiver is; None = the configuration says so.
    """
    kind, value = parts(target)
    if kind in (WEBHOOK, MESSAGE):
        value = _origin(value)
        if chosen_by is not None:  # such receivers are as many as somebody likes; those of the configuration are few
            return f"{chosen_by}{BUNDLE}{kind}:{value}"[:512]
    return f"{kind}:{value}"[:512]


def bundle(lane: str) -> str | None:
    """What the lanes to the receivers that one person has chosen begin with."""
    whose, found, _ = lane.partition(BUNDLE)
    return whose + BUNDLE if found else None


def shown(target: str) -> str:
    """For people: paths and tokens are left out."""
    kind, value = parts(target)
    if kind == WEBHOOK:
        return f"webhook {_origin(value)}/{HIDDEN}"
    if kind == MESSAGE:
        return f"{value.partition(':')[0]}://{HIDDEN}"
    return f"{'hook' if kind == HOOK else 'target'} {value}"


def _origin(url: str) -> str:
    try:
        pieces = urlsplit(url)
    except ValueError:
        return url.partition(":")[0]
    return f"{pieces.scheme}://{pieces.netloc.rpartition('@')[2]}".lower()
