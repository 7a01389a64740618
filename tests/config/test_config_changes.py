"""Sections and answers that came with reloading: seeding, default downloaders, warnings, what differs."""

from __future__ import annotations

import dataclasses
import grp
import os
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, ClassVar

import pytest

from dlqueue.config import Changed, Config, ConfigError, SeedingSection, difference, load
from dlqueue.places import Mode
from dlqueue.sdk import Context, Downloader, Handle, Request, TransferStatus


@dataclass(frozen=True)
class Options:
    """What a kind may be told."""

    url: str = "http://h/"
    password: str | None = field(default=None, metadata={"secret": True})
    tags: frozenset[str] = frozenset()


class Web(Downloader):
    """Needs no configuration."""

    kind = "http"
    schemes: ClassVar[frozenset[str]] = frozenset({"http", "https"})
    config_type: ClassVar[type[Any]] = Options

    @classmethod
    def default_config(cls) -> Any | None:
        return Options()

    def open(self, config: Any, context: Context) -> None: ...
    def test(self) -> str:
        return "1"

    def create(self, request: Request, key: str) -> Handle:
        return Handle(key)

    def poll(self, handles: Sequence[Handle]) -> Mapping[Handle, TransferStatus]:
        return {}

    def pause(self, handle: Handle) -> None: ...
    def resume(self, handle: Handle) -> None: ...
    def remove(self, handle: Handle, delete_data: bool) -> None: ...


class Aria(Web):
    """Found on this machine."""

    kind = "aria"
    schemes = frozenset({"http", "magnet", "torrent"})


class Box(Web):
    """Has to be configured."""

    kind = "box"
    schemes = frozenset({"magnet", "torrent"})

    @classmethod
    def default_config(cls) -> Any | None:
        return None


class Broken(Web):
    """Fails to say its defaults."""

    kind = "broken"

    @classmethod
    def default_config(cls) -> Any | None:
        raise OSError("no such program")


class Odd(Web):
    """Answers something else."""

    kind = "odd"

    @classmethod
    def default_config(cls) -> Any | None:
        return {"url": "x"}


KINDS: dict[str, type[Downloader]] = {one.kind: one for one in (Aria, Box, Web)}

Read = Callable[..., Config]


@pytest.fixture
def read(tmp_path: Path) -> Read:
    def read(text: str, mode: Mode = "user", kinds: Mapping[str, type[Downloader]] = KINDS, **more: Any) -> Config:
        file = tmp_path / "dlqueue.toml"
        file.write_text(text, encoding="utf-8")
        file.chmod(0o600)
        return load(file, mode=mode, kinds=kinds, environ={"HOME": str(tmp_path)}, **more)

    return read


def warned(config: Config) -> dict[str, tuple[int | None, str]]:
    return {warning.key: (warning.line, warning.message) for warning in config.warnings}


# -- seeding ----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("text", "kept"), [("", 30 * 86_400.0), ('finished = "7d"', 7 * 86_400.0), ("finished = false", None)]
)
def test_retention(read: Read, text: str, kept: float | None) -> None:
    config = read(f"[retention]\n{text}\n")
    assert config.retention.finished == kept
    assert config.as_shown()["retention"] == {"finished": kept}


def test_seeding_by_default(read: Read) -> None:
    assert read("").seeding == SeedingSection(ratio=1.0, time=86_400.0, idle=None)


@pytest.mark.parametrize(
    ("text", "ratio", "time", "idle"),
    [
        ("ratio = 2", 2.0, 86_400.0, None),
        ("ratio = 0", 0.0, 86_400.0, None),
        ('ratio = false\ntime = "7d"', None, 604_800.0, None),
        ('time = false\nidle = "30m"', 1.0, None, 1_800.0),
        ("ratio = 0.5\ntime = 0\nidle = false", 0.5, 0.0, None),
    ],
)
def test_seeding_rules(read: Read, text: str, ratio: float | None, time: float | None, idle: float | None) -> None:
    config = read(f"[seeding]\n{text}\n")
    assert config.seeding == SeedingSection(ratio, time, idle)
    assert config.as_shown()["seeding"] == {"ratio": ratio, "time": time, "idle": idle}


