"""For tests of tasks, and for authors of stores: a clock that stands still, ways to wait, and the suite that proves a
`Store`.

    class TestMine(StoreConformance):
        durable = True
        @pytest.fixture
        def new_store(self, tmp_path):          # a callable; each call answers an unopened store on the same data
            return lambda: MyStore(tmp_path / "tasks")

docs/stores.md has a whole one. Needs pytest and its anyio plug-in. Nothing here waits for time: all waiting is for
events, with a deadline.
"""

from dlqueue.queue.testing.clock import FakeClock
from dlqueue.queue.testing.conformance import StoreConformance
from dlqueue.queue.testing.waiting import PATIENCE, drain, reached

__all__ = ["PATIENCE", "FakeClock", "StoreConformance", "drain", "reached"]
