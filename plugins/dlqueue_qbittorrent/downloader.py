"""The plug-in. A transfer is a torrent with a tag that names its creation key, so that it is created once whatever
happens in between; one without is somebody else's."""

from __future__ import annotations

import contextlib
import os
import threading
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, ClassVar

from dlqueue.sdk import (
    Context,
    Downloader,
    Handle,
    NotFound,
    Rejected,
    Request,
    TransferFile,
    TransferState,
    TransferStatus,
    Unavailable,
)
from dlqueue_qbittorrent.config import QbittorrentConfig
from dlqueue_qbittorrent.orders import KEY, TAG, Order, check_selection, make_order
from dlqueue_qbittorrent.selections import Selections
from dlqueue_qbittorrent.status import (
    BROKEN,
    STATES,
    STOPPED,
    File,
    content,
    has_metadata,
    is_settled,
    listed,
    tell,
)
from dlqueue_qbittorrent.sync import Entry, Message, Sight, Sync

if TYPE_CHECKING:
    from dlqueue_qbittorrent.api import Api

PATIENCE = 10.0
"""Seconds that something may take that qBittorrent does at once."""
ADDED_PATIENCE, REFUSED_PATIENCE = 3.0, 0.5
"""Seconds until a torrent that was added has to be there; an add that was refused may have come through before."""
DISK_PATIENCE = 0.1
"""Seconds in which what a removed torrent was about to write is written."""
_AGAIN = 0.02
_SETTLED_AT_ONCE = 200
"""Torrents of which one poll asks for the files: each costs a request, once."""
_OLDEST = (2, 8, 18)
"""The Web API of qBittorrent 4.5.0."""
_REMEMBERED = 20_000
_QUIET = (TransferState.SEEDING, TransferState.PAUSED, TransferState.ERROR)


