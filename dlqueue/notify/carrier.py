"""Brings one letter to where it goes, whatever that is."""

from __future__ import annotations

import json
import logging
from collections.abc import Callable
from typing import Any

from dlqueue.notify import messengers, targets, webhooks
from dlqueue.notify.failure import Failed
from dlqueue.notify.hooks import Hooks
from dlqueue.notify.plan import Plan, WebhookPolicy
from dlqueue.queue.outbox import Letter
from dlqueue.runtime.clock import Clock

log = logging.getLogger(__name__)


class Carrier:
    """Used by many threads.

    :param plan: answers what is in force now.
    """

    def __init__(self, plan: Callable[[], Plan], clock: Clock) -> None:
        self._plan = plan
        self._clock = clock
        self._unsigned = False
        self.hooks = Hooks()

    def carry(self, letter: Letter) -> None:
        """Blocks. :raises Failed: it did not arrive."""
        plan = self._plan()
        kind, value = targets.parts(letter.target)
        if kind == targets.WEBHOOK:
            self._warn(plan)
            policy = WebhookPolicy(plan.allow_private)
            webhooks.send(value, letter.key, letter.body.encode(), plan.secret, policy, self._clock.time())
        elif kind == targets.HOOK:
            hook = plan.hooks.get(value)
            if hook is None:
                raise Failed(f"no hook {value!r} is configured any more")
            document = json.dumps(_task(letter)).encode()
            self.hooks.run(value, hook, letter.event, letter.task_id, letter.key, document)
        else:
            url = value if kind == targets.MESSAGE else plan.targets.get(value)
            if url is None:
                raise Failed(f"no target {value!r} is configured any more")
            messengers.send(url, *messengers.text(letter.event, _task(letter)))

    def _warn(self, plan: Plan) -> None:
        if plan.secret is None and not self._unsigned:
            self._unsigned = True
            log.warning("webhooks are sent without a signature: set notify.webhook_secret so that receivers can tell")


def _task(letter: Letter) -> dict[str, Any]:
    data: dict[str, Any] = json.loads(letter.body)["data"]
    return data
