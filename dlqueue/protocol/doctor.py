"""Messages of `daemon.doctor`."""

from __future__ import annotations

from typing import Literal, TypedDict

Severity = Literal["ok", "info", "warning", "error"]


class Finding(TypedDict):
    """``check`` says what was looked at; a ``cure`` of None: nothing has to be done."""

    check: str
    severity: Severity
    explanation: str
    cure: str | None


class Diagnosis(TypedDict):
    """The worst first."""

    findings: list[Finding]
