"""Downloaders and their kinds as messages."""

from __future__ import annotations

import asyncio
from pathlib import Path

from dlqueue.downloads.endpoints import Endpoints
from dlqueue.downloads.examine import examine
from dlqueue.downloads.registry import find_kinds
from dlqueue.protocol import downloaders
from dlqueue.protocol.errors import NotFound, did_you_mean
from dlqueue.protocol.times import instant_text


def known(endpoints: Endpoints, name: str) -> str:
    """:raises NotFound: no downloader has this name."""
    if name not in endpoints:
        there = f"configured: {', '.join(endpoints.names()) or 'none'}"
        meant = did_you_mean(name, endpoints.names())
        raise NotFound(f"no downloader {name[:100]!r} ({there}){meant}", kind="downloader", field="name")
    return name


def downloader_view(endpoints: Endpoints, name: str, node: str) -> downloaders.Downloader:
    coordinator, config = endpoints[name], endpoints.configs[name]
    down, up = coordinator.speeds()
    # Who has refused our credentials is not asked again before they are other ones.
    until = None if coordinator.auth_failed else coordinator.down_until
    return {
        "name": name,
        "kind": config.kind.kind,
        "health": coordinator.health,
        "version": coordinator.version,
        "active": endpoints.slots.active(name),
        "max_active": config.max_active,
        "download_speed": round(down),
        "upload_speed": round(up),
        "breaker": {
            "state": "open" if coordinator.down else "closed",
            "until": None if until is None else instant_text(until),
        },
        "last_error": coordinator.last_error,
        "node": node,
        "paused": coordinator.paused is not None,
    }


async def test_view(endpoints: Endpoints, name: str, folders: list[Path]) -> downloaders.DownloaderTest:
    coordinator = endpoints[name]
    checks: list[downloaders.Check] = []
    for check in await examine(endpoints, name, folders):
        told: downloaders.Check = {"name": check.name, "ok": check.ok, "message": check.message}
        checks.append(told if check.cure is None else {**told, "cure": check.cure})
    return {"ok": all(check["ok"] for check in checks), "version": coordinator.version, "checks": checks}


async def kinds_view(endpoints: Endpoints) -> downloaders.KindPage:
    kinds = await asyncio.to_thread(find_kinds)
    configured = {name: config.kind.kind for name, config in endpoints.configs.items()}
    items: list[downloaders.Kind] = []
    for kind in sorted({*kinds.usable, *kinds.broken}):
        loaded = kinds.usable.get(kind)
        items.append(
            {
                "kind": kind,
                "usable": loaded is not None,
                "schemes": sorted(loaded.schemes) if loaded is not None else [],
                "downloaders": [name for name, used in configured.items() if used == kind],
                "problem": kinds.broken.get(kind),
            }
        )
    return {"items": items, "next_cursor": None, "total": len(items)}
