"""What a step says that no database takes, or nobody could read again: it ends its own task, and stops no worker."""

from __future__ import annotations

from typing import Any

import pytest

from dlqueue.queue import Canceled, Completed, Context, Outcome, Queue, ResumeAfter, TaskRecord
from tests.queue.rig import Rig, S, done, task

pytestmark = pytest.mark.anyio

NAME = "caf\udce9"
"""As Python reads the name of a file that is not UTF-8."""


class Speechless(Exception):
    """Its own words fail."""

    def __str__(self) -> str:
        raise RuntimeError


def failing(error: Exception) -> Outcome:
    raise error


def nonsense(parts: dict[str, Any]) -> Any:
    def run(ctx: Context) -> Outcome:
        ctx.progress(**parts)
        return Completed()

    return run


def queue_of(rig: Rig) -> Queue:
    assert rig.queue is not None
    return rig.queue


async def run_to_its_end(rig: Rig, step: Any) -> TaskRecord:
    async def run(ctx: Context) -> Outcome:
        result: Outcome = step(ctx)
        return result

    queue = await rig.start(task(run), workers=1)
    record = await rig.reached((await queue.submit("test")).id, S.COMPLETED, S.ERROR, S.CANCELED)
    assert (await queue.get(record.id)).error == record.error
    assert [seen.id for seen in (await queue.list()).items] == [record.id]
    return record


@pytest.mark.parametrize(
    ("error", "kind", "message"),
    [(ValueError(NAME), "ValueError", "caf\\udce9"), (Speechless(), "Speechless", "Speechless")],
)
async def test_the_words_of_an_error(rig: Rig, error: Exception, kind: str, message: str) -> None:
    record = await run_to_its_end(rig, lambda ctx: failing(error))
    assert record.status is S.ERROR
    assert record.error is not None
    assert (record.error.kind, record.error.message) == (kind, message)
    assert record.crashes == 0


@pytest.mark.parametrize(
    ("parts", "message"),
    [
        ({"counters": {"x": object()}}, "progress: Encoding objects of type object is unsupported"),
        ({"counters": {"x": "y"}}, "progress: Expected `int | float`, got `str` - at `$.counters[...]`"),
        ({"step": {"name": object()}}, "progress: Encoding objects of type object is unsupported"),
    ],
)
async def test_progress_that_cannot_be(rig: Rig, parts: dict[str, Any], message: str) -> None:
    record = await run_to_its_end(rig, nonsense(parts))
    assert record.status is S.ERROR
    assert record.error is not None
    assert (record.error.kind, record.error.message) == ("ValueError", message)


async def test_progress_names_a_file(rig: Rig) -> None:
    record = await run_to_its_end(rig, nonsense({"message": NAME}))
    assert record.status is S.COMPLETED
    assert record.progress is not None and record.progress.message == "caf\\udce9"


async def test_the_reason_of_one_that_gives_up(rig: Rig) -> None:
    record = await run_to_its_end(rig, lambda ctx: Canceled(NAME))
    assert record.status is S.CANCELED
    assert (await queue_of(rig).history(record.id))[-1].message == "caf\\udce9"


async def test_a_result_is_at_once_as_it_will_be_read(rig: Rig) -> None:
    record = await run_to_its_end(rig, lambda ctx: Completed({1: (2, float("nan"))}))
    assert record.result == {"1": [2, None]}
    assert (await queue_of(rig).get(record.id)).result == record.result


async def test_a_result_delivered_early_that_is_not_json(rig: Rig) -> None:
    async def run(ctx: Context) -> Outcome:
        await ctx.deliver(object())
        return Completed()

    queue = await rig.start(task(run), workers=1)
    record = await rig.reached((await queue.submit("test")).id, S.COMPLETED, S.ERROR, S.CANCELED)
    assert record.status is S.ERROR
    assert record.error is not None and record.error.kind == "result"


@pytest.mark.parametrize("seconds", [float("nan"), float("inf")])
def test_a_wait_has_an_end(seconds: float) -> None:
    with pytest.raises(ValueError, match="no number of seconds"):
        ResumeAfter(seconds)


@pytest.mark.parametrize("hold", ["", NAME])
def test_a_hold_is_a_word(hold: Any) -> None:
    with pytest.raises(ValueError, match="hold: must be a word, such as slot:box"):
        ResumeAfter(1, hold)


async def test_params_with_keys_of_another_kind(rig: Rig) -> None:
    queue = await rig.start(task(done))
    record = await queue.submit("test", {1: 2})
    assert record.params == {"1": 2}
    assert (await queue.get(record.id)).params == {"1": 2}
