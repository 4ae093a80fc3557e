"""HTTP-date, RFC 9110 §5.6.7."""

from datetime import UTC, datetime

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tiercel._core.dates import format_date, parse_date

NOV_6_1994 = 784_111_777.0
FIRST = datetime(1, 1, 1, tzinfo=UTC)
LAST = datetime(9999, 12, 31, 23, 59, 59, tzinfo=UTC)
MOMENTS = st.integers(int(FIRST.timestamp()), int(LAST.timestamp()))


@pytest.mark.parametrize(
    "value",
    [
        pytest.param(b"Sun, 06 Nov 1994 08:49:37 GMT", id="9110-5.6.7-IMF-fixdate"),
        pytest.param(b"Sunday, 06-Nov-94 08:49:37 GMT", id="9110-5.6.7-RFC-850"),
        pytest.param(b"Sun Nov  6 08:49:37 1994", id="9110-5.6.7-asctime"),
        pytest.param(b"Sun Nov 06 08:49:37 1994", id="9110-5.6.7-asctime-two-digits"),
        pytest.param(b"sun, 06 NOV 1994 08:49:37 gmt", id="9111-4.2-without-regard-to-case"),
    ],
)
def test_the_three_forms_name_the_same_moment(value: bytes) -> None:
    assert parse_date(value) == NOV_6_1994


@pytest.mark.parametrize(
    "value",
    [
        pytest.param(b"", id="empty"),
        pytest.param(b"0", id="9111-5.3-zero"),
        pytest.param(b"-1", id="9111-5.3-minus-one"),
        pytest.param(b"784111777", id="seconds"),
        pytest.param(b"1994-11-06T08:49:37Z", id="ISO-8601"),
        pytest.param(b"Sun, 06 Nov 1994 08:49:37 UTC", id="9111-4.2-UTC"),
        pytest.param(b"Sun, 06 Nov 1994 08:49:37 AEST", id="9111-4.2-another-zone"),
        pytest.param(b"Sun, 06 Nov 1994 08:49:37 +0000", id="9111-4.2-offset"),
        pytest.param(b"Sun, 06 Nov 1994 08:49:37", id="no-zone"),
        pytest.param(b"Sun, 06 Nov 94 08:49:37 GMT", id="two-digit-year"),
        pytest.param(b"Sun, 6 Nov 1994 08:49:37 GMT", id="one-digit-day"),
        pytest.param(b"Sun, 06 Nov 1994 8:49:37 GMT", id="one-digit-hour"),
        pytest.param(b"Sun, 06 Nov 1994 08:49 GMT", id="no-seconds"),
        pytest.param(b"Sun, 06 Nov 1994 08.49.37 GMT", id="full-stops"),
        pytest.param(b"Sun 06 Nov 1994 08:49:37 GMT", id="no-comma"),
        pytest.param(b"Sun,06 Nov 1994 08:49:37 GMT", id="no-space"),
        pytest.param(b"Sun, 06  Nov 1994 08:49:37 GMT", id="two-spaces"),
        pytest.param(b"Sun, 06-Nov-1994 08:49:37 GMT", id="cookie-date"),
        pytest.param(b"06 Nov 1994 08:49:37 GMT", id="no-weekday"),
        pytest.param(b"Xyz, 06 Nov 1994 08:49:37 GMT", id="no-such-weekday"),
        pytest.param(b"Sun, 06 Xyz 1994 08:49:37 GMT", id="no-such-month"),
        pytest.param(b"Sun, 31 Feb 1994 08:49:37 GMT", id="no-such-day"),
        pytest.param(b"Sun, 06 Nov 1994 24:00:00 GMT", id="no-such-hour"),
        pytest.param(b"Sun, 06 Nov 1994 08:49:61 GMT", id="no-such-second"),
        pytest.param(b"Sun, 06 Nov 0000 08:49:37 GMT", id="no-such-year"),
        pytest.param(b"Sun, 06 Nov 1994 08:49:37 GMT\n", id="line-feed"),
        pytest.param(b" Sun, 06 Nov 1994 08:49:37 GMT", id="leading-space"),
        pytest.param("Sun, ٠٦ Nov 1994 08:49:37 GMT".encode(), id="digits-of-another-script"),
        pytest.param(b"Sun, 06 Nov 1994 08:49:37 GMT, Sun, 06 Nov 1994 08:49:37 GMT", id="two-dates"),
    ],
)
def test_anything_else_is_no_date(value: bytes) -> None:
    assert parse_date(value) is None


@pytest.mark.parametrize(
    ("now_year", "digits", "year"),
    [
        pytest.param(None, 68, 2068, id="without-now-2068"),
        pytest.param(None, 69, 1969, id="without-now-1969"),
        pytest.param(2026, 76, 2076, id="fifty-years-ahead"),
        pytest.param(2026, 77, 1977, id="more-than-fifty-years-ahead"),
        pytest.param(2026, 26, 2026, id="this-year"),
        pytest.param(1999, 0, 2000, id="turn-of-the-century"),
    ],
)
def test_two_digits_never_mean_more_than_fifty_years_ahead(now_year: int | None, digits: int, year: int) -> None:
    now = None if now_year is None else datetime(now_year, 6, 1, tzinfo=UTC).timestamp()
    found = parse_date(f"Monday, 01-Mar-{digits:02} 00:00:00 GMT".encode(), now=now)
    assert found == datetime(year, 3, 1, tzinfo=UTC).timestamp()


def test_a_leap_second_is_read_as_the_moment_before_it() -> None:
    assert parse_date(b"Sat, 31 Dec 2016 23:59:60 GMT") == parse_date(b"Sat, 31 Dec 2016 23:59:59 GMT")


def test_dates_are_written_as_imf_fixdate() -> None:
    assert format_date(NOV_6_1994) == b"Sun, 06 Nov 1994 08:49:37 GMT"


def test_a_written_date_is_never_later_than_the_moment() -> None:
    assert format_date(NOV_6_1994 + 0.999) == format_date(NOV_6_1994)


@pytest.mark.parametrize(
    ("moment", "written"),
    [(-1e15, b"Mon, 01 Jan 0001 00:00:00 GMT"), (1e15, b"Fri, 31 Dec 9999 23:59:59 GMT")],
)
def test_moments_beyond_the_calendar_are_its_ends(moment: float, written: bytes) -> None:
    assert format_date(moment) == written


@given(MOMENTS)
def test_a_written_date_reads_as_the_moment_it_was_written_from(moment: int) -> None:
    assert parse_date(format_date(moment)) == moment


@given(st.datetimes(datetime(1980, 1, 1), datetime(2050, 1, 1)))  # noqa: DTZ001 - hypothesis wants them naive
def test_obsolete_forms_read_as_the_moment_they_were_written_from(at: datetime) -> None:
    expected = at.replace(microsecond=0, tzinfo=UTC).timestamp()
    assert parse_date(at.strftime("%A, %d-%b-%y %H:%M:%S GMT").encode()) == expected
    assert parse_date(at.strftime("%a %b %e %H:%M:%S %Y").encode()) == expected


@given(st.binary(max_size=40) | st.from_regex(rb"\A[A-Za-z]{3}, [0-9]{2} [A-Z][a-z]{2} [0-9]{4} [0-9:]{8} GMT\Z"))
def test_reading_never_raises(value: bytes) -> None:
    parse_date(value)


@given(st.binary(max_size=40), MOMENTS)
def test_reading_never_raises_whatever_the_time_is(value: bytes, now: int) -> None:
    parse_date(value, now=now)
    parse_date(b"Monday, 01-Mar-00 00:00:00 GMT", now=now)
