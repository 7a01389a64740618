"""A house without a daemon for the tests of this room."""

from tests.downloads.house import build

__all__ = ["build"]
