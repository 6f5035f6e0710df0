"""`concurrency`: the server is never given more at once than it can do."""

from .layer import Concurrency as Concurrency
