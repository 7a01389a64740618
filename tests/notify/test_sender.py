"""From the outbox to the receiver: nothing is lost, nothing has two ids, and nobody is in the way of others."""

from __future__ import annotations

import asyncio
import base64
import datetime
import itertools
import json
import random
from collections import Counter
from collections.abc import AsyncIterator, Awaitable, Callable
from pathlib import Path
from typing import Any

import pytest
from standardwebhooks import Webhook

from dlqueue.downloads.routing import Rule
from dlqueue.notify import sender
from dlqueue.notify.failure import Failed
from dlqueue.notify.plan import Hook, NotifyRule, Plan, Wish
from dlqueue.notify.postman import Postman
from dlqueue.notify.sender import AT_ONCE_IN_A_BUNDLE, AT_ONCE_IN_A_LANE, LONGEST_WAIT, TRIES, wait_after
from dlqueue.queue import Completed, CriticalError, Queue
from dlqueue.queue.outbox import Letter
from dlqueue.queue.sql import SqlStore
from dlqueue.queue.testing import FakeClock
from tests.notify.receiver import Got, Receiver, Reply
from tests.queue.rig import task

pytestmark = pytest.mark.anyio

SECRET = b"0123456789abcdef0123456789abcdef"


def act(ctx: Any) -> Completed:
    if ctx.params.get("fail"):
        raise CriticalError("no luck")
    return Completed({"n": ctx.params.get("n")})


class World:
    def __init__(self, folder: Path, plan: Plan) -> None:
        self.clock = FakeClock()
        store = SqlStore(f"sqlite:///{folder}/queue.db", durability="process")
        self.queue = Queue([task(act, type="probe")], store, workers=4, clock=self.clock)
        self.postman = Postman(self.queue, plan, lambda r: {"id": r.id, "type": r.type, "status": str(r.status)})

    async def left(self) -> list[Letter]:
        return await self.queue.outbox.letters(10_000)

    async def emptied(self) -> None:
        """Until everything has arrived or is given up; time goes by where nothing else happens."""
        async with asyncio.timeout(60):
            while await self.left():
                await self.still()
                if left := await self.left():
                    self.clock.advance(max(left[0].due_at - self.clock.time(), 0.0))

    async def still(self) -> None:
        """Until nothing is on its way."""
        async with asyncio.timeout(60):
            while not await self.postman.idle(0):
                await asyncio.sleep(0.002)


Make = Callable[[Plan], Awaitable[World]]


@pytest.fixture
async def world(tmp_path: Path) -> AsyncIterator[Make]:
    made: list[World] = []

    async def make(plan: Plan) -> World:
        one = World(tmp_path, plan)
        made.append(one)
        await one.queue.open()
        one.queue.start()
        one.postman.start()
        return one

    yield make
    for one in made:
        await one.postman.stop()
        await one.queue.shutdown(0)


async def test_a_clock_that_is_set_back_holds_up_nothing(world: Make) -> None:
    replies = iter([Reply(500)])
    with Receiver(lambda got: next(replies, Reply())) as receiver:
        here = await world(Plan(allow_private=True))
        made = await here.queue.submit("probe", {}, notify={"webhook": receiver.url()})
        await here.queue.wait(made.id, 60)
        await here.still()
        assert len(await here.left()) == 1, "put off"
        here.clock.set_back(86400)
        here.queue.outbox.arrived.set()
        async with asyncio.timeout(60):
            while await here.left():
                await asyncio.sleep(0.002)
    assert len(receiver.got) == 2


async def test_an_unreliable_receiver_gets_all_of_a_thousand(world: Make) -> None:
    chance = random.Random(4)
    arrived: Counter[str] = Counter()
    bodies: dict[str, set[bytes]] = {}

    def sometimes(got: Got) -> Reply:
        key = got.headers["webhook-id"]
        bodies.setdefault(key, set()).add(got.body)
        if chance.random() < 0.3:
            return Reply(chance.choice([500, 502, 429, 302]))
        arrived[key] += 1
        return Reply()

    with Receiver(sometimes) as receiver:
        here = await world(Plan(secret=SECRET, allow_private=True))
        given = {"notify": {"webhook": receiver.url()}}
        made = await here.queue.submit_many([("probe", {"n": n}, given) for n in range(1000)])
        await asyncio.gather(*(here.queue.wait(one.id, 60) for one in made))
        await here.emptied()
    told = [json.loads(body)["data"]["id"] for each in bodies.values() for body in each]
    assert sorted(told) == sorted(one.id for one in made), "one body for each id, one id for each task"
    assert set(arrived) == set(bodies) and set(arrived.values()) == {1}
    assert len(receiver.got) > 1200
    webhook = Webhook("whsec_" + base64.b64encode(SECRET).decode())
    for got in receiver.got:
        at = datetime.datetime.fromtimestamp(int(got.headers["webhook-timestamp"]), datetime.UTC)
        signed = webhook.sign(got.headers["webhook-id"], at, got.body.decode())
        assert got.headers["webhook-signature"] == signed
    for one in made[:20]:
        assert "notice_failed" not in [event.kind for event in await here.queue.history(one.id)]


