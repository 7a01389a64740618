"""What the program has, the documents mention; what they promise to exist, exists."""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import fields
from pathlib import Path

import click
import pytest

from dlqueue.cli.main import program
from dlqueue.config import loader, sections
from dlqueue.protocol.errors import Code
from dlqueue.protocol.methods import METHODS
from dlqueue.protocol.routes import API, ROUTES
from dlqueue.queue.status import EDGES
from dlqueue.transports.problem import STATUS
from dlqueue_aria2 import Aria2Config
from dlqueue_aria2.orders import OPTIONS
from dlqueue_http import HttpConfig
from dlqueue_qbittorrent import QbittorrentConfig
from dlqueue_qbittorrent.orders import OPTIONS as QBITTORRENT_OPTIONS
from dlqueue_transmission import TransmissionConfig
from dlqueue_ytdlp import YtdlpConfig

ROOT = Path(__file__).parent.parent
PAGES = sorted([*ROOT.glob("*.md"), *(ROOT / "docs").glob("*.md")])


def page(name: str) -> str:
    return (ROOT / "docs" / name).read_text(encoding="utf-8")


def section(text: str, heading: str) -> str:
    """The text below a heading, up to the next one of its level or above."""
    level = heading.index(" ")
    start = text.index(f"\n{heading}\n")
    end = re.search(rf"^#{{1,{level}}} ", text[start + len(heading) + 2 :], re.MULTILINE)
    return text[start:] if end is None else text[start : start + len(heading) + 2 + end.start()]


@pytest.mark.parametrize(
    ("heading", "keys"),
    [
        ("## `[daemon]`", [f.name for f in fields(sections.DaemonSection)]),
        ("## `[store]`", [f.name for f in fields(sections.StoreSection)]),
        ("## `[queues.NAME]`", [f.name for f in fields(sections.QueueSection)]),
        (
            "## `[downloaders.NAME]`",
            [
                *(f.name for f in fields(sections.DownloaderSection) if f.name not in ("name", "options")),
                *(f.name for f in fields(sections.PathSection)),
            ],
        ),
        ("### kind `http`", [f.name for f in fields(HttpConfig)]),
        ("### kind `aria2`", [f.name for f in fields(Aria2Config)]),
        ("### kind `qbittorrent`", [f.name for f in fields(QbittorrentConfig)]),
        ("### kind `transmission`", [f.name for f in fields(TransmissionConfig)]),
        ("### kind `ytdlp`", [f.name for f in fields(YtdlpConfig)]),
        ("## `[seeding]`", [f.name for f in fields(sections.SeedingSection)]),
        ("## `[retention]`", [f.name for f in fields(sections.RetentionSection)]),
        ("## `[[routes]]`", [f.name for cls in (sections.RouteSection, sections.MatchSection) for f in fields(cls)]),
        ("## `[http]`", [f.name for f in fields(sections.HttpSection)]),
        (
            "## `[notify]`",
            [
                *(f.name for f in fields(sections.NotifySection) if f.name not in ("targets", "rules")),
                *(f.name for cls in (sections.TargetSection, sections.NotifyRuleSection) for f in fields(cls)),
            ],
        ),
        ("## `[hooks.NAME]`", [f.name for f in fields(sections.HookSection)]),
        ("## `[policy]`", [f.name for f in fields(sections.PolicySection)]),
        ("## `[owners.NAME]`", [f.name for f in fields(sections.OwnerSection)]),
    ],
)
def test_every_config_key_is_explained(heading: str, keys: list[str]) -> None:
    text = section(page("configuration.md"), heading)
    assert [key for key in keys if f"`{key}`" not in text] == []
    rows = re.findall(r"^\| `(\w+)` \|", text, re.MULTILINE)
    if heading != "## `[downloaders.NAME]`":  # holds the keys of the kinds too
        assert set(rows) <= set(keys)


KINDS = {
    "http": HttpConfig,
    "aria2": Aria2Config,
    "qbittorrent": QbittorrentConfig,
    "transmission": TransmissionConfig,
    "ytdlp": YtdlpConfig,
}


@pytest.mark.parametrize("kind", KINDS)
def test_what_is_called_a_duration_or_a_size_takes_one(kind: str) -> None:
    """With units, as everywhere in the configuration."""
    text = section(page("configuration.md"), f"### kind `{kind}`")
    told = dict(re.findall(r"^\| `(\w+)` \| (duration|size|secret)\b", text, re.MULTILINE))
    taken = {
        one.name: unit
        for one in fields(KINDS[kind])
        for unit in ("duration", "size", "secret")
        if one.metadata.get(unit)
    }
    assert told == taken


def test_every_option_of_aria2_is_named() -> None:
    text = section(page("configuration.md"), "### kind `aria2`")
    assert [option for option in sorted(OPTIONS) if f"`{option}`" not in text] == []


