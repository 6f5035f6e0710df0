"""`cache`: the same question is not computed twice."""

from .layer import Cache as Cache
