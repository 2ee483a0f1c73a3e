"""Dates as people type them, against the calendar of the standard library."""

from datetime import UTC, date, datetime, timedelta
from itertools import pairwise

import pytest
from hypothesis import given
from hypothesis import strategies as st

from swathe.errors import InputError
from swathe.when import Interval, joined, parse_dates, parse_interval, read_moment

NOW = datetime(2026, 11, 21, 12, tzinfo=UTC)
TICK = timedelta(microseconds=1)
DAYS = st.dates(date(1972, 7, 23), date(2026, 11, 20))
MOMENTS = st.datetimes(datetime(1972, 7, 23), datetime(2026, 11, 20), timezones=st.just(UTC))  # noqa: DTZ001


def midnight(day):
    return datetime(day.year, day.month, day.day, tzinfo=UTC)


@given(DAYS)
def test_a_day_is_the_whole_utc_day(day):
    found = parse_interval(day.isoformat(), NOW)
    assert (found.start, found.end) == (midnight(day), midnight(day) + timedelta(days=1) - TICK)
    assert str(found) == day.isoformat()


@given(DAYS, DAYS, st.sampled_from("/_"))
def test_two_days_hold_both(one, other, sign):
    first, last = sorted((one, other))
    found = parse_interval(f"{first}{sign}{last}", NOW)
    assert (found.start, found.end) == (midnight(first), midnight(last) + timedelta(days=1) - TICK)


@given(DAYS)
def test_a_month_is_its_days(day):
    found = parse_interval(f"{day:%Y-%m}", NOW)
    assert found.start == midnight(day.replace(day=1))
    after = found.end + TICK
    assert after.day == 1
    assert found.start < after <= found.start + timedelta(days=31)


@given(MOMENTS, st.integers(-14, 14))
def test_instants_keep_their_zone(moment, hours):
    local = (moment + timedelta(hours=hours)).replace(tzinfo=None).isoformat()
    found = parse_interval(f"{local}{'-' if hours < 0 else '+'}{abs(hours):02d}:00", NOW)
    assert found.start == found.end == moment


@given(MOMENTS, MOMENTS)
def test_what_is_sent_holds_what_is_meant(one, other):
    """The text for a STAC API, read again, loses less than a millisecond at the end."""
    first, last = sorted((one, other))
    start, end = Interval(first, last).stac().split("/")
    assert timedelta(0) <= first - read_moment(start) < timedelta(milliseconds=1)
    assert timedelta(0) <= last - read_moment(end) < timedelta(milliseconds=1)


@pytest.mark.parametrize(
    ("text", "start", "end"),
    [
        ("../2024-01-01", None, "2024-01-01T23:59:59.999999+00:00"),
        ("2024-01-01/..", "2024-01-01T00:00:00+00:00", None),
        ("2024-01-01/", "2024-01-01T00:00:00+00:00", None),
        ("2024", "2024-01-01T00:00:00+00:00", "2024-12-31T23:59:59.999999+00:00"),
        ("2023-12/2024-02", "2023-12-01T00:00:00+00:00", "2024-02-29T23:59:59.999999+00:00"),
        ("2024-07-25T10:00:00Z/2024-07-26", "2024-07-25T10:00:00+00:00", "2024-07-26T23:59:59.999999+00:00"),
        ("2026-11-20/2027-01-01", "2026-11-20T00:00:00+00:00", "2027-01-01T23:59:59.999999+00:00"),
    ],
)
def test_open_ends_and_mixtures(text, start, end):
    found = parse_interval(text, NOW)
    assert found.start == (start and datetime.fromisoformat(start))
    assert found.end == (end and datetime.fromisoformat(end))


@pytest.mark.parametrize(
    ("text", "code", "hint"),
    [
        ("2024-07-27/2024-07-25", "when.reversed", "2024-07-25/2024-07-27"),
        ("2024-02_2024-01", "when.reversed", "2024-01/2024-02"),
        ("2027-01-01", "when.future", "up to today"),
        ("2030-01-01/..", "when.future", "up to today"),
        ("2024-02-30", "when.unreadable", "2024-07-25"),
        ("25.07.2024", "when.unreadable", "2024-07-25"),
        ("yesterday", "when.unreadable", "2024-07-25"),
        ("2024-07-25T25:00:00Z", "when.unreadable", "2024-07-25"),
        ("2024-01-01/2024-02-01/2024-03-01", "when.unreadable", "2024-07-25"),
        ("../..", "when.unreadable", "one end"),
        ("9999", "when.unreadable", "2024-07-25"),
        ("9999-12-31", "when.unreadable", "open"),
        ("2024-01-01/9999-12-31", "when.unreadable", "open"),
        ("9999-12-31T23:00:00-05:00", "when.unreadable", "open"),
        ("0001-01-01T01:00:00+05:00", "when.unreadable", "open"),
        ("", "when.none", "2024-07-25"),
        (" , ", "when.none", "2024-07-25"),
    ],
)
def test_each_mistake_is_one_problem(text, code, hint):
    with pytest.raises(InputError) as caught:
        parse_dates(text, NOW)
    problem = caught.value.problem
    assert problem.code == code
    assert hint in problem.hint
    assert problem.field == "--dates"


def test_the_last_moment_of_the_calendar_can_be_shown():
    found = parse_interval("2024-01-01T00:00:00Z/9999-12-31T23:59:59.999999Z", NOW)
    assert str(found) == "2024-01-01/9999-12-31"


@given(st.text(max_size=40))
def test_any_text_is_dates_or_one_problem(text):
    try:
        found = parse_dates(text, NOW)
    except InputError as error:
        found = error.problem.code.startswith("when.")
    assert found


def test_several_stay_apart_and_in_order():
    found = parse_dates(["2024-08-28,2024-07-04", "2024-07"], NOW)
    assert [str(i) for i in found] == ["2024-07-01/2024-07-31", "2024-07-04", "2024-08-28"]


@given(st.lists(st.tuples(st.none() | MOMENTS, st.none() | MOMENTS), min_size=1, max_size=6), MOMENTS)
def test_joining_changes_no_answer(pairs, moment):
    some = [Interval(a, b) if not (a and b) or a <= b else Interval(b, a) for a, b in pairs]
    one = joined(some)
    assert any(i.holds(moment) for i in one) == any(i.holds(moment) for i in some)
    assert all(a.end is not None and b.start is not None and a.end < b.start for a, b in pairwise(one))


def test_what_lasts_is_held_where_any_of_it_is():
    week = parse_interval("2024-07-10/2024-07-17", NOW)
    assert week.holds(read_moment("2024-07-04T00:00:00Z"), read_moment("2024-07-12T00:00:00Z"))
    assert not week.holds(read_moment("2024-07-01T00:00:00Z"), read_moment("2024-07-09T23:59:59Z"))
