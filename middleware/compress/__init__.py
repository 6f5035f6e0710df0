"""`compress`: answers smaller on their way to the client, requests in clear on theirs upstream."""

from .layer import Compress as Compress
