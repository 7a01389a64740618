"""When schedules are due: every field, every name, both changes of the clocks."""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor
from datetime import UTC, datetime, timedelta
from itertools import pairwise
from zoneinfo import ZoneInfo, available_timezones

import pytest
from cronsim import CronSim
from hypothesis import given
from hypothesis import strategies as st

from dlqueue.queue import InvalidTask
from dlqueue.queue.cron import NAMED, timing

BERLIN = "Europe/Berlin"


def at(text: str, zone: str = "UTC") -> float:
    return datetime.fromisoformat(text).replace(tzinfo=ZoneInfo(zone)).timestamp()


def following(cron: str, zone: str, start: str, count: int) -> list[str]:
    """The next times, as the clock on the wall shows them, with its offset."""
    when, due, found = at(start, zone), timing(cron, None, zone, 0.0), []
    for _ in range(count):
        after = due.next(when)
        assert after is not None and after > when
        when = after
        found.append(datetime.fromtimestamp(when, ZoneInfo(zone)).isoformat(" ", "seconds"))
    return found


# -- fields -----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("cron", "times"),
    [
        ("* * * * *", ["2026-01-31 12:01:00+00:00", "2026-01-31 12:02:00+00:00"]),
        ("* * * * * *", ["2026-01-31 12:00:01+00:00", "2026-01-31 12:00:02+00:00"]),
        ("15 30 2 * * *", ["2026-02-01 02:30:15+00:00", "2026-02-02 02:30:15+00:00"]),
        ("30 2 * * *", ["2026-02-01 02:30:00+00:00", "2026-02-02 02:30:00+00:00"]),
        ("*/20 * * * * *", ["2026-01-31 12:00:20+00:00", "2026-01-31 12:00:40+00:00", "2026-01-31 12:01:00+00:00"]),
        ("0 0 29 2 *", ["2028-02-29 00:00:00+00:00", "2032-02-29 00:00:00+00:00"]),
        ("0 9 * * mon-fri", ["2026-02-02 09:00:00+00:00"]),
        ("0 9 * * 0", ["2026-02-01 09:00:00+00:00"]),
        ("0 9 * * 7", ["2026-02-01 09:00:00+00:00"]),
        ("0 0 L * *", ["2026-02-28 00:00:00+00:00"]),
        ("0 0 13 * 5", ["2026-02-06 00:00:00+00:00", "2026-02-13 00:00:00+00:00", "2026-02-20 00:00:00+00:00"]),
        ("@hourly", ["2026-01-31 13:00:00+00:00"]),
        ("@daily", ["2026-02-01 00:00:00+00:00", "2026-02-02 00:00:00+00:00"]),
        ("@midnight", ["2026-02-01 00:00:00+00:00", "2026-02-02 00:00:00+00:00"]),
        ("@weekly", ["2026-02-01 00:00:00+00:00", "2026-02-08 00:00:00+00:00"]),
        ("@monthly", ["2026-02-01 00:00:00+00:00", "2026-03-01 00:00:00+00:00"]),
        ("@yearly", ["2027-01-01 00:00:00+00:00", "2028-01-01 00:00:00+00:00"]),
        ("@annually", ["2027-01-01 00:00:00+00:00"]),
        ("  @Daily ", ["2026-02-01 00:00:00+00:00"]),
    ],
)
def test_fields_and_names(cron: str, times: list[str]) -> None:
    assert following(cron, "UTC", "2026-01-31T12:00:00", len(times)) == times


def test_six_fields_are_read_as_they_are_checked() -> None:
    """The original checked five fields and then read six: `30 2 * * *` meant something else altogether."""
    assert following("30 2 * * *", "UTC", "2026-01-01T00:00", 1) == ["2026-01-01 02:30:00+00:00"]
    assert following("30 2 * * * *", "UTC", "2026-01-01T00:00", 1) == ["2026-01-01 00:02:30+00:00"]


@pytest.mark.parametrize(
    "cron",
    [
        "", " ", "*", "* * * *", "* * * * * * *", "60 * * * *", "* 24 * * *", "* * 0 * *", "* * 32 * *", "* * * 13 *",
        "* * * * 8", "60 * * * * *", "-1 * * * *", "*/0 * * * *", "5-1 * * * *", "1,,2 * * * *", "a b c d e", "@reboot",
        "@dialy", "@", "@every", "@every 0s", "@every -1h", "@every 1x", "@every 1h 30", "@every 99999d", "0 0 31 2 *",
        "0 0 30 2 *", "* * * * MON#6", "* * * * L", "1/2/3 * * * *", "² * * * *", "* * * * ²L",
        "\x00 * * * *", "* " * 9000,
    ],
)  # fmt: skip
def test_what_cannot_be_right_is_refused(cron: str) -> None:
    with pytest.raises(InvalidTask) as caught:
        timing(cron, None, "UTC", 0.0)
    assert caught.value.field == "cron"
    assert len(str(caught.value)) < 400


