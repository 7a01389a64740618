"""What `/metrics` tells: it follows what happens, keeps its size, and keeps the rules of Prometheus."""

from __future__ import annotations

import re
import shutil
import subprocess
import threading
from collections.abc import Sequence
from pathlib import Path

import anyio
import pytest
from prometheus_client.core import Metric
from prometheus_client.parser import text_string_to_metric_families

from dlqueue.daemon.metrics import Metrics
from dlqueue.downloads.space import FileSystem, measure
from dlqueue.downloads.state import Obligation
from dlqueue.queue import Completed, Context, Outcome, ResumeAfter, StorageError, Task
from dlqueue.queue.sql import SqlStore
from dlqueue.runtime.meters import NAMES, OTHER, ByName, Histogram, Tally
from dlqueue.sdk import Rejected, Unavailable
from tests.downloads.house import Builder, House

pytestmark = pytest.mark.anyio

KIB = 1 << 10


class Quick(Task):
    type = "quick"

    async def run(self, ctx: Context) -> Outcome:
        if ctx.params.get("twice") and not ctx.state.get("again"):
            ctx.state["again"] = True
            return ResumeAfter(0.0)
        if ctx.params.get("fails"):
            raise RuntimeError("no")
        return Completed()


def metrics_of(house: House, store: SqlStore | None = None, folders: Sequence[Path] = ()) -> Metrics:
    return Metrics(house.queue, house.endpoints, store, lambda: folders, house.postman.sent)


async def told(metrics: Metrics) -> dict[str, Metric]:
    text = (await metrics.render()).decode()
    return {family.name: family for family in text_string_to_metric_families(text)}


def value(families: dict[str, Metric], sample: str, **labels: str) -> float:
    found = [
        one.value
        for family in families.values()
        for one in family.samples
        if one.name == sample and labels.items() <= one.labels.items()
    ]
    assert len(found) == 1, f"{sample} {labels}: {found}"
    return float(found[0])


# -- it follows what happens ------------------------------------------------------------------------------------------


async def test_tasks_are_counted_as_they_go(build: Builder, tmp_path: Path) -> None:
    store = SqlStore(f"sqlite:///{tmp_path / 'queue.db'}")
    house = await build.puppets(store=store, tasks=(Quick(),))
    metrics = metrics_of(house, store)
    done = await house.queue.submit("quick", {"twice": True}, queue="a")
    await house.queue.wait(done.id)
    failed = await house.queue.submit("quick", {"fails": True}, queue="a", max_retry=1)
    house.pass_time_until(await house.waits_for_retry(failed.id))
    await house.queue.wait(failed.id)
    await house.queue.submit("quick", {}, queue="b", paused=True)
    families = await told(metrics)
    assert value(families, "dlqueue_tasks", queue="a", status="completed") == 1
    assert value(families, "dlqueue_tasks", queue="a", status="error") == 1
    assert value(families, "dlqueue_tasks", queue="b", status="paused") == 1
    assert value(families, "dlqueue_tasks_finished_total", type="quick", outcome="completed") == 1
    assert value(families, "dlqueue_tasks_finished_total", type="quick", outcome="error") == 1
    assert value(families, "dlqueue_retries_total", type="quick") == 1
    assert value(families, "dlqueue_tasks_submitted_total") == 3
    assert value(families, "dlqueue_step_duration_seconds_count", type="quick") == 4
    assert value(families, "dlqueue_lag_seconds_count", queue="a") == 4
    assert value(families, "dlqueue_store_up") == 1
    assert value(families, "dlqueue_store_commit_duration_seconds_count") > 0
    assert value(families, "dlqueue_store_commit_changes_sum") >= 6
    assert value(families, "dlqueue_events_total") >= 6
    assert value(families, "dlqueue_workers") == 4
    await house.queue.queues.pause("b")
    families = await told(metrics)
    assert value(families, "dlqueue_queue_paused", queue="b") == 1
    assert value(families, "dlqueue_queue_paused", queue="a") == 0


async def test_lag_is_what_was_waited_beyond_the_time_it_was_due(build: Builder) -> None:
    house = await build.puppets(tasks=(Quick(),))
    await house.queue.queues.pause("default")
    task = await house.queue.submit("quick", {}, delay=100)
    house.clock.advance(130)
    await house.queue.queues.resume("default")
    await house.queue.wait(task.id)
    lag = house.queue.meters.lags["default"]
    assert (sum(lag.counts), lag.total) == (1, 30.0)


