"""``[notify]`` and ``[hooks.NAME]``: who may be told, and what must agree between them."""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence
from typing import Any

from dlqueue.config.matching import read_match
from dlqueue.config.problems import Key, nearest, quoted
from dlqueue.config.sections import HookSection, NotifyRuleSection, NotifySection, TargetSection
from dlqueue.config.tables import Checker
from dlqueue.notify.signing import read_secret


def read_hooks(checker: Checker) -> dict[str, HookSection]:
    hooks = {}
    for name, table in _tables(checker, ("hooks",)).items():
        at, before = ("hooks", name), len(checker.sources.problems)
        checker.name(at)
        checker.keys(table, at, _keys(HookSection))
        values = checker.values(HookSection, table, at)
        program = values.get("command", ("/",))[0]
        if "/" in program and not program.startswith("/"):
            message = "must begin with the absolute path of a program, or with a name that is found in the PATH"
            checker.sources.problem((*at, "command"), message)
        if name in _names(checker, ("notify", "targets")):
            checker.sources.problem(at, "is the name of a target too; one of them needs another name")
        if len(checker.sources.problems) == before:
            hooks[name] = HookSection(**values)
    return hooks


def read_notify(checker: Checker) -> NotifySection:
    at: Key = ("notify",)
    table = checker.table(at)
    checker.keys(table, at, _keys(NotifySection))
    values = checker.values(NotifySection, table, at, leave=("targets", "rules"))
    if "webhook_secret" in values:
        try:
            read_secret(values["webhook_secret"])
        except ValueError as error:
            checker.sources.problem((*at, "webhook_secret"), str(error))
    targets = {}
    for name, given in _tables(checker, ("notify", "targets")).items():
        here: Key = ("notify", "targets", name)
        checker.name(here)
        checker.keys(given, here, _keys(TargetSection))
        if found := checker.values(TargetSection, given, here):
            targets[name] = TargetSection(**found)
    return NotifySection(**values, targets=targets, rules=_rules(checker, table.get("rules", [])))


def _rules(checker: Checker, tables: Any) -> tuple[NotifyRuleSection, ...]:
    if not isinstance(tables, list) or not all(isinstance(table, dict) for table in tables):
        checker.sources.problem(("notify", "rules"), "must be a list of tables; write [[notify.rules]]")
        return ()
    rules = []
    for index, table in enumerate(tables):
        at: Key = ("notify", "rules", index)
        before = len(checker.sources.problems)
        checker.keys(table, at, _keys(NotifyRuleSection))
        values = checker.values(NotifyRuleSection, table, at, leave=("match",))
        match = read_match(checker, table, at)
        _known(checker, (*at, "to"), "target", values.get("to", ()), _names(checker, ("notify", "targets")))
        hook = values.get("hook")
        _known(checker, (*at, "hook"), "hook", () if hook is None else (hook,), _names(checker, ("hooks",)))
        if not table.keys() & {"to", "webhook", "hook"}:
            checker.sources.problem(at, "tells nobody: give to, webhook or hook")
        if len(checker.sources.problems) == before:
            rules.append(NotifyRuleSection(**values, match=match))
    return tuple(rules)


def _known(checker: Checker, at: Key, what: str, named: Sequence[str], known: Sequence[str]) -> None:
    for name in dict.fromkeys(named):
        if name not in known:
            checker.sources.problem(at, f"unknown {what} {quoted(name)}; {nearest(name, known)}")


def _tables(checker: Checker, at: Key) -> dict[str, dict[str, Any]]:
    """The tables below ``at``, by name."""
    form = f"write [{'.'.join(map(str, at))}.NAME]"
    found = {}
    for name, value in checker.table(at, form).items():
        if isinstance(value, dict):
            found[name] = value
        else:
            checker.sources.problem((*at, name), f"must be a table; {form} and the keys below it")
    return found


def _names(checker: Checker, at: Key) -> list[str]:
    """Of all tables below ``at``, right or wrong; what is wrong with them is said elsewhere."""
    found: Any = checker.sources.data
    for name in at:
        found = found.get(str(name), {}) if isinstance(found, dict) else {}
    return list(found) if isinstance(found, dict) else []


def _keys(cls: type[Any]) -> list[str]:
    return [one.name for one in dataclasses.fields(cls)]
