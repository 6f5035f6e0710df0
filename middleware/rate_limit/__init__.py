"""`rate_limit`: nobody takes more than their share."""

from .layer import RateLimit as RateLimit