async def test_the_most_overdue_schedule_is_told(build: Builder) -> None:
    house = await build.puppets(tasks=(Quick(),))
    await house.queue.schedules.create("tick", "quick", {}, every=60)
    await house.queue.schedules.create("tock", "quick", {}, every=60)
    await house.queue.schedules.pause("tock")
    families = await told(metrics_of(house))
    assert value(families, "dlqueue_schedules", state="active") == 1
    assert value(families, "dlqueue_schedules", state="paused") == 1
    assert value(families, "dlqueue_schedules_lag_seconds") == 0
    await house.queue.schedules.ticker.stop()  # nobody fires it
    house.clock.advance(100)
    assert value(await told(metrics_of(house)), "dlqueue_schedules_lag_seconds") == pytest.approx(40)


async def test_a_downloader_is_told_with_its_transfers(build: Builder) -> None:
    house = await build.puppets("box", max_active=3)
    metrics = metrics_of(house)
    task = await house.add()
    key = await house.runs(task)
    house.puppet().show(key, downloaded=5 * KIB, total=20 * KIB, download_speed=7.0, upload_speed=2.0)
    await house.eventually(lambda: house.endpoints["box"].speeds() == (7.0, 2.0), "the speed")
    families = await told(metrics)
    at = {"downloader": "box", "kind": "puppet"}
    assert value(families, "dlqueue_downloader_up", **at) == 1
    assert value(families, "dlqueue_downloader_health", **at) == 3
    assert value(families, "dlqueue_downloader_transfers", **at) == 1
    assert value(families, "dlqueue_downloader_max_active", **at) == 3
    assert value(families, "dlqueue_downloader_receive_bytes_per_second", **at) == 7
    assert value(families, "dlqueue_downloader_transmit_bytes_per_second", **at) == 2
    assert value(families, "dlqueue_downloader_received_bytes_total", **at) == 5 * KIB
    assert value(families, "dlqueue_downloader_poll_duration_seconds_count", **at) >= 1
    assert value(families, "dlqueue_downloader_breaker_open", **at) == 0
    house.puppet().goes("all", Unavailable("connection refused"))
    house.puppet().news()
    await house.eventually(lambda: house.endpoints["box"].down, "it is down")
    families = await told(metrics)
    assert value(families, "dlqueue_downloader_up", **at) == 0
    assert value(families, "dlqueue_downloader_health", **at) == 0
    assert value(families, "dlqueue_downloader_breaker_open", **at) == 1
    assert value(families, "dlqueue_downloader_breaker_openings_total", **at) == 1
    assert value(families, "dlqueue_downloader_poll_failures_total", **at) == 1
    assert value(families, "dlqueue_downloader_receive_bytes_per_second", **at) == 0
    await house.endpoints.pause("box", "me")
    assert value(await told(metrics), "dlqueue_downloader_paused", **at) == 1


async def test_bytes_are_counted_once_though_a_try_goes_on_where_the_last_one_ended(build: Builder) -> None:
    house = await build.puppets("box")
    task = await house.add()
    key = await house.runs(task)
    house.puppet().fail(key, Rejected("reset"), downloaded=4 * KIB)
    house.pass_time_until(await house.waits_for_retry(task))
    key = await house.runs(task)
    house.puppet().show(key, downloaded=6 * KIB)
    meters = house.endpoints.meters["box"]
    await house.eventually(lambda: meters.downloaded == 6 * KIB, "all bytes")
    assert meters.errors == {"passing": 1}
    errors = {"downloader": "box", "kind": "puppet", "class": "passing"}
    assert value(await told(metrics_of(house)), "dlqueue_download_errors_total", **errors) == 1


async def test_a_disk_is_told_once_with_what_is_promised(build: Builder) -> None:
    def look(folder: Path) -> FileSystem:
        return FileSystem(7, 1000 * KIB, 500 * KIB, "/mnt/disk")

    house = await build.puppets("box", measure=look)
    task = await house.add()
    key = await house.runs(task)
    house.puppet().show(key, total=200 * KIB)
    await house.eventually(lambda: house.endpoints.room.ledger.promised(7) == 200 * KIB, "the promise")
    metrics = metrics_of(house, folders=[house.destination, house.folder])
    families = await told(metrics)
    at = {"mount": "/mnt/disk"}
    assert value(families, "dlqueue_disk_size_bytes", **at) == 1000 * KIB
    assert value(families, "dlqueue_disk_free_bytes", **at) == 500 * KIB
    assert value(families, "dlqueue_disk_reserved_bytes", **at) == 200 * KIB
    assert value(families, "dlqueue_disk_floor_bytes", **at) == 20 * KIB
    assert value(families, "dlqueue_disk_low", **at) == 0


