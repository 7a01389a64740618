from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any, ClassVar

import pytest
from hypothesis import given
from hypothesis import strategies as st

from dlqueue.config import Config, ConfigError, Problem, load
from dlqueue.config.sections import MatchSection, PathSection
from dlqueue.places import Mode
from dlqueue.sdk import Downloader, Handle, Request, TransferStatus


@dataclass(frozen=True)
class Plain:
    """The options of a kind that needs nothing."""

    chunk: int = field(default=65536, metadata={"size": True})


@dataclass(frozen=True)
class Box:
    """The options of a kind that lives elsewhere."""

    url: str
    username: str | None = None
    password: str | None = field(default=None, metadata={"secret": True})
    connect: float = field(default=10.0, metadata={"duration": True})
    folder: Path | None = None
    verify: bool = True

    def __post_init__(self) -> None:
        if not self.url.startswith("http"):
            raise ValueError("url must begin with http")


class Web(Downloader):
    kind = "http"
    schemes = frozenset({"http"})
    config_type: ClassVar[type[Any]] = Plain

    @classmethod
    def default_config(cls) -> Any | None:
        return Plain()

    def open(self, config: Any, context: Any) -> None: ...
    def test(self) -> str:
        return "1"

    def create(self, request: Request, key: str) -> Handle:
        return Handle(key)

    def poll(self, handles: Sequence[Handle]) -> Mapping[Handle, TransferStatus]:
        return {}

    def pause(self, handle: Handle) -> None: ...
    def resume(self, handle: Handle) -> None: ...
    def remove(self, handle: Handle, delete_data: bool) -> None: ...
    def events(self) -> Iterator[None]:
        return iter(())


class BoxKind(Web):
    kind = "box"
    config_type = Box

    @classmethod
    def default_config(cls) -> Any | None:
        return None


KINDS: dict[str, type[Downloader]] = {"http": Web, "box": BoxKind}

Load = Callable[..., Config]


@pytest.fixture
def file(tmp_path: Path) -> Path:
    return tmp_path / "dlqueue.toml"


@pytest.fixture
def read(file: Path, tmp_path: Path) -> Load:
    """Write the text as the config file and load it."""

    def read(text: str, mode: Mode = "user", **environ: str) -> Config:
        file.write_text(text, encoding="utf-8")
        return load(file, mode=mode, kinds=KINDS, environ={"HOME": str(tmp_path), **environ})

    return read


def problems(read: Load, text: str, **more: Any) -> tuple[Problem, ...]:
    with pytest.raises(ConfigError) as caught:
        read(text, **more)
    assert str(caught.value).splitlines() == [str(problem) for problem in caught.value.problems]
    return caught.value.problems


def the_problem(read: Load, text: str, **more: Any) -> Problem:
    [problem] = problems(read, text, **more)
    return problem


# -- what is right ----------------------------------------------------------------------------------------------------


def test_with_no_file_at_all_the_defaults_hold(tmp_path: Path) -> None:
    config = load(None, mode="user", kinds=KINDS, environ={"HOME": str(tmp_path)})
    assert config.files == ()
    assert config.daemon.downloads is None
    assert config.daemon.allow_destinations == (tmp_path,)
    assert config.daemon.workers >= 8
    assert config.store.url == f"sqlite:///{tmp_path}/.local/state/dlqueue/dlqueue.db"
    assert (config.store.durability, config.store.namespace) == ("disk", "default")
    assert set(config.downloaders) == {"http"}
    web = config.downloaders["http"]
    assert (web.kind, web.enabled, web.max_active, web.poll, web.options) == ("http", True, 5, 2.0, Plain())
    downloads = config.queues["downloads"]
    assert (downloads.concurrency, downloads.max_retry, downloads.retry_delay) == (16, 10, 5)
    assert (downloads.backoff_max, downloads.ageing) == (600, 1)
    assert config.policy.schemes == ("http", "https", "ftp", "magnet")
    assert config.policy.private_addresses is True


def test_the_systems_defaults() -> None:
    config = load(None, mode="system", kinds=KINDS, environ={"HOME": "/root", "DLQUEUE_CONFIG": os.devnull})
    assert config.daemon.downloads == Path("/var/lib/dlqueue/downloads")
    assert config.daemon.allow_destinations == (Path("/var/lib/dlqueue/downloads"),)
    assert config.store.url == "sqlite:////var/lib/dlqueue/dlqueue.db"


