"""Several URLs of one file: whose bytes belong together, and who has sent the wrong ones."""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Mapping
from pathlib import Path

from dlqueue.sdk import Rejected, Request
from dlqueue_http import answers
from dlqueue_http.control import Facts

_BLOCK = 1024 * 1024


def may_be_continued(request: Request, facts: Facts) -> bool:
    """Can another mirror prove that its bytes belong to those that we have? Not with a Last-Modified: servers give one
    to anything."""
    return facts.total is not None and (request.checksum is not None or (facts.validator or "").startswith('"'))


def belongs(request: Request, facts: Facts, mirror: int, headers: Mapping[str, str], total: int | None) -> bool:
    """Is this answer of ``mirror`` a part of the content that we have the beginning of?

    Another mirror than the one that began it must tell the same size, and the same strong ETag, unless a checksum will
    show at the end.
    """
    if facts.mirror == mirror:
        return answers.same_content(facts.validator, headers)
    if total is None or total != facts.total:
        return False
    return request.checksum is not None or headers.get("ETag", "").strip() == facts.validator


def mismatch(request: Request, path: Path, host: str, stopped: Callable[[], bool]) -> Rejected | None:
    """Is the whole file not what its checksum says? With mirrors the next one may have the right one. With a single URL
    that is not asked here: the core looks in any case.

    :param host: who has sent it.
    """
    if request.checksum is None or len(request.urls) < 2:
        return None
    algorithm, _, wanted = request.checksum.partition("=")
    hasher = hashlib.new(algorithm.replace("-", ""), usedforsecurity=False)
    try:
        with path.open("rb") as file:
            while not stopped() and (block := file.read(_BLOCK)):
                hasher.update(block)
    except OSError as error:
        return answers.cannot_write(error)
    if hasher.hexdigest() == wanted:
        return None
    return Rejected(f"what {host} has sent does not match the checksum", "request", kind="checksum")


def worst(errors: list[Rejected]) -> Rejected:
    """Of several mirrors' errors the one that leaves most hope."""
    hope = {None: 0, "downloader": 1, "request": 2}
    return min(errors, key=lambda error: hope[error.final])