def test_every_option_of_qbittorrent_is_named() -> None:
    text = section(page("configuration.md"), "### kind `qbittorrent`")
    assert [option for option in sorted(QBITTORRENT_OPTIONS) if f"`{option}`" not in text] == []


def test_every_section_is_explained() -> None:
    text = page("configuration.md")
    assert [name for name in loader.SECTIONS if not re.search(rf"^## `\[+{name}[].]", text, re.MULTILINE)] == []
    assert [name for name in loader.SECTIONS_LATER if f"[{name}]" not in text] == []


def test_every_method_is_explained_and_no_other() -> None:
    rows = set(re.findall(r"^\| `(\w+\.\w+)` \|", page("rpc.md"), re.MULTILINE))
    assert rows == set(METHODS)


def test_every_param_is_mentioned() -> None:
    text = page("rpc.md")
    missing = {
        f"{name}: {param.name}"
        for name, row in METHODS.items()
        for param in fields(row.params)
        if f"`{param.name}" not in text
    }
    assert missing == set()


def test_every_error_code_is_explained() -> None:
    rows = {-int(code) for code in re.findall(r"^\| −(\d+) \|", page("rpc.md"), re.MULTILINE)}
    assert rows == {int(code) for code in Code}


def test_every_route_is_explained_and_no_other() -> None:
    rows = set(re.findall(r"^\| `([A-Z]+ /[^`]*)` \| `([\w.]+)` \| `(\w+)` \|", page("http.md"), re.MULTILINE))
    table = {(f"{r.verb} {r.template.removeprefix(API)}", r.method, METHODS[r.method].role) for r in ROUTES}
    assert rows == table


def test_every_status_is_explained() -> None:
    rows = re.findall(r"^\| −(\d+) \| (\d+)", page("http.md"), re.MULTILINE)
    assert {-int(code): int(status) for code, status in rows} == {int(code): n for code, n in STATUS.items()}


def commands(group: click.Group, path: str = "dlqueue") -> Iterator[tuple[str, click.Command]]:
    context = click.Context(group)
    for name in group.list_commands(context):
        command = group.get_command(context, name)
        assert command is not None
        if isinstance(command, click.Group):
            yield from commands(command, f"{path} {name}")
        else:
            yield f"{path} {name}", command


def test_every_command_is_explained_and_no_other() -> None:
    rows = set(re.findall(r"^\| `(dlqueue [a-z]+(?: [a-z]+)*)", page("cli.md"), re.MULTILINE))
    assert rows == {name for name, command in commands(program) if not command.hidden}


def test_every_option_is_mentioned() -> None:
    text = page("cli.md")
    missing = {
        f"{name} {option}"
        for name, command in [("dlqueue", program), *commands(program)]
        for parameter in command.params
        if isinstance(parameter, click.Option) and not parameter.hidden
        for option in parameter.opts
        if option not in ("--help", "--version") and not re.search(rf"{re.escape(option)}(?![\w-])", text)
    }
    assert missing == set()


def test_no_option_is_explained_that_does_not_exist() -> None:
    explained = set(re.findall(r"(?<![\w-])--?[a-z][a-z-]*", page("cli.md")))
    options = {
        option
        for command in [program, *(command for _, command in commands(program))]
        for parameter in command.params
        for option in [*parameter.opts, *parameter.secondary_opts]
    }
    assert explained - options == set()


def test_every_environment_variable_is_explained() -> None:
    sources = [*(ROOT / "dlqueue").rglob("*.py"), *(ROOT / "plugins").rglob("*.py")]
    used = {name for path in sources for name in re.findall(r"DLQUEUE_[A-Z_]+", path.read_text(encoding="utf-8"))}
    explained = set(re.findall(r"^\| `(DLQUEUE_[A-Z_]+)` \|", page("configuration.md"), re.MULTILINE))
    assert explained == used


def test_the_table_of_edges_is_the_one_that_is_enforced() -> None:
    text = section(page("architecture.md"), "## The life of a task")
    drawn = {
        (source, target)
        for sources, targets in re.findall(r"^\| ([a-z· ]+) \| ([a-z· ]+) \|", text, re.MULTILINE)
        for source in sources.split(" · ")
        for target in targets.split(" · ")
        if source != "from"
    }
    assert drawn == {(str(source), str(target)) for source, targets in EDGES.items() for target in targets}


@pytest.mark.parametrize("path", PAGES, ids=lambda path: path.name)
def test_links_between_pages_lead_somewhere(path: Path) -> None:
    text = path.read_text(encoding="utf-8")
    for target, anchor in re.findall(r"\]\(([^)#:]*)(?:#([^)]*))?\)", text):
        other = (path.parent / target).resolve() if target else path
        assert other.is_relative_to(ROOT) and other.exists(), target
        if anchor:
            headings = re.findall(r"^#+ (.*)$", other.read_text(encoding="utf-8"), re.MULTILINE)
            assert anchor in {re.sub(r"[^\w\- ]", "", heading).lower().replace(" ", "-") for heading in headings}