@pytest.mark.parametrize(
    "text", ["ratio = -1", 'ratio = "2"', "ratio = true", "ratio = inf", "time = true", 'time = "-1s"', 'idle = "x"']
)
def test_a_wrong_seeding_rule_says_how_to_write_none(read: Read, text: str) -> None:
    with pytest.raises(ConfigError) as caught:
        read(f"[seeding]\n{text}\n")
    [problem] = caught.value.problems
    assert (problem.line, problem.key) == (2, f"seeding.{text.split()[0]}")
    assert problem.message.endswith("; false = no rule")


def test_false_is_no_word_for_none_elsewhere(read: Read) -> None:
    with pytest.raises(ConfigError, match=r"daemon\.workers: must be a whole number, not false"):
        read("[daemon]\nworkers = false\n")


# -- default downloaders ----------------------------------------------------------------------------------------------


def test_kinds_that_need_no_configuration_are_there_and_http_is_first(read: Read) -> None:
    config = read("")
    assert list(config.downloaders) == ["http", "aria"]
    assert [one.kind for one in config.downloaders.values()] == ["http", "aria"]
    assert config.downloaders["aria"].options == Options()
    assert config.warnings == ()


def test_with_one_section_only_those_given_are_there(read: Read) -> None:
    assert list(read('[downloaders.b]\nkind = "box"\n').downloaders) == ["b"]


def test_a_plug_in_that_fails_to_say_its_defaults_is_left_out_and_told(read: Read) -> None:
    config = read("", kinds={"broken": Broken, "http": Web, "odd": Odd})
    assert list(config.downloaders) == ["http"]
    told = warned(config)
    assert set(told) == {"downloaders.broken", "downloaders.odd"}
    assert "OSError: no such program" in told["downloaders.broken"][1]
    assert "answers a dict" in told["downloaders.odd"][1]


def test_a_kind_that_cannot_be_used_says_why(read: Read) -> None:
    reason = "needs the Python module aria2p: install dlqueue[aria2]"
    with pytest.raises(ConfigError) as caught:
        read('[downloaders.x]\nkind = "aria2"\n', broken={"aria2": reason})
    [problem] = caught.value.problems
    assert problem.message == f'"aria2" cannot be used: it {reason}'


# -- words for those who write TOML for the first time ---------------------------------------------------------------


@pytest.mark.parametrize(
    ("text", "line", "key", "message"),
    [
        ("[daemon]\n[store]\n[daemon]\n", 3, "", "not TOML: the table [daemon] is there twice: put its keys together"),
        ("[queues.a]\n[queues.a]\n", 2, "", "not TOML: the table [queues.a] is there twice: put its keys together"),
        ("[daemon]\ndownloads = /srv\n", 2, "", 'not TOML: Invalid value: text stands in quotation marks ("…"), '),
        ("workers = 3\n", 1, "workers", "a key outside of any section; it belongs below a line [daemon]"),
        (
            "max_active = 3\n",
            1,
            "max_active",
            "a key outside of any section; it belongs below a line [downloaders.NAME]",
        ),
        ("nonsense = 3\n", 1, "nonsense", "a key outside of any section"),
        ('[downloaders]\nkind = "http"\n', 2, "downloaders.kind", "must be a table; write [downloaders.NAME] and "),
        ("[[downloaders]]\n", 1, "downloaders", "must be a table, not a list; write [downloaders.NAME]"),
        ("[downloaders.x]\n", 1, "downloaders.x.kind", "is required; one of aria, box, http"),
        ('[daemon]\nadmins = "wheel"\n', 2, "daemon.admins", 'must be a list, not text: write ["wheel"]'),
    ],
)
def test_beginners_mistakes(read: Read, text: str, line: int, key: str, message: str) -> None:
    with pytest.raises(ConfigError) as caught:
        read(text)
    [problem] = caught.value.problems
    assert (problem.line, problem.key) == (line, key)
    assert problem.message.startswith(message)


# -- warnings ---------------------------------------------------------------------------------------------------------


def test_a_right_configuration_has_no_warnings(read: Read, tmp_path: Path) -> None:
    group = grp.getgrgid(os.getgid()).gr_name
    config = read(
        f'[daemon]\nallow_destinations = ["{tmp_path}"]\nadmins = ["{group}"]\n'
        '[downloaders.web]\nkind = "http"\n[policy]\nschemes = ["http"]\n[seeding]\nratio = false\n'
    )
    assert config.warnings == ()