def test_every_setting_is_taken(read: Load, tmp_path: Path) -> None:
    config = read("""
        [daemon]
        downloads = "/srv/downloads"
        allow_destinations = ["/srv", "~/x"]
        staging = "/srv/.dlqueue"
        workers = 3
        admins = ["wheel"]
        [store]
        url = "sqlite:////srv/q.db"
        durability = "process"
        namespace = "other"
        [queues.downloads]
        concurrency = 4
        backoff_max = "1h"
        [queues.slow]
        max_retry = 0
        retry_delay = "500ms"
        backoff_factor = 1.5
        ageing = 0
        [downloaders.web]
        kind = "http"
        chunk = "1MiB"
        [downloaders.seed]
        kind = "box"
        enabled = false
        max_active = 2
        poll = "1m"
        url = "http://127.0.0.1:1"
        folder = "~/box"
        connect = 3
        [policy]
        schemes = ["https"]
        private_addresses = false
        """)
    assert config.daemon.downloads == Path("/srv/downloads")
    assert config.daemon.allow_destinations == (Path("/srv"), tmp_path / "x")
    assert config.daemon.staging == Path("/srv/.dlqueue")
    assert (config.daemon.workers, config.daemon.admins) == (3, ("wheel",))
    assert config.store.url == "sqlite:////srv/q.db"
    assert (config.store.durability, config.store.namespace) == ("process", "other")
    assert (config.queues["downloads"].concurrency, config.queues["downloads"].backoff_max) == (4, 3600)
    assert config.queues["downloads"].max_retry == 10  # the default of this queue stays
    slow = config.queues["slow"]
    assert (slow.concurrency, slow.max_retry, slow.retry_delay) == (None, 0, 0.5)
    assert (slow.backoff_factor, slow.backoff_max, slow.ageing) == (1.5, None, 0)
    assert config.downloaders["web"].options == Plain(chunk=1024**2)
    seed = config.downloaders["seed"]
    assert (seed.name, seed.enabled, seed.max_active, seed.poll) == ("seed", False, 2, 60)
    assert seed.options == Box(url="http://127.0.0.1:1", folder=tmp_path / "box", connect=3)
    assert (config.policy.schemes, config.policy.private_addresses) == (("https",), False)


def test_sections_of_downloaders_replace_the_built_in_one(read: Load) -> None:
    assert set(read('[downloaders.seed]\nkind = "box"\nurl = "http://b"\n').downloaders) == {"seed"}


def test_an_empty_table_of_downloaders_is_no_section(read: Load) -> None:
    assert set(read("[downloaders]\n").downloaders) == {"http"}


def test_files_of_conf_d_are_laid_over_in_the_order_of_names(read: Load, file: Path, tmp_path: Path) -> None:
    folder = tmp_path / "conf.d"
    folder.mkdir()
    (folder / "20.toml").write_text('[daemon]\nworkers = 20\n[downloaders.seed]\nurl = "http://new"\n')
    (folder / "10.toml").write_text('[daemon]\nworkers = 10\nadmins = ["ten"]\n')
    (folder / "ignored.txt").write_text("nonsense")
    config = read('[daemon]\nworkers = 1\n[downloaders.seed]\nkind = "box"\nurl = "http://old"\n')
    assert config.files == (file, folder / "10.toml", folder / "20.toml")
    assert (config.daemon.workers, config.daemon.admins) == (20, ("ten",))
    assert config.downloaders["seed"].options.url == "http://new"


def test_a_later_secret_replaces_the_earlier_one_as_a_whole(read: Load, tmp_path: Path) -> None:
    (tmp_path / "conf.d").mkdir()
    (tmp_path / "conf.d" / "a.toml").write_text('[downloaders.b]\npassword = { env = "PW" }\n')
    config = read('[downloaders.b]\nkind="box"\nurl="http://b"\npassword = { file = "/nowhere" }\n', PW="later")
    assert config.downloaders["b"].options.password == "later"


def test_the_environment_names_the_file(file: Path, tmp_path: Path) -> None:
    file.write_text("[daemon]\nworkers = 5\n")
    config = load(None, mode="user", kinds=KINDS, environ={"HOME": str(tmp_path), "DLQUEUE_CONFIG": str(file)})
    assert (config.daemon.workers, config.places.config_file) == (5, file)


