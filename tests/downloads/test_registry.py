"""Which kinds are installed."""

from __future__ import annotations

import logging
from importlib.metadata import EntryPoint
from pathlib import Path

import pytest

from dlqueue.downloads import registry
from dlqueue.downloads.registry import GROUP, find_kinds
from dlqueue.sdk import Downloader
from dlqueue.sdk.testing import FakeDownloader


class Unfinished(Downloader):
    """Lacks the methods that every downloader has."""


not_a_class = object()


@pytest.fixture
def installed(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> dict[str, str]:
    """name → module:attribute of what is installed beside the real kinds."""
    (tmp_path / "dlqueue_test_raises.py").write_text("raise RuntimeError('made so')\n")
    (tmp_path / "dlqueue_test_exits.py").write_text("raise SystemExit(3)\n")
    (tmp_path / "dlqueue_test_needs.py").write_text("import dlqueue_no_such_module.inner\n")
    monkeypatch.syspath_prepend(str(tmp_path))
    found: dict[str, str] = {}

    def entry_points(*, group: str) -> list[EntryPoint]:
        assert group == GROUP
        return [EntryPoint(name, value, group) for name, value in found.items()]

    monkeypatch.setattr(registry, "entry_points", entry_points)
    return found


def test_the_shipped_kinds_are_found() -> None:
    kinds = find_kinds()
    assert kinds.usable["http"].kind == "http"
    assert "http" not in kinds.broken


def test_a_broken_plug_in_is_reported_and_does_not_stop_others(
    installed: dict[str, str], caplog: pytest.LogCaptureFixture
) -> None:
    installed.update(
        raises="dlqueue_test_raises:X",
        exits="dlqueue_test_exits:X",
        needs="dlqueue_test_needs:X",
        lacks="dlqueue.sdk.testing:NoSuchThing",
        unfinished=f"{__name__}:Unfinished",
        instance="dlqueue.sdk.testing:PATIENCE",
        function="dlqueue.sdk.testing:fake_content",
        fake="dlqueue.sdk.testing:FakeDownloader",
    )
    with caplog.at_level(logging.DEBUG):
        kinds = find_kinds()
    assert caplog.records == []  # whoever wants to use one is told, and nobody else
    assert kinds.usable == {"fake": FakeDownloader}
    assert "RuntimeError: made so" in kinds.broken["raises"]
    assert "SystemExit" in kinds.broken["exits"]
    assert "dlqueue_no_such_module" in kinds.broken["needs"]
    assert "dlqueue[needs]" in kinds.broken["needs"]
    assert "NoSuchThing" in kinds.broken["lacks"]
    assert "poll" in kinds.broken["unfinished"]
    assert kinds.broken["instance"] == kinds.broken["function"] == "is not a subclass of dlqueue.sdk.Downloader"
