"""What every downloader must prove. It needs nothing but pytest, and waits for events with a deadline."""

from __future__ import annotations

import contextlib
import logging
import threading
import time
import unittest
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from dlqueue.sdk.downloader import Context, Downloader
from dlqueue.sdk.errors import Final, NotFound, Rejected
from dlqueue.sdk.model import Handle, Request, TransferState, TransferStatus

PATIENCE = 20.0
"""Seconds that the suite waits for something that ought to happen at once."""


def context(folder: Path, name: str = "test", deadline: float = 10.0) -> Context:
    """What the core lends a downloader, for a test: a private folder, and nothing is forbidden.

    :param deadline: seconds that each call has.
    """
    folder.mkdir(mode=0o700, parents=True, exist_ok=True)
    return Context(
        name=name,
        folder=folder,
        logger=logging.getLogger(f"test.{name}"),
        deadline=lambda: deadline,
        check_url=lambda url: None,
        check_address=lambda address: None,
    )


@dataclass(frozen=True)
class Source:
    """Something that the downloader under test can fetch. What is left out is not tested."""

    urls: tuple[str, ...]
    content: bytes
    slow_urls: tuple[str, ...] = ()
    """The same content, so slowly that it is still on its way when the test has looked a few times: for ten seconds or
    more, or for as long as `let` is not called."""
    broken_urls: tuple[str, ...] = ()
    """Cannot be fetched."""
    broken_for: tuple[Final | None, ...] = (None, "downloader", "request")
    """For whom that error is final, of what it may be."""
    headers: Mapping[str, str] = field(default_factory=dict)
    let: Callable[[], None] = lambda: None
    """From now on the slow one may come as fast as it can: called when the test has looked."""


class DownloaderConformance:
    """Subclass it, give the fixtures ``downloader`` and ``source``, and pytest does the rest."""

    key = "00c0ffee00c0ffee"

    # -- another object -----------------------------------------------------------------------------------------------

    def setup_method(self) -> None:
        """Remember with what a downloader is opened, so that another one can be opened with the same."""
        self._opened: dict[int, tuple[Any, Context]] = {}
        self._undo = contextlib.ExitStack()
        for kind in _kinds(Downloader):  # type: ignore[type-abstract]
            if "open" in vars(kind):
                self._note_opening(kind)

    def teardown_method(self) -> None:
        self._undo.close()

    def _note_opening(self, kind: type[Downloader]) -> None:
        plain = vars(kind)["open"]

        def noting(downloader: Downloader, config: Any, context: Context) -> None:
            self._opened[id(downloader)] = config, context
            plain(downloader, config, context)

        kind.open = noting  # type: ignore[method-assign, assignment]
        self._undo.callback(setattr, kind, "open", plain)

    @contextlib.contextmanager
    def another(self, downloader: Downloader) -> Iterator[Downloader]:
        """What the next start of the daemon makes of the same configuration and the same private folder. The first
        one is closed: two of them at once there never are."""
        config, lent = self._opened[id(downloader)]
        downloader.close()
        made = type(downloader)()
        made.open(config, lent)
        try:
            yield made
        finally:
            made.close()

    # -- what a subclass may use too ----------------------------------------------------------------------------------

    def request(self, source: Source, folder: Path, urls: tuple[str, ...] | None = None) -> Request:
        directory = folder / "transfer"
        directory.mkdir(exist_ok=True)  # as the core does
        return Request(urls=urls or source.urls, directory=directory, headers=source.headers)

    def wait(
        self, downloader: Downloader, handle: Handle, until: Callable[[TransferStatus], bool], what: str
    ) -> TransferStatus:
        """See `wait`."""
        return wait(downloader, handle, until, what)

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

    # -- after another start of the daemon ----------------------------------------------------------------------------

    def test_another_object_adopts_what_is_there(self, downloader: Downloader, source: Source, tmp_path: Path) -> None:
        handle = self.started(downloader, source, tmp_path)
        request = self.request(source, tmp_path, source.slow_urls)
        with self.another(downloader) as second:
            # The core asks again if a crash has cut off the answer.
            assert second.create(request, self.key) == handle
            source.let()
            status = self.whole(second, handle)
            assert Path(status.content[0]).read_bytes() == source.content
            assert [path.read_bytes() for path in request.directory.iterdir()] == [source.content]

    def test_another_object_goes_on_without_being_asked(
        self, downloader: Downloader, source: Source, tmp_path: Path
    ) -> None:
        handle = self.started(downloader, source, tmp_path)
        with self.another(downloader) as second:
            source.let()
            assert Path(self.whole(second, handle).content[0]).read_bytes() == source.content

    def test_another_object_finds_what_is_paused_and_what_is_whole(
        self, downloader: Downloader, source: Source, tmp_path: Path
    ) -> None:
        handle = self.started(downloader, source, tmp_path)
        downloader.pause(handle)
        self.wait(downloader, handle, lambda status: status.state is TransferState.PAUSED, "paused")
        with self.another(downloader) as second:
            self.wait(second, handle, lambda status: status.state is TransferState.PAUSED, "still paused")
            source.let()
            second.resume(handle)
            whole = self.whole(second, handle)
            request = self.request(source, tmp_path, source.slow_urls)
            with self.another(second) as third:
                status = third.poll([handle]).get(handle)
                content: Sequence[str] = () if status is None else self.whole(third, handle).content
                # Some forget what has ended. Then they can tell from the files, or they begin anew.
                size = len(source.content)
                content = content or third.whole_content(request, self.key, total=size, restarted=True)
                content = content or self.whole(third, third.create(request, self.key)).content
                assert list(content) == list(whole.content)
                assert Path(content[0]).read_bytes() == source.content

    def test_another_object_does_not_revive_what_was_removed(
        self, downloader: Downloader, source: Source, tmp_path: Path
    ) -> None:
        handle = self.started(downloader, source, tmp_path)
        downloader.remove(handle, delete_data=True)
        with self.another(downloader) as second:
            assert second.poll([handle]) == {}
            folder = self.request(source, tmp_path).directory
            assert not folder.exists() or list(folder.iterdir()) == []

    def test_half_a_file_is_not_taken_for_whole(self, downloader: Downloader, source: Source, tmp_path: Path) -> None:
        """Its transfer is lost: what it left counts only if it is provably all of it."""
        handle = downloader.create(self.request(source, tmp_path), self.key)
        path = Path(self.whole(downloader, handle).content[0])
        downloader.remove(handle, delete_data=False)
        half = source.content[: len(source.content) // 2]
        path.write_bytes(half)
        request, total = self.request(source, tmp_path), len(source.content)
        for known in (total, None):
            assert not downloader.whole_content(request, self.key, total=known, restarted=True)
        path.unlink()
        assert not downloader.whole_content(request, self.key, total=total, restarted=True)

    # -- twice, and at once -------------------------------------------------------------------------------------------

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
        source.let()
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
        assert status.error.final in source.broken_for
        assert downloader.create(self.request(source, tmp_path), self.key) == handle
        assert Path(self.whole(downloader, handle).content[0]).read_bytes() == source.content

    def test_a_transfer_is_news(self, downloader: Downloader, source: Source, tmp_path: Path) -> None:
        """A downloader without events is polled: then there is nothing to hear, and nobody waits for it."""
        if type(downloader).events is Downloader.events:
            assert list(downloader.events()) == []
            return
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


def _kinds(kind: type[Downloader]) -> list[type[Downloader]]:
    return [found for below in kind.__subclasses__() for found in (below, *_kinds(below))]


def wait(downloader: Downloader, handle: Handle, until: Callable[[TransferStatus], bool], what: str) -> TransferStatus:
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
