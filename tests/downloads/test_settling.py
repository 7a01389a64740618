"""What is said to be whole and is not at rest is not delivered."""

from __future__ import annotations

from pathlib import Path

import pytest

from dlqueue.downloads.recovery import read_state
from dlqueue.downloads.settling import LOOKS
from dlqueue.queue import Status, TaskRecord
from dlqueue.sdk import TransferState
from tests.downloads.house import Builder, House

pytestmark = pytest.mark.anyio


def said_to_be_whole(house: House, key: str, content: bytes) -> Path:
    """17 bytes, that is."""
    path = house.puppet().requests[key].directory / "file.bin"
    path.write_bytes(content)
    state = TransferState.COMPLETED
    house.puppet().show(key, state=state, name=path.name, content=(str(path),), total=17, downloaded=17)
    return path


async def looks_again(house: House, task_id: int, times: int) -> TaskRecord:
    async def so() -> bool:
        return (await house.state(task_id)).unsettled == times

    await house.eventually(so, f"looked {times} times")
    return await house.holds(task_id, "transfer:")


async def test_a_file_that_grows_is_looked_at_again(build: Builder) -> None:
    house = await build.puppets()
    task_id = await house.add()
    key = await house.runs(task_id)
    path = said_to_be_whole(house, key, b"the whole")  # the rest is still on its way to the disk
    record = await looks_again(house, task_id, 1)
    assert [name for name in house.files() if not name.startswith(".")] == []
    path.write_bytes(b"the whole content")
    house.pass_time_until(record)
    await house.reaches(task_id, Status.COMPLETED)
    assert house.files() == {"file.bin": b"the whole content"}


async def test_one_that_never_settles_is_a_passing_error(build: Builder) -> None:
    house = await build.puppets()
    task_id = await house.add(max_retry=0)
    key = await house.runs(task_id)
    said_to_be_whole(house, key, b"half")
    looks = set()

    async def given_up() -> bool:
        record = await house.queue.get(task_id)
        looks.add(read_state(record).unsettled)
        return record.final

    await house.in_time(given_up, "it gives up")
    assert max(looks) == LOOKS
    record = await house.reaches(task_id, Status.ERROR)
    assert record.error is not None and record.error.kind == "size"
    assert "17 bytes are there, but there are 4" in record.error.message
    assert (await house.state(task_id)).attempts[-1].error_class == "passing"
    assert "file.bin" not in house.files()
