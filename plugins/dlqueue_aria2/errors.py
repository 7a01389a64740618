"""What an error of aria2 means, in the words of the SDK. The codes are those of its manual, section EXIT STATUS."""

from __future__ import annotations

import re
from http import HTTPStatus

from dlqueue.sdk import Final, Rejected

SAME_TORRENT = 12
BAD_CHECKSUM = 32

_STATUS = re.compile(r"\bstatus=(\d{3})\b")
_URL = re.compile(r"[A-Za-z][A-Za-z0-9+.-]*:(//|\?)\S*")
_NO_SPACE = re.compile(r"no space left|disk quota|not enough space", re.IGNORECASE)
# 408 and 425 ask for another try, 429 for a later one; 416 is an answer to a range that aria2 made up.
_PASSING = frozenset({408, 416, 425, 429})

_TABLE: dict[int, tuple[str, Final | None, str]] = {
    2: ("the server did not answer in time", None, "timeout"),
    3: ("HTTP 404 (Not Found): the server has no such file", "request", "http_404"),
    4: ("HTTP 404 (Not Found): the server has no such file", "request", "http_404"),
    5: ("slower than the option lowest-speed-limit", None, "too_slow"),
    6: ("the network failed", None, "connection"),
    7: ("aria2 ended before the transfer was whole, or nothing came for bt-stop-timeout", None, "unfinished"),
    8: ("the server cannot go on in the middle of the file", "downloader", "no_ranges"),
    9: ("no space left where the file is to go", None, "disk_full"),
    10: ("the control file is about other pieces", "downloader", "file"),
    11: ("aria2 fetches the same file already", None, "file"),
    SAME_TORRENT: ("another transfer of aria2 has this torrent", None, "attach"),
    13: ("a file of that name is there already", "downloader", "file"),
    14: ("aria2 could not rename the file", "downloader", "file"),
    15: ("aria2 could not open the file", "downloader", "file"),
    16: ("aria2 could not create the file", "downloader", "file"),
    17: ("aria2 could not read or write the file", None, "file"),
    18: ("aria2 could not make the folder of the transfer: may it write there?", "downloader", "file"),
    19: ("the name of the server cannot be resolved", None, "dns"),
    20: ("the metalink cannot be read", "request", "bad_metalink"),
    21: ("an FTP command failed", None, "ftp"),
    23: ("too many redirects", "request", "redirects"),
    24: ("HTTP 401 (Unauthorized): the server wants a user name and password", "request", "http_401"),
    25: ("what came is no .torrent file", "request", "bad_torrent"),
    26: ("the .torrent file is damaged or lacks something", "request", "bad_torrent"),
    27: ("the magnet link cannot be used", "request", "bad_url"),
    28: ("aria2 does not take an option as it was given", "request", "bad_option"),
    30: ("aria2 did not understand the request", "downloader", "bad_answer"),
    BAD_CHECKSUM: ("the checksum of what was fetched is another one", "request", "checksum"),
}
_PHRASES: tuple[tuple[str, str, Final | None, str], ...] = (
    ("Failed to establish connection", "no connection to the server", None, "connection"),
    ("SSL/TLS handshake failure", "the TLS connection to the server failed", None, "tls"),
    ("No URI available", "the server ended the answer before the end of the file", None, "truncated"),
    ("Redirect to", "the server redirects to something that cannot be fetched", "request", "bad_redirect"),
)


def explain(code: int, message: str) -> Rejected:
    """The error for a transfer in the state ``error``. aria2's own text is shown only where ours says less, and never
    an address in it: that may hold a password."""
    if _NO_SPACE.search(message):
        code = 9
    status = _STATUS.search(message)
    if code in (22, 29) and status is not None:
        return _refused(int(status[1]))
    if code == 22:
        return Rejected("the server sent something that is not HTTP", kind="bad_answer")
    if code == 29:
        return Rejected("the server is overloaded or down for a while", kind="http_503")
    if code in _TABLE:
        text, final, kind = _TABLE[code]
        return Rejected(text, final, kind=kind)
    for phrase, text, final, kind in _PHRASES:
        if phrase in message:
            cause = message.rpartition("cause: ")[2] if "cause: " in message else ""
            return Rejected(f"{text}: {scrubbed(cause)}" if cause else text, final, kind=kind)
    if not message:
        # An unknown scheme, or a redirect to one: there is nothing else that aria2 says nothing about.
        return Rejected("aria2 cannot fetch this, and does not say why", "downloader", kind="aria2")
    return Rejected(f"aria2 failed: {scrubbed(message)}", kind="aria2")


def explain_refusal(message: str, *, torrent: bool) -> Rejected:
    """The error for a transfer that aria2 did not even take."""
    option = re.search(r"option '?-{0,2}([a-z-]+)", message)
    if "processing the option" in message and option is not None:
        return Rejected(f"aria2 does not take the value given for the option {option[1]}", "request", kind="bad_option")
    if torrent:
        return Rejected(f"aria2 cannot use this torrent: {scrubbed(message)}", "request", kind="bad_torrent")
    if "No URI to download" in message:
        return Rejected("aria2 cannot use this URL", "request", kind="bad_url")
    return Rejected(f"aria2 refuses the transfer: {scrubbed(message)}", "downloader", kind="aria2")


def scrubbed(message: str) -> str:
    """One line, not long, without addresses."""
    text = "".join(character if character.isprintable() else " " for character in message)
    return " ".join(_URL.sub("(address)", text).split())[:200]


def _refused(status: int) -> Rejected:
    try:
        phrase = f" ({HTTPStatus(status).phrase})"
    except ValueError:
        phrase = ""
    final: Final | None = "request" if 300 <= status < 500 and status not in _PASSING else None
    return Rejected(f"HTTP {status}{phrase} from the server", final, kind=f"http_{status}")
