"""The words of the configuration in the words of the rooms below: at start, and again at every reload."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import fields
from pathlib import Path
from typing import Any

from dlqueue.config import Config, DownloaderSection, MatchSection, QueueSection
from dlqueue.downloads.endpoints import EndpointConfig
from dlqueue.downloads.pathmap import PathMap
from dlqueue.downloads.policy import Policy
from dlqueue.downloads.routing import Rule
from dlqueue.downloads.seeding import SeedRule
from dlqueue.notify.plan import Hook, NotifyRule, Plan, Wish
from dlqueue.notify.signing import read_secret
from dlqueue.queue import Queue, QueueSettings
from dlqueue.sdk import Downloader
from dlqueue.units import parse_size_range


def queues(config: Config) -> dict[str, QueueSettings]:
    """Of every queue that the configuration names."""
    return {name: _queue(section) for name, section in config.queues.items()}


def _queue(section: QueueSection) -> QueueSettings:
    return QueueSettings(
        concurrency=section.concurrency,
        capacity=section.capacity,
        rate=section.rate,
        max_retry=section.max_retry,
        retry_delay=section.retry_delay,
        backoff_factor=section.backoff_factor,
        backoff_max=section.backoff_max,
        ageing=section.ageing or 0.0,
    )


def shown(config: Config, queue: Queue) -> dict[str, Any]:
    """The effective configuration for a person, with what was set at run time."""
    shown = config.as_shown()
    sections = shown["queues"]
    for name, changed in queue.queues.changed().items():
        section = sections.setdefault(name, dict.fromkeys(field.name for field in fields(QueueSection)))
        section.update(changed)
    return shown


def endpoints(config: Config, kinds: Mapping[str, type[Downloader]]) -> dict[str, EndpointConfig]:
    """The downloaders to be used."""
    return {
        name: EndpointConfig(
            name,
            kinds[section.kind],
            section.max_active,
            section.poll,
            section.options,
            section.stall,
            section.failover_after,
            path_map(section),
        )
        for name, section in config.downloaders.items()
        if section.enabled
    }


def path_map(section: DownloaderSection) -> PathMap:
    pairs = tuple((Path(pair.remote), pair.local) for pair in section.paths)
    directory = None if section.directory is None else Path(section.directory)
    return PathMap(section.name, pairs, directory, section.delivery == "none")


def disabled(config: Config) -> frozenset[str]:
    """The downloaders that are configured and not to be used."""
    return frozenset(name for name, section in config.downloaders.items() if not section.enabled)


def rules(config: Config) -> tuple[Rule, ...]:
    """Which downloaders fetch what."""
    return tuple(_rule(route.match, route.all, route.use) for route in config.routes)


def _rule(match: MatchSection, all: bool, use: tuple[str, ...] = ()) -> Rule:
    return Rule(
        use=use,
        scheme=match.scheme,
        host=match.host,
        url=match.url,
        size=tuple(parse_size_range(size) for size in match.size),
        tag=match.tag,
        owner=match.owner,
        type=match.type,
        all=all,
    )


def plan(config: Config) -> Plan:
    """Who may be told of tasks, and how."""
    notify = config.notify
    return Plan(
        secret=None if notify.webhook_secret is None else read_secret(notify.webhook_secret),
        allow_private=notify.allow_private,
        targets={name: section.url for name, section in notify.targets.items()},
        hooks={name: Hook(section.command, section.timeout) for name, section in config.hooks.items()},
        rules=tuple(
            NotifyRule(_rule(rule.match, rule.all), Wish(frozenset(rule.on), rule.webhook, rule.hook, rule.to))
            for rule in notify.rules
        ),
    )


def seed_rule(config: Config) -> SeedRule:
    """When seeding ends, where a submit says nothing of it."""
    return SeedRule(config.seeding.ratio, config.seeding.time, config.seeding.idle)


def steer(policy: Policy, config: Config) -> None:
    """Make ``policy`` say what the configuration says."""
    policy.schemes = frozenset(config.policy.schemes)
    policy.private_addresses = config.policy.private_addresses
    policy.destinations = config.daemon.allow_destinations


def system_group() -> str | None:
    """The group that may use the sockets of the system's instance, if this machine has it."""
    import grp

    try:
        return grp.getgrnam("dlqueue").gr_name
    except KeyError:
        return None
