"""The conformance suite of the `dlqueue.queue.store.Store` protocol."""

from __future__ import annotations

from dlqueue.queue.testing.changes import Changes
from dlqueue.queue.testing.edits import Edits
from dlqueue.queue.testing.figures import Figures
from dlqueue.queue.testing.lookups import Lookups
from dlqueue.queue.testing.outbox import Outbox
from dlqueue.queue.testing.queues import Queues
from dlqueue.queue.testing.schedules import Schedules
from dlqueue.queue.testing.submits import Submits


class StoreConformance(Submits, Changes, Edits, Lookups, Queues, Figures, Schedules, Outbox):
    """Subclass it, give the fixture ``new_store`` (a callable; each call answers an unopened store, and if it is
    ``durable`` all of them share their data), and pytest does the rest. It needs a fixture ``anyio_backend`` that
    answers ``"asyncio"``."""