# -- what is wrong ----------------------------------------------------------------------------------------------------


def test_every_problem_at_once_with_file_line_key_and_nearest_name(read: Load, file: Path, tmp_path: Path) -> None:
    (tmp_path / "conf.d").mkdir()
    other = tmp_path / "conf.d" / "a.toml"
    other.write_text('[policy]\n\nschemes = "http"\n')
    found = problems(
        read,
        """[daemon]
wrokers = 3
workers = true
admins = ["wheel", 3]
[node]
name = "nas"
[polcy]
[queues.downloads]
rate = "10 a day"
concurrency = "many"
[downloaders.a]
kind = "htpp"
[downloaders.b]
kind = "box"
max_active = 0
delivery = "away"
poll = "2 parsecs"
""",
    )
    assert [(p.file, p.line, p.key) for p in found] == [
        (file, 2, "daemon.wrokers"),
        (file, 3, "daemon.workers"),
        (file, 4, "daemon.admins[1]"),
        (file, 5, "node"),
        (file, 7, "polcy"),
        (file, 9, "queues.downloads.rate"),
        (file, 10, "queues.downloads.concurrency"),
        (file, 12, "downloaders.a.kind"),
        (file, 13, "downloaders.b.url"),
        (file, 15, "downloaders.b.max_active"),
        (file, 16, "downloaders.b.delivery"),
        (file, 17, "downloaders.b.poll"),
        (other, 3, "policy.schemes"),
    ]
    said = {p.key: p.message for p in found}
    assert '"workers"' in said["daemon.wrokers"]
    assert said["daemon.workers"] == "must be a whole number, not true"
    assert "not supported yet by dlqueue 0.1" in said["node"]
    assert said["queues.downloads.rate"] == 'not a rate: "10 a day"; write for example 10/s, 100/m, 1000/h or 0.5/s'
    assert said["downloaders.b.delivery"] == 'must be "move" or "none", not "away"'
    assert '"policy"' in said["polcy"]
    assert '"http"' in said["downloaders.a.kind"]
    assert said["downloaders.b.url"] == "is required"


@pytest.mark.parametrize("name", ["node"])
def test_sections_of_later_versions_are_refused_by_name(read: Load, name: str) -> None:
    problem = the_problem(read, f"\n[{name}]\nx = 1\n")
    assert (problem.line, problem.key, problem.message) == (2, name, "not supported yet by dlqueue 0.1")


# -- routes -----------------------------------------------------------------------------------------------------------


def test_routes_take_one_value_or_a_list(read: Load) -> None:
    config = read(
        BOX
        + """[[routes]]
match = { scheme = ["magnet", "ftp"], url = "*.torrent", size = [">1GiB", 5, "1M..2M"], tag = "a", owner = "b" }
use = "b"
[[routes]]
match = { host = "*.example.org", type = "iso" }
all = true
use = ["b"]
[[routes]]
use = ["b"]
"""
    )
    first, second, third = config.routes
    assert (first.match.scheme, first.match.url, first.use) == (("magnet", "ftp"), ("*.torrent",), ("b",))
    assert (first.match.size, first.match.tag, first.match.owner) == ((">1GiB", 5, "1M..2M"), ("a",), ("b",))
    assert (second.match.host, second.match.type, second.all) == (("*.example.org",), ("iso",), True)
    assert (third.match, third.all) == (MatchSection(), False)
    assert [route["match"] for route in config.as_shown()["routes"][1:]] == [
        {"host": ["*.example.org"], "type": ["iso"]},
        {},
    ]
    assert config.as_shown()["routes"][0]["match"]["url"] == ["*.torrent"]


def test_routes_may_name_what_is_there_by_itself_and_what_is_disabled(read: Load) -> None:
    assert read('[[routes]]\nuse = ["http"]\n').routes[0].use == ("http",)
    assert read(BOX + 'enabled = false\n[[routes]]\nuse = ["b"]\n').routes[0].use == ("b",)


