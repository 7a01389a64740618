"""The verbs of notices: what a submit asks for, what is still to be told, and a trial."""

from __future__ import annotations

from typing import Any

from dlqueue.notify import targets
from dlqueue.notify.addressing import read_wish
from dlqueue.notify.postman import Postman
from dlqueue.protocol import notify as messages
from dlqueue.protocol.caller import Caller
from dlqueue.protocol.errors import Forbidden, NotFound, did_you_mean
from dlqueue.protocol.times import instant_text
from dlqueue.queue import Status, TaskRecord
from dlqueue.service.access import Access


class NotifyVerbs:
    """Everybody names what is configured; URLs that reach further are for admins."""

    def __init__(self, postman: Postman, access: Access) -> None:
        self._postman = postman
        self._access = access

    def wish(self, caller: Caller, notify: messages.Notify) -> dict[str, Any]:
        """As it is stored with the task. :raises InvalidTask: see `Postman.check`."""
        stored = notify.parts()
        # A token that root made for somebody is not root.
        self._postman.check(read_wish(stored), self._access.is_admin(caller) and caller.has_role("admin"))
        return stored

    async def pending(self, task_id: int) -> list[messages.Notice]:
        """What has not arrived yet."""
        return [
            {
                "id": letter.key,
                "event": letter.event,  # type: ignore[typeddict-item]  # one of TOLD
                "target": targets.shown(letter.target),
                "at": instant_text(letter.at),
                "attempts": letter.attempts,
                "next_at": instant_text(letter.due_at),
                "error": letter.last_error,
            }
            for letter in await self._postman.about(task_id)
        ]

    async def test(self, caller: Caller, params: messages.TestNotify) -> messages.NotifyTest:
        self._access.require_admin(caller, "notify.test")
        if "://" in params.name and not caller.has_role("admin"):
            # Such a URL reaches whatever the daemon reaches. A token that root made for somebody is not root.
            raise Forbidden("only the role admin may give a URL; others name a target or hook", kind="role")
        target = self._postman.find(params.name)
        if target is None:
            known = sorted((*self._postman.plan.targets, *self._postman.plan.hooks))
            meant = did_you_mean(params.name, known) or f"; there is {', '.join(known) or 'none'}"
            raise NotFound(
                f"no target or hook {params.name[:100]!r} is configured{meant}", kind="receiver", field="name"
            )
        sample = TaskRecord(
            id=0,
            type="test",
            queue="default",
            status=Status.COMPLETED,
            owner=caller.name,
            params={},
            result={"message": "a test of dlqueue"},
        )
        failure = await self._postman.trial(target, sample)
        said = "it has arrived" if failure is None else failure.message
        return {"ok": failure is None, "target": targets.shown(target), "message": said}
