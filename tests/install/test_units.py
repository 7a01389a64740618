"""What is shipped for systemd, judged by systemd itself."""

from __future__ import annotations

import shutil
import subprocess
from pathlib import Path

import pytest

from dlqueue.install import units

ROOT = Path(__file__).parent.parent.parent
FOLDER = ROOT / "systemd"
EXPOSURE = 15
"""Ten times the exposure that `systemd-analyze security` may find at most."""

needs_systemd = pytest.mark.skipif(shutil.which("systemd-analyze") is None, reason="needs systemd-analyze")


def analyze(tmp_path: Path, *arguments: str) -> subprocess.CompletedProcess[str]:
    environ = {"PATH": "/usr/sbin:/usr/bin:/sbin:/bin", "XDG_RUNTIME_DIR": str(tmp_path), "HOME": str(tmp_path)}
    return subprocess.run(
        ["systemd-analyze", *arguments], env=environ, capture_output=True, text=True, timeout=60, check=False
    )


def installed(tmp_path: Path, kind: str = "") -> list[str]:
    """Files as setup would write them."""
    made = []
    for name in ("dlqueue.service", "dlqueue.socket"):
        text = units.shipped(f"{kind}{name}")
        file = tmp_path / name
        file.write_text(units.service(f"{kind}{name}", ["/bin/true"]) if name.endswith("service") else text)
        made.append(str(file))
    return made


@needs_systemd
def test_systemd_has_nothing_to_say_against_the_units(tmp_path: Path) -> None:
    for files in ([str(FOLDER / "dlqueue.service"), str(FOLDER / "dlqueue.socket")], installed(tmp_path)):
        done = analyze(tmp_path, "verify", *files)
        assert (done.returncode, done.stderr) == (0, "")  # unknown keys are told there only


@needs_systemd
def test_nor_against_those_of_a_user(tmp_path: Path) -> None:
    shipped = [str(FOLDER / "user" / name) for name in ("dlqueue.service", "dlqueue.socket")]
    for files in (shipped, installed(tmp_path, "user/")):
        done = analyze(tmp_path, "--user", "verify", *files)
        assert (done.returncode, done.stderr) == (0, "")


@needs_systemd
def test_a_key_that_systemd_does_not_know_would_be_seen(tmp_path: Path) -> None:
    file = tmp_path / "dlqueue.service"
    file.write_text((FOLDER / "dlqueue.service").read_text().replace("WatchdogSec=", "WatchdogSecs="))
    assert "WatchdogSecs" in analyze(tmp_path, "verify", str(file)).stderr


@needs_systemd
def test_the_service_is_locked_in(tmp_path: Path) -> None:
    service = str(FOLDER / "dlqueue.service")
    done = analyze(tmp_path, "security", "--offline=true", "--no-pager", f"--threshold={EXPOSURE}", service)
    assert (done.returncode, done.stderr) == (0, ""), done.stdout


@needs_systemd
def test_a_drop_in_keeps_to_the_syntax(tmp_path: Path) -> None:
    [service, socket] = installed(tmp_path)
    drop_in = tmp_path / "dlqueue.service.d" / "10-folders.conf"
    drop_in.parent.mkdir()
    odd = Path('/srv/a b "c" 50% $x')
    drop_in.write_text(units.writable([Path("/srv/plain"), odd, Path("/home/alice/Down:loads")]))
    done = analyze(tmp_path, "verify", service, socket)
    assert (done.returncode, done.stderr) == (0, "")
    assert drop_in.read_text().splitlines()[1:] == [
        "[Service]",
        'ReadWritePaths="-/home/alice/Down:loads"',
        'ReadWritePaths="-/srv/a b \\"c\\" 50%% $x"',
        "ReadWritePaths=-/srv/plain",
        "ProtectHome=tmpfs",
        'BindPaths="-/home/alice/Down\\\\:loads"',
    ]


def settings(name: str) -> dict[str, list[str]]:
    found: dict[str, list[str]] = {}
    for line in units.shipped(name).splitlines():
        key, equals, value = line.partition("=")
        if equals and not line.startswith("#"):
            found.setdefault(key, []).append(value)
    return found


def test_what_the_daemon_counts_on() -> None:
    service = settings("dlqueue.service")
    assert service["Type"] == ["notify"], "systemd 252 knows no notify-reload"
    assert service["ExecReload"] == ["/usr/bin/env dlqueue config reload --socket %t/dlqueue/dlqueue.sock"]
    assert service["NotifyAccess"] == ["main"]
    assert service["PrivateUsers"] == ["no"], "else every client of the socket is nobody"
    assert service["RestartPreventExitStatus"] == ["78"]
    assert service["RuntimeDirectoryPreserve"] == ["yes"], "the socket in it is not the daemon's"
    assert service["UMask"] == ["0002"], "the group may tidy up, and shared folders need no chmod of setgid bits"
    for unit in (service, settings("user/dlqueue.service")):
        assert unit["PartOf"] == ["dlqueue.socket"], "else a restart of both is refused: the service holds the socket"
    assert settings("dlqueue.socket")["SocketMode"] == ["0660"]
    assert settings("dlqueue.socket")["ListenStream"] == ["/run/dlqueue/dlqueue.sock"]
    assert settings("user/dlqueue.socket")["ListenStream"] == ["%t/dlqueue/dlqueue.sock"]


def test_the_command_is_filled_in_and_quoted() -> None:
    text = units.service("dlqueue.service", ["/opt/my tools/50% $x/dlqueue"])
    assert 'ExecStart="/opt/my tools/50%% $$x/dlqueue" daemon --system\n' in text
    assert 'ExecReload="/opt/my tools/50%% $$x/dlqueue" config reload --socket ' in text
    assert "/usr/bin/env" not in text
    assert "ExecStart=/opt/x/python -m dlqueue daemon --user\n" in units.service(
        "user/dlqueue.service", ["/opt/x/python", "-m", "dlqueue"]
    )


def test_every_file_is_in_the_wheel(tmp_path: Path) -> None:
    """Where an editable install has them beside the package, a wheel has them inside."""
    import tomllib

    built = tomllib.loads((ROOT / "pyproject.toml").read_text())["tool"]["hatch"]["build"]["targets"]["wheel"]
    assert built["force-include"] == {"systemd": "dlqueue/systemd"}
    copy = tmp_path / "dlqueue"
    shutil.copytree(FOLDER, copy / "systemd")
    (copy / "install").mkdir()
    shutil.copy(units.__file__, copy / "install" / "units.py")
    code = "import units; print(units.shipped('user/dlqueue.socket') + units.shipped('sysusers.d/dlqueue.conf'))"
    done = subprocess.run(
        ["python3", "-c", code], cwd=copy / "install", capture_output=True, text=True, timeout=60, check=True
    )
    assert "ListenStream=%t" in done.stdout and "u dlqueue -" in done.stdout
