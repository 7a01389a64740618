"""Another configuration while the daemon works: all of it takes effect, or nothing does, and no transfer suffers."""

from __future__ import annotations

import os
import signal
import socket
import threading
from pathlib import Path
from typing import Any

import pytest

from dlqueue.client import RpcError
from tests.daemon.instance import DEADLINE, Instance, fake_section, until
from tests.webserver import WebServer, pattern

WEB = '[downloaders.web]\nkind = "http"\n'


def write(daemon: Instance, text: str, *, first: str = "") -> None:
    daemon.config.write_text(f'[daemon]\ndownloads = "{daemon.destination}"\n{first}{text}')


def reload(daemon: Instance) -> dict[str, tuple[Any, Any]]:
    """What changed: key → (from, to)."""
    answer = daemon.call("daemon.reload")
    return {one["key"]: (one["from"], one["to"]) for one in answer["changed"]}


def refused(daemon: Instance) -> RpcError:
    with pytest.raises(RpcError) as caught:
        daemon.call("daemon.reload")
    return caught.value


def begun(daemon: Instance, count: int = 1) -> None:
    until(lambda: len(daemon.created()) == count, f"{count} transfers run")


def finish(daemon: Instance) -> None:
    for key in daemon.created():
        (daemon.fake_folder / f"{key}.finish").touch()


# -- all or nothing ---------------------------------------------------------------------------------------------------


def test_nothing_changed_is_no_change(tmp_path: Path) -> None:
    with Instance(tmp_path) as daemon:
        daemon.start()
        assert daemon.call("daemon.reload") == {"changed": [], "warnings": []}


def test_mistakes_change_nothing_and_are_all_named(tmp_path: Path) -> None:
    with Instance(tmp_path) as daemon:
        daemon.start()
        before = daemon.call("daemon.config")
        write(daemon, '[queues.downloads]\nconcurrency = 3\nmax_retries = 1\n[downloaders.x]\nkind = "ftpd"\n')
        error = refused(daemon)
        assert (error.code, error.kind) == (-32004, "config")
        assert error.message.splitlines() == [
            f'{daemon.config}:5: queues.downloads.max_retries: unknown key; did you mean "max_retry"?',
            f'{daemon.config}:7: downloaders.x.kind: unknown kind "ftpd"; did you mean "http"?',
        ]
        assert daemon.call("daemon.config") == before
        write(daemon, "")
        assert reload(daemon) == {}, "and it goes on to work"


def test_what_needs_a_new_start_refuses_the_whole_reload(tmp_path: Path) -> None:
    with Instance(tmp_path) as daemon:
        daemon.start()
        before = daemon.call("daemon.config")
        write(
            daemon,
            f'[store]\nurl = "sqlite:///{tmp_path}/other.db"\ndurability = "process"\nnamespace = "n"\n',
            first=f'workers = 2\nstaging = "{daemon.home}/staging"\n',
        )
        error = refused(daemon)
        assert (error.code, error.kind) == (-32004, "restart")
        for key in ("daemon.staging", "store.url", "store.durability", "store.namespace"):
            assert f"{key} cannot change while the daemon runs" in error.message
        assert "workers" not in error.message
        assert "restart the daemon" in error.message
        assert daemon.call("daemon.config") == before


def test_a_hang_up_reloads_and_the_log_tells(tmp_path: Path) -> None:
    with Instance(tmp_path) as daemon:
        daemon.start()
        assert daemon.process is not None
        write(daemon, "", first="workers = 3\n")
        daemon.process.send_signal(signal.SIGHUP)
        until(lambda: daemon.call("daemon.config")["daemon"]["workers"] == 3, "it is in force")
        assert any("reloaded: daemon.workers: " in line and line.endswith("-> 3") for line in daemon.log_lines())
        write(daemon, "", first="workers = 0\nadmin = 1\n")
        daemon.process.send_signal(signal.SIGHUP)
        for mistake in ("daemon.admin: unknown key", "daemon.workers: must be at least 1"):
            until(lambda said=mistake: said in daemon.log.read_text(), mistake)  # type: ignore[misc]
        assert daemon.call("daemon.config")["daemon"]["workers"] == 3
        assert daemon.stop() == 0


