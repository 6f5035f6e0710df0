"""TLS contexts, and the watch that takes up a renewed certificate."""

from __future__ import annotations

import asyncio
import logging
import ssl
from collections.abc import Sequence
from pathlib import Path

from . import config

log = logging.getLogger("remora")

WATCH_INTERVAL = 5.0
"""Seconds between two looks at the certificate files."""


def server_context(tls: config.ListenerTLS) -> ssl.SSLContext:
    """Raises OSError (ssl.SSLError among them) when the files cannot be used."""
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.minimum_version = ssl.TLSVersion.TLSv1_2
    context.set_alpn_protocols(["http/1.1"])
    context.load_cert_chain(tls.cert, tls.key)
    if tls.client_ca is not None:
        context.load_verify_locations(tls.client_ca)
        context.verify_mode = ssl.CERT_REQUIRED
    return context


def client_context(tls: config.UpstreamTLS) -> ssl.SSLContext:
    """Raises OSError when a file cannot be used."""
    context = ssl.create_default_context(cafile=str(tls.ca) if tls.ca else None)
    context.set_alpn_protocols(["http/1.1"])
    if tls.cert is not None and tls.key is not None:
        context.load_cert_chain(tls.cert, tls.key)
    if not tls.verify:
        context.check_hostname = False
        context.verify_mode = ssl.CERT_NONE
    return context


class CertificateWatch:
    """Loads a renewed certificate into the context in use: new handshakes get it, and connections
    that are open keep what they have. Files that do not fit together change nothing.
    """

    def __init__(self, watched: Sequence[tuple[config.ListenerTLS, ssl.SSLContext]]) -> None:
        self._watched = [(tls, context, _stamp(tls)) for tls, context in watched]

    async def run(self, interval: float = WATCH_INTERVAL) -> None:
        """Looks every `interval` seconds, until cancelled."""
        while True:
            await asyncio.sleep(interval)
            await asyncio.to_thread(self.look)

    def look(self) -> None:
        """One look. Blocks on files: not for the loop."""
        for index, (tls, context, seen) in enumerate(self._watched):
            stamp = _stamp(tls)
            if stamp == seen:
                continue
            self._watched[index] = (tls, context, stamp)
            try:
                server_context(tls)
                context.load_cert_chain(tls.cert, tls.key)
            except OSError as error:
                log.error("%s was not taken up, the old certificate stays: %s", tls.cert, error)
            else:
                log.info("took up the renewed certificate %s", tls.cert)


def _stamp(tls: config.ListenerTLS) -> tuple[tuple[int, int] | None, ...]:
    return tuple(_file_stamp(path) for path in (tls.cert, tls.key))


def _file_stamp(path: Path) -> tuple[int, int] | None:
    try:
        stat = path.stat()
    except OSError:
        return None
    return stat.st_mtime_ns, stat.st_ino