async def test_a_file_system_that_hangs_does_not_hold_up_the_rest(
    build: Builder, monkeypatch: pytest.MonkeyPatch
) -> None:
    release = threading.Event()
    asked: list[Path] = []

    def look(folder: Path) -> FileSystem:
        if "hangs" in folder.parts:
            asked.append(folder)
            release.wait(30)
        return measure(folder)

    house = await build.puppets("box", measure=look)
    await told(metrics_of(house, folders=[house.folder]))  # how it was when it last answered is known from here on
    monkeypatch.setattr("dlqueue.daemon.metrics.DISKS_TIMEOUT", 0.05)
    metrics = metrics_of(house, folders=[house.folder, Path("/hangs")])
    try:
        for _ in range(3):
            families = await told(metrics)
            assert len(families["dlqueue_disk_size_bytes"].samples) == 1
        await house.eventually(lambda: asked, "it is asked")
        assert len(asked) == 1
    finally:
        release.set()


async def test_what_is_owed_to_a_downloader_that_is_away_is_told(build: Builder) -> None:
    house = await build.puppets("box")
    house.puppet().goes("all", Unavailable("gone"))
    await house.endpoints.borrow(Obligation("box", "0" * 16, "0" * 16, ""))
    assert value(await told(metrics_of(house)), "dlqueue_downloader_debts", downloader="box") == 1


async def test_a_store_in_trouble_does_not_hide_the_rest(build: Builder, monkeypatch: pytest.MonkeyPatch) -> None:
    house = await build.puppets("box")

    async def refuse() -> None:
        raise StorageError("disk I/O error")

    monkeypatch.setattr(house.queue, "tallies", refuse)
    families = await told(metrics_of(house))
    assert value(families, "dlqueue_store_up") == 0
    assert families["dlqueue_tasks"].samples == []
    assert value(families, "dlqueue_downloader_up", downloader="box") == 1


# -- it keeps its size ------------------------------------------------------------------------------------------------


async def test_ten_thousand_tasks_make_no_series(build: Builder, tmp_path: Path) -> None:
    store = SqlStore(f"sqlite:///{tmp_path / 'queue.db'}", "process")
    house = await build.puppets("box", store=store, tasks=(Quick(),))
    metrics = metrics_of(house, store, [house.destination])
    first = await house.queue.submit("quick", {}, owner="somebody", labels={"tag": ["x"]})
    await house.queue.wait(first.id)
    before = _series(await told(metrics))
    for number in range(0, 10_000, 1000):
        made = [("quick", {"url": f"https://host/{number + i}"}, {"owner": f"o{i}"}) for i in range(1000)]
        tasks = await house.queue.submit_many(made)
        await house.queue.wait(tasks[-1].id)
    families = await told(metrics)
    assert _series(families) == before
    assert value(families, "dlqueue_tasks_submitted_total") == 10_001
    assert len(before) < 400


def _series(families: dict[str, Metric]) -> set[tuple[str, tuple[tuple[str, str], ...]]]:
    return {(one.name, tuple(sorted(one.labels.items()))) for family in families.values() for one in family.samples}


async def test_made_up_queues_share_one_name(build: Builder) -> None:
    house = await build.puppets("box", tasks=(Quick(),))
    metrics = metrics_of(house)
    for number in range(NAMES + 30):
        task = await house.queue.submit("quick", {}, queue=f"queue-{number}")
        await house.queue.wait(task.id)
    families = await told(metrics)
    queues = {one.labels["queue"] for one in families["dlqueue_tasks"].samples}
    assert len(queues) == NAMES + 1 and OTHER in queues
    assert value(families, "dlqueue_tasks", queue=OTHER, status="completed") == 30
    assert len({one.labels["queue"] for one in families["dlqueue_lag_seconds"].samples}) == NAMES + 1
    assert value(families, "dlqueue_lag_seconds_count", queue=OTHER) == 30
    assert queues == {one.labels["queue"] for one in (await told(metrics))["dlqueue_tasks"].samples}