async def test_what_was_not_sent_is_sent_after_another_start(tmp_path: Path, world: Make) -> None:
    first = World(tmp_path, Plan(allow_private=True))
    await first.queue.open()
    first.queue.start()
    with Receiver() as receiver:
        made = await first.queue.submit("probe", {}, notify={"webhook": receiver.url()})
        await first.queue.wait(made.id, 30)
        await first.queue.shutdown(0)
        second = await world(Plan(allow_private=True))
        await second.still()
        assert json.loads(receiver.got[0].body)["data"]["id"] == made.id
        assert await second.left() == []


async def test_waits_grow_to_an_hour_and_end_after_a_day() -> None:
    waits = [wait_after(attempts, Failed("")) for attempts in range(1, TRIES)]
    assert waits[:5] == [1, 2, 4, 8, 16] and max(waits) == LONGEST_WAIT
    assert 22 * 3600 < sum(waits) <= 24 * 3600 < sum(waits) + LONGEST_WAIT
    assert wait_after(1, Failed("", retry_after=30)) == 30
    assert wait_after(9, Failed("", retry_after=30)) == 256
    assert wait_after(1, Failed("", retry_after=1e9)) == LONGEST_WAIT


async def test_given_up_after_a_day(world: Make, caplog: pytest.LogCaptureFixture) -> None:
    times: list[float] = []

    def never(got: Got) -> Reply:
        times.append(here.clock.time())
        return Reply(500)

    with Receiver(never) as receiver:
        here = await world(Plan(allow_private=True))
        made = await here.queue.submit("probe", {}, notify={"webhook": receiver.url("token")})
        await here.queue.wait(made.id, 30)
        await here.emptied()
    assert [round(b - a) for a, b in itertools.pairwise(times)][:4] == [1, 2, 4, 8]
    assert len({got.headers["webhook-id"] for got in receiver.got}) == 1
    last = (await here.queue.history(made.id))[-1]
    assert last.kind == "notice_failed" and "given up after 35 attempts" in (last.message or "")
    assert "token" not in (last.message or "")
    (line,) = [record for record in caplog.records if "given up" in record.getMessage()]
    assert line.task_id == made.id  # type: ignore[attr-defined]


async def test_gone_is_given_up_at_once_though_its_task_is_removed(world: Make) -> None:
    with Receiver(lambda got: Reply(410)) as receiver:
        here = await world(Plan(allow_private=True))
        made = await here.queue.submit("probe", {"fail": True}, notify={"webhook": receiver.url()})
        await here.queue.wait(made.id, 30)
        await here.queue.remove(made.id)
        await here.still()
        assert (await here.left(), len(receiver.got)) == ([], 1)


def some_hang(world: World, monkeypatch: pytest.MonkeyPatch) -> tuple[asyncio.Event, list[str]]:
    """Receivers with "stuck" in their names hang until the event is set; the list has the letters they were given."""
    release, hanging, loop = asyncio.Event(), list[str](), asyncio.get_running_loop()
    carry = world.postman._sender._carrier.carry

    def stuck(letter: Letter) -> None:
        if "stuck" in letter.target:
            hanging.append(letter.key)
            asyncio.run_coroutine_threadsafe(release.wait(), loop).result(30)
        else:
            carry(letter)

    monkeypatch.setattr(world.postman._sender._carrier, "carry", stuck)
    return release, hanging


async def test_a_receiver_that_hangs_leaves_the_others_alone(world: Make, monkeypatch: pytest.MonkeyPatch) -> None:
    with Receiver() as receiver:
        here = await world(Plan(allow_private=True))
        release, hanging = some_hang(here, monkeypatch)
        given = {"notify": {"webhook": "http://stuck.example/x"}}
        await here.queue.submit_many([("probe", {}, given) for _ in range(200)])
        made = await here.queue.submit("probe", {}, notify={"webhook": receiver.url()})
        await here.queue.wait(made.id, 30)
        async with asyncio.timeout(30):
            while not receiver.got or len(hanging) < AT_ONCE_IN_A_LANE:
                await asyncio.sleep(0.002)
        assert len(hanging) == AT_ONCE_IN_A_LANE
        release.set()
        await here.still()
        assert len(set(hanging)) == len(hanging) == 200


