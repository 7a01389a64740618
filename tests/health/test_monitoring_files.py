"""The dashboard, the alert rules and their page name only what there is."""

from __future__ import annotations

import importlib
import json
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from prometheus_client.core import Metric
from prometheus_client.parser import text_string_to_metric_families

from dlqueue.daemon.metrics import Metrics
from dlqueue.queue.sql import SqlStore
from dlqueue.sdk import Rejected
from tests.downloads.house import Builder

pytestmark = pytest.mark.anyio

DOCS = Path(__file__).parent.parent.parent / "docs"
NAME = re.compile(r"\bdlqueue_\w+")
GRAFANA = {"instance", "job", "le"}
"""Labels that Prometheus adds, or makes of buckets."""


@pytest.fixture
async def families(build: Builder, tmp_path: Path) -> list[Metric]:
    """Everything that can be told: one download has failed and gone on."""
    store = SqlStore(f"sqlite:///{tmp_path / 'queue.db'}")
    house = await build.puppets("box", store=store)
    task = await house.add()
    key = await house.runs(task)
    house.puppet().fail(key, Rejected("reset"))
    house.pass_time_until(await house.waits_for_retry(task))
    house.puppet().finish(await house.runs(task))
    await house.queue.wait(task)
    metrics = Metrics(house.queue, house.endpoints, store, lambda: [house.destination], house.postman.sent)
    text = (await metrics.render()).decode()
    found = list(text_string_to_metric_families(text))
    assert all(family.samples for family in found)
    return found


def labels_by_sample(families: list[Metric]) -> dict[str, set[str]]:
    return {sample.name: set(sample.labels) for family in families for sample in family.samples}


def problems(expression: str, known: dict[str, set[str]]) -> list[str]:
    found = [f"{name} does not exist" for name in NAME.findall(expression) if name not in known]
    for name, selector in re.findall(r"\b(dlqueue_\w+)\{([^}]*)\}", expression):
        labels = set(re.findall(r"(\w+)\s*[!=]~?", selector))
        found += [f"{name} has no label {label}" for label in labels - known.get(name, set()) - GRAFANA]
    everywhere = set().union(*known.values()) | GRAFANA
    for listed in re.findall(r"\b(?:by|on|group_left)\s*\(([^)]*)\)", expression):
        found += [f"no label {one.strip()}" for one in listed.split(",") if one.strip() not in everywhere]
    if expression.count("(") != expression.count(")"):
        found.append("a parenthesis is missing")
    return found


def test_the_check_finds_what_is_wrong() -> None:
    known = {"dlqueue_tasks": {"queue", "status"}}
    assert problems('sum by (status) (dlqueue_tasks{queue="a"})', known) == []
    assert len(problems('sum by (owner) (dlqueue_tasks{type="a"}) + dlqueue_task)', known)) == 4


def _panels(dashboard: dict[str, Any]) -> Iterator[dict[str, Any]]:
    for panel in dashboard["panels"]:
        yield panel
        yield from panel.get("panels", ())


async def test_the_dashboard_shows_only_what_there_is(families: list[Metric]) -> None:
    known = labels_by_sample(families)
    dashboard = json.loads((DOCS / "grafana" / "dlqueue.json").read_text())
    expressions = [target["expr"] for panel in _panels(dashboard) for target in panel.get("targets", ())]
    expressions += [one["definition"] for one in dashboard["templating"]["list"] if one["type"] == "query"]
    assert len(expressions) > 30
    assert {one: said for one in expressions if (said := problems(one, known))} == {}
    rows = [panel["title"] for panel in dashboard["panels"] if panel["type"] == "row"]
    assert rows == ["Overview", "Queue", "Downloaders", "Disks", "Errors"]
    ids = [panel["id"] for panel in _panels(dashboard)]
    assert len(ids) == len(set(ids))
    variables = {one["name"] for one in dashboard["templating"]["list"]} | {"__rate_interval"}
    assert set(re.findall(r"\$\{?(\w+)", "\n".join(expressions))) <= variables


async def test_the_dashboard_leaves_no_gap_between_panels() -> None:
    dashboard = json.loads((DOCS / "grafana" / "dlqueue.json").read_text())
    lines: dict[int, int] = {}
    for panel in _panels(dashboard):
        place = panel["gridPos"]
        lines[place["y"]] = lines.get(place["y"], 0) + place["w"]
    assert set(lines.values()) == {24}


async def test_every_alert_can_fire_and_says_what_to_do(families: list[Metric]) -> None:
    yaml = importlib.import_module("yaml")  # has no types
    rules = [
        rule
        for group in yaml.safe_load((DOCS / "grafana" / "alerts.yaml").read_text())["groups"]
        for rule in group["rules"]
    ]
    known = labels_by_sample(families)
    assert {rule["alert"]: said for rule in rules if (said := problems(rule["expr"], known))} == {}
    for rule in rules:
        assert re.fullmatch("Dlqueue[A-Z][A-Za-z]+", rule["alert"])
        assert set(rule["annotations"]) == {"summary", "description", "runbook"}
        assert rule["labels"]["severity"] in ("info", "warning", "critical")
        used = set(re.findall(r"\$labels\.(\w+)", str(rule["annotations"])))
        named = {label for name in NAME.findall(rule["expr"]) for label in known[name]} | GRAFANA
        assert used <= named, rule["alert"]
    assert len({rule["alert"] for rule in rules}) == len(rules) > 10


async def test_every_metric_is_explained_and_no_other(families: list[Metric]) -> None:
    text = (DOCS / "monitoring.md").read_text()
    explained = {name for row in re.findall(r"^\|([^|]*)\|", text, re.MULTILINE) for name in NAME.findall(row)}
    names = set()
    for family in families:
        if not family.name.startswith("dlqueue_process_"):
            names.add(f"{family.name}_total" if family.type == "counter" else family.name)
    assert explained - {"dlqueue_process_"} == names
