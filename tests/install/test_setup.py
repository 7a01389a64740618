"""`dlqueue setup`, into folders that play the machine."""

from __future__ import annotations

import json
import os
import socket
import stat
import tomllib
from collections.abc import Iterator
from pathlib import Path

import pytest
from click.testing import CliRunner, Result

from dlqueue.cli import exits
from dlqueue.cli.main import program
from dlqueue.cli.session import Session
from dlqueue.install.recipe import Recipe
from dlqueue.install.site import Owner, Site, hindrance
from dlqueue_aria2.config import find_command
from tests.daemon.instance import DEADLINE, Instance
from tests.install.standins import (
    LockedTransmission,
    QBittorrent,
    StandIn,
    Stranger,
    Transmission,
    ran,
    stub_programs,
)
from tests.plugins.aria2.live import Aria2


class House:
    """A person's machine: ``root`` is its /, ``home`` a home directory."""

    def __init__(self, folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        self.folder = folder
        self.root = folder / "root"
        self.home = folder / "home"
        self.root.mkdir()
        self.home.mkdir()
        self._monkeypatch = monkeypatch
        for name in list(os.environ):
            if name.startswith(("DLQUEUE_", "XDG_", "SUDO_")):
                monkeypatch.delenv(name)
        monkeypatch.setenv("HOME", str(self.home))
        # Bound, and nobody listens: a port that is merely free may be that of another test's downloader a moment later.
        self.closed = {kind: socket.socket() for kind in ("aria2", "qbittorrent", "transmission")}
        for one in self.closed.values():
            one.bind(("127.0.0.1", 0))
        self.ports: dict[str, int] = {kind: one.getsockname()[1] for kind, one in self.closed.items()}
        monkeypatch.setattr("dlqueue.install.find._SECONDS", DEADLINE)  # it may be a slow machine

    def stubs(self, **answers: int) -> None:
        programs = stub_programs(self.folder, **answers)
        self._monkeypatch.setenv("PATH", f"{programs}:{os.environ['PATH']}")

    def setup(self, *arguments: str, answers: str = "", code: int = exits.OK) -> Result:
        looks = [word for kind, port in self.ports.items() for word in ("--look", f"{kind}={port}")]
        session = Session()
        done = CliRunner().invoke(
            program, ["setup", *arguments, *looks], input=answers, obj=session, standalone_mode=False
        )
        if done.exception is not None:
            assert exits.report(done.exception) == code, done.exception  # type: ignore[arg-type]
        else:
            assert (done.return_value or 0) == code, done.output
        return done

    def system(self, *arguments: str, answers: str = "", code: int = exits.OK) -> Result:
        return self.setup("--system", "--root", str(self.root), *arguments, answers=answers, code=code)

    def at(self, path: str) -> Path:
        return self.root / path.lstrip("/")

    def drop_in(self, name: str) -> dict[str, object]:
        return tomllib.loads(self.at(f"/etc/dlqueue/conf.d/{name}.toml").read_text())

    def drop_ins(self) -> list[str]:
        return sorted(path.name for path in self.at("/etc/dlqueue/conf.d").iterdir())

    def everything(self) -> dict[str, tuple[int, bytes]]:
        return {
            str(path): (stat.S_IMODE(path.lstat().st_mode), path.read_bytes() if path.is_file() else b"")
            for path in sorted([*self.root.rglob("*"), *self.home.rglob("*")])
        }


@pytest.fixture
def house(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[House]:
    made = House(tmp_path, monkeypatch)
    yield made
    for one in made.closed.values():
        one.close()


def mode(path: Path) -> int:
    return stat.S_IMODE(path.stat().st_mode)


# -- the system's instance --------------------------------------------------------------------------------------------


def test_a_bare_machine(house: House) -> None:
    house.stubs()
    done = house.system("--yes")
    assert mode(house.at("/etc/dlqueue")) == mode(house.at("/etc/dlqueue/conf.d")) == 0o750
    assert mode(house.at("/etc/dlqueue/dlqueue.toml")) == 0o640
    assert tomllib.loads(house.at("/etc/dlqueue/dlqueue.toml").read_text()) == {}, "it only explains"
    assert mode(house.at("/var/lib/dlqueue")) == 0o700
    assert mode(house.at("/srv/downloads")) == 0o2775
    assert house.drop_in("10-downloads") == {
        "daemon": {"downloads": "/srv/downloads", "allow_destinations": ["/srv/downloads"]}
    }
    for name in ("systemd/system/dlqueue.service", "systemd/system/dlqueue.socket", "sysusers.d/dlqueue.conf"):
        assert f"wrote /etc/{name}\n" in done.stdout
        assert mode(house.at(f"/etc/{name}")) == 0o644
    service = house.at("/etc/systemd/system/dlqueue.service").read_text()
    assert "/usr/bin/env" not in service and "dlqueue daemon --system\n" in service
    folders = house.at("/etc/systemd/system/dlqueue.service.d/10-folders.conf").read_text()
    assert "ReadWritePaths=-/srv/downloads\n" in folders
    assert house.drop_ins() == ["10-downloads.toml"]
    assert ran(house.folder) == [
        f"systemd-sysusers --root={house.root} dlqueue.conf",
        f"systemctl --root={house.root} enable dlqueue.socket dlqueue.service",
    ]
    assert "no downloader answers" in done.stdout


def test_a_second_time_changes_nothing(house: House) -> None:
    house.stubs()
    with StandIn(Transmission) as transmission:
        house.ports["transmission"] = transmission.port
        house.system("--yes", "--downloads", "/srv/media")
        before = house.everything()
        done = house.system("--yes")
        assert house.everything() == before
    assert "wrote" not in done.stdout and "made" not in done.stdout
    assert "configured already, as transmission" in done.stdout


def test_a_dry_run_does_nothing_and_tells_all(house: House) -> None:
    house.stubs()
    with StandIn(Transmission) as transmission:
        house.ports["transmission"] = transmission.port
        before = house.everything()
        done = house.system("--dry-run", "--downloads", "/srv/media")
        assert house.everything() == before
    for line in (
        "would make folder /srv/media",
        "would write /etc/dlqueue/conf.d/20-transmission.toml",
        "would write /etc/systemd/system/dlqueue.service.d/10-folders.conf",
        f"would run: systemctl --root={house.root} enable dlqueue.socket dlqueue.service",
    ):
        assert line in done.stdout
    assert ran(house.folder) == []


def test_where_nobody_answers_everything_has_its_default(house: House) -> None:
    house.stubs()
    done = house.system(answers="")
    assert house.drop_in("10-downloads")["daemon"]["downloads"] == "/srv/downloads"  # type: ignore[index]
    assert "(nobody answers)" in done.stderr
    assert house.at("/etc/systemd/system/dlqueue.service").is_file()


@pytest.mark.parametrize("command", [["setup"], ["daemon"], ["doctor"], ["config", "check"], ["db", "version"]])
def test_one_instance_at_a_time(house: House, command: list[str]) -> None:
    done = CliRunner().invoke(program, [*command, "--user", "--system"], obj=Session(), standalone_mode=False)
    assert done.exception is not None
    assert "do not go together" in str(done.exception)
    assert exits.report(done.exception) == exits.USAGE  # type: ignore[arg-type]
    assert house.everything() == {}


def test_the_folder_of_downloads_is_asked_for_and_let_into_the_service(house: House) -> None:
    house.stubs()
    house.system(answers="/srv/media\n")
    assert house.drop_in("10-downloads") == {
        "daemon": {"downloads": "/srv/media", "allow_destinations": ["/srv/media"]}
    }
    folders = house.at("/etc/systemd/system/dlqueue.service.d/10-folders.conf")
    assert "ReadWritePaths=-/srv/media\n" in folders.read_text()
    assert house.at("/srv/media").is_dir()
    # What somebody writes down later is let in by the next run, and no question is asked about it.
    house.at("/etc/dlqueue/dlqueue.toml").write_text('[daemon]\nstaging = "/mnt/fast"\n')
    house.at("/etc/dlqueue/conf.d/10-downloads.toml").write_text(
        '[daemon]\ndownloads = "/srv/media"\nallow_destinations = ["/srv", "/home/alice/in"]\n'
    )
    house.system()
    lines = folders.read_text().splitlines()
    assert {line for line in lines if "=" in line} == {
        "ReadWritePaths=-/home/alice/in",
        "ReadWritePaths=-/mnt/fast",
        "ReadWritePaths=-/srv",
        "ProtectHome=tmpfs",
        "BindPaths=-/home/alice/in",
    }


def test_links_in_a_machine_to_be_lead_to_places_of_that_machine(house: House) -> None:
    house.stubs()
    ours = house.folder / "ours"
    (ours / "systemd").mkdir(parents=True)
    before = sorted(ours.rglob("*"))
    house.at("/etc").mkdir()
    house.at("/etc/systemd").symlink_to(ours / "systemd")
    house.at("/etc/dlqueue").symlink_to("../../../../../../../../opt/conf")
    house.system("--yes")
    assert sorted(ours.rglob("*")) == before
    assert (house.root / str(ours).lstrip("/") / "systemd/system/dlqueue.service").is_file()
    assert house.at("/opt/conf/dlqueue.toml").is_file()
    house.at("/loop").symlink_to("loop")
    with pytest.raises(OSError, match="symbolic links"):
        Site(house.root, dry_run=True, tell=lambda step: None).at(Path("/loop/x"))


def test_a_file_that_is_no_text_is_replaced(house: House) -> None:
    house.stubs()
    unit = house.at("/etc/systemd/system/dlqueue.service")
    unit.parent.mkdir(parents=True)
    unit.write_bytes(b"\xff\xfe")
    house.system("--yes")
    assert "[Service]" in unit.read_text()


def test_a_folder_whose_name_is_more_than_a_line_gives_systemd_no_orders(house: House) -> None:
    house.stubs()
    done = house.system("--yes", "--downloads", "/srv/a\nExecStartPre=/evil")
    units = house.at("/etc/systemd/system")
    assert not any("evil" in path.read_text() for path in units.rglob("*") if path.is_file())
    assert "systemd knows no such names" in done.stdout


def test_destinations_that_somebody_has_written_down_stay(house: House) -> None:
    house.stubs()
    house.at("/etc/dlqueue").mkdir(parents=True)
    main = house.at("/etc/dlqueue/dlqueue.toml")
    main.write_text('[daemon]\ndownloads = "/srv/a"\nallow_destinations = ["/srv/a"]\n')
    kept = main.read_text()
    house.system("--yes", "--downloads", "/srv/b")
    assert main.read_text() == kept
    assert house.drop_in("10-downloads") == {
        "daemon": {"downloads": "/srv/b", "allow_destinations": ["/srv/a", "/srv/b"]}
    }


def test_a_configuration_with_mistakes_is_told_and_nothing_is_started(house: House) -> None:
    house.stubs()
    house.at("/etc/dlqueue").mkdir(parents=True)
    house.at("/etc/dlqueue/dlqueue.toml").write_text("[daemon]\nwrokers = 1\n")
    done = house.system("--yes", code=exits.FAILURE)
    assert 'daemon.wrokers: unknown key; did you mean "workers"?' in done.stdout
    assert "the service is not started" in done.stdout


def test_as_json(house: House) -> None:
    house.stubs()
    said = json.loads(house.system("--yes", "--json").stdout)
    assert (said["instance"], said["ok"], said["running"]) == ("system", True, False)
    assert {"what": "wrote /etc/systemd/system/dlqueue.socket", "changed": True} in said["steps"]


def test_what_can_never_be_right_is_refused(house: House) -> None:
    house.setup(code=exits.USAGE)
    house.setup("--system", "--user", "--look", "nonsense", code=exits.USAGE)
    house.setup("--user", "--look", "rtorrent=1", code=exits.USAGE)
    house.setup("--user", "--config", "/x.toml", code=exits.USAGE)


def test_the_system_needs_root(house: House, monkeypatch: pytest.MonkeyPatch) -> None:
    before = house.everything()
    house.stubs()
    monkeypatch.setattr(os, "geteuid", lambda: 1000)
    house.setup("--system", "--yes", code=exits.PERMISSION)
    assert ran(house.folder) == []
    assert house.everything() == before


# -- downloaders ------------------------------------------------------------------------------------------------------


def test_a_downloader_without_a_login_is_used_and_the_built_in_ones_stay(house: House) -> None:
    house.stubs()
    with StandIn(Transmission) as transmission:
        house.ports["transmission"] = transmission.port
        done = house.system(answers="\n\n")
        assert all(request.endswith("/transmission/rpc") for request in transmission.requests)
    assert "transmission: " in done.stdout and "3.00" in done.stdout
    assert house.drop_in("20-transmission") == {
        "downloaders": {
            "transmission": {"kind": "transmission", "url": f"http://127.0.0.1:{transmission.port}/transmission/rpc"}
        }
    }
    stay = house.drop_in("90-builtin")["downloaders"]
    assert isinstance(stay, dict) and "http" in stay and "transmission" not in stay


def test_a_downloader_that_is_declined_is_left_alone(house: House) -> None:
    house.stubs()
    with StandIn(Transmission) as transmission:
        house.ports["transmission"] = transmission.port
        done = house.system(answers="\nn\n")
        assert len(transmission.requests) == 1
    assert "not used" in done.stdout
    assert house.drop_ins() == ["10-downloads.toml"]


def test_a_login_is_asked_for_tried_out_and_kept_private(house: House) -> None:
    house.stubs()
    with StandIn(QBittorrent) as box:
        house.ports["qbittorrent"] = box.port
        done = house.system(answers="\ny\nadmin\nwrong\nadmin\nright\n")
    assert "qbittorrent: " in done.stdout and "4.6.0" in done.stdout
    assert "wrong" not in done.output and "right" not in done.output
    secret = house.at("/etc/dlqueue/qbittorrent.secret")
    assert (secret.read_text(), mode(secret)) == ("right\n", 0o600)
    assert house.drop_in("20-qbittorrent") == {
        "downloaders": {
            "qbittorrent": {
                "kind": "qbittorrent",
                "url": f"http://127.0.0.1:{box.port}",
                "username": "admin",
                "password": {"file": "/etc/dlqueue/qbittorrent.secret"},
            }
        }
    }
    assert not any("right" in line for line in ran(house.folder)), "never in the arguments of a program"


def test_three_wrong_passwords_are_enough(house: House) -> None:
    house.stubs()
    with StandIn(LockedTransmission) as locked:
        house.ports["transmission"] = locked.port
        done = house.system(answers="\ny\n" + "u\nwrong\n" * 3)
    assert "transmission on port" in done.stdout and "left out" in done.stdout
    assert house.drop_ins() == ["10-downloads.toml"]


def test_no_password_leaves_it_out_and_the_user_name_is_asked_for_once(house: House) -> None:
    house.stubs()
    with StandIn(LockedTransmission) as locked:
        house.ports["transmission"] = locked.port
        done = house.system(answers="\ny\nme\nwrong\n\n\n")
    assert "user name [me]" in done.output and "password (nothing: leave it out)" in done.output
    assert "transmission on port" in done.stdout and "left out" in done.stdout
    assert house.drop_ins() == ["10-downloads.toml"]


def test_what_wants_a_login_is_left_out_if_nobody_answers(house: House) -> None:
    house.stubs()
    with StandIn(QBittorrent) as box, StandIn(LockedTransmission) as locked:
        house.ports |= {"qbittorrent": box.port, "transmission": locked.port}
        done = house.system("--yes")
        assert "POST /api/v2/auth/login" not in box.requests
    assert done.stdout.count("wants a user name and a password: left out; run setup at a terminal, without --yes") == 2


def test_a_stranger_on_the_port_is_left_alone(house: House) -> None:
    house.stubs()
    with StandIn(Stranger) as stranger:
        house.ports = dict.fromkeys(house.ports, stranger.port)
        done = house.system("--yes")
        assert not any("login" in request for request in stranger.requests)
    assert "no downloader answers" in done.stdout


@pytest.mark.skipif(find_command() is None, reason="needs aria2c")
def test_a_real_aria2_is_found_and_its_secret_proven(house: House, tmp_path: Path) -> None:
    house.stubs()
    command = find_command()
    assert command is not None
    with Aria2(command, tmp_path / "aria2") as aria2:
        house.ports["aria2"] = aria2.port
        done = house.system(answers=f"\ny\nwrong\n{aria2.secret}\n")
        assert aria2.secret not in done.output
        assert aria2.gids() == set()
    assert house.at("/etc/dlqueue/aria2.secret").read_text() == f"{aria2.secret}\n"
    section = house.drop_in("20-aria2")["downloaders"]
    assert section == {"aria2": {"kind": "aria2", "url": aria2.url, "secret": {"file": "/etc/dlqueue/aria2.secret"}}}
    assert list(house.drop_in("90-builtin")["downloaders"]) == ["http"]  # type: ignore[call-overload]


# -- a user's instance ------------------------------------------------------------------------------------------------


def test_a_user_gets_a_service(house: House) -> None:
    house.stubs(is_active=3)
    done = house.setup("--user", "--yes")
    assert ran(house.folder) == [
        "systemctl --user show-environment",
        "systemctl --user daemon-reload",
        "systemctl --user enable dlqueue.socket dlqueue.service",
        "systemctl --user is-active dlqueue.service",
        "systemctl --user restart dlqueue.socket dlqueue.service",
    ]
    service = house.home / ".config/systemd/user/dlqueue.service"
    assert "dlqueue daemon --user\n" in service.read_text()
    assert (house.home / ".config/systemd/user/dlqueue.socket").exists()
    assert mode(house.home / ".config/dlqueue") == mode(house.home / ".local/state/dlqueue") == 0o700
    assert "loginctl enable-linger" in done.stderr
    (house.folder / "ran").unlink()
    house.setup("--user", "--yes")
    assert ran(house.folder)[-1] == "systemctl --user start dlqueue.socket dlqueue.service", "nothing to restart for"


def test_a_users_secret_is_checked_in_place(house: House) -> None:
    house.stubs()
    with StandIn(QBittorrent) as box:
        house.ports["qbittorrent"] = box.port
        house.setup("--user", answers="y\nadmin\nright\n")
    secret = house.home / ".config/dlqueue/qbittorrent.secret"
    assert (secret.read_text(), mode(secret)) == ("right\n", 0o600)
    assert mode(house.home / ".config/dlqueue/conf.d/20-qbittorrent.toml") == 0o600


def test_other_places_of_a_user_are_told_to_the_service(house: House, monkeypatch: pytest.MonkeyPatch) -> None:
    house.stubs()
    monkeypatch.setenv("XDG_STATE_HOME", str(house.home / "50% state"))
    house.setup("--user", "--yes")
    drop_in = house.home / ".config/systemd/user/dlqueue.service.d/10-places.conf"
    assert f'Environment="XDG_STATE_HOME={house.home}/50%% state"' in drop_in.read_text()


def test_without_systemd_the_rest_is_done(house: House) -> None:
    house.stubs(show_environment=1)
    done = house.setup("--user", "--yes")
    assert "systemd does not run here" in done.stdout and "daemon --user" in done.stdout
    assert (house.home / ".config/dlqueue/dlqueue.toml").exists()
    assert not any("enable" in line for line in ran(house.folder))


def test_without_systemctl_there_are_no_units(house: House, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PATH", str(house.folder))
    done = house.setup("--user", "--yes")
    assert "there is no systemd here" in done.stdout
    assert not (house.home / ".config/systemd").exists()


def test_a_service_that_does_not_start_is_told(house: House) -> None:
    house.stubs(restart=1)
    done = house.setup("--user", "--yes", code=exits.FAILURE)
    assert "FAILED: systemctl --user restart dlqueue.socket dlqueue.service" in done.stdout
    assert "journalctl --user" in done.stdout


def test_a_daemon_that_runs_already_makes_way(house: House, monkeypatch: pytest.MonkeyPatch) -> None:
    house.stubs(is_active=3)
    with Instance(house.folder / "running") as daemon:
        daemon.start()
        for name in ("HOME", "XDG_RUNTIME_DIR", "XDG_STATE_HOME", "XDG_CONFIG_HOME"):
            monkeypatch.setenv(name, daemon.environ[name])
        done = house.setup("--user", "--yes")
        assert daemon.process is not None
        assert daemon.process.wait(DEADLINE) == 0
    assert "stopped the daemon that ran without the service" in done.stdout


# -- who can get at what ----------------------------------------------------------------------------------------------


def test_what_hinders_a_user(tmp_path: Path) -> None:
    me, other = Owner(os.getuid(), os.getgid()), Owner(12345, 12345)
    inner = tmp_path / "closed" / "open"
    inner.mkdir(parents=True)
    for folder in [*tmp_path.parents][:2]:
        assert hindrance(folder, me, os.X_OK) is None
    assert hindrance(inner, me, os.W_OK | os.X_OK) is None
    inner.parent.chmod(0o700)
    assert str(hindrance(inner, other, os.X_OK)).startswith("/")
    assert "No such file" in str(hindrance(inner / "missing", me, os.R_OK))


def test_a_program_that_the_service_cannot_see_is_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """As with pipx, or a checkout: the service sees no homes and a /tmp of its own."""
    monkeypatch.setattr("dlqueue.install.units.program", lambda: ["/root/.local/bin/dlqueue"])
    said: list[str] = []
    site = Site(Path("/"), dry_run=True, tell=lambda step: said.append(step.what))
    recipe = Recipe(site, "system", {"HOME": "/root"})
    recipe.owner = Owner(os.getuid(), os.getgid())
    assert not recipe.reachable()
    assert recipe.failed
    assert "the service does not see /root" in said[0] and "/opt/dlqueue" in said[0]


def test_what_cannot_work_changes_nothing_and_a_dry_run_tells_all_of_it(house: House) -> None:
    def run(*more: str) -> Result:
        return house.setup("--system", "--yes", *more, code=exits.FAILURE)

    house.stubs()
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("dlqueue.install.units.program", lambda: ["/root/.local/bin/dlqueue"])
        patch.setattr(os, "geteuid", lambda: 0)
        with patch.context() as guard:
            guard.setattr(Recipe, "account", lambda recipe: pytest.fail("it makes a user"))
            told = run().stdout.splitlines()
        assert len(told) == 1 and told[0].startswith("FAILED: the user dlqueue cannot run")
        told = run("--dry-run").stdout.splitlines()
    assert sum(line.startswith("FAILED") for line in told) == 1
    assert "would write /etc/systemd/system/dlqueue.service" in told
