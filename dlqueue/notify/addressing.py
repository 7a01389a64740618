"""Who is told of what: what the submitter asked for, and what the rules of the configuration say."""

from __future__ import annotations

import dataclasses
import json
import logging
from collections.abc import Callable, Iterator, Mapping
from importlib.util import find_spec
from typing import Any

import msgspec

from dlqueue.downloads.policy import PolicyRefused
from dlqueue.downloads.request import DownloadParams
from dlqueue.downloads.routing import TASK_TYPE, Wanted, facts_of
from dlqueue.notify import targets
from dlqueue.notify.plan import Plan, WebhookPolicy, Wish
from dlqueue.protocol.times import instant_text
from dlqueue.queue import InvalidTask, TaskRecord
from dlqueue.queue.outbox import Notice

log = logging.getLogger(__name__)

View = Callable[[TaskRecord], Mapping[str, Any]]
"""A task as anybody may see it: without secrets."""


class Addressing:
    """The `dlqueue.queue.outbox.Address` of the daemon. ``plan`` may be replaced at any time."""

    def __init__(self, plan: Plan, view: View) -> None:
        self.plan = plan
        self._view = view

    def __call__(self, record: TaskRecord, event: str, at: float) -> list[Notice]:
        if record.options.notify is None and not self.plan.rules:
            return []
        try:
            found = dict.fromkeys(
                target
                for wish in self._wishes(record)
                if event in (wish.on or _ends(record))
                for target in _targets_of(wish)
            )
            if not found:
                return []
            body = json.dumps(message(event, at, self._view(record)), ensure_ascii=False)
            own = () if record.options.notify is None else [*_targets_of(read_wish(record.options.notify))]
            return [
                Notice(target, targets.lane(target, record.owner if target in own else None), body) for target in found
            ]
        except Exception:
            # The change itself must not fail with it.
            log.exception("nobody is told that a task is %s", event, extra={"task_id": record.id})
            return []

    def _wishes(self, record: TaskRecord) -> Iterator[Wish]:
        if record.options.notify is not None:
            yield read_wish(record.options.notify)
        if self.plan.rules:
            facts = _facts(record)
            yield from (rule.wish for rule in self.plan.rules if rule.match.matches(facts))

    def check(self, wish: Wish, admin: bool, field: str = "notify") -> None:
        """At the submit.

        :param admin: may the submitter name receivers that are not configured?
        :raises InvalidTask: there is no such target or hook; `PolicyRefused`: it is not allowed.
        """
        plan = self.plan
        if wish.webhook is not None:
            WebhookPolicy(plan.allow_private).check_webhook(wish.webhook, f"{field}.webhook")
        if wish.hook is not None and wish.hook not in plan.hooks:
            raise InvalidTask(_unknown("hook", wish.hook, plan.hooks), f"{field}.hook")
        for one in wish.to:
            if not _is_url(one) and one not in plan.targets:
                raise InvalidTask(_unknown("target", one, plan.targets), f"{field}.to")
            if _is_url(one) and not admin:
                # Such a URL reaches whatever the daemon reaches: files, mail servers, the network it stands in.
                message = "only an admin may give a URL; others name a target of the configuration (notify.targets)"
                raise PolicyRefused(message, f"{field}.to", "target")
        if wish.to and find_spec("apprise") is None:
            message = "this needs the Python package apprise: install dlqueue[notify]"
            raise PolicyRefused(message, f"{field}.to", "unavailable")


def message(event: str, at: float, task: Mapping[str, Any]) -> dict[str, Any]:
    """What a webhook says."""
    return {"type": f"task.{event}", "timestamp": instant_text(at), "data": task}


def read_wish(stored: Mapping[str, Any]) -> Wish:
    """What a submit said, as it is stored with the task."""
    return Wish(
        frozenset(stored.get("on") or ()), stored.get("webhook"), stored.get("hook"), tuple(stored.get("to") or ())
    )


def _is_url(text: str) -> bool:
    return "://" in text


def _targets_of(wish: Wish) -> Iterator[str]:
    if wish.webhook is not None:
        yield targets.target(targets.WEBHOOK, wish.webhook)
    if wish.hook is not None:
        yield targets.target(targets.HOOK, wish.hook)
    for one in wish.to:
        yield targets.target(targets.MESSAGE if _is_url(one) else targets.NAMED, one)


def _ends(record: TaskRecord) -> frozenset[str]:
    return _DOWNLOAD_ENDS if record.type == TASK_TYPE else _ENDS


_DOWNLOAD_ENDS = frozenset({"delivered", "error", "canceled"})
_ENDS = frozenset({"completed", "error", "canceled"})


def _facts(record: TaskRecord) -> Wanted:
    tags = frozenset(record.labels.get("tag", ()))
    if record.type != TASK_TYPE:
        return Wanted(frozenset(), (), types=frozenset({record.type}), tags=tags, owner=record.owner)
    facts = facts_of(msgspec.convert(record.params, DownloadParams), record.owner, record.labels)
    size = record.result.get("size") if isinstance(record.result, dict) else None
    return dataclasses.replace(facts, size=size) if isinstance(size, int) else facts


def _unknown(what: str, name: str, known: Mapping[str, Any]) -> str:
    there = ", ".join(sorted(known)) or "none"
    return f"no {what} {name[:100]!r} is configured (there is: {there})"
