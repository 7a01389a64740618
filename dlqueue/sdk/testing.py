"""For authors of plug-ins: the conformance suite, which proves what `dlqueue.sdk.downloader` promises, and a
downloader that does what a test tells it to.

    class TestMine(DownloaderConformance):
        @pytest.fixture
        def downloader(self, tmp_path): ...     # opened; closed by the fixture afterwards
        @pytest.fixture
        def source(self): ...                   # a `Source` that it can fetch

The suite waits for events with a deadline and needs nothing but pytest. One of its tests closes the downloader itself,
so that the fixture's `close` is then the second one.
"""

from __future__ import annotations

import hashlib
import json
import os
import threading
import time
import unittest
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, ClassVar
from urllib.parse import parse_qs, urlsplit

from dlqueue.sdk.downloader import Context, Downloader
from dlqueue.sdk.errors import Final, NotFound, Rejected, Unavailable
from dlqueue.sdk.model import Handle, Request, TransferFile, TransferState, TransferStatus

PATIENCE = 20.0
"""Seconds that the suite waits for something that ought to happen at once."""


@dataclass(frozen=True)
class Source:
    """Something that the downloader under test can fetch. What is left out is not tested."""

    urls: tuple[str, ...]
    content: bytes
    slow_urls: tuple[str, ...] = ()
    """The same content, so slowly that it is still on its way when the test has looked a few times."""
    broken_urls: tuple[str, ...] = ()
    """Cannot be fetched."""
    headers: Mapping[str, str] = field(default_factory=dict)


