"""`auth`: who may ask, for what, and as whom the upstream sees it."""

from .layer import Auth as Auth
