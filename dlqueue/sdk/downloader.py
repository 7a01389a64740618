"""The protocol between the core and a downloader. Every line is a promise; `dlqueue.sdk.testing` proves them."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable, Iterator, Mapping, Sequence, Set
from dataclasses import dataclass, field
from logging import Logger, LoggerAdapter
from pathlib import Path
from typing import Any, ClassVar

from dlqueue.sdk.errors import Rejected
from dlqueue.sdk.model import Handle, Request, TransferFile, TransferStatus


@dataclass(frozen=True, slots=True)
class Context:
    """What the core lends a downloader for its life."""

    name: str
    """The configured name (``seedbox``); the kind says what it is, the name which one."""
    folder: Path
    """A private folder (0700) for control files; it survives restarts."""
    logger: Logger | LoggerAdapter[Any]
    deadline: Callable[[], float]
    """Seconds left for the call that is running in this thread: the socket time-out to use."""
    check_url: Callable[[str], None]
    """Raises `Rejected` (final for the request) when the policy forbids this URL. Ask it for every redirect."""
    check_address: Callable[[str], None]
    """Raises `Rejected` (final for the request) when the policy forbids connecting to this IP address. A plug-in that
    opens connections itself asks it after resolving the name and connects to what it asked about."""
    local: Callable[[str], Path] = field(default=Path)
    """Where we see what the downloader calls so: it may run in a container, or on another machine. Everything that a
    plug-in is told and tells is in the downloader's own terms; only one that looks at the disk itself needs this.
    Raises `Rejected` for what we cannot see."""


class Downloader(ABC):
    """A configured downloader. All methods are plain and blocking; the core calls them from at most two threads at
    once, plus one for `events`, each call with a deadline (`Context.deadline`).

    Any method may raise `Unavailable` (no answer: its downloads wait) or `AuthFailed` (not asked again until the
    configuration changes). An exception of any other type is a defect of the plug-in; the core treats it as passing.
    """

    kind: ClassVar[str]
    """The name of the plug-in, as in ``kind = "aria2"``."""
    schemes: ClassVar[Set[str]]
    """URL schemes it can fetch; ``torrent`` and ``metalink`` stand for files of these types."""
    config_type: ClassVar[type[Any]]
    """A dataclass: its fields are the keys that ``[downloaders.NAME]`` takes beyond the common ones."""

    proves_bytes: ClassVar[bool] = False
    """Does `create`, asked for a key that it knows with other URLs, use again only bytes that it has proven to be the
    same content (size and ETag)? Otherwise another URL gets another key, and begins from the start."""

    tried_versions: ClassVar[tuple[str, str] | None] = None
    """The oldest and the newest version of the other side with which this plug-in was tried: ``("4.5.2", "5.1")``. A
    person is told (`dlqueue doctor`) when the version that `test` answers is outside. None = there is no other side."""

    @classmethod
    def default_config(cls) -> Any | None:
        """The configuration with which it works out of the box, if it does on this machine: it is then there when no
        downloader is configured. None = it has to be configured."""
        return None

    @abstractmethod
    def open(self, config: Any, context: Context) -> None:
        """Make ready. Called once, before everything else; must not fail because the other side is down.
        Transfers that this downloader itself keeps (a built-in engine) go on from here."""

    @abstractmethod
    def test(self) -> str:
        """Ask the other side for its version and answer it."""

    @abstractmethod
    def create(self, request: Request, key: str) -> Handle:
        """Start the transfer named ``key`` (16 hex digits), or adopt it.

        Twice with one key is one transfer, also from two threads, after a restart of either side, and after a call
        whose answer was lost. If that transfer has ended in an error it is started again, keeping the bytes that can
        be proven; if it is paused it stays paused. Raises `Rejected` when it cannot be started.
        """

    @abstractmethod
    def poll(self, handles: Sequence[Handle]) -> Mapping[Handle, TransferStatus]:
        """One look at all of them, in one request where the other side allows. A handle left out is gone: one that
        somebody has removed over there is left out too, even if the other side still lists it."""

    def instance(self) -> str | None:
        """Names the running program on the other side: another value means that it has restarted. Asked right after
        `poll` and right before `create`, in the same thread; it must not cost a request after `poll`. With it the core
        tells a transfer that was removed by somebody (same program) from one that a restart has lost. None = this
        downloader cannot tell; then a transfer that is gone counts as lost."""
        return None

    def whole_content(self, request: Request, key: str, *, total: int | None, restarted: bool) -> Sequence[str]:
        """The transfer ``key`` is gone from the downloader (its result was purged, a restart has forgotten it), but its
        folder is there. If all its content is in it, provably: its paths, as in `TransferStatus.content`. Otherwise
        nothing, and it will be created anew. Never guess: what is answered here is delivered.

        :param total: bytes wanted, if that was ever known.
        :param restarted: the other side may have restarted, or crashed, since the transfer was last seen.
        """
        return ()

    def files(self, handle: Handle) -> Sequence[TransferFile]:
        """The files of a transfer, as far as known. Raises `NotFound`."""
        raise Rejected(f"{self.kind} cannot list files", "downloader", kind="unsupported")

    def select(self, handle: Handle, indexes: Sequence[int]) -> None:
        """Fetch only these files (indexes from 1). Raises `NotFound`."""
        raise Rejected(f"{self.kind} cannot select files", "downloader", kind="unsupported")

    @abstractmethod
    def pause(self, handle: Handle) -> None:
        """Stop moving bytes and keep them. Paused already is success. Raises `NotFound`."""

    @abstractmethod
    def resume(self, handle: Handle) -> None:
        """Go on. Running already is success. Raises `NotFound`."""

    @abstractmethod
    def remove(self, handle: Handle, delete_data: bool) -> None:
        """Forget the transfer, so that it is not in `poll` any more and no restart of the other side revives it.
        With ``delete_data`` also what it wrote, and only that. Gone already is success. When this returns, nothing
        writes into its folder any more. ``Handle(id=key)`` is understood too: after a lost answer of `create` the key
        is all that the core has."""

    def owned(self) -> Mapping[str, str] | None:
        """Everything over there that `create` has made and nobody has removed, whichever daemon asked for it: the
        creation keys, each with a name that a person knows it by. Only asked when a person looks for what is left over.
        None = this downloader cannot tell."""
        return None

    def events(self) -> Iterator[None]:
        """Yield whenever a poll is worth while; block in between. Optional: a downloader without events is polled at
        its interval. Ends after `close`; if it raises or ends earlier, it is called again after a pause."""
        return iter(())

    def close(self) -> None:
        """Let go: called once, after everything else. Transfers inside another program go on."""
        return None