def test_a_downloader_that_no_scheme_leads_to(read: Read) -> None:
    sections = '[downloaders.web]\nkind = "http"\n[downloaders.b]\nkind = "box"\n'
    told = warned(read(f'{sections}[policy]\nschemes = ["http"]\n'))
    assert list(told) == ["downloaders.b"]
    assert told["downloaders.b"][0] == 3
    assert "fetches magnet, torrent" in told["downloaders.b"][1]
    assert warned(read(f'{sections}enabled = false\n[policy]\nschemes = ["http"]\n')) == {}


def test_a_scheme_that_was_written_and_that_nobody_can_fetch(read: Read) -> None:
    told = warned(read('[downloaders.web]\nkind = "http"\n[policy]\nschemes = [\n"http",\n"sftp"]\n'))
    assert told == {"policy.schemes[1]": (6, "no downloader that is enabled can fetch sftp")}


def test_nobody_is_enabled(read: Read) -> None:
    told = warned(read('[downloaders.web]\nkind = "http"\nenabled = false\n'))
    assert told["downloaders"][1] == "none is enabled: nothing can be downloaded"


def test_things_that_are_not_on_this_machine(read: Read, tmp_path: Path) -> None:
    told = warned(read(f'[daemon]\nallow_destinations = ["{tmp_path}", "{tmp_path}/no"]\nadmins = ["no-such-group"]\n'))
    assert set(told) == {"daemon.allow_destinations[1]", "daemon.admins[0]"}


def test_waits_that_are_cut(read: Read) -> None:
    told = warned(read('[queues.downloads]\nretry_delay = "1h"\n'))
    assert told["queues.downloads.retry_delay"][0] == 2


def test_seeding_without_end(read: Read) -> None:
    told = warned(read("[seeding]\nratio = false\ntime = false\n"))
    assert list(told) == ["seeding"]
    assert told["seeding"][0] == 1


def test_a_secret_that_others_can_read(read: Read, tmp_path: Path) -> None:
    read('[downloaders.b]\nkind = "box"\npassword = "canary-secret"\n')
    file = tmp_path / "dlqueue.toml"
    file.chmod(0o644)
    config = load(file, mode="user", kinds=KINDS, environ={"HOME": str(tmp_path)})
    told = warned(config)
    assert list(told) == ["downloaders.b.password"]
    assert f"cure: chmod 0600 {file}" in told["downloaders.b.password"][1]
    assert "canary" not in str(told)


# -- what differs -----------------------------------------------------------------------------------------------------


def test_the_same_is_no_difference(read: Read) -> None:
    text = '[downloaders.b]\nkind = "box"\npassword = "s"\ntags = ["x", "y"]\n'
    assert difference(read(text), read(text)) == []


def test_every_difference_by_key(read: Read) -> None:
    old = read('[daemon]\nworkers = 3\n[downloaders.b]\nkind = "box"\n[downloaders.gone]\nkind = "http"\n')
    new = read(
        '[daemon]\nworkers = 4\n[queues.other]\nmax_retry = 2\n[downloaders.b]\nkind = "box"\nmax_active = 6\n'
        '[downloaders."new.one"]\nkind = "http"\n[policy]\nprivate_addresses = false\n'
    )
    changed = difference(old, new)
    assert [one.key for one in changed] == [
        "daemon.workers",
        "queues.other",
        "downloaders.b.max_active",
        "downloaders.gone",
        'downloaders."new.one"',
        "policy.private_addresses",
    ]
    assert changed[0] == Changed("daemon.workers", 3, 4)
    assert (changed[1].before, changed[1].after["max_retry"]) == (None, 2)
    assert (changed[3].before["kind"], changed[3].after) == ("http", None)
    assert changed[5] == Changed("policy.private_addresses", True, False)


def test_secrets_are_compared_and_never_shown(read: Read) -> None:
    text = '[downloaders.b]\nkind = "box"\nurl = "http://u:{0}@h/"\npassword = "{0}"\n'
    changed = difference(read(text.format("canary-1")), read(text.format("canary-2")))
    assert changed == [
        Changed("downloaders.b.url", "http://***@h/", "http://***@h/"),
        Changed("downloaders.b.password", "***", "***"),
    ]


def test_true_is_not_one(read: Read) -> None:
    config = read("")
    odd = dataclasses.replace(config, policy=dataclasses.replace(config.policy, private_addresses=1))  # type: ignore[arg-type]
    assert [one.key for one in difference(config, odd)] == ["policy.private_addresses"]
