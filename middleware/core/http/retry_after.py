"""Retry-After (RFC 9110 section 10.2.3)."""

from __future__ import annotations

from .dates import parse_date


def retry_after(value: bytes | None, now: float) -> float | None:
    """Seconds, 0 or more; None where there is no such field, or nothing that can be read. More
    than 2^31 is 2^31, as RFC 9111 section 1.2.2 has it of other seconds.

    now: wall-clock seconds, which a date is compared with.
    """
    if value is None:
        return None
    text = value.strip()
    if text.isdigit():
        return min(float(text), 2.0**31)
    date = parse_date(text, now)
    return None if date is None else max(0.0, date - now)