@pytest.mark.parametrize(
    ("text", "line", "key", "part"),
    [
        ("routes = 3\n", 1, "routes", "write [[routes]]"),
        ("[routes]\nuse = ['b']\n", 1, "routes", "write [[routes]]"),
        ("[[routes]]\nuse = ['b']\nmatsch = {}\n", 3, "routes[0].matsch", 'did you mean "match"?'),
        ("[[routes]]\nuse = ['b']\nmatch = 'magnet'\n", 3, "routes[0].match", "must be a table"),
        ("[[routes]]\nuse = ['b']\nmatch = { hots = 'x' }\n", 3, "routes[0].match.hots", 'did you mean "host"?'),
        ("[[routes]]\nuse = ['b']\nmatch = { scheme = 'http://' }\n", 3, "routes[0].match.scheme", "without ://"),
        ("[[routes]]\nuse = ['b']\nmatch = { tag = ['a', 3] }\n", 3, "routes[0].match.tag[1]", "must be text"),
        ("[[routes]]\nuse = ['b']\nmatch = { scheme = [] }\n", 3, "routes[0].match.scheme", "at least 1 item"),
        ("[[routes]]\nuse = ['b']\nmatch = { size = [] }\n", 3, "routes[0].match.size", "at least 1 item"),
        ("[[routes]]\nuse = ['b']\nmatch = { owner = [] }\n", 3, "routes[0].match.owner", "at least 1 item"),
        ("[[routes]]\nuse = ['b']\nmatch = { size = '~1G' }\n", 3, "routes[0].match.size", "not a"),
        ("[[routes]]\nuse = ['b']\nmatch = { size = '2G..1G' }\n", 3, "routes[0].match.size", "smaller size"),
        ("[[routes]]\nuse = ['b']\nall = 'yes'\n", 3, "routes[0].all", "true or false"),
        ("[[routes]]\nuse = ['b']\n[[routes]]\nmatch = {}\n", 3, "routes[1].use", "is required"),
        ("[[routes]]\nuse = []\n", 2, "routes[0].use", "at least 1 item"),
        ("[[routes]]\nuse = ['b', 'boxx']\n", 2, "routes[0].use", 'unknown downloader "boxx"; valid here: b'),
        ("[[routes]]\nuse = 3\n", 2, "routes[0].use", "must be text"),
    ],
)  # fmt: skip
def test_a_route_that_cannot_be(read: Load, text: str, line: int, key: str, part: str) -> None:
    problem = the_problem(read, f"{text}{BOX}")
    assert (problem.line, problem.key) == (line, key)
    assert part in problem.message


def test_routes_that_are_likely_a_mistake(read: Load) -> None:
    more = '[downloaders.c]\nkind = "http"\n'
    routes = '[[routes]]\nuse = "b"\n[[routes]]\nuse = "c"\nmatch = { tag = "x" }\n'
    said = [(doubt.key, doubt.message) for doubt in read(BOX + "enabled = false\n" + more + routes).warnings]
    assert ("routes[0].use", "none of them is enabled: what matches waits") in said
    assert ("routes[1]", "is never reached: route 1 has no match and takes everything") in said


def test_a_stall_may_be_off_but_not_nothing(read: Load) -> None:
    section = read(BOX + "stall = false\nfailover_after = '90s'\n").downloaders["b"]
    assert (section.stall, section.failover_after) == (None, 90.0)
    problem = the_problem(read, BOX + "stall = 0\n")
    assert problem.message == "must be more than 0; false = no rule"


def test_where_a_downloader_writes(read: Load) -> None:
    section = read(BOX).downloaders["b"]
    assert (section.directory, section.paths, section.delivery) == (None, (), "move")
    more = (
        'directory = "/downloads/dl/"\ndelivery = "none"\npaths = [{ remote = "//downloads/", local = "/mnt/box" }]\n'
    )
    section = read(BOX + more).downloaders["b"]
    assert (section.directory, section.delivery) == ("/downloads/dl/", "none")
    assert section.paths == (PathSection("/downloads", Path("/mnt/box")),)
    assert read(BOX + 'directory = "/srv/here"\n').downloaders["b"].paths == (), "the same names as ours"


