"""Why a letter did not arrive."""

from __future__ import annotations


class Failed(Exception):
    """:param final: trying again is of no use.
    :param retry_after: seconds that the receiver wants to be left alone.
    """

    def __init__(self, message: str, *, final: bool = False, retry_after: float | None = None) -> None:
        super().__init__(message)
        self.message = message
        self.final = final
        self.retry_after = retry_after