class DownloaderConformance:
    """Subclass it, give the fixtures ``downloader`` and ``source``, and pytest does the rest."""

    key = "00c0ffee00c0ffee"

    # -- what a subclass may use too ----------------------------------------------------------------------------------

    def request(self, source: Source, folder: Path, urls: tuple[str, ...] | None = None) -> Request:
        return Request(urls=urls or source.urls, directory=folder / "transfer", headers=source.headers)

    def wait(
        self, downloader: Downloader, handle: Handle, until: Callable[[TransferStatus], bool], what: str
    ) -> TransferStatus:
        """Poll, as the core would, until the status is as it should be."""
        status = None
        limit = time.monotonic() + PATIENCE
        while time.monotonic() < limit:
            status = downloader.poll([handle]).get(handle)
            assert status is None or isinstance(status.state, TransferState)
            if status is not None and until(status):
                return status
            time.sleep(0.005)
        raise AssertionError(f"not {what} after {PATIENCE:g} s: {status}")

    def whole(self, downloader: Downloader, handle: Handle) -> TransferStatus:
        return self.wait(downloader, handle, lambda status: status.whole, "whole")

    def started(self, downloader: Downloader, source: Source, folder: Path) -> Handle:
        """A slow transfer with its first bytes."""
        if not source.slow_urls:
            raise unittest.SkipTest("the source has no slow variant")
        handle = downloader.create(self.request(source, folder, source.slow_urls), self.key)
        self.wait(downloader, handle, lambda status: status.downloaded > 0, "moving")
        return handle

    # -- promises -----------------------------------------------------------------------------------------------------

    def test_describes_itself(self, downloader: Downloader) -> None:
        assert downloader.kind
        assert downloader.schemes
        assert isinstance(downloader.config_type, type)
        assert downloader.test()

    def test_fetches_the_right_bytes_into_the_folder(
        self, downloader: Downloader, source: Source, tmp_path: Path
    ) -> None:
        request = self.request(source, tmp_path)
        status = self.whole(downloader, downloader.create(request, self.key))
        (path,) = (Path(name) for name in status.content)
        assert path.parent == request.directory
        assert path.read_bytes() == source.content
        assert status.name == path.name
        assert status.downloaded == status.total == len(source.content)
        assert status.error is None

    def test_lists_the_file(self, downloader: Downloader, source: Source, tmp_path: Path) -> None:
        handle = downloader.create(self.request(source, tmp_path), self.key)
        status = self.whole(downloader, handle)
        (file,) = downloader.files(handle)
        assert (file.index, file.size, file.progress, file.selected) == (1, len(source.content), 100.0, True)
        assert file.path == status.name

    def test_create_twice_is_one_transfer(self, downloader: Downloader, source: Source, tmp_path: Path) -> None:
        request = self.request(source, tmp_path)
        first = downloader.create(request, self.key)
        assert downloader.create(request, self.key) == first
        self.whole(downloader, first)
        assert downloader.create(request, self.key) == first
        assert self.whole(downloader, first).content
        assert [path.read_bytes() for path in request.directory.iterdir()] == [source.content]

    def test_create_from_two_threads_is_one_transfer(
        self, downloader: Downloader, source: Source, tmp_path: Path
    ) -> None:
        request = self.request(source, tmp_path)
        barrier = threading.Barrier(2)
        handles: list[Handle] = []

        def create() -> None:
            barrier.wait(PATIENCE)
            handles.append(downloader.create(request, self.key))

        threads = [threading.Thread(target=create) for _ in range(2)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join(PATIENCE)
        assert len(handles) == 2
        assert handles[0] == handles[1]
        self.whole(downloader, handles[0])
        assert [path.read_bytes() for path in request.directory.iterdir()] == [source.content]

    def test_a_handle_that_nobody_knows_is_left_out(
        self, downloader: Downloader, source: Source, tmp_path: Path
    ) -> None:
        known = downloader.create(self.request(source, tmp_path), self.key)
        unknown = Handle("feedfeedfeedfeed")
        assert set(downloader.poll([known, unknown])) == {known}
        assert downloader.poll([]) == {}
        for call in (downloader.pause, downloader.resume):
            self.assert_not_found(call, unknown)

    def test_pause_and_resume_can_be_repeated(self, downloader: Downloader, source: Source, tmp_path: Path) -> None:
        handle = self.started(downloader, source, tmp_path)
        downloader.resume(handle)
        for _ in range(2):
            downloader.pause(handle)
        paused = self.wait(downloader, handle, lambda status: status.state is TransferState.PAUSED, "paused")
        assert paused.downloaded > 0
        downloader.create(self.request(source, tmp_path, source.slow_urls), self.key)
        assert downloader.poll([handle])[handle].state is TransferState.PAUSED
        for _ in range(2):
            downloader.resume(handle)
        self.wait(downloader, handle, lambda status: status.state is not TransferState.PAUSED, "going on")
        status = self.whole(downloader, handle)
        assert Path(status.content[0]).read_bytes() == source.content

    def test_remove_keeps_the_data(self, downloader: Downloader, source: Source, tmp_path: Path) -> None:
        handle = downloader.create(self.request(source, tmp_path), self.key)
        path = Path(self.whole(downloader, handle).content[0])
        for _ in range(2):
            downloader.remove(handle, delete_data=False)
            assert downloader.poll([handle]) == {}
        assert path.read_bytes() == source.content
        self.assert_not_found(downloader.pause, handle)

    def test_remove_deletes_the_data_and_nothing_else(
        self, downloader: Downloader, source: Source, tmp_path: Path
    ) -> None:
        request = self.request(source, tmp_path)
        handle = downloader.create(request, self.key)
        path = Path(self.whole(downloader, handle).content[0])
        stranger = request.directory / "stranger"
        stranger.write_bytes(b"not yours")
        downloader.remove(handle, delete_data=True)
        assert not path.exists()
        assert stranger.read_bytes() == b"not yours"
        downloader.remove(handle, delete_data=True)

    def test_remove_while_running_ends_all_writing(
        self, downloader: Downloader, source: Source, tmp_path: Path
    ) -> None:
        self.started(downloader, source, tmp_path)
        # After a lost answer the key is all that the core has.
        by_key = Handle(self.key)
        downloader.remove(by_key, delete_data=True)
        assert downloader.poll([by_key]) == {}
        folder = self.request(source, tmp_path).directory
        assert not folder.exists() or list(folder.iterdir()) == []

    def test_create_after_remove_begins_anew(self, downloader: Downloader, source: Source, tmp_path: Path) -> None:
        request = self.request(source, tmp_path)
        handle = downloader.create(request, self.key)
        self.whole(downloader, handle)
        downloader.remove(handle, delete_data=True)
        status = self.whole(downloader, downloader.create(request, self.key))
        assert Path(status.content[0]).read_bytes() == source.content

    def test_remove_of_what_never_was_is_success(self, downloader: Downloader) -> None:
        downloader.remove(Handle("feedfeedfeedfeed"), delete_data=True)

    def test_an_error_says_why_and_can_be_tried_again(
        self, downloader: Downloader, source: Source, tmp_path: Path
    ) -> None:
        if not source.broken_urls:
            raise unittest.SkipTest("the source has no broken variant")
        handle = downloader.create(self.request(source, tmp_path, source.broken_urls), self.key)
        status = self.wait(downloader, handle, lambda status: status.state is TransferState.ERROR, "failed")
        assert isinstance(status.error, Rejected)
        assert status.error.message
        assert "\n" not in status.error.message
        assert status.error.final in (None, "downloader", "request")
        assert downloader.create(self.request(source, tmp_path), self.key) == handle
        assert Path(self.whole(downloader, handle).content[0]).read_bytes() == source.content

    def test_a_transfer_is_news(self, downloader: Downloader, source: Source, tmp_path: Path) -> None:
        if type(downloader).events is Downloader.events:
            raise unittest.SkipTest("no events: it is polled")
        woken = threading.Event()
        thread = self.listen(downloader, woken.set)
        handle = downloader.create(self.request(source, tmp_path), self.key)
        assert woken.wait(PATIENCE), "nothing came from events()"
        self.whole(downloader, handle)
        downloader.close()
        thread.join(PATIENCE)
        assert not thread.is_alive(), "events() did not end after close()"

    def test_refuses_what_it_does_not_know(self, downloader: Downloader, source: Source, tmp_path: Path) -> None:
        request = self.request(source, tmp_path)
        odd = Request(urls=request.urls, directory=request.directory, options={"no-such-option": "1"})
        try:
            downloader.create(odd, self.key)
        except Rejected as error:
            assert "no-such-option" in error.message
        else:
            raise AssertionError("an unknown option was accepted")

    # -- tools --------------------------------------------------------------------------------------------------------

    def listen(self, downloader: Downloader, call: Callable[[], None]) -> threading.Thread:
        def follow() -> None:
            for _ in downloader.events():
                call()

        thread = threading.Thread(target=follow, daemon=True)
        thread.start()
        return thread

    def assert_not_found(self, call: Callable[[Handle], None], handle: Handle) -> None:
        try:
            call(handle)
        except NotFound:
            return
        raise AssertionError(f"{call} did not raise NotFound")


@dataclass(frozen=True)
class FakeConfig:
    """Where the fake keeps its transfers: outside of the daemon, so that they outlive it as another program's do."""

    folder: str


class FakeDownloader(Downloader):
    """Does what the URL and a few files in its folder say. It has no threads: every `poll` moves a transfer one step.

    In the query of the URL: ``size`` (bytes, 1000), ``steps`` (polls until it is whole, 1), ``fail`` (passing,
    downloader or request: ends in that error), ``times`` (fails only so often), ``kind`` and ``retry_after`` of the
    error, ``name``, ``manual=1`` (does not end before the file ``KEY.finish`` exists).

    In the folder: ``down`` (exists: `Unavailable`), ``hang`` (exists: every call blocks until its deadline),
    ``creates.log`` and ``removes.log`` (a line per call: the key, then ``new`` or ``again``; ``data`` or ``kept``).
    """

    kind: ClassVar[str] = "fake"
    schemes: ClassVar[frozenset[str]] = frozenset({"fake", "http", "https"})
    config_type: ClassVar[type[FakeConfig]] = FakeConfig

    def open(self, config: FakeConfig, context: Context) -> None:
        self._folder = Path(config.folder)
        self._folder.mkdir(parents=True, exist_ok=True)
        self._deadline = context.deadline
        self._lock = threading.Lock()
        self._closed = threading.Event()

    def test(self) -> str:
        self._reach()
        return "fake 1"

    def create(self, request: Request, key: str) -> Handle:
        if request.options:
            raise Rejected(f"the fake has no option {', '.join(request.options)}", "request", kind="bad_option")
        self._reach()
        with self._lock:
            transfer = self._read(key)
            self._log("creates.log", f"{key} {'again' if transfer else 'new'}")
            if transfer is None or transfer["state"] == TransferState.ERROR:
                failed = transfer["failed"] if transfer else 0
                self._write(key, _script(request) | {"failed": failed})
        return Handle(key)

    def poll(self, handles: Sequence[Handle]) -> Mapping[Handle, TransferStatus]:
        self._reach()
        found: dict[Handle, TransferStatus] = {}
        with self._lock:
            for handle in handles:
                if (transfer := self._read(handle.id)) is not None:
                    self._step(handle.id, transfer)
                    found[handle] = _status(transfer)
        return found

    def files(self, handle: Handle) -> Sequence[TransferFile]:
        transfer = self._known(handle)
        return [TransferFile(1, transfer["name"], transfer["size"], 100.0 * transfer["done"] / (transfer["size"] or 1))]

    def pause(self, handle: Handle) -> None:
        self._switch(handle, TransferState.DOWNLOADING, TransferState.PAUSED)

    def resume(self, handle: Handle) -> None:
        self._switch(handle, TransferState.PAUSED, TransferState.DOWNLOADING)

    def remove(self, handle: Handle, delete_data: bool) -> None:
        self._reach()
        with self._lock:
            transfer = self._read(handle.id)
            self._log("removes.log", f"{handle.id} {'data' if delete_data else 'kept'}")
            if transfer is None:
                return
            if delete_data:
                (Path(transfer["directory"]) / transfer["name"]).unlink(missing_ok=True)
            self._path(handle.id).unlink()

    def events(self) -> Iterator[None]:
        while not self._closed.wait(0.02):
            yield

    def close(self) -> None:
        self._closed.set()

    def _step(self, key: str, transfer: dict[str, Any]) -> None:
        if transfer["state"] != TransferState.DOWNLOADING:
            return
        if transfer["fail"] and transfer["failed"] < transfer["times"]:
            transfer |= {"state": TransferState.ERROR, "failed": transfer["failed"] + 1}
            self._write(key, transfer)
            return
        waiting = transfer["manual"] and not (self._folder / f"{key}.finish").exists()
        goal = transfer["size"] - 1 if waiting else transfer["size"]
        transfer["done"] = max(min(transfer["done"] + -(-transfer["size"] // transfer["steps"]), goal), 0)
        path = Path(transfer["directory"]) / transfer["name"]
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(fake_content(transfer["size"])[: transfer["done"]])
        if transfer["done"] == transfer["size"] and not waiting:
            transfer["state"] = TransferState.COMPLETED
        self._write(key, transfer)

    def _switch(self, handle: Handle, old: TransferState, new: TransferState) -> None:
        transfer = self._known(handle)
        with self._lock:
            if transfer["state"] == old:
                self._write(handle.id, transfer | {"state": new})

    def _known(self, handle: Handle) -> dict[str, Any]:
        self._reach()
        with self._lock:
            transfer = self._read(handle.id)
        if transfer is None:
            raise NotFound(f"the fake has no transfer {handle.id}")
        return transfer

    def _reach(self) -> None:
        limit = time.monotonic() + self._deadline()
        while (self._folder / "hang").exists():
            if time.monotonic() >= limit or self._closed.wait(0.02):
                raise Unavailable("the fake did not answer in time")
        if (self._folder / "down").exists():
            raise Unavailable("the fake is down")

    def _path(self, key: str) -> Path:
        return self._folder / f"{key}.json"

    def _read(self, key: str) -> dict[str, Any] | None:
        try:
            transfer: dict[str, Any] = json.loads(self._path(key).read_bytes())
        except FileNotFoundError:
            return None
        return transfer

    def _write(self, key: str, transfer: dict[str, Any]) -> None:
        new = self._folder / f"{key}.new"
        new.write_text(json.dumps(transfer))
        new.replace(self._path(key))

    def _log(self, name: str, line: str) -> None:
        file = os.open(self._folder / name, os.O_WRONLY | os.O_CREAT | os.O_APPEND, 0o600)
        try:
            os.write(file, f"{line}\n".encode())
        finally:
            os.close(file)


def fake_content(size: int) -> bytes:
    """What every transfer of the fake with this size brings."""
    return hashlib.shake_128(b"fake").digest(size)


def _script(request: Request) -> dict[str, Any]:
    url = urlsplit(request.urls[0])
    told = {name: values[-1] for name, values in parse_qs(url.query).items()}
    return {
        "directory": str(request.directory),
        "name": request.name or told.get("name") or url.path.rpartition("/")[2] or "fake.bin",
        "size": int(told.get("size", 1000)),
        "steps": int(told.get("steps", 1)),
        "manual": told.get("manual") == "1",
        "fail": told.get("fail"),
        "times": int(told.get("times", 1_000_000)),
        "kind": told.get("kind", "fake"),
        "retry_after": float(told["retry_after"]) if "retry_after" in told else None,
        "done": 0,
        "state": TransferState.DOWNLOADING,
    }


def _status(transfer: dict[str, Any]) -> TransferStatus:
    finals: dict[str, Final | None] = {"passing": None, "downloader": "downloader", "request": "request"}
    state = TransferState(transfer["state"])
    error = None
    if state is TransferState.ERROR:
        final = finals[transfer["fail"]]
        error = Rejected("the fake fails as told", final, kind=transfer["kind"], retry_after=transfer["retry_after"])
    return TransferStatus(
        state=state,
        name=transfer["name"],
        total=transfer["size"],
        downloaded=transfer["done"],
        content=(str(Path(transfer["directory"]) / transfer["name"]),),
        error=error,
    )
