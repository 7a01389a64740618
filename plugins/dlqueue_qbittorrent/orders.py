"""What is asked of qBittorrent to begin a transfer. What can be seen to be wrong is refused here."""

from __future__ import annotations

import re
from dataclasses import dataclass, field
from typing import Any

from dlqueue.sdk import Rejected, Request
from dlqueue_qbittorrent.torrents import Identity, read_magnet, read_torrent

KEY = re.compile(r"[0-9a-f]{16}")
TAG = "dlqueue-"
"""Each transfer of ours has a tag: this and its creation key."""
OPTIONS = frozenset({"dlLimit", "firstLastPiecePrio", "sequentialDownload", "upLimit"})
"""What a request may set, in the words of qBittorrent's `torrents/add`."""

_HOSTILE = re.compile("[\x00-\x20\x7f\x80-\x9f\u2028\u2029\ud800-\udfff]")
_NO_LIMIT = -1


@dataclass(frozen=True, slots=True)
class Order:
    """
    :param arguments: of `Client.torrents_add`.
    :param select: indexes from 0; ``None`` = all.
    """

    identity: Identity
    select: tuple[int, ...] | None
    arguments: dict[str, Any] = field(repr=False)


def make_order(request: Request, key: str) -> Order:
    """Raises `Rejected`."""
    if not KEY.fullmatch(key):
        raise Rejected("a creation key is 16 hex digits", "request", kind="bad_key")
    folder = str(request.directory)
    if not request.directory.is_absolute() or _HOSTILE.search(folder.replace(" ", "")) or folder != folder.strip():
        raise Rejected("the folder is not a plain absolute path", "request", kind="bad_name")
    arguments: dict[str, Any] = {
        "save_path": folder,
        "tags": TAG + key,
        "content_layout": "Original",
        # Whatever its user has made the default: it goes into that folder, begins, and is ended by the core. A limit
        # of its own might even delete the content (`max_ratio_act`).
        "use_auto_torrent_management": False,
        "use_download_path": False,
        "is_stopped": False,
        "ratio_limit": _NO_LIMIT,
        "seeding_time_limit": _NO_LIMIT,
        "inactive_seeding_time_limit": _NO_LIMIT,
        "share_limit_action": "Stop",
        **_options(request),
    }
    if request.torrent is not None:
        identity = read_torrent(request.torrent)
        arguments |= {"torrent_files": request.torrent}
    else:
        identity = read_magnet(_magnet(request))
        arguments |= {"urls": request.urls}
    select = None if request.select is None else check_selection(request.select, identity.files)
    if select is None:
        arguments["stopCondition"] = "None"
    elif request.torrent is not None:
        arguments |= {"is_stopped": True, "stopCondition": "None"}
    else:
        arguments["stop_condition"] = "MetadataReceived"
    return Order(identity, select, arguments)


def check_selection(indexes: tuple[int, ...], files: int | None) -> tuple[int, ...]:
    """As qBittorrent counts: from 0. Raises `Rejected`.

    :param files: how many there are; ``None`` = not known yet.
    """
    if not indexes or min(indexes) < 1 or max(indexes) > 1_000_000:
        raise Rejected("file numbers count from 1", "request", kind="bad_select")
    if files is not None and max(indexes) > files:
        what = "there is one file" if files == 1 else f"there are {files} files"
        raise Rejected(f"{what}, no number {max(indexes)}", "request", kind="bad_select")
    return tuple(sorted({index - 1 for index in indexes}))


def _magnet(request: Request) -> str:
    if len(request.urls) != 1 or request.urls[0][:7].lower() != "magnet:":
        raise Rejected("qBittorrent fetches torrents and magnet links", "downloader", kind="bad_url")
    (url,) = request.urls
    if _HOSTILE.search(url):  # a line break would begin another link
        raise Rejected("the magnet link has a character that no URL may have", "request", kind="bad_url")
    return url


def _options(request: Request) -> dict[str, str]:
    for name, value in request.options.items():
        if name not in OPTIONS:
            raise Rejected(
                f"qBittorrent has no option {name!r} that may be set here (there are: {', '.join(sorted(OPTIONS))})",
                "request",
                kind="bad_option",
            )
        limit = name.endswith("Limit")
        if limit and not re.fullmatch(r"[0-9]{1,12}", value):
            raise Rejected(f"the option {name} takes bytes per second", "request", kind="bad_option")
        if not limit and value not in ("true", "false"):
            raise Rejected(f"the option {name} takes true or false", "request", kind="bad_option")
    return dict(request.options)
