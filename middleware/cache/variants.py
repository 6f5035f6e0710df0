"""Where the answers to one target lie that differ by what the client's fields say."""

from __future__ import annotations

import os
from dataclasses import replace

from proxy.exchange import Headers

from ..core.entry import Entry
from ..core.http.vary import matches, selecting_fields
from ..core.key import digest
from .tiers import Tiers

INDEX = 0
"""Status of an entry that is no answer but the list of fields that the answers vary by."""


class Variants:
    """An answer without Vary lies at its target's key. Others lie behind an index there, each at
    a key that its selecting fields make (RFC 9111 section 4.1). Whoever deletes the index deletes
    them all: its `reason`, random, is part of their keys.
    """

    def __init__(self, tiers: Tiers) -> None:
        self._tiers = tiers

    async def find(self, key: bytes, headers: Headers) -> Entry | None:
        """The stored answer that a request with these fields selects."""
        tiers = self._tiers
        entry = tiers.near(key) or await tiers.far(key)
        if entry is not None and entry.status == INDEX:
            variant = _variant(key, entry, headers)
            entry = tiers.near(variant) or await tiers.far(variant)
        if entry is None or not matches(entry.vary, headers):
            return None
        return entry

    async def put(self, key: bytes, entry: Entry) -> None:
        tiers = self._tiers
        if entry.vary:
            names = [(name, b"") for name, _ in entry.vary]
            index = tiers.near(key) or await tiers.far(key)
            if index is None or index.status != INDEX or index.vary != names:
                index = replace(
                    entry, status=INDEX, reason=os.urandom(8), headers=[], body=b"",
                    trailers=[], vary=names, keep=max(entry.keep, 86400.0),
                )  # fmt: skip
            tiers.keep(key, index)
            await tiers.share(key, index)
            key = digest((key, index.reason, *(value for _, value in entry.vary)))
        tiers.keep(key, entry)
        await tiers.share(key, entry)


def _variant(key: bytes, index: Entry, headers: Headers) -> bytes:
    # `selecting_fields` normalises, so an index is asked through a Vary of its own names.
    names = b", ".join(name for name, _ in index.vary)
    selecting = selecting_fields([(b"vary", names)], headers) or []
    return digest((key, index.reason, *(value for _, value in selecting)))
