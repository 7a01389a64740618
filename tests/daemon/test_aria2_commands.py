"""The commands of a person with torrents and an aria2 of his own."""

from __future__ import annotations

from pathlib import Path

from tests.daemon.aria2_world import Valve, delivered_files, is_empty, web_seeded, world
from tests.daemon.instance import DEADLINE, as_json, until
from tests.plugins.aria2.swarm import Torrent, make_torrent
from tests.webserver import pattern

FILES = {"a.bin": pattern(100_000), "b.bin": pattern(70_000)[::-1], "sub/c.bin": pattern(50_000)}
MIB = 1 << 20


def saved(folder: Path, torrent: Torrent) -> str:
    path = folder / f"{torrent.name}.torrent"
    path.write_bytes(torrent.content)
    return str(path)


def test_add_a_torrent_file(tmp_path: Path) -> None:
    with world(tmp_path) as w:
        w.daemon.start()
        path = saved(tmp_path, web_seeded(w.server, "album", FILES))
        tried = w.daemon.cli("add", path, "--dry-run")
        assert tried.returncode == 0 and "→ box" in tried.stdout and "the first that can fetch it" in tried.stdout
        assert w.daemon.call("tasks.count") == 0
        assert w.transfers() == set()
        wrong = w.daemon.cli("add", path, "--select", "4")
        assert (wrong.returncode, wrong.stdout) == (2, "") and "there is no file 4: it has 3" in wrong.stderr
        added = w.daemon.cli("add", path, "--select", "1,3", "--seed-ratio", "0", "--wait", "-q")
        assert added.returncode == 0, added.stderr
        assert added.stdout.split() == ["1"]
        assert delivered_files(w.daemon) == {"album/a.bin": FILES["a.bin"], "album/sub/c.bin": FILES["sub/c.bin"]}
        shown = w.daemon.cli("show", "@last")
        assert "album" in shown.stdout and "box" in shown.stdout
        listed = as_json(w.daemon.cli("files", "1", "--json"))
        assert [file["path"] for file in listed] == ["album/a.bin", "album/sub/c.bin"]


def test_get_a_torrent_returns_when_it_is_delivered(tmp_path: Path) -> None:
    with world(tmp_path) as w:
        w.daemon.start()
        result = w.daemon.cli("get", saved(tmp_path, web_seeded(w.server, "album", FILES)))
        assert result.returncode == 0, result.stderr
        assert result.stdout == f"{w.daemon.destination / 'album'}\n"
        assert w.daemon.task(1)["status"] != "completed", "it seeds on"
        assert delivered_files(w.daemon) == {f"album/{name}": body for name, body in FILES.items()}


def test_the_same_torrent_is_joined(tmp_path: Path) -> None:
    with world(tmp_path) as w:
        w.daemon.start()
        torrent = make_torrent("album", FILES)
        path = saved(tmp_path, torrent)
        first = as_json(w.daemon.cli("add", path, "--json"))
        again = as_json(w.daemon.cli("add", path, "--json"))
        linked = as_json(w.daemon.cli("add", torrent.magnet, "--json"))
        assert [task["id"] for task in (first, again, linked)] == [1, 1, 1]
        assert (first["created"], again["created"], linked["created"]) == (True, False, False)


def test_choose_files(tmp_path: Path) -> None:
    """Before it begins and while it runs; aria2 is told."""
    with world(tmp_path) as w:
        w.daemon.start()
        torrent = web_seeded(w.server, "album", FILES)
        pages = [Valve(w.server, f"{torrent.hash}/album/{name}", body) for name, body in FILES.items()]
        number = w.add(torrent, seed=0)
        gid = w.handle(number)
        listed = as_json(w.daemon.cli("files", str(number), "--json"))
        assert [(file["index"], file["path"], file["size"], file["selected"]) for file in listed] == [
            (1, "album/a.bin", 100_000, True),
            (2, "album/b.bin", 70_000, True),
            (3, "album/sub/c.bin", 50_000, True),
        ]
        chosen = w.daemon.cli("files", str(number), "--match", "*/[ab].bin")
        assert [line.split("\t")[1] for line in chosen.stdout.splitlines()] == ["yes", "yes", "no"]
        chosen = w.daemon.cli("files", str(number), "--select", "2")
        assert [line.split("\t")[1] for line in chosen.stdout.splitlines()] == ["no", "yes", "no"], chosen.stderr
        assert [file["selected"] for file in w.aria2.call("getFiles", gid)] == ["false", "true", "false"]
        assert w.daemon.cli("files", str(number), "--select", "9").returncode == 2
        for page in pages:
            page.open()
        done = w.daemon.finished(number)
        assert done["status"] == "completed", done["error"]
        assert delivered_files(w.daemon) == {"album/b.bin": FILES["b.bin"]}