@given(st.text(max_size=40) | st.text("0123456789*/,-#L @MONeveryhms.", max_size=40))
def test_any_text_is_a_time_or_refused(text: str) -> None:
    try:
        due = timing(text, None, BERLIN, 0.0)
    except InvalidTask as error:
        assert error.field == "cron"
    else:
        found = due.next(1.7e9)
        assert found is None or found > 1.7e9


@pytest.mark.parametrize(
    "zone", ["", "Nowhere/City", "europe/berlin", "../etc/passwd", "/etc/passwd", "Europe", "a\x00b"]
)
def test_an_unknown_zone_is_refused(zone: str) -> None:
    with pytest.raises(InvalidTask) as caught:
        timing("@daily", None, zone, 0.0)
    assert caught.value.field == "timezone"


def test_the_nearest_zone_is_named() -> None:
    with pytest.raises(InvalidTask, match="did you mean Europe/Berlin"):
        timing("@daily", None, "Europe/Berlim", 0.0)


@pytest.mark.parametrize(("cron", "every"), [(None, None), ("@daily", 5.0)])
def test_one_of_cron_and_every(cron: str | None, every: float | None) -> None:
    with pytest.raises(InvalidTask, match="cron: give either cron or every"):
        timing(cron, every, "UTC", 0.0)


@pytest.mark.parametrize("every", [0.0, -1.0, 0.01, 1e12, float("nan"), float("inf")])
def test_intervals_that_cannot_be(every: float) -> None:
    with pytest.raises(InvalidTask, match="every: an interval must be between"):
        timing(None, every, "UTC", 0.0)


def test_every_is_a_grid_from_its_anchor() -> None:
    for due in (timing("@every 1h30m", None, "UTC", 1000.0), timing(None, 5400.0, BERLIN, 1000.0)):
        assert [due.next(t) for t in (0.0, 1000.0, 1001.0, 6399.9, 6400.0)] == [6400.0, 6400.0, 6400.0, 6400.0, 11800.0]


def test_a_time_that_never_comes_has_no_next() -> None:
    assert timing("0 0 */30 2 MON#5", None, "UTC", 0.0).next(at("2030-01-01T00:00")) is None
    assert timing("@daily", None, BERLIN, 0.0).next(at("9999-12-31T23:00")) is None, "the calendar has an end"


# -- when the clocks change -------------------------------------------------------------------------------------------


@pytest.mark.parametrize("seconds", ["", "0 "])
class TestChanges:
    """Five and six fields alike."""

    def test_a_time_of_day_in_the_gap_comes_at_its_end(self, seconds: str) -> None:
        assert following(f"{seconds}30 2 * * *", BERLIN, "2026-03-28T00:00", 3) == [
            "2026-03-28 02:30:00+01:00",
            "2026-03-29 03:00:00+02:00",
            "2026-03-30 02:30:00+02:00",
        ]

    def test_a_time_of_day_that_comes_twice_counts_once(self, seconds: str) -> None:
        assert following(f"{seconds}30 2 * * *", BERLIN, "2026-10-24T00:00", 3) == [
            "2026-10-24 02:30:00+02:00",
            "2026-10-25 02:30:00+02:00",
            "2026-10-26 02:30:00+01:00",
        ]

    def test_all_of_the_gap_is_one_moment(self, seconds: str) -> None:
        assert following(f"{seconds}*/20 2,3 * * *", BERLIN, "2026-03-29T00:00", 3) == [
            "2026-03-29 03:00:00+02:00",
            "2026-03-29 03:20:00+02:00",
            "2026-03-29 03:40:00+02:00",
        ]

    def test_every_hour_goes_on_in_spring(self, seconds: str) -> None:
        assert following(f"{seconds}30 * * * *", BERLIN, "2026-03-29T00:40", 3) == [
            "2026-03-29 01:30:00+01:00",
            "2026-03-29 03:30:00+02:00",
            "2026-03-29 04:30:00+02:00",
        ]

    def test_every_hour_goes_on_in_autumn(self, seconds: str) -> None:
        assert following(f"{seconds}30 * * * *", BERLIN, "2026-10-25T00:40", 4) == [
            "2026-10-25 01:30:00+02:00",
            "2026-10-25 02:30:00+02:00",
            "2026-10-25 02:30:00+01:00",
            "2026-10-25 03:30:00+01:00",
        ]

    def test_made_in_the_second_of_the_two_hours(self, seconds: str) -> None:
        due = timing(f"{seconds}30 2 * * *", None, BERLIN, 0.0)
        second = at("2026-10-25T01:10")  # 02:10 in Berlin, for the second time
        assert due.next(second) == at("2026-10-26T01:30")

    def test_half_an_hour(self, seconds: str) -> None:
        assert following(f"{seconds}0 * * * *", "Australia/Lord_Howe", "2026-04-05T00:30", 3) == [
            "2026-04-05 01:00:00+11:00",
            "2026-04-05 02:00:00+10:30",
            "2026-04-05 03:00:00+10:30",
        ]

    def test_midnight_that_does_not_exist(self, seconds: str) -> None:
        assert following(f"{seconds}0 0 * * *", "America/Santiago", "2026-09-05T12:00", 2) == [
            "2026-09-06 01:00:00-03:00",
            "2026-09-07 00:00:00-03:00",
        ]

    def test_a_day_that_does_not_exist(self, seconds: str) -> None:
        assert following(f"{seconds}0 12 * * *", "Pacific/Apia", "2011-12-28T13:00", 3) == [
            "2011-12-29 12:00:00-10:00",
            "2011-12-31 00:00:00+14:00",
            "2011-12-31 12:00:00+14:00",
        ]


