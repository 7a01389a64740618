"""The methods of the table as attributes, for both clients: `client.tasks.list(status="error")`."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from functools import partial
from typing import TYPE_CHECKING, Any, Generic, TypeVar, overload

from dlqueue.protocol import downloaders, envelope

if TYPE_CHECKING:  # at run time the message types would cost every program 20 ms
    import builtins

    from dlqueue.protocol import doctor, messages, notify, overview, queues, schedules, statistics, tokens

R = TypeVar("R")

Json = dict[str, Any]


class Space:
    """One namespace (`tasks`) of a client that blocks."""

    def __init__(self, name: str, call: Callable[..., Any]) -> None:
        self._name = name
        self._call = call


class AsyncSpace(Space):
    """One namespace of a client whose calls are awaited."""


class Verb(Generic[R]):
    """One method. Called with the params of the table as keywords; answers its result."""

    def __set_name__(self, owner: type[Space], name: str) -> None:
        self._verb = name

    @overload
    def __get__(self, space: AsyncSpace, owner: object = None) -> Callable[..., Awaitable[R]]: ...
    @overload
    def __get__(self, space: Space, owner: object = None) -> Callable[..., R]: ...
    def __get__(self, space: Space, owner: object = None) -> Callable[..., Any]:
        return partial(space._call, f"{space._name}.{self._verb}")


class _Daemon(Space):
    info: Verb[messages.DaemonInfo] = Verb()
    overview: Verb[overview.Overview] = Verb()
    config: Verb[Json] = Verb()
    reload: Verb[messages.Reloaded] = Verb()
    doctor: Verb[doctor.Diagnosis] = Verb()
    shutdown: Verb[messages.ShuttingDown] = Verb()


class _Tasks(Space):
    submit: Verb[messages.Task] = Verb()
    submit_many: Verb[builtins.list[messages.Task]] = Verb()
    get: Verb[messages.Task] = Verb()
    list: Verb[messages.TaskPage] = Verb()
    count: Verb[int] = Verb()
    stats: Verb[statistics.Statistics] = Verb()
    cancel: Verb[Any] = Verb()
    pause: Verb[Any] = Verb()
    resume: Verb[Any] = Verb()
    retry: Verb[Any] = Verb()
    remove: Verb[Any] = Verb()
    purge: Verb[messages.Count] = Verb()
    update: Verb[messages.Task] = Verb()
    wait: Verb[messages.Task] = Verb()
    progress: Verb[messages.Progress | None] = Verb()
    result: Verb[Any] = Verb()
    history: Verb[messages.History] = Verb()
    why: Verb[messages.Why] = Verb()


class _Downloads(Space):
    add: Verb[Any] = Verb()
    files: Verb[messages.Files] = Verb()
    select: Verb[messages.Files] = Verb()
    refresh_url: Verb[messages.Task] = Verb()


class _Downloaders(Space):
    list: Verb[downloaders.DownloaderPage] = Verb()
    get: Verb[downloaders.Downloader] = Verb()
    test: Verb[downloaders.DownloaderTest] = Verb()
    pause: Verb[downloaders.Downloader] = Verb()
    resume: Verb[downloaders.Downloader] = Verb()
    kinds: Verb[downloaders.KindPage] = Verb()


class _Queues(Space):
    list: Verb[queues.QueuePage] = Verb()
    get: Verb[queues.Queue] = Verb()
    create: Verb[queues.Queue] = Verb()
    update: Verb[queues.Queue] = Verb()
    pause: Verb[queues.Queue] = Verb()
    resume: Verb[queues.Queue] = Verb()
    stats: Verb[queues.QueueStats] = Verb()


class _Schedules(Space):
    list: Verb[schedules.SchedulePage] = Verb()
    get: Verb[schedules.Schedule] = Verb()
    create: Verb[schedules.Schedule] = Verb()
    update: Verb[schedules.Schedule] = Verb()
    pause: Verb[schedules.Schedule] = Verb()
    resume: Verb[schedules.Schedule] = Verb()
    run: Verb[schedules.Schedule] = Verb()
    delete: Verb[schedules.Schedule] = Verb()
    stats: Verb[schedules.ScheduleStats] = Verb()


class _Tokens(Space):
    list: Verb[tokens.TokenPage] = Verb()
    create: Verb[tokens.NewToken] = Verb()
    revoke: Verb[tokens.Token] = Verb()


class _Notify(Space):
    test: Verb[notify.NotifyTest] = Verb()


class Daemon(_Daemon): ...


class Tasks(_Tasks): ...


class Downloads(_Downloads): ...


class Downloaders(_Downloaders): ...


class Queues(_Queues): ...


class Schedules(_Schedules): ...


class Tokens(_Tokens): ...


class Notify(_Notify): ...


class AsyncDaemon(_Daemon, AsyncSpace): ...


class AsyncTasks(_Tasks, AsyncSpace): ...


class AsyncDownloads(_Downloads, AsyncSpace): ...


class AsyncDownloaders(_Downloaders, AsyncSpace): ...


class AsyncQueues(_Queues, AsyncSpace): ...


class AsyncSchedules(_Schedules, AsyncSpace): ...


class AsyncTokens(_Tokens, AsyncSpace): ...


class AsyncNotify(_Notify, AsyncSpace): ...


def patience(method: str, params: Json, default: float | None) -> float | None:
    """How long an answer may take, in seconds: what waits by nature may take as long as it was told to."""
    return None if envelope.waits(method, params) else default


def given(params: Json) -> Json:
    """Params without those that are `None`: not given."""
    return {name: value for name, value in params.items() if value is not None}