@pytest.mark.parametrize(
    ("more", "key", "message"),
    [
        ("paths = '/downloads'", "paths", "must be a list of tables"),
        ("paths = ['/downloads']", "paths", "must be a list of tables"),
        ("paths = [{ remote = '/a' }]", "paths[0].local", "is required"),
        ("paths = [{ remote = 'a', local = '/b' }]", "paths[0].remote", "absolute path, as the downloader"),
        ("paths = [{ remote = '/a/../b', local = '/b' }]", "paths[0].remote", 'must not hold ".."'),
        ("paths = [{ remote = '/a', local = 'b' }]", "paths[0].local", "must be an absolute path"),
        ("paths = [{ remote = '/a', local = '/b', lokal = 1 }]", "paths[0].lokal", "unknown key"),
        (
            "paths = [{ remote = '/a', local = '/b' }, { remote = '/a/', local = '/c' }]",
            "paths[1].remote",
            "is mapped twice",
        ),
        (
            "paths = [{ remote = '/a', local = '/b' }, { remote = '/c', local = '/b' }]",
            "paths[1].local",
            "is mapped twice",
        ),
        ("directory = 'downloads'", "directory", "absolute path, as the downloader"),
        ("directory = '/downloads/../etc'", "directory", 'must not hold ".."'),
        (
            "directory = '/downloadsx'\npaths = [{ remote = '/downloads', local = '/b' }]",
            "directory",
            "in none of the remote folders of paths (/downloads)",
        ),
        ("delivery = 'copy'", "delivery", 'not "copy"'),
    ],
)
def test_where_a_downloader_cannot_write(read: Load, more: str, key: str, message: str) -> None:
    problem = the_problem(read, BOX + more + "\n")
    assert problem.key == f"downloaders.b.{key}"
    assert message in problem.message


@pytest.mark.parametrize(
    ("setting", "key", "part"),
    [
        ("[daemon]\nworkers = '8'", "daemon.workers", "whole number, not text"),
        ("[daemon]\nworkers = 1.5", "daemon.workers", "whole number, not a number"),
        ("[daemon]\nworkers = 0", "daemon.workers", "at least 1"),
        ("[daemon]\nworkers = 99999999999999999999", "daemon.workers", "64 bits"),
        ("[daemon]\nworkers = 2024-01-01", "daemon.workers", "date"),
        ("[daemon]\nadmins = 'wheel'", "daemon.admins", "a list, not text"),
        ("[daemon]\ndownloads = 'relative'", "daemon.downloads", "absolute"),
        ("[daemon]\ndownloads = '/srv/../etc'", "daemon.downloads", ".."),
        ('[daemon]\ndownloads = "/srv/a\\u0000b"', "daemon.downloads", "NUL"),
        ("[daemon]\ndownloads = 3", "daemon.downloads", "text, not a number"),
        ("[daemon]\nallow_destinations = []", "daemon.allow_destinations", "at least 1"),
        ("[daemon]\ndownloads='/a'\nallow_destinations=['/b']", "daemon.downloads", "none of allow_destinations"),
        ("daemon = 3", "daemon", "must be a table, not a number"),
        ("[[daemon]]\nworkers = 1", "daemon", "must be a table, not a list"),
        ("queues = []", "queues", "must be a table"),
        ("[queues]\ndownloads = 1", "queues.downloads", "must be a table"),
        ("[queues.downloads]\nretry_delay = true", "queues.downloads.retry_delay", "duration"),
        ("[queues.downloads]\nretry_delay = '1 fortnight'", "queues.downloads.retry_delay", "duration"),
        ("[queues.downloads]\nageing = nan", "queues.downloads.ageing", "finite"),
        ("[queues.downloads]\nrate = 10", "queues.downloads.rate", 'text such as "10/s"'),
        ("[queues.downloads]\nrate = '1/fortnight'", "queues.downloads.rate", "not a rate"),
        ("[queues.downloads]\ncapacity = 0", "queues.downloads.capacity", "at least 1"),
        ("[queues.'a/b']\nageing = 1", 'queues."a/b"', "a name is"),
        ("[store]\ndurability = 'disc'", "store.durability", '"disk" or "process", not "disc"'),
        ("[store]\nnamespace = ''", "store.namespace", "1 to 64 letters"),
        ("[store]\nurl = 'postgresql+psycopg://h/db'", "store.url", "postgresql is not supported yet"),
        ("[store]\nurl = 'mysql://h/db'", "store.url", "mysql is not supported yet"),
        ("[store]\nurl = 'sqlite:///relative.db'", "store.url", "four slashes"),
        ("[store]\nurl = 'sqlite://'", "store.url", "four slashes"),
        ("[store]\nurl = 'oracle://h'", "store.url", "unknown database"),
        ("[policy]\nschemes = ['HTTP']", "policy.schemes[0]", "small letters"),
        ("[policy]\nprivate_addresses = 1", "policy.private_addresses", "true or false, not a number"),
        ("[policy]\nprivate_address = true", "policy.private_address", '"private_addresses"'),
        ("[downloaders.x]\nmax_active = 3", "downloaders.x.kind", "is required"),
        ("[downloaders.x]\nkind = 'http'\npoll = 0", "downloaders.x.poll", "at least 0.1"),
        ("[downloaders.x]\nkind = 'http'\nchunk = 'big'", "downloaders.x.chunk", "size"),
        (
            "[downloaders.x]\nkind = 'http'\nzzz = 1",
            "downloaders.x.zzz",
            "chunk, delivery, directory, enabled, failover_after, kind, max_active, paths, poll, stall",
        ),
        ("[downloaders.x]\nkind = 'box'\nurl = 'gopher:'", "downloaders.x.url", "must begin with http"),
        ("[downloaders.x]\nkind = 'box'\nurl = 'http:'\nverify = 'no'", "downloaders.x.verify", "true or false"),
    ],
)
def test_one_wrong_setting(read: Load, setting: str, key: str, part: str) -> None:
    problem = the_problem(read, setting)
    assert problem.key == key
    assert part in problem.message
    assert problem.line is not None and setting.splitlines()[problem.line - 1]


