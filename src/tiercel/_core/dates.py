"""HTTP-date, RFC 9110 §5.6.7: written as IMF-fixdate, read in its three forms."""

import re
from datetime import UTC, datetime, timedelta
from math import floor

_DAYS = ("Mon", "Tue", "Wed", "Thu", "Fri", "Sat", "Sun")
_MONTHS = ("Jan", "Feb", "Mar", "Apr", "May", "Jun", "Jul", "Aug", "Sep", "Oct", "Nov", "Dec")
_MONTH_NUMBERS = {name.lower().encode(): number for number, name in enumerate(_MONTHS, 1)}

_DAY = rb"(?:mon|tue|wed|thu|fri|sat|sun)"
_LONG_DAY = rb"(?:monday|tuesday|wednesday|thursday|friday|saturday|sunday)"
_MONTH = rb"(?P<month>" + b"|".join(_MONTH_NUMBERS) + rb")"
_TIME = rb"(?P<hour>[0-9]{2}):(?P<minute>[0-9]{2}):(?P<second>[0-9]{2})"
# Matched without regard to case, and with no zone but GMT: RFC 9111 §4.2.
_FORMS = tuple(
    re.compile(form, re.IGNORECASE)
    for form in (
        _DAY + rb", (?P<day>[0-9]{2}) " + _MONTH + rb" (?P<year>[0-9]{4}) " + _TIME + rb" GMT",
        _LONG_DAY + rb", (?P<day>[0-9]{2})-" + _MONTH + rb"-(?P<year>[0-9]{2}) " + _TIME + rb" GMT",
        _DAY + rb" " + _MONTH + rb" (?P<day>[0-9]{2}| [0-9]) " + _TIME + rb" (?P<year>[0-9]{4})",
    )
)

_LONGEST = len(b"Wednesday, 01-Jan-70 00:00:00 GMT")
_POSIX_LATEST = 2068
_EPOCH = datetime(1970, 1, 1, tzinfo=UTC)
_FIRST = (datetime.min.replace(tzinfo=UTC) - _EPOCH) // timedelta(seconds=1)
_LAST = (datetime.max.replace(tzinfo=UTC) - _EPOCH) // timedelta(seconds=1)


def parse_date(value: bytes, *, now: float | None = None) -> float | None:
    """The moment that an HTTP-date names; None for anything else. `now` settles which century two digits mean."""
    if len(value) > _LONGEST:
        return None
    for form in _FORMS:
        if read := form.fullmatch(value):
            return _moment(read, now)
    return None


def format_date(moment: float) -> bytes:
    """An IMF-fixdate, fractions of a second dropped: a date is never in the future by rounding."""
    at = _EPOCH + timedelta(seconds=min(max(floor(moment), _FIRST), _LAST))
    date = f"{_DAYS[at.weekday()]}, {at.day:02} {_MONTHS[at.month - 1]} {at.year:04}"
    return f"{date} {at.hour:02}:{at.minute:02}:{at.second:02} GMT".encode("ascii")


def _moment(read: re.Match[bytes], now: float | None) -> float | None:
    year = int(read["year"])
    if len(read["year"]) == len("94"):
        year = _full_year(year, now)
    second = 59 if read["second"] == b"60" else int(read["second"])  # a leap second is not later than it says
    try:
        at = datetime(
            year,
            _MONTH_NUMBERS[read["month"].lower()],
            int(read["day"]),
            int(read["hour"]),
            int(read["minute"]),
            second,
            tzinfo=UTC,
        )
    except ValueError:
        return None
    return (at - _EPOCH).total_seconds()


def _full_year(year: int, now: float | None) -> int:
    """Never more than 50 years ahead (RFC 9110 §5.6.7); without `now`, what POSIX makes of two digits."""
    latest = _POSIX_LATEST if now is None else int(format_date(now)[12:16]) + 50
    return latest - (latest - year) % 100
