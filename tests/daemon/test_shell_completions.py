"""Completions, as bash, zsh and fish make them, with what a daemon knows."""

from __future__ import annotations

import os
import pty
import re
import select
import shlex
import shutil
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from tests.daemon.instance import DEADLINE, Instance, fake_section

Complete = Callable[[str], list[str]]


@pytest.fixture(scope="module")
def daemon(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Instance]:
    folder = tmp_path_factory.mktemp("daemon")
    with Instance(folder, fake_section(folder)) as running:
        binaries = folder / "bin"
        binaries.mkdir()
        program = binaries / "dlqueue"
        # Without the patience of a person who types: on a slow machine an answer may take longer.
        code = f"from dlqueue.cli import complete, main; complete._SECONDS = {DEADLINE}; main.main()"
        program.write_text(f'#!/bin/sh\nexec {shlex.quote(sys.executable)} -c {shlex.quote(code)} "$@"\n')
        program.chmod(0o755)
        running.environ["PATH"] = f"{binaries}:{running.environ['PATH']}"
        running.start()
        for number in range(3):
            running.add(f"http://host.invalid/{number}.bin", paused=number < 2)
        running.finished(3)
        running.call("queues.create", name="nightly")
        schedule = {"name": "probe", "type": "remote_download", "params": {"url": "http://host.invalid/x"}}
        running.call("schedules.create", every=3600, **schedule)
        yield running


@pytest.fixture(params=["bash", "zsh", "fish"])
def complete(request: pytest.FixtureRequest, daemon: Instance) -> Complete:
    """What the shell offers for a line that is being typed."""
    shell: str = request.param
    if shutil.which(shell) is None:
        pytest.skip(f"needs {shell}")
    made = daemon.cli("completions", shell)
    assert made.returncode == 0 and made.stderr == ""
    script = daemon.folder / f"completion.{shell}"
    script.write_text(made.stdout)
    return lambda line: {"bash": _bash, "zsh": _zsh, "fish": _fish}[shell](daemon, script, line)


def _run(daemon: Instance, command: list[str]) -> list[str]:
    done = subprocess.run(
        command, env=daemon.environ, cwd=daemon.destination, capture_output=True, text=True, timeout=60, check=True
    )
    assert done.stderr == ""
    return done.stdout.splitlines()


def _bash(daemon: Instance, script: Path, line: str) -> list[str]:
    words = line.split(" ")
    typed = " ".join(shlex.quote(word) for word in words)
    program = (
        f"source {shlex.quote(str(script))}; COMP_WORDS=({typed}); COMP_CWORD={len(words) - 1}; "
        '$(complete -p dlqueue | sed "s/.*-F \\([^ ]*\\).*/\\1/") dlqueue; printf "%s\\n" "${COMPREPLY[@]}"'
    )
    return [word for word in _run(daemon, ["bash", "--norc", "-c", program]) if word]


def _fish(daemon: Instance, script: Path, line: str) -> list[str]:
    program = f"source {shlex.quote(str(script))}; complete -C {shlex.quote(line)}"
    return [one.partition("\t")[0] for one in _run(daemon, ["fish", "--no-config", "-c", program])]


def _zsh(daemon: Instance, script: Path, line: str) -> list[str]:
    """zsh completes only at a terminal."""
    shown = daemon.folder / "functions"
    shown.mkdir(exist_ok=True)
    shutil.copy(script, shown / "_dlqueue")
    controller, terminal = pty.openpty()
    environ = {**daemon.environ, "TERM": "dumb", "COLUMNS": "200"}
    process = subprocess.Popen(
        ["zsh", "-f", "-i"], stdin=terminal, stdout=terminal, stderr=terminal, env=environ, cwd=daemon.destination,
        start_new_session=True,
    )  # fmt: skip
    os.close(terminal)
    try:
        setup = (
            f"PS1='>'; fpath=({shown} $fpath); autoload -U compinit; compinit -u -D; unsetopt zle_bracketed_paste; "
            "unsetopt automenu beep listambiguous; zstyle ':completion:*' verbose no; LISTMAX=1000; print re''ady"
        )
        os.write(controller, f"{setup}\n".encode())
        _read(controller, "ready\r\n")
        os.write(controller, f"{line}\t".encode())
        text = _read(controller, None)
        os.write(controller, b"\x15exit\n")
    finally:
        process.kill()
        process.wait()
        os.close(controller)
    words = re.sub(r"\x1b\[[0-9;?]*[A-Za-z]|[\r\x07]", " ", text).split()
    return [word for word in words if word not in line.split()]


def _read(controller: int, until: str | None) -> str:
    """What the terminal shows up to this text; without one, until nothing more comes once something has."""
    text, end = "", time.monotonic() + DEADLINE
    while until is None or until not in text:
        ready, _, _ = select.select([controller], [], [], 2.0)
        if not ready and until is None and len(text.split("\n")) > 1:
            return text
        assert time.monotonic() < end, text
        if ready:
            text += os.read(controller, 65536).decode(errors="replace")
    return text


@pytest.mark.parametrize(
    ("line", "offered", "not_offered"),
    [
        ("dlqueue resume ", {"1", "2", "@last"}, {"3"}),
        ("dlqueue show ", {"1", "2", "3", "@last"}, set()),
        ("dlqueue downloader ", {"test", "pause", "kinds"}, {"cancel"}),
        ("dlqueue add --o", {"--on", "--on-exists", "--on-full"}, {"--priority"}),
        ("dlqueue ls --queue ", {"downloads", "nightly"}, set()),
        ("dlqueue schedule set --", {"--cron", "--every"}, set()),
    ],
    ids=["ids that can be resumed", "ids", "commands", "options", "queues", "options of a group"],
)
def test_several(complete: Complete, line: str, offered: set[str], not_offered: set[str]) -> None:
    found = set(complete(line))
    assert offered <= found, found
    assert not not_offered & found


@pytest.mark.parametrize(
    ("line", "word"),
    [
        ("dlqueue downloader test f", "fake"),
        ("dlqueue add --on f", "fake"),
        ("dlqueue queue pause n", "nightly"),
        ("dlqueue schedule run p", "probe"),
        ("dlqueue sched", "schedule"),
        ("dlqueue rpc tasks.submit_", "tasks.submit_many"),
    ],
)
def test_one(daemon: Instance, line: str, word: str) -> None:
    for shell in ("bash", "fish"):
        if shutil.which(shell) is not None:
            script = daemon.folder / f"one.{shell}"
            script.write_text(daemon.cli("completions", shell).stdout)
            assert {"bash": _bash, "fish": _fish}[shell](daemon, script, line) == [word], shell


def test_of_the_daemon_that_is_named(daemon: Instance, tmp_path: Path) -> None:
    environ = {**daemon.environ, "XDG_RUNTIME_DIR": str(tmp_path), "_DLQUEUE_COMPLETE": "bash_complete"}
    for socket, offered in ((str(daemon.socket), True), ("/nowhere", False)):
        words = f"dlqueue --socket {socket} downloader test f"
        done = subprocess.run(
            ["dlqueue"], env={**environ, "COMP_WORDS": words, "COMP_CWORD": "5"}, capture_output=True, text=True,
            timeout=60, check=False, executable=str(daemon.folder / "bin" / "dlqueue"),
        )  # fmt: skip
        assert (done.stdout == "plain,fake\n", done.stderr) == (offered, ""), done
