"""The machine can fail: each of these defects, planted into the queue or its store, is found by it."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import msgspec
import pytest
from hypothesis import HealthCheck, Phase, settings
from hypothesis.errors import Flaky
from hypothesis.stateful import run_state_machine_as_test
from msgspec import UNSET

from dlqueue.queue import dependencies, transitions, wants
from dlqueue.queue.errors import StorageError
from dlqueue.queue.memory import MemoryStore
from dlqueue.queue.queue import Queue
from dlqueue.queue.record import Change, TaskRecord
from dlqueue.queue.retry import RetryPolicy
from dlqueue.queue.settings import Lanes
from dlqueue.queue.sql.rows import Driver
from dlqueue.queue.sql.verbs import Verbs
from dlqueue.queue.sql.writer import Writer
from dlqueue.queue.status import Status
from tests.queue.machine import QueueMachine
from tests.queue.test_queue_machine import SqliteMachine

Patch = pytest.MonkeyPatch
EXAMPLES = 1000
"""How many random lives a defect may stay unseen. Nearly always a few dozen are enough; which ones are tried depends on
all that is imported, so there is room for bad luck."""


def stale_answers_count(patch: Patch) -> None:
    """The fence is open: who has lost the lease writes all the same."""
    settle = transitions.settle

    def unfenced(record: TaskRecord, token: int, *rest: Any) -> Change | None:
        return settle(record, record.lease_token, *rest)

    patch.setattr(transitions, "settle", unfenced)


def a_claim_takes_no_new_lease(patch: Patch) -> None:
    claim = transitions.claim

    def same_lease(record: TaskRecord, *rest: Any, **more: Any) -> Change | None:
        change = claim(record, *rest, **more)
        if change is not None and change.record.status is Status.PROCESSING and record.lease_token:
            change.record = msgspec.structs.replace(change.record, lease_token=record.lease_token)
        return change

    patch.setattr(transitions, "claim", same_lease)


def state_is_not_saved_with_a_retry(patch: Patch) -> None:
    settle = transitions.settle

    def forgetful(record: TaskRecord, token: int, end: Any, now: float) -> Change | None:
        if end.kind == "retry":
            end.state = UNSET
        return settle(record, token, end, now)

    patch.setattr(transitions, "settle", forgetful)


def a_rescue_forgets_the_state(patch: Patch) -> None:
    rescue = transitions.rescue

    def forgetful(record: TaskRecord, now: float) -> Change | None:
        change = rescue(record, now)
        if change is not None:
            change.record = msgspec.structs.replace(change.record, state=None)
            change.changed = change.changed | {"state"}
        return change

    patch.setattr(transitions, "rescue", forgetful)


def retries_without_end(patch: Patch) -> None:
    patch.setattr(RetryPolicy, "delay", lambda self, failures, error, random_=None: 1.0)


def no_limit_of_a_queue(patch: Patch) -> None:
    patch.setattr(Lanes, "concurrency", lambda self, queue: 99)


def one_dependency_is_enough(patch: Patch) -> None:
    resolve = transitions.resolve

    def hasty(record: TaskRecord, dependencies: list[TaskRecord], now: float) -> Change | None:
        done = [dependency for dependency in dependencies if dependency.delivered]
        return resolve(record, done or dependencies, now)

    patch.setattr(transitions, "resolve", hasty)
    patch.setattr(dependencies, "_waits_for_another", lambda *_: False)  # asked before, so that most need no other look


def a_failed_dependency_is_as_good_as_any(patch: Patch) -> None:
    resolve = transitions.resolve

    def lax(record: TaskRecord, dependencies: list[TaskRecord], now: float) -> Change | None:
        return resolve(
            msgspec.structs.replace(
                record, options=msgspec.structs.replace(record.options, on_dependency_failure="run")
            ),
            dependencies,
            now,
        )

    patch.setattr(transitions, "resolve", lax)


def what_has_ended_can_be_canceled(patch: Patch) -> None:
    cancel = wants.cancel

    def careless(record: TaskRecord, *rest: Any, **more: Any) -> Change | None:
        if record.final and record.status is not Status.CANCELED:
            return transitions.amend(record, rest[0], "canceled", status=Status.CANCELED)
        return cancel(record, *rest, **more)

    patch.setattr(wants, "cancel", careless)


def a_change_without_a_revision(patch: Patch) -> None:
    wake = transitions.wake

    def quiet(record: TaskRecord, now: float) -> Change | None:
        change = wake(record, now)
        if change is not None:
            change.record = msgspec.structs.replace(change.record, revision=record.revision)
        return change

    patch.setattr(transitions, "wake", quiet)


def an_update_of_what_has_changed(patch: Patch) -> None:
    update = wants.update
    patch.setattr(wants, "update", lambda record, now, **more: update(record, now, **{**more, "if_revision": None}))


def keys_are_not_looked_at(patch: Patch) -> None:
    submit = MemoryStore._submit_one

    def keyless(self: MemoryStore, new: Any, now: float) -> Any:
        return submit(self, msgspec.structs.replace(new, unique_key=None), now)

    patch.setattr(MemoryStore, "_submit_one", keyless)


def half_of_a_batch_stays(patch: Patch) -> None:
    submit = MemoryStore.submit

    async def halfway(self: MemoryStore, tasks: Any, now: float, *more: Any, **named: Any) -> Any:
        if len(tasks) > 1:
            await submit(self, tasks[:1], now, *more, **named)
        return await submit(self, tasks, now, *more, **named)

    patch.setattr(MemoryStore, "submit", halfway)


def nothing_is_rescued_at_the_start(patch: Patch) -> None:
    async def nothing(self: Any) -> list[int]:
        return []

    patch.setattr(MemoryStore, "processing", nothing)


def a_stop_fails_what_runs(patch: Patch) -> None:
    def failed(record: TaskRecord, token: int, now: float, executed: float = 0.0) -> Change | None:
        end = transitions.Settlement(target=Status.ERROR, kind="error")
        return transitions.settle(record, token, end, now)

    patch.setattr(transitions, "release", failed)


def the_wake_is_lost(patch: Patch) -> None:
    async def asleep(self: Queue, hold: str, n: int | None = None) -> int:
        return 0

    patch.setattr(Queue, "wake", asleep)


def answered_before_the_commit(patch: Patch) -> None:
    """SQLite: every fifth transaction is answered and then lost."""
    attempt = Writer._attempt
    count = [0]

    def lost(self: Writer, driver: Driver, group: Any) -> Any:
        count[0] += 1
        if count[0] % 5:
            return attempt(self, driver, group)

        class Forgetful:
            in_transaction = True

            def execute(self, sql: str, *values: Any) -> Any:
                return driver.execute("ROLLBACK" if sql == "COMMIT" else sql, *values)

            def executemany(self, sql: str, rows: Any) -> Any:
                return driver.executemany(sql, rows)

        answer = attempt(self, Forgetful(), group)
        self._rolled_back()
        return answer

    patch.setattr(Writer, "_attempt", lost)


def an_event_is_not_written(patch: Patch) -> None:
    """SQLite: nobody can read later that a task was paused."""
    write = Verbs.write

    def silent(self: Verbs, driver: Driver, changes: Any, new: Any = ()) -> None:
        for change in changes:
            if change.kind == "paused":
                change.kind = ""
        write(self, driver, changes, new)

    patch.setattr(Verbs, "write", silent)


MEMORY: list[Callable[[Patch], None]] = [
    stale_answers_count,
    a_claim_takes_no_new_lease,
    state_is_not_saved_with_a_retry,
    a_rescue_forgets_the_state,
    retries_without_end,
    no_limit_of_a_queue,
    one_dependency_is_enough,
    a_failed_dependency_is_as_good_as_any,
    what_has_ended_can_be_canceled,
    a_change_without_a_revision,
    an_update_of_what_has_changed,
    keys_are_not_looked_at,
    half_of_a_batch_stays,
    nothing_is_rescued_at_the_start,
    a_stop_fails_what_runs,
    the_wake_is_lost,
]
SQLITE: list[Callable[[Patch], None]] = [answered_before_the_commit, an_event_is_not_written]


@pytest.mark.parametrize("defect", [*MEMORY, *SQLITE], ids=lambda defect: defect.__name__)
def test_it_is_found(defect: Callable[[Patch], None], monkeypatch: Patch) -> None:
    defect(monkeypatch)
    machine = SqliteMachine if defect in SQLITE else QueueMachine
    # With a thread that writes, a life cannot always be lived twice: then it was the defect that made the difference.
    with pytest.raises((AssertionError, StorageError, BaseExceptionGroup, Flaky)):
        run_state_machine_as_test(
            machine,
            settings=settings(
                max_examples=EXAMPLES,
                stateful_step_count=30,
                phases=[Phase.generate],
                database=None,
                report_multiple_bugs=False,
                suppress_health_check=list(HealthCheck),
            ),
        )
