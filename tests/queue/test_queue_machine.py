"""The machine of `tests.queue.machine` on both stores. Longer: pytest tests/queue/test_queue_machine.py
--hypothesis-profile nightly"""

from __future__ import annotations

from hypothesis import settings

from tests.queue.machine import QueueMachine

_NIGHTLY = settings.get_current_profile_name() == "nightly"


class SqliteMachine(QueueMachine):
    durable = True


TestInMemory = QueueMachine.TestCase
TestInMemory.settings = settings() if _NIGHTLY else settings(max_examples=100, stateful_step_count=40)
TestOnSqlite = SqliteMachine.TestCase
TestOnSqlite.settings = settings() if _NIGHTLY else settings(max_examples=12, stateful_step_count=30)
