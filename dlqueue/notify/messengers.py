"""Messages for people, by apprise: mail, chat, push. It is an extra, and imported only when there is one to send."""

from __future__ import annotations

import logging
import re
import threading
from collections.abc import Mapping
from typing import Any

from dlqueue.notify.failure import Failed

_TITLES = {"delivered": "Downloaded", "completed": "Completed", "error": "Failed", "canceled": "Canceled"}


def send(url: str, title: str, body: str) -> None:
    """Blocks. :raises Failed: apprise could not send it. The message does not repeat the URL."""
    try:
        import apprise
    except ModuleNotFoundError as error:
        raise Failed("the Python package apprise is missing: install dlqueue[notify]") from error
    service = apprise.Apprise()
    with _Overheard(url) as heard:
        if not service.add(url):
            raise Failed(f"apprise cannot use this URL{heard.reason()}")
        if not service.notify(body=body, title=title):
            raise Failed(f"apprise could not send it{heard.reason()}")


def text(event: str, task: Mapping[str, Any]) -> tuple[str, str]:
    """Title and body of a message about a task, as `tasks.get` shows it."""
    download, error = task.get("download") or {}, task.get("error") or {}
    name = download.get("name") or f"{task['type']} {task['id']}"
    lines = [
        f"Where: {download['location']}" if download.get("location") else None,
        f"Why: {error['message']}" if error and event == "error" else None,
        f"Task {task['id']}, owner {task['owner']}" if task.get("owner") else f"Task {task['id']}",
    ]
    return f"{_TITLES[event]}: {name}", "\n".join(line for line in lines if line)


class _Overheard(logging.Handler):
    """What apprise writes into its log in this thread, in place of an error."""

    def __init__(self, url: str) -> None:
        super().__init__(logging.WARNING)
        self._thread = threading.get_ident()
        self._last = ""
        # The pieces of a URL of apprise are mostly secrets.
        self._secrets = [piece for piece in re.split(r"[/:@?&=#,]+", url) if len(piece) >= 6]

    def emit(self, record: logging.LogRecord) -> None:
        if record.thread == self._thread:
            self._last = record.getMessage()

    def reason(self) -> str:
        """As the end of a sentence; nothing if it would give away what is in the URL."""
        told = self._last and not any(secret in self._last for secret in self._secrets)
        return f": {self._last[:300]}" if told else ""

    def __enter__(self) -> _Overheard:
        _quiet().addHandler(self)
        return self

    def __exit__(self, *_: object) -> None:
        _quiet().removeHandler(self)


def _quiet() -> logging.Logger:
    logger = logging.getLogger("apprise")
    logger.propagate = False  # it repeats URLs
    return logger