async def test_somebody_with_many_receivers_that_hang_leaves_others_alone(
    world: Make, monkeypatch: pytest.MonkeyPatch
) -> None:
    with Receiver() as receiver:
        here = await world(Plan(allow_private=True))
        release, hanging = some_hang(here, monkeypatch)
        for number in range(100):
            notify = {"webhook": f"http://stuck{number}.example/x"}
            await here.queue.submit("probe", {}, notify=notify, owner="mallory")
        made = await here.queue.submit("probe", {}, notify={"webhook": receiver.url()}, owner="ann")
        await here.queue.wait(made.id, 30)
        async with asyncio.timeout(30):
            while not receiver.got or len(hanging) < AT_ONCE_IN_A_BUNDLE:
                await asyncio.sleep(0.002)
        assert len(hanging) == AT_ONCE_IN_A_BUNDLE
        release.set()
        await here.still()
        assert len(set(hanging)) == len(hanging) == 100
        assert not here.postman._sender._bundles and not here.postman._sender._lanes


async def test_by_rule_and_by_task_is_told_once(world: Make, tmp_path: Path) -> None:
    out = tmp_path / "out"
    hook = Hook(("sh", "-c", f'printf "%s %s\\n" "$DLQUEUE_EVENT" "$DLQUEUE_TASK_ID" >> {out}'))
    films = NotifyRule(Rule((), tag=("films",)), Wish(frozenset({"error"}), hook="note"))
    here = await world(Plan(hooks={"note": hook}, rules=(films,)))
    both = {"labels": {"tag": "films"}, "notify": {"hook": "note"}}
    made = await here.queue.submit_many(
        [
            ("probe", {"fail": True}, both),
            ("probe", {"fail": True}, {"labels": {"tag": "films"}}),
            ("probe", {}, {"labels": {"tag": "films"}}),
            ("probe", {"fail": True}),
        ]
    )
    await asyncio.gather(*(here.queue.wait(one.id, 30) for one in made))
    await here.still()
    assert sorted(out.read_text().splitlines()) == [f"error {made[0].id}", f"error {made[1].id}"]


async def test_a_hook_that_fails_is_tried_five_times(world: Make, tmp_path: Path) -> None:
    out = tmp_path / "out"
    here = await world(Plan(hooks={"bad": Hook(("sh", "-c", f"echo x >> {out}; exit 9"))}))
    made = await here.queue.submit("probe", {}, notify={"hook": "bad", "on": ["delivered"]})
    await here.queue.wait(made.id, 30)
    await here.emptied()
    assert out.read_text().split() == ["x"] * sender.HOOK_TRIES
    sent = here.postman.sent
    assert (sent.arrived["hook"], sent.put_off["hook"], sent.given_up["hook"]) == (0, sender.HOOK_TRIES - 1, 1)
    assert "exit code 9" in ((await here.queue.history(made.id))[-1].message or "")


async def test_a_new_plan_counts_for_what_is_in_the_outbox(world: Make, tmp_path: Path) -> None:
    here = await world(Plan(hooks={"late": Hook(("/nowhere",))}))
    made = await here.queue.submit("probe", {}, notify={"hook": "late"})
    await here.queue.wait(made.id, 30)
    await here.still()
    (letter,) = await here.left()
    assert (letter.attempts, letter.last_error) == (1, "/nowhere cannot be started: No such file or directory")
    here.postman.configure(Plan(hooks={"late": Hook(("touch", str(tmp_path / "done")))}))
    await here.emptied()
    assert (tmp_path / "done").exists()


async def test_a_store_that_fails_for_a_while(world: Make, monkeypatch: pytest.MonkeyPatch) -> None:
    from dlqueue.queue import StorageError

    monkeypatch.setattr(sender, "STORE_WAIT", 0.01)
    with Receiver() as receiver:
        here = await world(Plan(allow_private=True))
        settle, failures = here.queue.outbox.settle, iter(range(2))

        async def failing(settled: Any) -> None:
            if next(failures, None) is not None:
                raise StorageError("the disk is full")
            await settle(settled)

        monkeypatch.setattr(here.queue.outbox, "settle", failing)
        made = await here.queue.submit("probe", {}, notify={"webhook": receiver.url()})
        await here.queue.wait(made.id, 30)
        await here.still()
        assert (len(receiver.got), await here.left()) == (1, [])