def test_a_default_destination_outside_the_allowed_ones_is_told(read: Load) -> None:
    problem = the_problem(read, "[daemon]\nallow_destinations = ['/srv']\n", mode="system")
    assert (problem.line, problem.key) == (2, "daemon.allow_destinations")
    assert "/var/lib/dlqueue/downloads" in problem.message


@pytest.mark.parametrize(
    ("text", "line"),
    [
        ("[daemon]\nworkers = \n", 2),
        ("[daemon]\nworkers = 1\nworkers = 2\n", 3),
        ('a = """\n\nnever ended', 3),
        ("[daemon\n", 1),
        ("a = 1\n\n\n[daemon]]\n", 4),
    ],
)
def test_syntax_errors_carry_their_line(read: Load, file: Path, text: str, line: int) -> None:
    problem = the_problem(read, text)
    assert (problem.file, problem.line) == (file, line)
    assert "not TOML" in problem.message


@pytest.mark.parametrize("text", ["a = " + "[" * 100_000, "a = " + "9" * 5_000])
def test_hostile_nesting_and_numbers_are_told(read: Load, text: str) -> None:
    assert "TOML" in the_problem(read, text).message


def test_a_file_that_is_not_utf8(file: Path) -> None:
    file.write_bytes(b"[daemon]\n# caf\xe9\n")
    with pytest.raises(ConfigError) as caught:
        load(file, mode="user", kinds=KINDS, environ={"HOME": "/"})
    assert str(caught.value) == f"{file}:2: not UTF-8"


def test_a_huge_file(file: Path) -> None:
    file.write_text("#" * (1 << 20) + "\n")
    with pytest.raises(ConfigError, match="larger than 1 MiB"):
        load(file, mode="user", kinds=KINDS, environ={"HOME": "/"})


def test_a_pipe_is_not_waited_for(file: Path) -> None:
    os.mkfifo(file)
    with pytest.raises(ConfigError, match="a pipe, not a file"):
        load(file, mode="user", kinds=KINDS, environ={"HOME": "/"})


def test_a_broken_file_does_not_hide_the_other_one_nor_invent_problems(read: Load, tmp_path: Path) -> None:
    (tmp_path / "conf.d").mkdir()
    (tmp_path / "conf.d" / "a.toml").write_text('[downloaders.b]\nurl = "http://b\n')
    found = problems(read, '[downloaders.b]\nkind = "box"\n[daemon]\nworkers = 0\n')
    assert [(p.file and p.file.name, p.line) for p in found] == [("dlqueue.toml", 4), ("a.toml", 2)]


@pytest.mark.parametrize("by_flag", [True, False])
def test_a_file_that_was_named_must_exist(tmp_path: Path, by_flag: bool) -> None:
    missing = tmp_path / "missing.toml"
    environ = {"HOME": str(tmp_path)} | ({} if by_flag else {"DLQUEUE_CONFIG": str(missing)})
    with pytest.raises(ConfigError) as caught:
        load(missing if by_flag else None, mode="user", kinds=KINDS, environ=environ)
    assert f"{missing}: cannot be read" in str(caught.value)