# -- properties -------------------------------------------------------------------------------------------------------


def _field(low: int, high: int) -> st.SearchStrategy[str]:
    number = st.integers(low, high)
    return st.one_of(
        st.just("*"),
        number.map(str),
        st.integers(1, high).map(lambda step: f"*/{step}"),
        st.lists(number, min_size=1, max_size=4).map(lambda some: ",".join(map(str, some))),
        st.tuples(number, number).map(lambda two: f"{min(two)}-{max(two)}"),
    )


CRONS = st.one_of(
    st.tuples(_field(0, 59), _field(0, 23), st.just("*"), st.just("*"), _field(0, 7)).map(" ".join),
    st.tuples(_field(0, 59), _field(0, 59), _field(0, 23), _field(1, 28), st.just("*"), st.just("*")).map(" ".join),
    st.sampled_from(sorted(NAMED)),
)
ZONES = st.sampled_from(
    [zone for zone in (BERLIN, "America/New_York", "Australia/Lord_Howe", "America/Santiago", "Asia/Kolkata",
                       "Africa/Casablanca", "America/Havana", "UTC") if zone in available_timezones()]
)  # fmt: skip
MOMENTS = st.floats(at("2024-01-01T00:00"), at("2030-01-01T00:00")) | st.builds(
    # Around the changes in Europe and America, where the mistakes are.
    lambda day, seconds: at(day) + seconds,
    st.sampled_from([f"2026-{day}T00:00" for day in ("03-29", "10-25", "03-08", "11-01", "04-04")]),
    st.floats(-7200, 86400),
)  # fmt: skip


@given(CRONS, ZONES, MOMENTS)
def test_times_rise_and_none_is_left_out(cron: str, zone: str, start: float) -> None:
    """Strictly later each time; and asked from any moment before it, the same time is next."""
    due = timing(cron, None, zone, 0.0)
    first = due.next(start)
    assert first is not None and first > start and first == int(first)
    second = due.next(first)
    assert second is not None and second > first
    assert due.next(first - 0.5) == due.next((start + first) / 2) == first


@given(CRONS, MOMENTS)
def test_without_changes_of_the_clocks_it_is_what_cronsim_says(cron: str, start: float) -> None:
    text = NAMED.get(cron, cron)
    expected = next(CronSim(text, datetime.fromtimestamp(start, UTC)))
    assert timing(cron, None, "UTC", 0.0).next(start) == expected.timestamp()


def _shown(when: float, zone: str) -> datetime:
    return datetime.fromtimestamp(when, ZoneInfo(zone)).replace(tzinfo=None)


@given(st.tuples(_field(0, 59), st.just("*")), ZONES, MOMENTS)
def test_by_the_hour_it_is_each_time_that_the_wall_shows(fields: tuple[str, str], zone: str, start: float) -> None:
    """Minute by minute, as a clock that knows nothing would do it."""
    cron = f"{fields[0]} {fields[1]} * * *"
    found = timing(cron, None, zone, 0.0).next(start)

    def matches(when: float) -> bool:
        wall = _shown(when, zone)
        return next(CronSim(cron, wall - timedelta(seconds=1))) == wall

    when = (start // 60 + 1) * 60
    while not matches(when):
        when += 60
    assert found == when


@given(st.integers(0, 59), st.integers(0, 23), ZONES, MOMENTS)
def test_a_time_of_day_comes_once_a_day(minute: int, hour: int, zone: str, start: float) -> None:
    due = timing(f"{minute} {hour} * * *", None, zone, 0.0)
    days, when = [], start
    for _ in range(6):
        found = due.next(when)
        assert found is not None
        days.append(_shown(found, zone).date())
        when = found
    assert [later - earlier for earlier, later in pairwise(days)] == [timedelta(days=1)] * 5


def test_timings_may_be_shared_by_threads() -> None:
    due = timing("*/7 * * * * *", None, BERLIN, 0.0)

    expected = [due.next(float(n)) for n in range(400)]
    with ThreadPoolExecutor(4) as pool:
        for answers in pool.map(lambda _: [due.next(float(n)) for n in range(400)], range(8)):
            assert answers == expected
