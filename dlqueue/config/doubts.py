"""What is allowed and likely a mistake all the same: said at start and by `config check`; nothing fails for it."""

from __future__ import annotations

import grp
import shutil
from collections.abc import Iterator, Mapping
from importlib.util import find_spec

from dlqueue.address import parse_address
from dlqueue.config.files import Sources
from dlqueue.config.problems import Key, Problem, dotted
from dlqueue.config.sections import Config, MatchSection
from dlqueue.places import PROGRAMS
from dlqueue.sdk import Downloader


def find_doubts(config: Config, sources: Sources, kinds: Mapping[str, type[Downloader]]) -> list[Problem]:
    """In the order of the sections."""
    return [Problem(*sources.origin(key), dotted(key), message) for key, message in _doubts(config, sources, kinds)]


def _doubts(config: Config, sources: Sources, kinds: Mapping[str, type[Downloader]]) -> Iterator[tuple[Key, str]]:
    yield from _daemon(config, sources)
    for name, queue in config.queues.items():
        if queue.retry_delay is not None and queue.backoff_max is not None and queue.retry_delay > queue.backoff_max:
            yield ("queues", name, "retry_delay"), "is longer than backoff_max, which is what every wait is cut to"
    yield from _downloaders(config, kinds)
    yield from _routes(config)
    yield from _notify(config)
    seeding = config.seeding
    if seeding.ratio is None and seeding.time is None and seeding.idle is None:
        yield ("seeding",), "no rule ends seeding: every torrent is seeded until somebody cancels it"
    if config.http.listen is not None and not parse_address(config.http.listen).is_local:
        told = (
            "everybody in the network reaches the gateway, and tokens travel in plain text: "
            "better listen on 127.0.0.1, with a proxy in front that speaks TLS"
        )
        yield ("http", "listen"), told
    served = {
        scheme for section in config.downloaders.values() if section.enabled for scheme in kinds[section.kind].schemes
    }
    if "schemes" in sources.data.get("policy", {}):  # the default allows more than there may be downloaders for
        for index, scheme in enumerate(config.policy.schemes):
            if scheme not in served:
                yield ("policy", "schemes", index), f"no downloader that is enabled can fetch {scheme}"


def _notify(config: Config) -> Iterator[tuple[Key, str]]:
    notify = config.notify
    if notify.targets and find_spec("apprise") is None:
        yield ("notify", "targets"), "needs the Python package apprise: install dlqueue[notify]"
    if notify.webhook_secret is None and any(rule.webhook for rule in notify.rules):
        yield ("notify",), "webhook_secret is not set: receivers cannot tell who sends these webhooks"
    for index, rule in enumerate(notify.rules):
        if rule.webhook is not None and (why := _refused(rule.webhook, notify.allow_private)):
            yield ("notify", "rules", index, "webhook"), f"nothing will be sent there: {why}"
    for name, hook in config.hooks.items():
        if shutil.which(hook.command[0], path=PROGRAMS) is None:
            yield ("hooks", name, "command"), f"{hook.command[0]} is no program that can be started now"


def _refused(webhook: str, allow_private: bool) -> str | None:
    # Only for those who have such rules: a command that reads the configuration starts without this.
    from dlqueue.downloads.policy import PolicyRefused
    from dlqueue.notify.plan import WebhookPolicy
    from dlqueue.queue import InvalidTask

    try:
        WebhookPolicy(allow_private).check_webhook(webhook, "webhook")
    except (InvalidTask, PolicyRefused) as error:
        return str(error)
    return None


def _daemon(config: Config, sources: Sources) -> Iterator[tuple[Key, str]]:
    given = sources.data.get("daemon", {})
    for index, folder in enumerate(config.daemon.allow_destinations if "allow_destinations" in given else ()):
        if not folder.is_dir():
            yield (
                ("daemon", "allow_destinations", index),
                f"{folder} is no folder now: mistyped, or not mounted? It would be made when a download needs it",
            )
    for index, group in enumerate(config.daemon.admins):
        try:
            grp.getgrnam(group)
        except KeyError:
            yield ("daemon", "admins", index), "this machine has no group of that name"


def _downloaders(config: Config, kinds: Mapping[str, type[Downloader]]) -> Iterator[tuple[Key, str]]:
    enabled = [section for section in config.downloaders.values() if section.enabled]
    if not enabled:
        yield ("downloaders",), "none is enabled: nothing can be downloaded"
    for section in enabled:
        schemes = kinds[section.kind].schemes
        if schemes.isdisjoint(config.policy.schemes):
            yield (
                ("downloaders", section.name),
                f"is never used: it fetches {', '.join(sorted(schemes))}, and policy.schemes allows none of them",
            )


def _routes(config: Config) -> Iterator[tuple[Key, str]]:
    every: int | None = None
    for index, route in enumerate(config.routes):
        if every is not None:
            yield ("routes", index), f"is never reached: route {every + 1} has no match and takes everything"
        elif route.match == MatchSection():
            every = index
        disabled = [name for name in route.use if not config.downloaders[name].enabled]
        if len(disabled) == len(route.use):
            yield ("routes", index, "use"), "none of them is enabled: what matches waits"
