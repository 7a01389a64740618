"""The four ways a downloader can say no. The plug-in labels an error; the core decides what happens next."""

from __future__ import annotations

from typing import Literal

Final = Literal["downloader", "request"]
"""For whom an error is final: for this downloader (try the next one) or for the request (nobody can do it)."""


class DownloaderError(Exception):
    """Base of all errors that a plug-in raises on purpose."""


class Unavailable(DownloaderError):
    """The downloader does not answer, or not now. Opens its breaker; its downloads wait and spend no retry."""


class AuthFailed(DownloaderError):
    """The downloader refuses our credentials. It is not asked again until its configuration changes,
    because repeated wrong logins get an address banned (qBittorrent does so even for localhost)."""


class NotFound(DownloaderError):
    """The downloader knows no transfer of that handle."""


class Rejected(DownloaderError):
    """This transfer failed or was refused.

    :param message: for a person; no secrets, one line.
    :param final: ``None`` = passing, worth another try on the same downloader; ``"downloader"`` = another one may
        do it; ``"request"`` = nobody can (404, checksum, policy).
    :param kind: a short machine-readable word that ends up as the task's error kind (``"http_404"``, ``"dns"`` …).
    :param retry_after: seconds that the other side asked us to wait, if it did.
    """

    def __init__(
        self, message: str, final: Final | None = None, *, kind: str = "rejected", retry_after: float | None = None
    ) -> None:
        super().__init__(message)
        self.message = message
        self.final = final
        self.kind = kind
        self.retry_after = retry_after
