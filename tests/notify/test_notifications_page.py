"""The receiver that is printed in docs/notifications.md takes what dlqueue sends, once, and nothing else."""

from __future__ import annotations

import base64
import re
import threading
import time
from http.server import ThreadingHTTPServer
from pathlib import Path
from typing import Any

import pytest

from dlqueue.notify import webhooks
from dlqueue.notify.failure import Failed
from dlqueue.notify.plan import WebhookPolicy

PAGE = Path(__file__).parents[2] / "docs" / "notifications.md"


def test_the_receiver_of_the_page(capsys: pytest.CaptureFixture[str]) -> None:
    (program,) = re.findall(r"^```python\n(.*?)^```$", PAGE.read_text(encoding="utf-8"), re.MULTILINE | re.DOTALL)
    key = bytes(range(24))
    names: dict[str, Any] = {"__name__": "page"}
    exec(compile(program.replace("whsec_…", "whsec_" + base64.b64encode(key).decode()), "page", "exec"), names)
    names["Receiver"].log_message = lambda *given: None
    server = ThreadingHTTPServer(("127.0.0.1", 0), names["Receiver"])
    threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.02}, daemon=True).start()
    url = f"http://127.0.0.1:{server.server_port}/"
    body = b'{"type": "task.delivered", "data": {"id": 42, "status": "completed"}}'

    def send(key: bytes, now: float = 0.0) -> None:
        webhooks.send(url, "msg_1", body, key, WebhookPolicy(allow_private=True), now or time.time())

    try:
        send(key)
        send(key)
        for signed_with, at in ((bytes(24), 0.0), (key, time.time() - 3600)):
            with pytest.raises(Failed, match="401"):
                send(signed_with, at)
    finally:
        server.shutdown()
        server.server_close()
    assert capsys.readouterr().out == "task.delivered 42 completed\n"
