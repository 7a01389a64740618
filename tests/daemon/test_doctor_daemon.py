"""`dlqueue doctor` with a real daemon, and without one."""

from __future__ import annotations

import json
import re
import sqlite3
import subprocess
import sys
from contextlib import closing
from pathlib import Path
from typing import Any

from tests.daemon.instance import Instance

PLAIN = '[downloaders.web]\nkind = "http"\n'


def doctor(instance: Instance, *more: str) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, "-m", "dlqueue", "doctor", "--config", str(instance.config), *more]
    return subprocess.run(
        [*command, "--socket", str(instance.socket)], env=instance.environ, capture_output=True, text=True, timeout=120
    )


def findings(answer: subprocess.CompletedProcess[str]) -> list[dict[str, Any]]:
    found = json.loads(answer.stdout)["findings"]
    assert isinstance(found, list)
    return found


def of(found: list[dict[str, Any]], check: str) -> list[str]:
    return [one["severity"] for one in found if one["check"] == check]


def _lasting(finding: dict[str, Any]) -> dict[str, Any]:
    return finding | ({"explanation": ""} if finding["check"] in ("clock", "space") else {})


def test_a_daemon_that_is_well(tmp_path: Path) -> None:
    with Instance(tmp_path, PLAIN) as instance:
        instance.start()
        answer = doctor(instance, "--json")
        assert answer.returncode == 0, answer.stdout
        assert json.loads(answer.stdout)["daemon"] is True
        found = findings(answer)
        for check in [
            "config",
            "permissions",
            "schema",
            "integrity",
            "tasks",
            "space",
            "rename",
            "clock",
            "limits",
            "web",
        ]:
            assert of(found, check) and set(of(found, check)) == {"ok"}, (check, found)
        again = instance.call("daemon.doctor")["findings"]
        # The clock has gone on, and others use the disk.
        assert [_lasting(one) for one in again] == [_lasting(one) for one in found]
        shown = doctor(instance)
        assert not re.search("^ok", shown.stdout, re.MULTILINE) and "nothing is wrong; " in shown.stderr
        assert re.search("^ok\tspace\t", doctor(instance, "--all").stdout, re.MULTILINE)
        assert list(instance.destination.iterdir()) == []
        instance.stop()


def test_an_error_is_exit_code_1_and_comes_first(tmp_path: Path) -> None:
    with Instance(tmp_path, PLAIN) as instance:
        instance.start()
        state = Path(instance.environ["XDG_STATE_HOME"]) / "dlqueue"
        state.chmod(0o755)
        answer = doctor(instance)
        assert answer.returncode == 1
        assert answer.stdout.splitlines()[0].split("\t") == [
            "error",
            "permissions",
            f"{state} has mode 0755: anybody on this machine may get at the daemon's state",
            f"chmod 0700 {state}",
        ]
        assert answer.stderr.startswith("1 error; ")
        instance.config.write_text(instance.config.read_text() + "[daemon2]\n")
        found = findings(doctor(instance, "--json"))
        assert of(found, "config") == ["error"] and of(found, "space") == ["ok"]
        instance.stop()


def test_without_a_daemon_what_can_be_seen_is_looked_at(tmp_path: Path) -> None:
    with Instance(tmp_path, PLAIN) as instance:
        instance.start()
        instance.stop()
        answer = doctor(instance, "--json")
        assert answer.returncode == 0, answer.stdout
        assert json.loads(answer.stdout)["daemon"] is False
        found = findings(answer)
        assert (
            of(found, "daemon") == ["warning"] and of(found, "schema") == ["ok"] and set(of(found, "rename")) == {"ok"}
        )
        assert of(found, "web") == of(found, "limits") == []
        file = Path(instance.environ["XDG_STATE_HOME"]) / "dlqueue" / "dlqueue.db"
        with closing(sqlite3.connect(file)) as connection, connection:
            connection.execute("UPDATE alembic_version SET version_num = '9999'")
        answer = doctor(instance)
        assert answer.returncode == 1 and "a newer version of dlqueue made it" in answer.stdout
        instance.config.write_text("[daemon]\nworkrs = 1\n")
        answer = doctor(instance)
        assert answer.returncode == 1 and "did you mean" in answer.stdout


def test_transfers_and_folders_of_nobody(tmp_path: Path) -> None:
    key = "00c0ffee00c0ffee"
    with Instance(tmp_path, PLAIN) as instance:
        lost = instance.destination / ".dlqueue" / f"7-{key}"
        lost.mkdir(parents=True)
        instance.config.write_text(
            f'[daemon]\ndownloads = "{instance.destination}"\nallow_destinations = ["{instance.destination}"]\n{PLAIN}'
        )
        instance.start()
        found = findings(doctor(instance, "--json"))
        assert of(found, "staging") == ["warning"]
        assert lost.is_dir()
        lost.rmdir()
        assert of(findings(doctor(instance, "--json")), "staging") == []
        instance.stop()


def test_folders_of_nobody_where_a_downloader_writes(tmp_path: Path) -> None:
    lost = tmp_path / "box" / "7-00c0ffee00c0ffee"
    lost.mkdir(parents=True)
    box = '[downloaders.box]\nkind = "transmission"\nurl = "http://127.0.0.1:9"\ndirectory = "/theirs"\n'
    box += f'paths = [{{ remote = "/theirs", local = "{lost.parent}" }}]\n'
    with Instance(tmp_path, PLAIN + box) as instance:
        instance.start()
        instance.stop()
        [finding] = [one for one in findings(doctor(instance, "--json")) if one["check"] == "staging"]
        assert str(lost) in finding["explanation"]
        instance.config.write_text(PLAIN + box + 'delivery = "none"\n')
        assert of(findings(doctor(instance, "--json")), "staging") == [], "it is to stay there"
