"""`retry`: what failed before the client saw a byte is tried again, within a budget."""

from .layer import Retry as Retry
