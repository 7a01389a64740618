"""One run at a transfer: workers that fetch the missing segments until the file is whole, or until there is no way on.

The first worker asks for the whole file and looks at the answer. If it turns out that the file takes a while and the
server can send parts, others are given the far halves of what is left. Who is done takes over from the slowest.
"""

from __future__ import annotations

import errno
import os
import time
from dataclasses import replace
from functools import partial
from typing import TYPE_CHECKING

from dlqueue.sdk import Rejected
from dlqueue_http import answers, mirrors, names
from dlqueue_http.control import Facts
from dlqueue_http.segments import Segment, Segments
from dlqueue_http.web import Answer, Stopped, Wire, host_of

if TYPE_CHECKING:
    from dlqueue_http.transfer import Transfer

PIECE = 256 * 1024
"""Bytes read at once. Larger ones fall out of the processor's cache between the socket and the file."""
SAVE_AFTER = 0.2
"""Seconds after which a run begins to save its positions; most small files are there before."""
SAVE_EVERY = 0.02
SPLIT_EVERY = 0.25
SYNC_BYTES = 64 * 1024 * 1024
SYNC_EVERY = 15.0


PACKED = ("gzip", "x-gzip", "deflate")
KNOWN_ENCODINGS = (*PACKED, "identity", "")
MAX_RESTARTS = 3
LOCAL = ("disk_full", "file")
"""Kinds of errors that another mirror would not cure."""