def test_reloads_at_once_come_one_after_the_other(tmp_path: Path) -> None:
    with Instance(tmp_path, fake_section(tmp_path)) as daemon:
        daemon.start()
        write(daemon, fake_section(tmp_path, "max_active = 2\n"))
        answers: list[dict[str, Any]] = []
        threads = [threading.Thread(target=lambda: answers.append(reload(daemon))) for _ in range(5)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join(DEADLINE)
        assert sorted(map(len, answers)) == [0, 0, 0, 0, 1]


def test_the_service_manager_hears_of_a_reload(tmp_path: Path) -> None:
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as manager, Instance(tmp_path) as daemon:
        manager.bind(str(tmp_path / "notify"))
        manager.settimeout(DEADLINE)
        daemon.environ["NOTIFY_SOCKET"] = str(tmp_path / "notify")
        daemon.start()

        def heard() -> bytes:
            """The next state that is more than a status line."""
            while (said := manager.recv(4096)).startswith((b"STATUS=", b"EXTEND_TIMEOUT_USEC=")):
                pass
            return said

        assert heard().startswith(b"READY=1\n")
        write(daemon, "nonsense")
        refused(daemon)
        assert heard().startswith(b"RELOADING=1\nMONOTONIC_USEC=")
        assert heard().startswith(b"READY=1\nSTATUS=not reloaded: ")
        write(daemon, "")
        reload(daemon)
        assert heard().startswith(b"RELOADING=1\nMONOTONIC_USEC=")
        assert heard() == b"READY=1\nSTATUS=reloaded"


# -- what takes effect ------------------------------------------------------------------------------------------------


def test_every_setting_is_named_or_refused_and_shown_afterwards(tmp_path: Path) -> None:
    """A settings key that was read under another name would not be found here."""
    with Instance(tmp_path) as daemon:
        daemon.start()
        elsewhere = daemon.home / "elsewhere"
        elsewhere.mkdir()
        wanted = {
            "daemon.downloads": str(elsewhere),
            "daemon.allow_destinations": [str(daemon.home), str(tmp_path)],
            "daemon.workers": 5,
            "daemon.admins": ["root"],
            "queues.downloads.concurrency": 7,
            "queues.downloads.capacity": 900,
            "queues.downloads.rate": "50/s",
            "queues.downloads.max_retry": 3,
            "queues.downloads.retry_delay": 1.5,
            "queues.downloads.backoff_factor": 3.0,
            "queues.downloads.backoff_max": 77.0,
            "queues.downloads.ageing": 0.0,
            "seeding.ratio": None,
            "seeding.time": 60.0,
            "seeding.idle": 30.0,
            "policy.schemes": ["http"],
            "policy.private_addresses": False,
            "daemon.log": "json",
            "daemon.log_level": "warning",
        }
        text: dict[str, str] = {}
        for key, value in wanted.items():
            section, _, name = key.rpartition(".")
            shown = "false" if value is None or value is False else str(value).replace("'", '"')
            shown = f'"{value}"' if isinstance(value, str) else shown
            text[section] = text.get(section, "") + f"{name} = {shown}\n"
        daemon.config.write_text("".join(f"[{section}]\n{lines}" for section, lines in text.items()))
        changed = reload(daemon)
        assert {key: to for key, (_, to) in changed.items()} == wanted
        shown = daemon.call("daemon.config")
        for key, value in wanted.items():
            place = shown
            for part in key.split("."):
                place = place[part]
            assert place == value, key
        settings = {f"{section}.{key}" for section in ("daemon", "policy", "seeding") for key in shown[section]} | {
            f"queues.downloads.{key}" for key in shown["queues"]["downloads"]
        }
        assert settings - set(wanted) == {"daemon.staging", "daemon.keep_free"}, "this test knows every setting"


def test_policy_and_destinations_hold_at_once(tmp_path: Path) -> None:
    with Instance(tmp_path, fake_section(tmp_path)) as daemon:
        daemon.start()
        (tmp_path / "other").mkdir()
        running = daemon.add("http://host.invalid/a.bin?manual=1")
        begun(daemon)
        with pytest.raises(RpcError) as caught:
            daemon.add("http://host.invalid/b.bin", directory=str(tmp_path / "other"))
        assert caught.value.kind == "destination"
        write(
            daemon,
            fake_section(tmp_path) + '[policy]\nschemes = ["https"]\nprivate_addresses = false\n',
            first=f'allow_destinations = ["{tmp_path}"]\n',
        )
        reload(daemon)
        assert daemon.add("https://host.invalid/b.bin", directory=str(tmp_path / "other"))
        with pytest.raises(RpcError) as caught:
            daemon.add("http://host.invalid/c.bin")
        assert caught.value.kind == "scheme"
        with pytest.raises(RpcError) as caught:
            daemon.add("https://127.0.0.1/c.bin")
        assert caught.value.kind == "address"
        finish(daemon)
        assert daemon.finished(running)["status"] == "completed", "what was accepted goes on"


def test_the_default_destination_holds_at_once(tmp_path: Path) -> None:
    with Instance(tmp_path, fake_section(tmp_path)) as daemon:
        daemon.start()
        elsewhere = daemon.home / "elsewhere"
        daemon.config.write_text(f'[daemon]\ndownloads = "{elsewhere}"\n' + fake_section(tmp_path))
        reload(daemon)
        done = daemon.finished(daemon.add("http://host.invalid/a.bin"))
        assert done["result"]["location"] == str(elsewhere / "a.bin")


def test_more_slots_start_what_waits_and_fewer_disturb_nothing(tmp_path: Path) -> None:
    with Instance(tmp_path, fake_section(tmp_path, "max_active = 1\n")) as daemon:
        daemon.start()
        tasks = [daemon.add(f"http://host.invalid/{name}.bin?manual=1") for name in "abcd"]
        begun(daemon)
        write(daemon, fake_section(tmp_path, "max_active = 3\n"))
        assert reload(daemon) == {"downloaders.fake.max_active": (1, 3)}
        begun(daemon, 3)
        write(daemon, fake_section(tmp_path, "max_active = 1\n"))
        reload(daemon)
        (told,) = daemon.call("downloaders.list")["items"]
        assert (told["active"], told["max_active"]) == (3, 1)
        for key in daemon.created()[:2]:
            (daemon.fake_folder / f"{key}.finish").touch()
        until(lambda: daemon.call("downloaders.list")["items"][0]["active"] == 1, "two have ended")
        assert len(daemon.created()) == 3, "the fourth waits for the one slot"
        (daemon.fake_folder / f"{daemon.created()[2]}.finish").touch()
        begun(daemon, 4)
        finish(daemon)
        for number in tasks:
            assert daemon.finished(number)["status"] == "completed"


def test_retry_settings_hold_at_once(tmp_path: Path) -> None:
    slow = "[queues.downloads]\nmax_retry = 9\nretry_delay = 0.01\nbackoff_max = 0.01\n"
    with Instance(tmp_path, fake_section(tmp_path)) as daemon:
        daemon.start()
        write(daemon, fake_section(tmp_path) + slow)
        reload(daemon)
        done = daemon.finished(daemon.add("http://host.invalid/a.bin?fail=passing&times=3"))
        assert (done["status"], done["retries"], done["max_retry"]) == ("completed", 3, 9)


def test_workers_hold_at_once(tmp_path: Path) -> None:
    with Instance(tmp_path, fake_section(tmp_path, "max_active = 100\n")) as daemon:
        daemon.start()
        for workers in (1, 20, 2):
            write(daemon, fake_section(tmp_path, "max_active = 100\n"), first=f"workers = {workers}\n")
            reload(daemon)
            tasks = [daemon.add(f"http://host.invalid/{workers}-{n}.bin") for n in range(10)]
            for number in tasks:
                assert daemon.finished(number)["status"] == "completed"


# -- downloaders that change under running transfers ------------------------------------------------------------------


def test_a_reload_in_the_middle_of_transfers_loses_and_repeats_nothing(tmp_path: Path) -> None:
    body = pattern(3_000_000)
    with WebServer() as server, Instance(tmp_path, fake_section(tmp_path) + WEB) as daemon:
        gate = threading.Event()
        url = server.put("slow.bin", body, gate=gate, gate_at=1_000_000)
        daemon.start()
        mine = daemon.add("http://host.invalid/a.bin?manual=1", downloader="fake")
        web = daemon.add(url, downloader="web")
        begun(daemon)
        until(lambda: server.served("slow.bin") >= 1_000_000, "the engine is in the middle of it")
        more = f'[downloaders.third]\nkind = "fake"\nfolder = "{tmp_path}/third"\n'
        write(daemon, fake_section(tmp_path, "max_active = 9\n") + WEB + "max_active = 7\n" + more)
        changed = reload(daemon)
        assert list(changed) == ["downloaders.fake.max_active", "downloaders.web.max_active", "downloaders.third"]
        assert changed["downloaders.third"][1]["folder"] == f"{tmp_path}/third"
        gate.set()
        finish(daemon)
        for number in (mine, web):
            done = daemon.finished(number)
            assert (done["status"], done["retries"], len(done["download"]["attempts"])) == ("completed", 0, 1)
        assert daemon.delivered()["slow.bin"] == body
        assert server.served("slow.bin") == len(body), "no byte was fetched again"
        assert len(server.asked("slow.bin")) == 1, "and the connection was not touched"
        assert len(daemon.created()) == 1


@pytest.mark.parametrize("how", ["removed", "disabled"])
def test_a_downloader_that_goes_and_comes_back_goes_on_with_its_transfers(tmp_path: Path, how: str) -> None:
    with Instance(tmp_path, fake_section(tmp_path) + WEB) as daemon:
        daemon.start()
        task = daemon.add("http://host.invalid/a.bin?manual=1", downloader="fake")
        begun(daemon)
        until(lambda: daemon.task(task)["download"]["state"] == "downloading", "it is watched")
        write(daemon, WEB if how == "removed" else fake_section(tmp_path, "enabled = false\n") + WEB)
        assert list(reload(daemon)) == ["downloaders.fake" if how == "removed" else "downloaders.fake.enabled"]
        seen: list[dict[str, Any]] = []

        def waits() -> bool:
            # Woken by what has changed, it may be looking once more a moment later.
            seen.append(daemon.call("tasks.why", id=task))
            return bool(seen[-1]["reason"] == "downloader_unavailable")

        until(waits, "it waits")
        why = seen[-1]
        reason = "is not configured any more" if how == "removed" else "is disabled (enabled = false)"
        cure = "put [downloaders.fake] back (enabled), or cancel the task"
        assert (why["blocking"], why["message"]) == ("fake", f"waits for fake, which {reason}; {cure}")
        assert [one["name"] for one in daemon.call("downloaders.list")["items"]] == ["web"]
        with pytest.raises(RpcError, match="no downloader 'fake'" if how == "removed" else "is disabled"):
            daemon.add("http://host.invalid/b.bin", downloader="fake")
        finish(daemon)
        write(daemon, fake_section(tmp_path) + WEB)
        reload(daemon)
        done = daemon.finished(task)
        assert (done["status"], done["retries"], len(done["download"]["attempts"])) == ("completed", 0, 1)
        assert list(daemon.delivered()) == ["a.bin"]
        assert len(daemon.created()) == 1
        assert daemon.fake_transfers() == []


def test_the_engine_goes_and_comes_back_and_fetches_only_what_is_missing(tmp_path: Path) -> None:
    body = pattern(3_000_000)
    with WebServer() as server, Instance(tmp_path, fake_section(tmp_path) + WEB) as daemon:
        gate = threading.Event()
        url = server.put("slow.bin", body, gate=gate, gate_at=1_000_000)
        daemon.start()
        task = daemon.add(url, downloader="web")
        until(lambda: server.served("slow.bin") >= 1_000_000, "it is on its way")
        # What has gone out of the server may not be written yet: not one byte is certain to be kept without this.
        until(lambda: sum(map(len, daemon.delivered().values())) >= 1_000_000, "its first bytes are written")
        write(daemon, fake_section(tmp_path))
        reload(daemon)
        until(lambda: daemon.call("tasks.why", id=task)["reason"] == "downloader_unavailable", "it waits")
        gate.set()
        write(daemon, fake_section(tmp_path) + WEB)
        reload(daemon)
        done = daemon.finished(task)
        assert (done["status"], done["retries"], len(done["download"]["attempts"])) == ("completed", 0, 1)
        assert daemon.delivered() == {"slow.bin": body}
        assert server.asked("slow.bin")[1].headers["Range"]


def test_other_options_reopen_a_downloader_and_its_transfers_go_on(tmp_path: Path) -> None:
    body = pattern(3_000_000)
    with WebServer() as server, Instance(tmp_path, WEB) as daemon:
        gate = threading.Event()
        url = server.put("slow.bin", body, gate=gate, gate_at=1_000_000)
        daemon.start()
        tasks = [daemon.add(url)]
        until(lambda: server.served("slow.bin") >= 1_000_000, "it is on its way")
        write(daemon, WEB + 'user_agent = "mine"\n')
        changed = reload(daemon)
        assert changed == {"downloaders.web.user_agent": (None, "mine")}
        gate.set()
        done = daemon.finished(tasks[0])
        assert (done["status"], done["retries"], len(done["download"]["attempts"])) == ("completed", 0, 1)
        assert daemon.delivered() == {"slow.bin": body}
        assert [asked.headers["User-Agent"] for asked in server.asked("slow.bin")][-1] == "mine"


def test_who_waits_for_a_slot_of_a_downloader_that_goes_finds_another(tmp_path: Path) -> None:
    other = f'[downloaders.other]\nkind = "fake"\nfolder = "{tmp_path}/other"\npoll = "100ms"\n'
    with Instance(tmp_path, fake_section(tmp_path, "max_active = 1\n")) as daemon:
        daemon.start()
        daemon.add("http://host.invalid/a.bin?manual=1")
        begun(daemon)
        waiting = daemon.add("http://host.invalid/b.bin")
        until(lambda: daemon.task(waiting)["hold"] == "slot:fake", "it waits for the slot")
        write(daemon, other)
        reload(daemon)
        done = daemon.finished(waiting)
        assert (done["status"], done["download"]["downloader"]) == ("completed", "other")


def test_a_stop_in_the_middle_of_a_reload(tmp_path: Path) -> None:
    with Instance(tmp_path, fake_section(tmp_path)) as daemon:
        daemon.start()
        daemon.add("http://host.invalid/1.bin?manual=1")
        begun(daemon)
        (daemon.fake_folder / "hang").touch()
        os.truncate(daemon.config, 0)
        assert daemon.process is not None
        daemon.process.send_signal(signal.SIGHUP)
        assert daemon.stop() == 0


def test_what_cannot_be_noted_down_leaves_no_half_of_a_reload(tmp_path: Path) -> None:
    with Instance(tmp_path, WEB) as daemon:
        daemon.start()
        in_the_way = tmp_path / "state" / "dlqueue" / "downloaders" / ".groups"
        until(in_the_way.exists, "it is noted down at the start, in the background")
        in_the_way.unlink()
        in_the_way.mkdir()
        write(daemon, WEB + '[downloaders.more]\nkind = "http"\n[seeding]\nratio = 3.0\n')
        assert set(reload(daemon)) == {"downloaders.more", "seeding.ratio"}
        assert daemon.call("daemon.config")["seeding"]["ratio"] == 3.0
        assert "cannot be noted" in daemon.log.read_text()
