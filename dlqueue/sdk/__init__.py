"""Everything a downloader plug-in may see: one protocol, a few types, four errors. Standard library only."""

from dlqueue.sdk.downloader import Context, Downloader
from dlqueue.sdk.endpoint import check_endpoint
from dlqueue.sdk.engine import Engine, OwnTransfer
from dlqueue.sdk.errors import AuthFailed, DownloaderError, Final, NotFound, Rejected, Unavailable
from dlqueue.sdk.model import Handle, Request, TransferFile, TransferState, TransferStatus

__all__ = [
    "AuthFailed",
    "Context",
    "Downloader",
    "DownloaderError",
    "Engine",
    "Final",
    "Handle",
    "NotFound",
    "OwnTransfer",
    "Rejected",
    "Request",
    "TransferFile",
    "TransferState",
    "TransferStatus",
    "Unavailable",
    "check_endpoint",
]
