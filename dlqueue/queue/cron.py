"""When a schedule is due: cron expressions in a time zone, and fixed intervals. Pure.

The fields are matched by cronsim, which is only ever asked in plain wall-clock time: its own rules for the changes of
the clocks are others for six fields than for five. They are decided here, for both alike:

- The hour is named (``30 2 * * *``, ``0 1-5 * * *``): a time of day. One that the clocks jump over comes at the moment
  of the jump, one that they show twice comes the first time only.
- The hour is ``*`` or ``*/N``: whenever the clock of the wall shows it, so that *every hour* goes on through both
  changes, by the time that passes.
"""

from __future__ import annotations

import difflib
import math
import threading
from datetime import UTC, datetime, timedelta, tzinfo
from functools import lru_cache
from typing import Protocol
from zoneinfo import ZoneInfo, ZoneInfoNotFoundError, available_timezones

from cronsim import CronSim, CronSimError

from dlqueue.queue.errors import InvalidTask
from dlqueue.units import format_duration, parse_duration

NAMED = {
    "@hourly": "0 * * * *",
    "@daily": "0 0 * * *",
    "@midnight": "0 0 * * *",
    "@weekly": "0 0 * * 0",
    "@monthly": "0 0 1 * *",
    "@yearly": "0 0 1 1 *",
    "@annually": "0 0 1 1 *",
}
EVERY = "@every"
SHORTEST = 0.1
LONGEST = 10 * 365 * 86400.0
"""Seconds of an interval."""
_LONGEST_TEXT = 256
_EPOCH = datetime(1970, 1, 1)
_STRIDE = 86400 * 7.0
"""No zone changes its clocks twice within a week."""


class Timing(Protocol):
    """Points in time, seconds since 1970."""

    def next(self, after: float) -> float | None:
        """The first one later than ``after``; None = there is none."""
        ...


class Interval:
    """Every ``seconds`` from ``anchor`` on: a grid, so that late ones do not make the others late."""

    def __init__(self, seconds: float, anchor: float) -> None:
        self._seconds = seconds
        self._anchor = anchor

    def next(self, after: float) -> float | None:
        step = max(math.floor((after - self._anchor) / self._seconds), 0) + 1
        while (when := self._anchor + step * self._seconds) <= after:
            step += 1
        return when


class Cron:
    """A cron expression in a time zone.

    :raises CronSimError: it cannot be right.
    """

    def __init__(self, expression: str, zone: tzinfo) -> None:
        fields = expression.split()
        if len(fields) not in (5, 6):
            raise CronSimError(f"it has {len(fields)} fields")
        self._by_the_hour = fields[-4].startswith("*")
        self._zone = zone
        # Without a time zone it knows of no change of the clocks. Made once: reading the fields costs more than asking.
        self._fields = CronSim(expression, _EPOCH)
        self._asking = threading.Lock()

    def next(self, after: float) -> float | None:
        try:
            return self._elapsed(after) if self._by_the_hour or self._zone is UTC else self._of_day(after)
        except (StopIteration, OverflowError):  # not in the next fifty years
            return None

    def _match(self, wall: datetime) -> datetime:
        """The first match later than this time on the wall. Fractions of a second do not count."""
        with self._asking:  # by the event loop, and by the writer's thread
            self._fields.dt = wall.replace(microsecond=0)
            return next(self._fields)

    def _of_day(self, after: float) -> float:
        wall = datetime.fromtimestamp(after, self._zone).replace(tzinfo=None, fold=0)
        while True:
            wall = self._match(wall)
            first = _seconds(wall) - self._offset_of(wall)
            if self._offset(first) != self._offset_of(wall):
                first = self._jump(first)
            if first > after:
                return first

    def _jump(self, beyond: float) -> float:
        """When the clocks jumped over what would have been at ``beyond``."""
        return self._change(beyond - 86400.0, beyond) or beyond

    def _elapsed(self, after: float) -> float:
        start, wall = after, self._wall(after)
        while True:
            # As long as the clocks are not changed there is nothing to it.
            found = _seconds(self._match(wall)) - self._offset(start)
            change = self._change(start, found)
            if change is None:
                return found
            start, wall = change, self._wall(change) - timedelta(seconds=1)  # the moment of the change counts too

    def _change(self, start: float, end: float) -> float | None:
        """The first change of the clocks in (start, end]."""
        if self._zone is UTC:
            return None
        offset = self._offset(start)
        low = start
        while low < end:
            high = min(low + _STRIDE, end)
            if self._offset(high) != offset:
                first, last = math.floor(low), math.ceil(high)
                while last - first > 1:
                    middle = (first + last) // 2
                    first, last = (middle, last) if self._offset(middle) == offset else (first, middle)
                return float(last)
            low = high
        return None

    def _wall(self, when: float) -> datetime:
        return _EPOCH + timedelta(seconds=when + self._offset(when))

    def _offset(self, when: float) -> float:
        """Seconds that the clock on the wall is ahead of UTC at this time."""
        return _total(datetime.fromtimestamp(when, self._zone).utcoffset())

    def _offset_of(self, wall: datetime) -> float:
        """The same for a time on the wall; before the change if it is shown twice or not at all."""
        return _total(self._zone.utcoffset(wall.replace(tzinfo=self._zone)))


