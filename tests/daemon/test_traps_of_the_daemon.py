"""The traps that sank earlier programs of this kind, each a test with its name. (Those of the queue: tests/queue.)"""

from __future__ import annotations

from pathlib import Path

from tests.daemon.instance import Instance, fake_section, until
from tests.webserver import WebServer, pattern


def test_a_crash_between_created_and_handle_saved(tmp_path: Path) -> None:
    with Instance(tmp_path, fake_section(tmp_path)) as daemon:
        daemon.start(failpoint="created")
        number = daemon.add("http://host.invalid/a.bin")
        daemon.wait_killed()
        assert len(daemon.created()) == 1
        daemon.start()
        assert daemon.finished(number)["status"] == "completed"
        assert len(daemon.created()) == 1


def test_an_outage_of_the_downloader_booked_as_failure_of_every_download(tmp_path: Path) -> None:
    with Instance(tmp_path, fake_section(tmp_path)) as daemon:
        daemon.start()
        running = [daemon.add(f"http://host.invalid/{name}.bin?manual=1") for name in "abc"]
        until(lambda: len(daemon.created()) == 3, "all are running")
        (daemon.fake_folder / "down").touch()
        late = daemon.add("http://host.invalid/late.bin")
        until(lambda: daemon.task(late)["hold"] == "downloader:fake", "the late one waits")
        for key in daemon.created():
            (daemon.fake_folder / f"{key}.finish").touch()
        (daemon.fake_folder / "down").unlink()
        for number in (*running, late):
            done = daemon.finished(number)
            assert (done["status"], done["retries"]) == ("completed", 0)


def test_delete_on_error(tmp_path: Path) -> None:
    body = pattern(200_000)
    with WebServer() as server, Instance(tmp_path, "[queues.downloads]\nmax_retry = 0\n") as daemon:
        url = server.put("a.bin", body, cut=150_000)
        daemon.start()
        number = daemon.add(url)
        assert daemon.finished(number)["status"] == "error"
        assert sum(map(len, daemon.delivered().values())) == 150_000, "what was fetched is still there"
        server.pages["a.bin"].cut = None
        daemon.call("tasks.retry", id=number)
        assert daemon.finished(number)["status"] == "completed"
        assert daemon.delivered() == {"a.bin": body}
        assert server.served("a.bin") == len(body), "and no byte of it was fetched again"


def test_a_settings_key_that_was_read_under_another_name(tmp_path: Path) -> None:
    """What the file says is what `daemon.config` shows and what happens."""
    set_here = {"max_retry": 3, "retry_delay": 0.02, "backoff_max": 0.04, "concurrency": 2}
    keys = "".join(f"{key} = {value}\n" for key, value in set_here.items())
    more = f"max_active = 1\n[queues.downloads]\n{keys}"
    with Instance(tmp_path, "workers = 3\n" + fake_section(tmp_path, more)) as daemon:
        daemon.start()
        shown = daemon.call("daemon.config")
        assert shown["daemon"]["workers"] == 3
        assert shown["daemon"]["downloads"] == str(daemon.destination)
        assert shown["downloaders"]["fake"]["max_active"] == 1
        assert shown["queues"]["downloads"].items() >= set_here.items()
        failing = daemon.finished(daemon.add("http://host.invalid/a.bin?fail=passing"))
        assert (failing["max_retry"], failing["retries"], failing["status"]) == (3, 3, "error")
        daemon.add("http://host.invalid/b.bin?manual=1")
        until(lambda: len(daemon.created()) == 2, "it has the slot")
        waiting = daemon.add("http://host.invalid/c.bin")
        until(lambda: daemon.task(waiting)["hold"] == "slot:fake", "one transfer at once")