class QbittorrentDownloader(Downloader):
    """Drives a qBittorrent over its Web API. A handle's id is the creation key; attached, what qBittorrent calls it."""

    kind: ClassVar[str] = "qbittorrent"
    schemes: ClassVar[frozenset[str]] = frozenset({"magnet", "torrent"})
    config_type: ClassVar[type[QbittorrentConfig]] = QbittorrentConfig
    tried_versions: ClassVar[tuple[str, str] | None] = ("4.5", "5.3")

    def __init__(self) -> None:
        self._changing = threading.Lock()
        self._connecting = threading.Lock()
        self._closed = threading.Event()
        self._local = threading.local()
        self._connected: tuple[Api, Sync] | None = None
        self._whole: dict[str, tuple[str, ...]] = {}
        """What is whole and has settled, by the id of its handle."""
        self._reasons: dict[str, Rejected] = {}

    def open(self, config: QbittorrentConfig, context: Context) -> None:
        self._config = config
        self._context = context
        self._selections = Selections(Path(context.folder))

    def test(self) -> str:
        api, _ = self._connection()
        api.try_again()
        version = api.call(lambda client: client.app_version())
        number = api.call(lambda client: client.app_web_api_version()).strip()
        if not all(part.isdigit() for part in number.split(".")) or not version.isprintable() or len(version) > 100:
            raise api.garbage()
        if tuple(map(int, number.split("."))) < _OLDEST:
            raise Unavailable(f"qBittorrent {version} at {api.url} is too old: 4.5 or newer is needed")
        return f"qBittorrent {version.removeprefix('v')}"

    # -- transfers ----------------------------------------------------------------------------------------------------

    def create(self, request: Request, key: str) -> Handle:
        order = make_order(request, key)
        with self._alone():
            entry = self._look().torrent(order.identity)
            if entry is not None and key in entry.keys and entry.state in BROKEN:
                # Only adding it anew has it look for what is there; a start cures neither of them.
                self._delete(entry, False)
                entry = None
            if entry is None:
                entry = self._add(order, key)
            if key not in entry.keys:
                self._selections.forget(key)
                return Handle(entry.hash, order.identity.v1, attached=True)
            if has_metadata(entry) and self._selections.get(key) is not None:
                self._choose(entry, key)
            return Handle(key, order.identity.v1)

    def poll(self, handles: Sequence[Handle]) -> Mapping[Handle, TransferStatus]:
        if not handles:
            return {}
        sight = self._look()
        self._local.instance = sight.instance
        statuses: dict[Handle, TransferStatus] = {}
        asked = 0
        for handle in handles:
            entry = sight.find(handle)
            if entry is None:
                continue
            status = tell(entry, attached=handle.attached)
            self._selections.look(handle.id, sight.instance)
            try:
                if self._selections.get(handle.id) is not None:
                    status = self._begun(entry, handle.id, status)
                elif status.state is TransferState.ERROR:
                    status = replace(status, error=self._reason(entry))
                elif status.whole:
                    asked += handle.id not in self._whole
                    status = self._settled(entry, handle.id, status) if asked <= _SETTLED_AT_ONCE else _not_yet(status)
            except NotFound:
                continue
            except Rejected as error:
                status = replace(status, state=TransferState.ERROR, error=error)
            if not status.whole:
                self._whole.pop(handle.id, None)
            if status.state is not TransferState.ERROR:
                self._reasons.pop(entry.hash, None)
            statuses[handle] = status
        return statuses

    def owned(self) -> Mapping[str, str]:
        entries = self._look().entries.values()
        return {key: entry.name for entry in entries for key in entry.keys if KEY.fullmatch(key)}

    def instance(self) -> str | None:
        if not hasattr(self._local, "instance"):
            self._local.instance = self._look().instance
        seen: str | None = self._local.instance
        del self._local.instance
        return seen

    def whole_content(self, request: Request, key: str, *, total: int | None, restarted: bool) -> Sequence[str]:
        # It was proven piece by piece when it was seen whole.
        known = self._whole.get(key, ())
        return known if all(os.path.lexists(self._context.local(path)) for path in known) else ()

    def files(self, handle: Handle) -> Sequence[TransferFile]:
        # Which torrent it is does not change, and one that is gone has no files: no need to look anew.
        known = self._connection()[1].seen().find(handle)
        return listed(self._files(known or self._find(handle)))

    def select(self, handle: Handle, indexes: Sequence[int]) -> None:
        _refuse_attached(handle)
        with self._alone():
            entry = self._find(handle)
            files = self._files(entry) if has_metadata(entry) else []
            wanted = check_selection(tuple(indexes), len(files) or None)
            if files:
                self._whole.pop(handle.id, None)
                self._prioritise(entry, files, wanted)
            if not files or self._selections.get(handle.id) is not None:
                self._selections.note(handle.id, wanted)
            elif entry.state not in STOPPED:  # one that is stopped must not begin because of it
                self._selections.made(handle.id, wanted, self._connection()[1].seen().instance)

    def pause(self, handle: Handle) -> None:
        _refuse_attached(handle)
        entry = self._find(handle)
        self._selections.outdate(handle.id)  # and must not begin again because of it
        self._connection()[0].call(lambda client: client.torrents_stop(torrent_hashes=entry.hash))

    def resume(self, handle: Handle) -> None:
        _refuse_attached(handle)
        with self._alone():
            entry = self._find(handle)
            if has_metadata(entry) and self._selections.get(handle.id) is not None:
                self._choose(entry, handle.id)
            else:
                # Whatever its state says: that may be of a moment ago, before it was stopped.
                self._start(entry)

    def remove(self, handle: Handle, delete_data: bool) -> None:
        _refuse_attached(handle)
        if not KEY.fullmatch(handle.id):
            return
        with self._alone():
            entry = self._look().find(handle)
            running = entry is not None and STATES.get(entry.state) not in _QUIET
            if entry is not None:
                self._delete(entry, delete_data)
            self._selections.forget(handle.id)
            self._whole.pop(handle.id, None)
            # It keeps the tags that nothing has any more.
            self._connection()[0].call(lambda client: client.torrents_delete_tags(tags=TAG + handle.id))
        if running:
            # It goes from the list before its disk is through with what had come. To stop it first and see it stopped
            # would take one and a half seconds: so old may a state be.
            self._closed.wait(DISK_PATIENCE)

    def close(self) -> None:
        self._closed.set()
        with self._connecting:
            if self._connected is not None:
                self._connected[0].close()

    # -- how -----------------------------------------------------------------------------------------------------------

    def _connection(self) -> tuple[Api, Sync]:
        with self._connecting:
            if self._closed.is_set():
                raise Unavailable("the connection to qBittorrent is closed")
            if self._connected is None:
                from dlqueue_qbittorrent.api import Api

                api = Api(self._config, self._context.deadline)
                self._connected = api, Sync(api)
            return self._connected

    def _look(self) -> Sight:
        return self._connection()[1].look()

    @contextlib.contextmanager
    def _alone(self) -> Iterator[None]:
        """What looks first and then acts must not meet another such call half-way."""
        if not self._changing.acquire(timeout=self._context.deadline()):
            raise Unavailable("qBittorrent is still busy with another transfer")
        try:
            yield
        finally:
            self._changing.release()

    def _find(self, handle: Handle) -> Entry:
        entry = self._look().find(handle)
        if entry is None:
            raise NotFound(f"qBittorrent has no transfer {handle.id}")
        return entry

    def _await(self, condition: Callable[[], bool], patience: float = PATIENCE) -> bool:
        until = time.monotonic() + min(patience, self._context.deadline() - 1.0)
        while not condition():
            if time.monotonic() > until or self._closed.wait(_AGAIN):
                return False
        return True

    def _add(self, order: Order, key: str) -> Entry:
        """Raises `Rejected`."""
        from dlqueue_qbittorrent.api import Refused

        if order.select is not None:
            self._selections.note(key, order.select)
        api, sync = self._connection()
        # A request that came through and whose answer was lost is refused when it is repeated; one that is accepted may
        # come to nothing. So what it has decides.
        try:
            answer: object = api.call(lambda client: client.torrents_add(**order.arguments), 400, 409, 415)
        except Refused:
            answer = "Fails."
        found: list[Entry] = []

        def there() -> bool:
            entry = sync.look().torrent(order.identity)
            found.extend([entry] if entry is not None else [])
            return entry is not None

        if not self._await(there, REFUSED_PATIENCE if answer == "Fails." else ADDED_PATIENCE):
            self._selections.forget(key)
            raise Rejected("qBittorrent does not take the torrent (its log may say why)", "downloader", kind="refused")
        return found[0]

    def _choose(self, entry: Entry, key: str) -> None:
        """Make the selection that is still to be made, and begin. Raises `Rejected`, `NotFound`."""
        indexes = self._selections.get(key)
        if indexes is None:
            return  # another call has made it since the caller looked
        files, instance = self._files(entry), self._connection()[1].seen().instance
        self._prioritise(entry, files, check_selection(tuple(index + 1 for index in indexes), len(files)))
        self._start(entry)
        self._selections.made(key, indexes, instance)

    def _begun(self, entry: Entry, key: str, status: TransferStatus) -> TransferStatus:
        """The selection was to be made when the files are known."""
        if has_metadata(entry):
            with self._alone():
                self._choose(entry, key)
            return _not_yet(status)
        return status

    def _prioritise(self, entry: Entry, files: Sequence[File], wanted: Sequence[int]) -> None:
        api, _ = self._connection()
        chosen = set(wanted)
        on = [index for index, file in enumerate(files) if index in chosen and file.priority == 0]
        off = [index for index, file in enumerate(files) if index not in chosen and file.priority > 0]
        for priority, changed in ((1, on), (0, off)):
            if changed:
                what = {"torrent_hash": entry.hash, "file_ids": changed, "priority": priority}
                api.call(lambda client, what=what: client.torrents_file_priority(**what))  # type: ignore[misc]

    def _start(self, entry: Entry) -> None:
        self._connection()[0].call(lambda client: client.torrents_start(torrent_hashes=entry.hash))

    def _files(self, entry: Entry) -> list[File]:
        """Raises `NotFound`."""
        from dlqueue_qbittorrent.api import Refused

        api, _ = self._connection()
        try:
            return api.read(api.call(lambda client: client.torrents_files(torrent_hash=entry.hash), 404), list[File])
        except Refused:
            raise NotFound(f"qBittorrent has no torrent {entry.hash}") from None

    def _settled(self, entry: Entry, name: str, status: TransferStatus) -> TransferStatus:
        """With its content, if that is as whole as the state says. Raises `Rejected`, `NotFound`."""
        known = self._whole.get(name)
        if known is None:
            files = self._files(entry)
            known = content(entry.save_path, files)
            if not is_settled(self._context.local(entry.save_path), files):
                return _not_yet(status)
            if not known:
                raise Rejected("none of its files is selected", "request", kind="bad_select")
            self._whole[name] = known
            while len(self._whole) > _REMEMBERED:
                self._whole.pop(next(iter(self._whole)), None)
        return replace(status, content=known)

    def _reason(self, entry: Entry) -> Rejected:
        """Only the log tells it."""
        if entry.hash not in self._reasons:
            self._reasons[entry.hash] = self._asked_reason(entry)
        return self._reasons[entry.hash]

    def _asked_reason(self, entry: Entry) -> Rejected:
        if entry.state == "missingFiles":
            return Rejected("qBittorrent misses files of it that were there before", kind="missing_files")
        api, _ = self._connection()
        messages = api.call(lambda client: client.log_main(normal=False, info=False, last_known_id=-1))
        found = [message.message for message in api.read(messages, list[Message])]
        about = next((text for text in reversed(found) if entry.name and entry.name in text), "")
        text = " ".join(about.split())[:500]
        if "No space left" in text or "not enough space" in text.lower():
            return Rejected(f"qBittorrent says: {text}", kind="disk_full")
        return Rejected(f"qBittorrent says: {text}" if text else "failed; qBittorrent's log may say why", kind="file")

    def _delete(self, entry: Entry, delete_data: bool) -> None:
        api, sync = self._connection()
        written = []
        if delete_data and has_metadata(entry):
            with contextlib.suppress(NotFound):
                written = [os.path.join(entry.save_path, file.name) for file in self._files(entry)]  # noqa: PTH118
        api.call(lambda client: client.torrents_delete(delete_files=delete_data, torrent_hashes=entry.hash))
        if not self._await(lambda: entry.hash not in sync.look().entries):
            raise Unavailable("qBittorrent does not remove the torrent")
        seen = [self._context.local(path) for path in written]
        if not self._await(lambda: not any(os.path.lexists(path) for path in seen)):
            raise Rejected("qBittorrent does not delete the content", kind="file")


def _not_yet(status: TransferStatus) -> TransferStatus:
    """The next look will tell."""
    return replace(status, state=TransferState.UNKNOWN, content=())


def _refuse_attached(handle: Handle) -> None:
    if handle.attached:
        raise Rejected("the torrent was there before us: it is left alone", "downloader", kind="attached")