def test_another_url(tmp_path: Path) -> None:
    """The link has expired. aria2 cannot prove that the other one has the same content: it begins from the start."""
    body = pattern(4 * MIB)
    with world(tmp_path) as w:
        w.daemon.start()
        old, new = Valve(w.server, "old/file.bin", body), Valve(w.server, "new/file.bin", body)
        number = w.daemon.add(old.url)
        gid = w.handle(number)
        old.let(2 * MIB)
        until(lambda: int(w.aria2.call("tellStatus", gid)["completedLength"]) >= 2 * MIB, "half of it is there")
        new.open()
        assert w.daemon.cli("edit", str(number), "--url", new.url).returncode == 0
        done = w.daemon.finished(number)
        assert (done["status"], done["retries"]) == ("completed", 0), done["error"]
        assert done["download"]["url"] == new.url
        assert w.daemon.delivered() == {"file.bin": body}
        assert w.server.asked("new/file.bin")[-1].headers.get("Range", "bytes=0-").startswith("bytes=0-")
        late = w.daemon.cli("edit", str(number), "--url", old.url)
        assert late.returncode == 7 and "fetched already" in late.stderr


def test_pause_and_resume(tmp_path: Path) -> None:
    body = pattern(2 * MIB)
    with world(tmp_path) as w:
        page = Valve(w.server, "file.bin", body)
        w.daemon.start()
        number = w.daemon.add(page.url)
        gid = w.handle(number)
        page.let(MIB)
        until(lambda: int(w.aria2.call("tellStatus", gid)["completedLength"]) >= MIB, "half of it is there")
        assert w.daemon.cli("pause", str(number)).returncode == 0
        assert w.aria2.call("tellStatus", gid)["status"] == "paused"
        page.open()
        w.daemon.kill()
        w.daemon.start()
        assert w.aria2.call("tellStatus", gid)["status"] == "paused"
        assert w.daemon.cli("resume", str(number)).returncode == 0
        assert w.daemon.finished(number)["status"] == "completed"
        assert w.daemon.delivered() == {"file.bin": body}


def test_downloader_test(tmp_path: Path) -> None:
    with world(tmp_path) as w:
        w.daemon.start()
        good = w.daemon.cli("downloader", "test", "box", "--json")
        answer = as_json(good)
        assert answer["ok"] is True and answer["version"].startswith("aria2 1.3")
        assert [check["name"] for check in answer["checks"]] == ["reach", "credentials", "path map"]
        w.aria2.stop()
        bad = w.daemon.cli("downloader", "test", "box")
        assert bad.returncode == 1
        assert "Connection refused" in bad.stdout and "start it, or correct its address" in bad.stdout
        former, w.aria2.secret = w.aria2.secret, "an0ther"
        w.aria2.start()
        wrong = w.daemon.cli("downloader", "test", "box")
        assert wrong.returncode == 1
        assert "refuses our secret" in wrong.stdout and "dlqueue config reload" in wrong.stdout
        w.daemon.config.write_text(w.daemon.config.read_text().replace(former, w.aria2.secret))
        assert w.daemon.cli("config", "reload").returncode == 0
        assert w.daemon.cli("downloader", "test", "box").returncode == 0


def test_bad_magnets(tmp_path: Path) -> None:
    with world(tmp_path) as w:
        w.daemon.start()
        result = w.daemon.cli("add", "magnet:?dn=x", "magnet:?xt=urn:btih:zz", "magnet:?xt=urn:btih:" + "0" * 39)
        assert (result.returncode, result.stdout) == (2, ""), result.stderr
        assert [f"argument {place}:" in result.stderr for place in (1, 2, 3)] == [True] * 3, result.stderr
        assert "Traceback" not in result.stderr and w.daemon.call("tasks.count") == 0


def test_cancel_a_magnet_that_nobody_has(tmp_path: Path) -> None:
    with world(tmp_path) as w:
        w.daemon.start()
        result = w.daemon.cli("add", make_torrent("album", FILES).magnet, "-q")
        number = int(result.stdout)
        until(lambda: w.why(number)["reason"] == "metadata", "it looks for its metadata")
        assert "looking for its metadata" in w.daemon.cli("why", str(number)).stdout
        files = w.daemon.cli("files", str(number))
        assert files.returncode == 0 and "not known yet" in files.stderr
        waiting = w.daemon.begin_cli("wait", str(number))
        assert w.daemon.cli("cancel", str(number), "--delete-data").returncode == 0
        assert waiting.wait(DEADLINE) == 5
        waiting.communicate()
        until(lambda: not w.transfers() and is_empty(w.daemon), "nothing of it is left")
