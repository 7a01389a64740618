"""THE table of methods. Dispatch, client, documents and reference pages all read it; nothing else lists methods."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, Literal

from dlqueue.protocol import doctor, messages, notify, overview, queues, schedules, statistics, tokens
from dlqueue.protocol.caller import Role
from dlqueue.protocol.envelope import DISCOVER, SUBSCRIBE, UNSUBSCRIBE, WAITING

Access = Literal["read", "write"]


@dataclass(frozen=True, kw_only=True)
class Method:
    """One row: what it takes and gives, what it may touch, and who may call it through the gateway."""

    name: str
    params: type[Any]
    result: Any
    access: Access
    role: Role
    doc: str
    since: str = "0.1"

    @property
    def waits(self) -> bool:
        """Whether it takes as long as its caller likes."""
        return self.name in WAITING


def _row(name: str, params: type[Any], result: Any, access: Access, role: Role, doc: str) -> Method:
    return Method(name=name, params=params, result=result, access=access, role=role, doc=doc)


_m = messages
_n = notify
_q = queues
_s = schedules
_t = tokens

METHODS: dict[str, Method] = {
    row.name: row
    for row in (
        _row("daemon.info", _m.NoParams, _m.DaemonInfo, "read", "read", "Version, node, uptime, store and counters."),
        _row(
            "daemon.overview",
            _m.NoParams,
            overview.Overview,
            "read",
            "read",
            "What a person wants to see first: counts, rates, disks, errors, and what needs somebody.",
        ),
        _row("daemon.config", _m.NoParams, dict[str, Any], "read", "admin", "The config in force, secrets hidden."),
        _row(
            "daemon.reload", _m.NoParams, _m.Reloaded, "write", "admin", "Read the configuration anew: all or nothing."
        ),
        _row("daemon.doctor", _m.NoParams, doctor.Diagnosis, "write", "admin", "What is wrong, and how to cure it."),
        _row("daemon.shutdown", _m.NoParams, _m.ShuttingDown, "write", "admin", "Stop: drain, then cancel."),
        _row("tasks.submit", _m.Submit, _m.Task, "write", "submit", "Submit one task."),
        _row("tasks.submit_many", _m.SubmitMany, list[_m.Task], "write", "submit", "Submit tasks, all or nothing."),
        _row("tasks.get", _m.GetTask, _m.Task, "read", "read", "One task."),
        _row("tasks.list", _m.ListTasks, _m.TaskPage, "read", "read", "A page of the tasks that match."),
        _row("tasks.count", _m.Filter, int, "read", "read", "How many tasks match."),
        _row("tasks.stats", statistics.Stats, statistics.Statistics, "read", "read", "How tasks ended, and how long."),
        _row("tasks.cancel", _m.SteerData, _m.Task | _m.Count, "write", "operate", "Cancel; final at once."),
        _row("tasks.pause", _m.Steer, _m.Task | _m.Count, "write", "operate", "Pause at the end of the running step."),
        _row("tasks.resume", _m.Steer, _m.Task | _m.Count, "write", "operate", "Let paused tasks go on."),
        _row("tasks.retry", _m.Steer, _m.Task | _m.Count, "write", "operate", "Queue failed or canceled tasks again."),
        _row(
            "tasks.remove",
            _m.SteerData,
            _m.Task | _m.Count,
            "write",
            "operate",
            "Forget tasks; cancels the unfinished.",
        ),
        _row("tasks.purge", statistics.Purge, _m.Count, "write", "operate", "Forget tasks that ended long ago."),
        _row("tasks.update", _m.UpdateTask, _m.Task, "write", "operate", "Change priority, labels or time to begin."),
        _row("tasks.wait", _m.Wait, _m.Task, "read", "read", "Answers when the task is final, or delivered."),
        _row("tasks.progress", _m.TaskId, _m.Progress | None, "read", "read", "How far it is."),
        _row("tasks.result", _m.TaskId, Any, "read", "read", "What it gave."),
        _row("tasks.history", _m.TaskId, _m.History, "read", "read", "What happened to it."),
        _row("tasks.why", _m.TaskId, _m.Why, "read", "read", "The exact reason that it is not moving."),
        _row("downloads.add", _m.AddDownload, _m.Task | _m.DryRun, "write", "submit", "Submit a download."),
        _row("downloads.files", _m.TaskId, _m.Files, "read", "read", "The files of a download."),
        _row("downloads.select", _m.SelectFiles, _m.Files, "write", "operate", "Fetch only these files."),
        _row("downloads.refresh_url", _m.RefreshUrl, _m.Task, "write", "operate", "Another URL for the same content."),
        _row("downloaders.list", _m.NoParams, _m.DownloaderPage, "read", "read", "The configured downloaders."),
        _row("downloaders.get", _m.DownloaderName, _m.Downloader, "read", "read", "One configured downloader."),
        _row(
            "downloaders.test",
            _m.DownloaderName,
            _m.DownloaderTest,
            "write",
            "operate",
            "Check whether it is as it should be.",
        ),
        _row("downloaders.pause", _m.DownloaderName, _m.Downloader, "write", "operate", "Begin nothing new there."),
        _row(
            "downloaders.resume", _m.DownloaderName, _m.Downloader, "write", "operate", "Begin transfers there again."
        ),
        _row("downloaders.kinds", _m.NoParams, _m.KindPage, "read", "read", "The kinds that are installed."),
        _row("queues.list", _q.ListQueues, _q.QueuePage, "read", "read", "All queues, with their settings and sizes."),
        _row("queues.get", _q.QueueName, _q.Queue, "read", "read", "One queue."),
        _row("queues.create", _q.CreateQueue, _q.Queue, "write", "admin", "A queue that the configuration lacks."),
        _row("queues.update", _q.UpdateQueue, _q.Queue, "write", "admin", "Other settings, from now on."),
        _row("queues.pause", _q.QueueName, _q.Queue, "write", "operate", "Begin no step of its tasks."),
        _row("queues.resume", _q.QueueName, _q.Queue, "write", "operate", "Begin steps of its tasks again."),
        _row("queues.stats", _q.QueueName, _q.QueueStats, "read", "read", "How many tasks it has, and may have."),
        _row("schedules.list", _s.ListSchedules, _s.SchedulePage, "read", "read", "The schedules, by name."),
        _row("schedules.get", _s.ScheduleName, _s.Schedule, "read", "read", "One schedule."),
        _row("schedules.create", _s.CreateSchedule, _s.Schedule, "write", "submit", "Tasks that come by the clock."),
        _row("schedules.update", _s.UpdateSchedule, _s.Schedule, "write", "operate", "Change what is given."),
        _row("schedules.pause", _s.ScheduleName, _s.Schedule, "write", "operate", "No runs until it is resumed."),
        _row("schedules.resume", _s.ScheduleName, _s.Schedule, "write", "operate", "Run again, from the next time on."),
        _row("schedules.run", _s.ScheduleName, _s.Schedule, "write", "operate", "Make a task of it now."),
        _row("schedules.delete", _s.ScheduleName, _s.Schedule, "write", "operate", "Forget it; its tasks stay."),
        _row("schedules.stats", _s.ScheduleLog, _s.ScheduleStats, "read", "read", "What came of the runs; the log."),
        _row("tokens.list", _m.NoParams, _t.TokenPage, "read", "admin", "The tokens of the gateway, without secrets."),
        _row("tokens.create", _t.CreateToken, _t.NewToken, "write", "admin", "A token; its secret is told this once."),
        _row("tokens.revoke", _t.TokenName, _t.Token, "write", "admin", "The token is worth nothing from now on."),
        _row("notify.test", _n.TestNotify, _n.NotifyTest, "write", "operate", "Send a test to whom it may concern."),
        _row("events.list", _m.ListEvents, _m.EventPage, "read", "read", "The events that are kept, oldest first."),
        _row(SUBSCRIBE, _m.Subscribe, _m.Subscription, "read", "read", "Events, as notifications on this connection."),
        _row(UNSUBSCRIBE, _m.Unsubscribe, _m.Unsubscribed, "read", "read", "End a subscription of this connection."),
        _row(DISCOVER, _m.NoParams, dict[str, Any], "read", "read", "This interface as an OpenRPC document."),
    )
}


_LATER = {
    "nodes": "list drain",
}
LATER = frozenset(f"{space}.{verb}" for space, verbs in _LATER.items() for verb in verbs.split())
"""Methods that will come: refused by name rather than as a typing mistake."""


def attribute(name: str) -> str:
    """The name of the service's method that answers ``name``."""
    return name.replace(".", "_")
