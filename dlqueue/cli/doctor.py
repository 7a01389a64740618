"""`doctor`: what is wrong with an installation, and what to do about it."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import click

from dlqueue.cli import exits
from dlqueue.cli.instance import Mode, of_instance, reader
from dlqueue.cli.session import Session, everywhere, pass_session
from dlqueue.cli.table import is_terminal, put_json, put_line, put_paragraph
from dlqueue.client import Client, DaemonForbidden, DaemonUnreachable

_NO_DAEMON = {
    "check": "daemon",
    "severity": "warning",
    "explanation": "no daemon answers: downloaders, transfers and what runs were not looked at",
    "cure": "start it (systemctl start dlqueue, or: dlqueue daemon), then ask again",
}
_SEVERITIES = ("error", "warning", "info", "ok")


@click.command("doctor")
@click.option("--all", "show_all", is_flag=True, help="Also what was looked at and is right.")
@of_instance
@everywhere
@pass_session
def doctor_command(session: Session, /, show_all: bool, mode: Mode | None) -> int:
    """Look for what is wrong, and say what to do about it.

    Asks the daemon; without one it looks at what can be seen without. Exit code 1 if there is an error."""
    findings, asked = _found(session, mode)
    worst = findings[0]["severity"] if findings else "ok"
    if session.json:
        put_json({"daemon": asked, "findings": findings})
    else:
        _put([one for one in findings if show_all or one["severity"] != "ok"])
        exits.say(_summary(findings, show_all))
    return exits.FAILURE if worst == "error" else exits.OK


def _found(session: Session, mode: Mode | None) -> tuple[list[Mapping[str, Any]], bool]:
    """The worst first; and: has a daemon answered?"""
    try:
        if mode is not None and session.socket is None:
            session.use(Client(reader(session, mode).places.socket))
        return [*session.client.daemon.doctor()["findings"]], True
    except DaemonForbidden as error:
        refused, _, cure = str(error).partition("; ")
        unseen = {**_NO_DAEMON, "explanation": f"the daemon was not asked: {refused}", "cure": cure}
    except DaemonUnreachable:
        unseen = _NO_DAEMON
    from dlqueue.daemon.doctor.doctor import offline

    found: list[Mapping[str, Any]] = [*offline(reader(session, mode)), unseen]
    return sorted(found, key=lambda one: _SEVERITIES.index(one["severity"])), False


def _put(findings: Sequence[Mapping[str, Any]]) -> None:
    width = max((len(one["check"]) for one in findings), default=0)
    for one in findings:
        if is_terminal():
            put_paragraph(f"{one['severity']:<7}  {one['check']:<{width}}  ", one["explanation"])
            if one["cure"]:
                put_paragraph(f"{'':<{width + 11}}cure: ", one["cure"])
        else:
            put_line(one["severity"], one["check"], one["explanation"], one["cure"] or "")


def _summary(findings: Sequence[Mapping[str, Any]], show_all: bool) -> str:
    counts = {severity: sum(one["severity"] == severity for one in findings) for severity in _SEVERITIES}
    said = [
        f"{counts[severity]} {word}{'s' if counts[severity] != 1 else ''}"
        for severity, word in (("error", "error"), ("warning", "warning"))
        if counts[severity]
    ]
    right = f"{counts['ok']} things are right" + ("" if show_all else " (--all shows them)")
    return f"{', '.join(said) or 'nothing is wrong'}; {right}"