class Run:
    """Brings one transfer from where it is to its end. Its transfer forgets it before it starts another one; a run
    that was stopped touches nothing any more."""

    def __init__(self, transfer: Transfer) -> None:
        self._transfer = transfer
        self._tools = transfer.tools
        self._stopped = False
        self._wires: set[Wire] = set()
        self._active = 0
        self._file: int | None = None
        options = transfer.request.options
        self._limit = int(options.get("connections", transfer.tools.connections))
        self._headers = dict(transfer.request.headers)
        if "user-agent" in options:
            self._headers = {n: v for n, v in self._headers.items() if n.lower() != "user-agent"}
            self._headers["User-Agent"] = options["user-agent"]
        self._helped = False
        self._told = False
        self._restarts = 0
        self._mirror = transfer.facts.mirror
        self._errors: list[Rejected] = []
        self._all_from: int | None = None
        """The mirror that all the content has come from, in this run."""
        self._began_with = transfer.segments.downloaded
        self._began_at = time.monotonic()
        self._next_save = self._began_at + SAVE_AFTER
        self._next_split = self._began_at + transfer.tools.split_after
        self._next_sync = self._began_at + SYNC_EVERY
        self._synced = 0
        self._syncing = False
        self._measured = self._began_at, self._began_with

    def start(self) -> None:
        self._active = 1
        self._tools.workers.submit(self._lead)

    @property
    def lasts(self) -> bool:
        """Is this longer than a moment, so that its progress is worth saving?"""
        return time.monotonic() >= self._began_at + SAVE_AFTER

    def stop(self) -> None:
        """When this returns, nothing of this run writes any more. The workers end soon after."""
        with self._transfer.lock:
            self._stopped = True
            for wire in self._wires:
                wire.cut()
            for wire in self._wires:
                with wire.writing:
                    pass
            self._transfer.segments.abandon()

    # -- workers ------------------------------------------------------------------------------------------------------

    def _lead(self) -> None:
        try:
            self._open_file()
        except OSError as error:
            self._transfer.fail(self, answers.cannot_write(error))
            return
        self._work(None)

    def _work(self, segment: Segment | None) -> None:
        """What one worker does; the last one to leave decides how the run goes on."""
        transfer = self._transfer
        while True:
            failure = self._fetch_segments(segment)
            segment = None
            with transfer.lock:
                self._active -= 1
                if failure is not None:
                    self._limit = max(self._active, 1)
                if self._active:
                    return
                whole = failure is None and transfer.segments.whole
            if whole and not self._stopped:
                # Takes its time: not under the lock.
                failure = mirrors.mismatch(transfer.request, transfer.path, host_of(self._url), lambda: self._stopped)
            with transfer.lock:
                if not self._stopped and self._go_on_after(failure):
                    self._active = 1
                    continue
                if self._file is not None:
                    os.close(self._file)
                    self._file = None
            break
        if self._stopped:
            return
        if failure is None:
            transfer.complete(self)
        else:
            transfer.fail(self, mirrors.worst(self._errors))

    def _go_on_after(self, failure: Rejected | None) -> bool:
        """Is there another way, now that nobody is working? Else the run has ended, well or not."""
        transfer = self._transfer
        if failure is None:
            return not transfer.segments.whole
        wrong = failure.kind == "checksum"
        if self._helped and not wrong:
            # Some servers punish the second connection and mean the second only: believe it when alone.
            self._helped, self._limit = False, 1
            return True
        # Of content from several mirrors, or partly from an earlier run, nobody knows who has sent what is wrong in it.
        unclear = wrong and self._all_from != self._mirror
        if wrong or failure.kind == "changed":
            transfer.forget_content()
            self._began_with = 0
        if (unclear or failure.kind == "changed") and self._restarts < MAX_RESTARTS:
            self._restarts += 1
            return True
        self._errors.append(failure)
        gained = transfer.segments.downloaded > self._began_with
        urls = transfer.request.urls
        if failure.kind in LOCAL or len(self._errors) >= len(urls):
            return False
        if not mirrors.may_be_continued(transfer.request, transfer.facts):
            if gained and failure.final is None:
                return False  # what has come is worth another try
            transfer.forget_content()
        self._mirror = (self._mirror + 1) % len(urls)
        self._began_with = transfer.segments.downloaded
        return True

    def _fetch_segments(self, segment: Segment | None) -> Rejected | None:
        """Work until nothing is left to take."""
        wire = Wire()
        transfer = self._transfer
        with transfer.lock:
            if self._stopped:
                return None
            self._wires.add(wire)
            segment = segment or transfer.segments.idle()
        try:
            while segment is not None:
                try:
                    self._fetch(wire, segment)
                finally:
                    with transfer.lock:
                        if not self._stopped:
                            transfer.segments.release(segment)
                with transfer.lock:
                    segment = self._take()
        except Stopped:
            pass
        except Exception as error:  # noqa: BLE001 - a worker has nobody above it; explain() names every type
            return answers.explain(error, host_of(self._url))
        finally:
            with transfer.lock:
                self._wires.discard(wire)
        return None

    @property
    def _url(self) -> str:
        return self._transfer.request.urls[self._mirror % len(self._transfer.request.urls)]

    # -- one segment --------------------------------------------------------------------------------------------------

    def _fetch(self, wire: Wire, segment: Segment) -> None:
        facts = self._transfer.facts
        headers = dict(self._headers)
        ranged = segment.position > 0 or segment.end != facts.total
        if ranged:
            last = "" if segment.end is None or segment.end == facts.total else segment.end - 1
            headers["Range"] = f"bytes={segment.position}-{last}"
            if facts.mirror == self._mirror or self._transfer.request.checksum is None:
                headers["If-Range"] = facts.validator or ""
        answer = self._tools.web.get(self._url, headers, wire)
        try:
            status, decode = answer.response.status, False
            if ranged and status == 206:
                self._check_part(answer, segment)
            elif status in (200, 203):
                if ranged:
                    self._whole_instead(answer, segment)
                decode = self._begin(answer, segment)
            elif ranged and status == 416:
                raise _changed(answer)
            elif status == 206:
                raise Rejected(f"{answer.host} sent a part of the file unasked", kind="bad_answer")
            else:
                answer.finish()
                raise answers.refused(status, answer.response.headers, answer.host)
            self._stream(answer, wire, segment, decode)
        finally:
            # After the last byte the connection is back in the pool and this does nothing to it.
            answer.response.close()

    def _check_part(self, answer: Answer, segment: Segment) -> None:
        facts, headers = self._transfer.facts, answer.response.headers
        part = answers.content_range(headers.get("Content-Range"))
        if (
            part is None
            or part[0] != segment.position
            or (part[2] != facts.total and part[2] is not None and facts.total is not None)
            or headers.get("Content-Encoding")
            or not mirrors.belongs(self._transfer.request, facts, self._mirror, headers, part[2])
        ):
            raise _changed(answer)
        with self._transfer.lock:
            if self._stopped:
                raise Stopped
            total = part[2] if facts.total is None else facts.total
            if segment.end is None:
                segment.end = total
            self._transfer.facts = replace(self._transfer.facts, ranges=True, total=total)
            if facts.mirror != self._mirror:
                self._all_from = None

    def _whole_instead(self, answer: Answer, segment: Segment) -> None:
        """Asked for a part, the server sends everything: begin again with that, if nobody else is at work."""
        with self._transfer.lock:
            if self._stopped:
                raise Stopped
            if self._active > 1:
                raise Rejected(f"{answer.host} does not send parts of this file", kind="no_ranges")
            segment.start = segment.position = segment.synced = 0
            segment.end = None

    def _begin(self, answer: Answer, segment: Segment) -> bool:
        """The first answer, or one that replaces all that we have. Returns whether the content is to be decoded."""
        transfer, headers = self._transfer, answer.response.headers
        name = transfer.request.name or transfer.facts.name
        if name is None:
            name = names.choose(headers.get("Content-Disposition"), answer.url, self._url)
        encoding = headers.get("Content-Encoding", "identity").strip().lower()
        if encoding not in KNOWN_ENCODINGS:
            raise Rejected(f"{answer.host} sent the content packed in a way nobody asked for", kind="bad_answer")
        decode = _must_decode(encoding, name)
        total = None if decode else answer.response.length_remaining
        if total is not None and total >= 2**63:
            raise Rejected(f"{answer.host} promises more bytes than there are", kind="bad_answer")
        facts = Facts(
            name=name,
            total=total,
            validator=None if decode else answers.validator(headers),
            ranges=not decode and "bytes" in headers.get("Accept-Ranges", "").lower(),
            mirror=self._mirror,
        )
        segment.end = total
        with transfer.lock:
            if self._stopped:
                raise Stopped
            self._all_from = self._mirror
            transfer.know(facts, Segments.of(segment, total))
            self._make_file()
        self._began_with = 0
        return decode

    def _stream(self, answer: Answer, wire: Wire, segment: Segment, decode: bool) -> None:
        response = answer.response
        while True:
            end = segment.end
            if end is None:
                room = PIECE
            elif segment.position < end:
                room = min(PIECE, end - segment.position)
            else:
                with self._transfer.lock:
                    # A neighbour may just have given its part back to us.
                    if segment.done:
                        return
                continue
            piece = response.read1(room, decode_content=decode)
            if piece:
                self._write(wire, segment, piece)
            elif end is None:
                with self._transfer.lock:
                    segment.end = segment.position
                return
            else:
                raise answers.truncated(answer.host)
            now = time.monotonic()
            if now >= self._next_save:
                self._look_up(now)

    # -- the file -----------------------------------------------------------------------------------------------------

    def _open_file(self) -> None:
        """Take up the file that an earlier run left, or none if it is not what we think it is."""
        transfer = self._transfer
        with transfer.lock:
            if self._stopped:
                return
            if transfer.facts.validator is not None and transfer.segments.downloaded:
                try:
                    file = os.open(transfer.path, os.O_WRONLY | os.O_NOFOLLOW | os.O_CLOEXEC)
                except FileNotFoundError:
                    pass
                else:
                    if os.fstat(file).st_size >= transfer.segments.reach:
                        self._file = file
                        return
                    os.close(file)
            transfer.forget_content()
            self._began_with = 0

    def _make_file(self) -> None:
        """A new file, never an old one made empty: somebody may have given that another name as well."""
        flags = os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC
        path = self._transfer.path
        if self._file is not None:
            os.close(self._file)
            self._file = None
        for _ in range(2):
            try:
                self._file = os.open(path, flags, 0o666)
            except FileNotFoundError:
                path.parent.mkdir(parents=True, exist_ok=True)
            except FileExistsError:
                path.unlink()
            else:
                return
        self._file = os.open(path, flags, 0o666)

    def _write(self, wire: Wire, segment: Segment, piece: bytes) -> None:
        with wire.writing:
            if self._stopped or self._file is None:
                raise Stopped
            written = os.pwrite(self._file, piece, segment.position)
            segment.position += written
            while written < len(piece):
                piece = piece[written:]
                written = os.pwrite(self._file, piece, segment.position)
                if not written:
                    raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
                segment.position += written

    # -- now and then -------------------------------------------------------------------------------------------------

    def _look_up(self, now: float) -> None:
        transfer = self._transfer
        with transfer.lock:
            if self._stopped:
                raise Stopped
            if now < self._next_save:
                return
            self._next_save = now + SAVE_EVERY
            if not self._told:
                # That the name and the size are known is news, but for a small file its end follows at once.
                self._told = True
                self._tools.changed()
            transfer.keep()
            if self._sync_due(now):
                # In another thread: reading goes on, and what the disk has by the end need not be waited for then.
                self._tools.workers.submit(self._sync)
            if now >= self._next_split:
                self._next_split = now + SPLIT_EVERY
                self._call_help(now)

    def _sync_due(self, now: float) -> bool:
        downloaded = self._transfer.segments.downloaded
        if self._syncing or (now < self._next_sync and downloaded - self._synced < SYNC_BYTES):
            return False
        self._syncing, self._next_sync, self._synced = True, now + SYNC_EVERY, downloaded
        return True

    def _sync(self) -> None:
        """What is on the disk by now survives a power cut; then say so."""
        transfer = self._transfer
        with transfer.lock:
            if self._stopped or self._file is None:
                return
            file = os.dup(self._file)
            reached = [(segment, segment.position) for segment in transfer.segments]
        try:
            os.fdatasync(file)
        except OSError:
            return  # nothing is claimed; the disk tells its trouble to whoever writes or syncs at the end
        finally:
            os.close(file)
            self._syncing = False
        with transfer.lock:
            if self._stopped:
                return
            for segment, position in reached:
                segment.synced = position
            transfer.keep()

    def _call_help(self, now: float) -> None:
        """More connections, if it will still take a while."""
        facts, segments = self._transfer.facts, self._transfer.segments
        downloaded = segments.downloaded
        speed = max(downloaded - self._measured[1], 0) / max(now - self._measured[0], 0.001)
        self._measured = now, downloaded
        if facts.total is None or facts.total - downloaded < 2 * self._tools.split_after * speed:
            return
        while self._active < self._limit and (segment := segments.idle() or self._split()):
            self._active += 1
            self._helped = True
            self._tools.workers.submit(partial(self._work, segment))

    def _take(self) -> Segment | None:
        return None if self._stopped else self._transfer.segments.idle() or self._split()

    def _split(self) -> Segment | None:
        facts = self._transfer.facts
        if not facts.ranges or facts.validator is None or self._limit < 2:
            return None
        return self._transfer.segments.split(self._tools.min_segment)


def _changed(answer: Answer) -> Rejected:
    return Rejected(f"the file on {answer.host} is not the one that we have the beginning of", kind="changed")


def _must_decode(encoding: str, name: str) -> bool:
    """We ask for content as it is. A server that packs it all the same is unpacked, unless the file is one of those
    that are packed by nature and only labelled so."""
    return encoding in PACKED and not name.lower().endswith((".gz", ".tgz", ".svgz"))