def test_a_folder_instead_of_a_file(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="cannot be read"):
        load(tmp_path, mode="user", kinds=KINDS, environ={"HOME": "/"})


def test_a_plug_in_whose_options_cannot_be_checked_is_named(file: Path) -> None:
    class NoDataclass(Web):
        config_type = dict

    file.write_text('[downloaders.x]\nkind = "odd"\n')
    with pytest.raises(ConfigError, match=r"x\.kind: the plug-in declares options that cannot be checked"):
        load(file, mode="user", kinds={"odd": NoDataclass}, environ={"HOME": "/"})


_KEYS = {
    "daemon": ["downloads", "allow_destinations", "staging", "workers", "admins", "nonsense"],
    "store": ["url", "durability", "namespace"],
    "queues": ["downloads", "x y"],
    "queues.downloads": [
        "concurrency",
        "max_retry",
        "retry_delay",
        "backoff_factor",
        "backoff_max",
        "ageing",
        "rate",
        "capacity",
    ],
    "downloaders": ["x"],
    "downloaders.x": [
        "kind",
        "enabled",
        "max_active",
        "poll",
        "chunk",
        "url",
        "password",
        "connect",
        "folder",
        "stall",
        "failover_after",
        "delivery",
    ],
    "policy": ["schemes", "private_addresses"],
    "seeding": ["ratio", "time", "idle"],
    "retention": ["finished"],
}
_VALUES = st.recursive(
    st.sampled_from(
        ["1", "0", "-1", "1.5", "nan", "-inf", "9223372036854775808", "true", "1979-05-27", "07:32:00", '""', '"http"',
         '"box"', '"/srv"', '"~"', '"~/x"', '"5s"', '"2MiB"', '"\\u0000"', '"sqlite:////q"', '"http://h"', "'\\'"]
    ),
    lambda inner: st.one_of(
        st.lists(inner, max_size=3).map(lambda items: f"[{', '.join(items)}]"),
        st.dictionaries(st.sampled_from(["file", "env", "a b"]), inner, max_size=2).map(
            lambda pairs: "{" + ", ".join(f'"{key}" = {value}' for key, value in pairs.items()) + "}"
        ),
    ),
    max_leaves=4,
)  # fmt: skip
_SECTIONS = st.sampled_from(sorted(_KEYS)).flatmap(
    lambda name: st.tuples(st.just(name), st.dictionaries(st.sampled_from(_KEYS[name]), _VALUES, max_size=4))
)


@given(st.lists(_SECTIONS, max_size=4, unique_by=lambda section: section[0]))
def test_whatever_is_in_the_file_there_is_a_configuration_or_a_list_of_problems(
    tmp_path_factory: pytest.TempPathFactory, parts: list[tuple[str, dict[str, str]]]
) -> None:
    text = "".join(f"[{name}]\n" + "".join(f'"{k}" = {v}\n' for k, v in keys.items()) for name, keys in parts)
    file = tmp_path_factory.getbasetemp() / "any.toml"
    file.write_text(text, encoding="utf-8")
    try:
        config = load(file, mode="system", kinds=KINDS, environ={"HOME": "/home/ann"})
    except ConfigError as error:
        assert all(problem.file == file and problem.line and problem.message for problem in error.problems)
    else:
        json.dumps(config.as_shown(), allow_nan=False)


# -- secrets ----------------------------------------------------------------------------------------------------------

BOX = '[downloaders.b]\nkind = "box"\nurl = "http://user:inurl@b/"\n'


def test_where_secrets_come_from(read: Load, tmp_path: Path) -> None:
    (tmp_path / "pw").write_bytes("  öl \n\n".encode())
    (tmp_path / "cred").write_text("from systemd\n")

    def password(given: str, **environ: str) -> Any:
        return read(f"{BOX}password = {given}\n", **environ).downloaders["b"].options.password

    assert password('"plain"') == "plain"
    assert password('{ file = "~/pw" }') == "  öl \n"  # one newline goes, the rest is the secret
    assert password('{ env = "PW" }', PW="from env") == "from env"
    assert password('{ credential = "cred" }', CREDENTIALS_DIRECTORY=str(tmp_path)) == "from systemd"


