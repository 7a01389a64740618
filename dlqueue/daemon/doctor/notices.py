"""Notices: can they be sent, may their receivers believe them, and do they arrive?"""

from __future__ import annotations

import os
import shutil
import time
from collections.abc import Collection, Iterator
from pathlib import Path

from dlqueue.config import Config
from dlqueue.daemon.doctor.finding import Finding, listed
from dlqueue.notify import targets
from dlqueue.places import PROGRAMS
from dlqueue.queue import StorageError
from dlqueue.queue.sql.inspection import Inspection
from dlqueue.units import format_duration

LATE = 3600.0
"""Seconds after which a notice ought to have arrived."""


def notices(config: Config, inspection: Inspection | None) -> list[Finding]:
    """
    :param inspection: of the database, if there is one.
    """
    late = [] if inspection is None else _late(inspection)
    lanes = [] if inspection is None else _lanes(inspection)
    found = [*_unsigned(config, lanes), *_hooks(config), *late]
    return found or [Finding("notices", "ok", "notices can be sent, and none has waited for long")]


def _lanes(inspection: Inspection) -> Collection[str]:
    try:
        return [target for target, *_ in inspection.letters()]
    except StorageError:
        return ()  # is told where the database is looked at


def _unsigned(config: Config, waiting: Collection[str]) -> Iterator[Finding]:
    if config.notify.webhook_secret is not None:
        return
    used = any(rule.webhook is not None for rule in config.notify.rules)
    if used or any(targets.parts(target)[0] == targets.WEBHOOK for target in waiting):
        text = "webhooks are sent without a signature: their receivers cannot tell that they are ours"
        cure = 'set notify.webhook_secret: echo "whsec_$(head -c 32 /dev/urandom | base64)" makes one'
        yield Finding("notices", "warning", text, cure)


def _hooks(config: Config) -> Iterator[Finding]:
    for name, hook in config.hooks.items():
        program = hook.command[0]
        # As it is started: from the folder / and with a PATH of ours.
        path = Path("/", program) if "/" in program else None
        there = shutil.which(program, os.F_OK, PROGRAMS) if path is None else path.is_file()
        runs = shutil.which(program, path=PROGRAMS) if path is None else os.access(path, os.X_OK)
        if not there:
            text = f"hook {name} cannot be run: there is no {program}"
            where = f" (without a folder it is looked for in {PROGRAMS})" if path is None else ""
            yield Finding("notices", "error", text, f"install it, or correct hooks.{name}.command{where}")
        elif not runs:
            text = f"hook {name} cannot be run: {program} is not executable for the daemon"
            yield Finding("notices", "error", text, f"chmod a+x {program}, and let the daemon into its folder")


def _late(inspection: Inspection) -> list[Finding]:
    now = time.time()
    try:
        late = inspection.letters(now - LATE)
    except StorageError:
        return []  # is told where the database is looked at
    if not late:
        return []
    count, oldest = sum(many for _, many, _, _ in late), min(at for _, _, at, _ in late)
    whose = listed(sorted({targets.shown(target) for target, *_ in late}))
    what = "1 notice has" if count == 1 else f"{count} notices have"
    text = f"{what} not arrived, the oldest for {format_duration(now - oldest)}: {whose}"
    errors = [error for *_, error in late if error is not None]
    text += f"; the last attempt: {errors[0]}" if errors else ""
    cure = "correct it there; they are tried again for a day (dlqueue notify test NAME tries one now)"
    return [Finding("notices", "warning", text, cure)]