def _seconds(wall: datetime) -> float:
    return (wall - _EPOCH).total_seconds()


def _total(offset: timedelta | None) -> float:
    return 0.0 if offset is None else offset.total_seconds()


def timing(cron: str | None, every: float | None, timezone: str, anchor: float) -> Timing:
    """When something is due.

    :param cron: five fields (minute hour day month weekday), six (seconds first), a name such as ``@daily``, or
        ``@every`` with a duration.
    :param every: seconds; in place of ``cron``.
    :param anchor: what intervals are counted from.
    :raises InvalidTask: naming ``cron``, ``every`` or ``timezone``.
    """
    if (cron is None) == (every is None):
        raise InvalidTask("give either cron or every", "cron")
    zone = _zone(timezone)
    if every is not None:
        return Interval(_interval(every, "every"), anchor)
    assert cron is not None
    word, *rest = cron.split(maxsplit=1) or [""]
    if word.lower() == EVERY:
        try:
            seconds = parse_duration("".join(rest))
        except ValueError as error:
            raise InvalidTask(f"{EVERY} takes a duration, such as {EVERY} 1h30m: {error}", "cron") from None
        return Interval(_interval(seconds, "cron"), anchor)
    return _parsed(cron, zone)


def _interval(seconds: float, field: str) -> float:
    if not SHORTEST <= seconds <= LONGEST:
        raise InvalidTask(f"an interval must be between {SHORTEST:g} s and {format_duration(LONGEST)}", field)
    return seconds


@lru_cache(maxsize=20_000)
def _parsed(cron: str, zone: tzinfo) -> Timing:
    text = cron.strip()
    if text.startswith("@"):
        known = NAMED.get(text.lower())
        if known is None:
            raise InvalidTask(f"{_quoted(text)} is not one of {', '.join(NAMED)}, {EVERY} DURATION", "cron")
        text = known
    try:
        if len(text) > _LONGEST_TEXT or not text.isascii():
            raise CronSimError("it is not a cron expression")
        return Cron(text, zone)
    except (CronSimError, ValueError, AssertionError) as error:
        raise InvalidTask(
            f"{_quoted(text)} cannot be right: {_said(error)}. There are 5 fields (minute hour day month weekday), or "
            "6 (second minute hour day month weekday)",
            "cron",
        ) from None


def _said(error: Exception) -> str:
    text = str(error) or "it is not a cron expression"
    return text[0].lower() + text[1:]


def _quoted(text: str) -> str:
    return ascii(text if len(text) <= 60 else text[:59] + "…").replace("\\u2026", "…")


@lru_cache(maxsize=1000)
def _zone(name: str) -> tzinfo:
    if name in ("UTC", "Etc/UTC", "Z"):
        return UTC
    try:
        return ZoneInfo(name)
    except (ZoneInfoNotFoundError, ValueError, OSError):
        known = available_timezones()
        if not known:
            cure = "; this machine has no time zones at all: install tzdata"
        else:
            close = difflib.get_close_matches(name[:100], known, n=1, cutoff=0.8) or [
                z for z in known if z.lower() == name.lower()
            ]
            cure = f"; did you mean {close[0]}?" if close else "; write for example Europe/Berlin"
        raise InvalidTask(f"there is no time zone {_quoted(name)}{cure}", "timezone") from None
