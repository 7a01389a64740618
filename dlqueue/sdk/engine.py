"""For plug-ins that are the downloader themselves: their transfers run in this process, or are run by it."""

from __future__ import annotations

import threading
from abc import abstractmethod
from collections.abc import Iterator, Mapping, Sequence
from typing import Generic, Protocol, TypeVar

from dlqueue.sdk.downloader import Downloader
from dlqueue.sdk.errors import NotFound, Rejected, Unavailable
from dlqueue.sdk.model import Handle, Request, TransferFile, TransferStatus


class OwnTransfer(Protocol):
    """What an `Engine` asks of each of its transfers. Called from several threads."""

    def status(self) -> TransferStatus: ...

    def files(self) -> Sequence[TransferFile]: ...

    def pause(self) -> None: ...

    def resume(self) -> None: ...

    def discard(self, delete_data: bool) -> None:
        """It ends, and nothing is known of it any more. :raises OSError: something of it cannot be removed."""

    def halt(self) -> None:
        """It stops for now: the next start goes on with it."""


T = TypeVar("T", bound=OwnTransfer)


class Engine(Downloader, Generic[T]):
    """Keeps its transfers by creation key, which is their handle. Left to be written: `open`, which puts those of
    former starts into ``transfers``; `test`; and `begin`."""

    def __init__(self) -> None:
        self.transfers: dict[str, T] = {}
        self._lock = threading.Lock()
        self._changed = threading.Condition()
        self._changes = 0
        self._closed = False

    @abstractmethod
    def begin(self, there: T | None, request: Request, key: str) -> T:
        """A transfer that runs; one at a time is begun.

        :param there: the one with this key, if there is one already: it may have ended, or the request have changed.
        :raises Rejected: it cannot be begun.
        """

    def changed(self) -> None:
        """To be called when a poll is worth while; from any thread."""
        with self._changed:
            self._changes += 1
            self._changed.notify_all()

    def create(self, request: Request, key: str) -> Handle:
        with self._lock:
            if self._closed:
                raise Unavailable(f"{self.kind} is closed")
            self.transfers[key] = self.begin(self.transfers.get(key), request, key)
        return Handle(key)

    def poll(self, handles: Sequence[Handle]) -> Mapping[Handle, TransferStatus]:
        found = ((handle, self.transfers.get(handle.id)) for handle in handles)
        return {handle: transfer.status() for handle, transfer in found if transfer is not None}

    def files(self, handle: Handle) -> Sequence[TransferFile]:
        return self._find(handle).files()

    def pause(self, handle: Handle) -> None:
        self._find(handle).pause()

    def resume(self, handle: Handle) -> None:
        self._find(handle).resume()

    def remove(self, handle: Handle, delete_data: bool) -> None:
        # Under the lock, so that a `create` with this key cannot meet half of it.
        with self._lock:
            transfer = self.transfers.get(handle.id)
            if transfer is None:
                return
            try:
                transfer.discard(delete_data)
            except OSError as error:
                raise Rejected(f"cannot remove the transfer: {error.strerror}", kind="file") from error
            del self.transfers[handle.id]

    def events(self) -> Iterator[None]:
        seen = 0
        while True:
            with self._changed:
                while not self._closed and self._changes == seen:
                    self._changed.wait()
                if self._closed:
                    return
                seen = self._changes
            yield

    def close(self) -> None:
        with self._lock, self._changed:
            self._closed = True
            self._changed.notify_all()
            transfers = list(self.transfers.values())
        for transfer in transfers:
            transfer.halt()

    def _find(self, handle: Handle) -> T:
        transfer = self.transfers.get(handle.id)
        if transfer is None:
            raise NotFound(f"{self.kind} has no transfer {handle.id}")
        return transfer