async def test_names_beyond_the_limit_are_counted_together() -> None:
    histograms, tally = ByName(Histogram), Tally()
    for number in range(NAMES + 5):
        histograms[f"n{number}"].observe(1.0)
        tally.add(f"n{number}", "completed")
        tally.add(f"n{number}", "error")
    assert len(histograms) == NAMES + 1 and sum(histograms[OTHER].counts) == 5
    assert len(tally) == 2 * NAMES + 2 and tally[OTHER, "completed"] == tally[OTHER, "error"] == 5


async def test_a_value_counts_in_the_bucket_that_ends_with_it() -> None:
    histogram = Histogram((1.0, 2.0))
    for one in (0.5, 1.0, 1.5, 2.0, 9.0):
        histogram.observe(one)
    assert (histogram.counts, histogram.total) == ([2, 2, 1], 14.0)


# -- it keeps the rules -----------------------------------------------------------------------------------------------

_UNITS = ("_seconds", "_bytes", "_bytes_per_second")
_SCALED = re.compile(r"milli|micro|minutes|hours|_ms\b|kilo|mega|kib|mib|percent|_kb|_mb")


def lint(families: dict[str, Metric]) -> list[str]:
    """The rules of ``promtool check metrics`` (Prometheus, "Metric and label naming"), and ours."""
    found = []
    for name, family in families.items():
        if not re.fullmatch(r"dlqueue_[a-z][a-z0-9_]*[a-z0-9]", name):
            found.append(f"{name}: its name")
        if not family.documentation.endswith(".") and not name.startswith("dlqueue_process_"):
            found.append(f"{name}: no help")
        if _SCALED.search(name):
            found.append(f"{name}: not in a base unit")
        if family.type == "unknown" or name.endswith(("_total", f"_{family.type}")):
            found.append(f"{name}: its type")
        for unit in ("seconds", "bytes"):
            if unit in name.split("_") and not name.endswith(_UNITS):
                found.append(f"{name}: the unit stands at the end")
        if family.type == "histogram" and not name.endswith(("_seconds", "_changes")):
            found.append(f"{name}: the unit of its buckets")
        for sample in family.samples:
            counter = sample.name.endswith("_total")
            if counter is not (family.type == "counter"):
                found.append(f"{sample.name}: _total is for counters")
            for label in sample.labels:
                if label in ("id", "task", "url", "owner", "user", "key") or not re.fullmatch("[a-z]+", label):
                    found.append(f"{sample.name}: the label {label}")
    return found


async def test_every_sample_keeps_the_rules(build: Builder, tmp_path: Path) -> None:
    store = SqlStore(f"sqlite:///{tmp_path / 'queue.db'}")
    house = await build.puppets("box", store=store, tasks=(Quick(),))
    metrics = metrics_of(house, store, [house.destination])
    task = await house.queue.submit("quick", {"fails": True})
    await house.queue.wait(task.id)
    text = (await metrics.render()).decode()
    families = {family.name: family for family in text_string_to_metric_families(text)}
    assert len(families) > 30
    assert lint(families) == []
    assert set(re.findall(r"^# HELP (\w+)", text, re.MULTILINE)) == set(
        re.findall(r"^# TYPE (\w+)", text, re.MULTILINE)
    )
    assert metrics.content_type.startswith("text/plain; version=")
    promtool = shutil.which("promtool")
    if promtool is not None:  # what it says of counters is not the same in all its versions: errors only
        checked = await anyio.to_thread.run_sync(
            lambda: subprocess.run([promtool, "check", "metrics"], input=text, text=True, capture_output=True)
        )
        assert checked.returncode in (0, 3), checked.stderr


async def test_buckets_rise_to_the_count(build: Builder) -> None:
    house = await build.puppets("box", tasks=(Quick(),))
    for _ in range(3):
        await house.queue.wait((await house.queue.submit("quick", {})).id)
    family = (await told(metrics_of(house)))["dlqueue_step_duration_seconds"]
    buckets = [one.value for one in family.samples if one.name.endswith("_bucket")]
    assert buckets == sorted(buckets) and buckets[-1] == 3.0
    assert [one.labels["le"] for one in family.samples if one.name.endswith("_bucket")][-1] == "+Inf"
