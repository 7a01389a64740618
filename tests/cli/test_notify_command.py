"""`dlqueue notify test`, and what `show` tells of notices."""

from __future__ import annotations

import json

from dlqueue.cli import exits
from tests.cli.conftest import Run
from tests.transports.stub_service import StubDaemon


def test_it_arrives_or_not(daemon: StubDaemon, dlqueue: Run) -> None:
    assert dlqueue("notify", "test", "phone") == (exits.OK, "target phone\tok\tit has arrived\n", "")
    assert dlqueue("notify", "test", "broken") == (exits.FAILURE, "target broken\tnot ok\tno answer\n", "")
    code, out, _ = dlqueue("notify", "test", "broken", "--json")
    assert (code, json.loads(out)["ok"]) == (exits.FAILURE, False)
    assert dlqueue("notify", "test")[0] == exits.USAGE
