"""Tasks on a screen: whatever its size, no line is longer than it is wide, and who moves is seen."""

from __future__ import annotations

from typing import Any

import pytest

from dlqueue.cli.panel import panel, summary
from dlqueue.cli.table import aligned, cell_width, cut, fitting
from dlqueue.cli.taskrow import RIGHT, TITLES, cells_for_people

NAMES = [
    "short.iso",
    "a-very-long-name-of-an-image-" * 4 + ".iso",
    "日本語の長いファイル名" * 5 + ".mkv",
    "e\u0301" * 60,
]
WIDTHS = [30, 40, 60, 80, 120, 200]


def task(number: int, status: str = "suspending", state: str | None = "downloading", **more: Any) -> dict[str, Any]:
    counters = more.pop("counters", {"downloaded": 50 * 2**20, "total": 200 * 2**20, "download_speed": 2**20})
    phase = more.pop("phase", "monitor")
    return {
        "id": number, "type": "remote_download", "status": status, "want": "run", "hold": "transfer:k", "error": None,
        "progress": {"percent": 25.0, "message": None, "step": None, "counters": counters},
        "download": {
            "name": NAMES[number % len(NAMES)], "url": "http://h/a", "state": state, "phase": phase,
            "delivered_at": more.pop("delivered_at", None),
        },
        **more,
    }  # fmt: skip


def waiting(number: int) -> dict[str, Any]:
    return task(number, state=None, hold="slot:http", counters={}, phase="") | {"progress": None}


def texts(tasks: list[dict[str, Any]], width: int = 80, height: int = 24, **more: Any) -> list[str]:
    return ["".join(piece for piece, _ in line) for line in panel(tasks, width, height, **more)]


@pytest.mark.parametrize("width", WIDTHS)
@pytest.mark.parametrize("count", [1, 3, 100])
def test_no_line_is_too_long_and_no_screen_too_full(width: int, count: int) -> None:
    states = ["downloading", "metadata", "seeding", "checking"]
    tasks = [task(1000 + i, state=states[i % 4]) if i % 2 else waiting(1000 + i) for i in range(count)]
    tasks.append(task(5000, status="error"))
    lines = texts(tasks, width)
    assert max(cell_width(line.rstrip()) for line in lines) <= width
    assert len(lines) <= 23
    assert {cell_width(line) - cell_width(line.lstrip()) for line in lines} >= {0}


def test_a_download_at_80_columns() -> None:
    (line,) = texts([task(7)])
    assert line.startswith("7  日本語") is False
    assert "25%" in line and "200.0 MiB" in line and "1.0 MiB/s" in line and line.endswith("2m30s")
    assert "━━" in line and "──" in line
    (plain,) = texts([task(7)], unicode=False)
    assert "##" in plain and "--" in plain and plain.isascii() is (cell_width(NAMES[3]) == 0)
    (narrow,) = texts([task(4)], width=60)
    assert "200.0 MiB" not in narrow and "short.iso" in narrow and "25%" in narrow


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        ({"state": "metadata"}, "metadata"),
        ({"state": "seeding"}, "seeding"),
        ({"state": "seeding", "counters": {"total": 100, "downloaded": 100, "uploaded": 50}}, "seeding, ratio 0.50"),
        ({"phase": "deliver"}, "delivering"),
        ({"status": "completed"}, "done"),
        ({"status": "error"}, "failed"),
        ({"status": "canceled"}, "canceled"),
        ({"status": "paused"}, "paused"),
        ({"hold": "slot:http"}, "waiting"),
        ({"hold": "paused:http"}, "waiting"),
        ({"hold": "downloader:http"}, "waiting"),
        ({"hold": "space"}, "disk-full"),
        ({"want": "pause"}, "pausing"),
        ({"state": "queued"}, "waiting"),
        ({"state": "paused"}, "waiting"),
        ({"state": "unknown"}, "waiting"),
        ({"state": None, "error": {"kind": "busy", "message": "busy", "at": "now"}}, "retry"),
    ],
)
def test_what_it_does_in_a_word(changes: dict[str, Any], words: str) -> None:
    (line,) = texts([task(4, **changes)])
    assert line.rstrip().endswith(words), line


def test_those_that_move_come_first() -> None:
    tasks = [task(i, status="completed") for i in range(1, 41)] + [waiting(i) for i in range(41, 96)]
    tasks += [task(i) for i in range(96, 101)]
    lines = texts(tasks)
    assert len(lines) == 23
    shown = [int(line.split()[0]) for line in lines[:-1]]
    assert shown[-5:] == [96, 97, 98, 99, 100] and set(shown[:-5]) <= set(range(41, 96)) and shown == sorted(shown)
    assert lines[-1].startswith("40 of 100 done, 5 moving, 55 waiting, 5.0 MiB/s")


def test_when_all_is_done_the_last_ones_stay() -> None:
    lines = texts([task(i, status="completed") for i in range(1, 101)])
    assert len(lines) == 23 and lines[-1].startswith("100 of 100 done")


def test_summary() -> None:
    tasks = [task(1), task(2), waiting(3), task(4, status="error"), task(5, delivered_at="now", state="seeding")]
    text = summary(tasks, 200)
    assert text.startswith("1 of 5 done, 1 failed, 2 moving, 1 waiting, 1 seeding, 2.0 MiB/s")
    assert "so far" in text and "left" not in text, "the size of one is not known"
    assert summary([task(1, status="canceled"), waiting(2)], 200).startswith("0 of 2 done, 1 canceled, 1 waiting,")
    assert summary([task(1), task(2)], 200).endswith("100.0 MiB of 400.0 MiB, 2m30s left")
    assert len(summary(tasks, 30)) <= 30


@pytest.mark.parametrize("width", [20, *WIDTHS])
def test_table_of_tasks(width: int) -> None:
    rows = [cells_for_people(one) for one in (task(1001), waiting(1002), task(1003, status="error"))]
    lines = aligned(*fitting(TITLES, rows, ("ETA", "SPEED", "SIZE", "%"), width), RIGHT, width)
    assert len(lines) == 4 and all(cell_width(line) <= width for line in lines)
    if 40 <= width <= 120:
        assert "NAME" in lines[0] and "…" in lines[1]


def test_columns_that_say_nothing_go_first() -> None:
    rows = [["1", "-", "99", "a-name-that-wants-room.iso"], ["2", "-", "98", "b"]]
    titles, kept = fitting(("ID", "ETA", "%", "NAME"), rows, ("%", "ETA"), 32)
    assert list(titles) == ["ID", "%", "NAME"] and kept[0] == ["1", "99", "a-name-that-wants-room.iso"]
    assert list(fitting(("ID", "ETA", "%", "NAME"), rows, ("%", "ETA"), 80)[0]) == ["ID", "ETA", "%", "NAME"]


def test_widths_of_text() -> None:
    assert [cell_width(text) for text in ("abc", "日本", "e\u0301", "a\ufe0f", "")] == [3, 4, 1, 1, 0]
    assert cut("abcdefghij", 5) == "abc…j" and cut("日本語日本語", 7) == "日本…語"
    assert all(cell_width(cut(name, width)) <= width for name in NAMES for width in range(1, 40))