@pytest.mark.parametrize(
    ("given", "part"),
    [
        ('{ file = "/nowhere/pw" }', '"/nowhere/pw" cannot be read'),
        ('{ file = "pw" }', "absolute"),
        ('{ file = "~/empty" }', "is empty"),
        ('{ env = "NOT_SET" }', '"NOT_SET" is not set'),
        ('{ credential = "x" }', "CREDENTIALS_DIRECTORY"),
        ('{ fil = "/x" }', '"file"'),
        ('{ file = "/x", env = "Y" }', "exactly one"),
        ("{}", "exactly one"),
        ("{ file = 3 }", "text"),
        ("3", "must be text, or one of"),
        ('""', "empty"),
    ],
)
def test_secrets_that_are_not_there(read: Load, tmp_path: Path, given: str, part: str) -> None:
    (tmp_path / "empty").write_text("\n")
    problem = the_problem(read, f"{BOX}password = {given}\n")
    assert (problem.line, problem.key) == (4, "downloaders.b.password")
    assert part in problem.message


def test_a_credential_cannot_lead_elsewhere(read: Load, tmp_path: Path) -> None:
    problem = the_problem(read, f'{BOX}password = {{ credential = "../x" }}\n', CREDENTIALS_DIRECTORY=str(tmp_path))
    assert "not the name of a credential" in problem.message


@pytest.mark.parametrize(("mode", "fine"), [(0o600, True), (0o640, True), (0o644, False), (0o660, False)])
def test_a_plain_secret_must_not_be_readable_by_all(read: Load, file: Path, mode: int, fine: bool) -> None:
    text = f'{BOX}password = "canary"\n'
    file.touch()
    file.chmod(mode)
    if fine:
        read(text, mode="system")
    else:
        problem = the_problem(read, text, mode="system")
        assert (problem.file, problem.line, problem.key) == (file, 4, "downloaders.b.password")
        assert f"chmod 0640 {file}" in problem.message
        assert "canary" not in str(problem)
    read(text, mode="user")


def test_without_a_plain_secret_the_file_may_be_readable(read: Load, file: Path) -> None:
    file.touch()
    file.chmod(0o644)
    read(f'{BOX}password = {{ env = "PW" }}\n', mode="system", PW="x")


def test_what_is_shown_has_every_setting_and_no_secret(read: Load) -> None:
    config = read(f'{BOX}password = "canary"\n[queues.slow]\nmax_retry = 1\n')
    shown = config.as_shown()
    text = json.dumps(shown)
    assert "canary" not in text
    assert "inurl" not in text
    assert shown["downloaders"]["b"] == {
        "kind": "box", "enabled": True, "max_active": 5, "poll": 2.0, "stall": 1800.0, "failover_after": 600.0,
        "directory": None, "paths": [], "delivery": "move",
        "url": "http://***@b/", "username": None, "password": "***", "connect": 10.0, "folder": None, "verify": True,
    }  # fmt: skip
    assert set(shown["daemon"]) == {
        "downloads",
        "allow_destinations",
        "staging",
        "keep_free",
        "workers",
        "admins",
        "log",
        "log_level",
    }
    assert set(shown["queues"]) == {"downloads", "slow"}
    assert set(shown["queues"]["slow"]) == {
        "concurrency", "capacity", "rate", "max_retry", "retry_delay", "backoff_factor", "backoff_max", "ageing",
    }  # fmt: skip
    assert config.secret_values() == {"canary"}
    assert replace(config, downloaders={}).secret_values() == frozenset()
    (named,) = config.downloaders.values()
    assert replace(config, downloaders={"canary": named}).secret_values() == frozenset()
    assert replace(config, downloaders={"x": replace(named, kind="canary")}).secret_values() == frozenset()


def test_the_room_is_light() -> None:
    code = "import sys, dlqueue.config; sys.exit(bool({'sqlalchemy', 'anyio', 'click', 'rich'} & set(sys.modules)))"
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0


def test_a_wrong_kind_does_not_hide_other_mistakes(read: Load) -> None:
    text = '[downloaders.box]\nkind = "htp"\nmax_activ = 3\nverify = true\n'
    assert {problem.key for problem in problems(read, text)} == {"downloaders.box.kind", "downloaders.box.max_activ"}
