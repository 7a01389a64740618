"""How far a transfer is, told to whoever looks: in the private state of its task, and as the task's progress."""

from __future__ import annotations

from typing import Any

from dlqueue.downloads.state import DownloadState
from dlqueue.queue import Context
from dlqueue.sdk import TransferState, TransferStatus


def note(state: DownloadState, status: TransferStatus) -> None:
    """For the steps to come; it is stored with the task."""
    state.state = str(status.state)
    state.name = status.name or state.name
    state.total = status.total
    state.downloaded = status.downloaded
    state.handle_hash = state.handle_hash or status.hash


def show(ctx: Context, status: TransferStatus | None) -> None:
    """For whoever watches the task; None = it has just begun."""
    if status is None:
        ctx.progress(message="", step={"name": "start", "done": 0, "total": 3})
        return
    ctx.progress(**progress_of(status))


def progress_of(status: TransferStatus) -> dict[str, Any]:
    """A status in the words of `Context.progress`."""
    total = status.total
    seeding = status.state is TransferState.SEEDING
    return {
        "percent": 100.0 * status.downloaded / total if total else None,
        "message": status.message or "",
        "step": {"name": "seeding", "done": 2, "total": 3} if seeding else {"name": "monitor", "done": 1, "total": 3},
        "counters": {
            "downloaded": status.downloaded,
            **({} if total is None else {"total": total}),
            "download_speed": round(status.download_speed),
            **({"uploaded": status.uploaded, "upload_speed": round(status.upload_speed)} if status.uploaded else {}),
        },
    }
