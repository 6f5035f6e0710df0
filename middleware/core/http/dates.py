"""HTTP-date in its three forms (RFC 9110 section 5.6.7)."""

from __future__ import annotations

import re
from datetime import date

_MONTHS = (b"jan", b"feb", b"mar", b"apr", b"may", b"jun", b"jul", b"aug", b"sep", b"oct", b"nov",
           b"dec")  # fmt: skip
_MONTH = rb"(?P<month>" + b"|".join(_MONTHS) + rb")"
_TIME = rb"(?P<hour>[01]\d|2[0-3]):(?P<minute>[0-5]\d):(?P<second>[0-5]\d|60)"
_SHORT = rb"(?:mon|tue|wed|thu|fri|sat|sun)"
_LONG = rb"(?:mon|tues|wednes|thurs|fri|satur|sun)day"

_FORMS = tuple(
    re.compile(form, re.IGNORECASE)
    for form in (
        _SHORT + rb", (?P<day>\d\d) " + _MONTH + rb" (?P<year>\d{4}) " + _TIME + rb" GMT",
        _LONG + rb", (?P<day>\d\d)-" + _MONTH + rb"-(?P<year>\d\d) " + _TIME + rb" GMT",
        _SHORT + rb" " + _MONTH + rb" (?P<day>[ \d]\d) " + _TIME + rb" (?P<year>\d{4})",
    )
)
_EPOCH = date(1970, 1, 1).toordinal()
_YEAR = 365.2425 * 86400


def parse_date(value: bytes, now: float) -> float | None:
    """Seconds since the epoch, or None where it is no HTTP-date.

    Case is not minded, and the day of the week is not checked; anything else is. A year of two
    digits is the latest one that is no more than 50 years after `now`.
    """
    for form in _FORMS:
        found = form.fullmatch(value)
        if found is None:
            continue
        year = int(found["year"])
        if len(found["year"]) == 2:
            latest = 1970 + int(now / _YEAR) + 50
            year = latest - (latest - year) % 100
        month = _MONTHS.index(found["month"].lower()) + 1
        try:
            days = date(year, month, int(found["day"])).toordinal() - _EPOCH
        except ValueError:
            return None
        hour, minute, second = (int(found[part]) for part in ("hour", "minute", "second"))
        return float(days * 86400 + hour * 3600 + minute * 60 + second)
    return None
