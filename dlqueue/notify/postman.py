"""All of this room in one piece, for the daemon: who is told, how, and when."""

from __future__ import annotations

import json
import uuid

from dlqueue.notify import targets
from dlqueue.notify.addressing import Addressing, View, message
from dlqueue.notify.carrier import Carrier
from dlqueue.notify.failure import Failed
from dlqueue.notify.plan import Plan, Wish
from dlqueue.notify.sender import Sender, Sent
from dlqueue.queue import Queue, TaskRecord
from dlqueue.queue.outbox import Letter


class Postman:
    """Addresses and sends the letters of a queue.

    :param view: a task as anybody may see it.
    """

    def __init__(self, queue: Queue, plan: Plan, view: View) -> None:
        self._view = view
        self._clock = queue.clock
        self._outbox = queue.outbox
        self._addressing = Addressing(plan, view)
        self._outbox.address(self._addressing)
        self._sender = Sender(
            queue.outbox, Carrier(lambda: self._addressing.plan, queue.clock), queue.remark, queue.clock
        )

    @property
    def plan(self) -> Plan:
        """What is in force."""
        return self._addressing.plan

    def configure(self, plan: Plan) -> None:
        """From now on this, also for what is in the outbox already."""
        self._addressing.plan = plan

    def start(self) -> None:
        """Begin to send."""
        self._sender.start()

    async def stop(self) -> None:
        """See `Sender.stop`."""
        await self._sender.stop()

    @property
    def sent(self) -> Sent:
        """What has become of letters since the start."""
        return self._sender.sent

    async def idle(self, seconds: float) -> bool:
        """Is there nothing to be sent within so many seconds?"""
        return await self._sender.idle(seconds)

    def check(self, wish: Wish, admin: bool) -> None:
        """See `Addressing.check`."""
        self._addressing.check(wish, admin)

    async def about(self, task_id: int) -> list[Letter]:
        """What has not arrived yet of what is told of a task."""
        return await self._outbox.about(task_id)

    def find(self, name: str) -> str | None:
        """The target that a name or URL means; None if there is none."""
        if "://" in name:
            web = name.lower().startswith(("http://", "https://"))
            return targets.target(targets.WEBHOOK if web else targets.MESSAGE, name)
        if name in self.plan.targets:
            return targets.target(targets.NAMED, name)
        return targets.target(targets.HOOK, name) if name in self.plan.hooks else None

    async def trial(self, target: str, record: TaskRecord) -> Failed | None:
        """Send something there now, once; what kept it from arriving."""
        now = self._clock.time()
        body = json.dumps(message("completed", now, self._view(record)), ensure_ascii=False)
        letter = Letter(
            id=0,
            key=f"msg_{uuid.uuid4().hex}",
            task_id=record.id,
            event="completed",
            at=now,
            target=target,
            lane="",
            body=body,
            due_at=now,
        )
        return await self._sender.carry(letter)
