"""Under which names a downloader sees the folders that we see. Everything that goes into one or comes out of one passes
here, and nowhere else are the two kinds of names told apart."""

from __future__ import annotations

import os
from collections.abc import Iterable
from dataclasses import dataclass, replace
from functools import cached_property
from pathlib import Path

from dlqueue.downloads.delivery import make_shared, make_staging
from dlqueue.downloads.policy import resolved
from dlqueue.sdk import Rejected, Request, TransferState, TransferStatus


@dataclass(frozen=True)
class PathMap:
    """
    :param downloader: whose, for messages.
    :param pairs: its name for a folder, and ours. None = it has the same names as we have.
    :param directory: where it writes, in its own terms; None = into our staging folder.
    :param in_place: what it has fetched stays where it is.
    """

    downloader: str = ""
    pairs: tuple[tuple[Path, Path], ...] = ()
    directory: Path | None = None
    in_place: bool = False

    @cached_property
    def folder(self) -> Path | None:
        """`directory` as we see it. :raises Rejected: we do not see it."""
        return None if self.directory is None else self.to_local(str(self.directory))

    @property
    def given(self) -> bool:
        """Is anything configured that may be wrong?"""
        return bool(self.pairs) or self.directory is not None

    def to_local(self, remote: str | os.PathLike[str]) -> Path:
        """What it calls ``remote``, as we call it. The longest prefix wins. Nobody has looked yet where links in it
        lead: see `is_inside`.

        :raises Rejected: it is in none of the mapped folders, or is no plain absolute path.
        """
        if not self.pairs:
            return Path(remote)
        path = Path(remote)
        if not path.is_absolute() or ".." in path.parts:
            raise self._refused(f"{self.downloader} names {_shown(path)}, which is no plain absolute path")
        path = _plain(path)
        found = [pair for pair in self.pairs if path.is_relative_to(pair[0])]
        if not found:
            known = ", ".join(str(pair[0]) for pair in self.pairs)
            raise self._refused(
                f"{self.downloader} names {_shown(path)}, which is in none of its mapped folders ({known}):"
                f" add it to paths in [downloaders.{self.downloader}]"
            )
        theirs, ours = max(found, key=lambda pair: len(pair[0].parts))
        return ours / path.relative_to(theirs)

    def to_remote(self, local: Path) -> Path:
        """What we call ``local``, as it calls it; `to_local` leads back. :raises Rejected: it does not see it."""
        if not self.pairs:
            return local
        found = [pair for pair in self.pairs if local.is_relative_to(pair[1])]
        for theirs, ours in sorted(found, key=lambda pair: -len(pair[1].parts)):
            remote = theirs / local.relative_to(ours)
            if self.to_local(remote) == local:
                return remote
        known = ", ".join(str(pair[1]) for pair in self.pairs)
        raise self._refused(
            f"{self.downloader} cannot write into {_shown(local)}, which is in none of its mapped folders ({known}):"
            f" set directory or add it to paths in [downloaders.{self.downloader}]"
        )

    def sent(self, request: Request) -> Request:
        """In its terms. :raises Rejected: it does not see the folder."""
        return replace(request, directory=self.to_remote(request.directory)) if self.pairs else request

    def seen(self, status: TransferStatus) -> TransferStatus:
        """In ours. One that names what we do not see has failed."""
        if not self.pairs or not status.content:
            return status
        try:
            return replace(status, content=self.found(status.content))
        except Rejected as error:
            return replace(status, state=TransferState.ERROR, content=(), error=error)

    def found(self, content: Iterable[str]) -> tuple[str, ...]:
        """Paths in our terms. :raises Rejected: we do not see one of them."""
        return tuple(str(self.to_local(path)) for path in content)

    def is_inside(self, local: Path) -> bool:
        """Does it lie, links in its folder resolved, in a mapped folder? Looks at the disk."""
        place = resolved(local.parent)
        return not self.pairs or any(place.is_relative_to(resolved(ours)) for _, ours in self.pairs)

    def own(self, folder: Path, content: Iterable[str]) -> Path:
        """The folder of a transfer: ``folder``, or where its content is by now if the map is another one since."""
        (place, *others) = {Path(path).parent for path in content} or {folder}
        return place if self.given and not others and place.name == folder.name else folder

    def missing(self, content: Iterable[str]) -> Rejected:
        """The error for content that it has and that is not where we would see it."""
        what = " and ".join(_shown(Path(path)) for path in content)
        return self._refused(
            f"{self.downloader} says that it is whole, but {what} is not there: correct directory and paths in"
            f" [downloaders.{self.downloader}] (dlqueue downloader test {self.downloader} finds out)"
        )

    def _refused(self, message: str) -> Rejected:
        return Rejected(message, "downloader", kind="path_map")


def make_folder(paths: PathMap, folder: Path) -> None:
    """The folder of one transfer. :raises OSError: it cannot be made."""
    make = make_staging if paths.directory is None else make_shared
    make(folder)


def _plain(path: Path) -> Path:
    """Two slashes at its beginning are one."""
    return Path("/", *path.parts[1:])


def _shown(path: Path) -> str:
    """For a message: one line, of a length that can be read."""
    text = "".join(character if character.isprintable() else "_" for character in str(path))
    return text if len(text) <= 300 else f"{text[:300]}…"
