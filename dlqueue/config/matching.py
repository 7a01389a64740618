"""``match`` of routes and rules: which downloads are meant."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping
from typing import Any

from dlqueue.config.problems import Key
from dlqueue.config.sections import MatchSection
from dlqueue.config.tables import Checker


def read_match(checker: Checker, table: Mapping[str, Any], at: Key) -> MatchSection:
    """What ``table`` at ``at`` says in its ``match``, as far as it is right."""
    match = table.get("match", {})
    if not isinstance(match, dict):
        checker.sources.problem((*at, "match"), 'must be a table, such as { scheme = ["magnet"] }')
        return MatchSection()
    checker.keys(match, (*at, "match"), [one.name for one in dataclasses.fields(MatchSection)])
    return MatchSection(**checker.values(MatchSection, match, (*at, "match")))
