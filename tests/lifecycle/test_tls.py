"""TLS listeners: whom they serve, and how a renewed certificate is taken up."""

from __future__ import annotations

import ssl
from pathlib import Path

import pytest
import trustme

from proxy.tls import CertificateWatch

from .client import Client, get
from .conftest import Front, Logged, Serve


class Authority:
    """A CA, and the files of a listener whose certificate it signed."""

    def __init__(self, room: Path) -> None:
        self.ca = trustme.CA()
        self.cert, self.key, self.client_ca = room / "cert", room / "key", room / "client_ca"
        self.ca.cert_pem.write_to_path(str(self.client_ca))
        self.issue()

    def issue(self, key: bool = True) -> None:
        """Writes a new certificate, and its key unless told not to."""
        self.issued = self.ca.issue_cert("localhost")
        self.cert.write_bytes(b"".join(blob.bytes() for blob in self.issued.cert_chain_pems))
        if key:
            self.write_key()

    def write_key(self) -> None:
        self.key.write_bytes(self.issued.private_key_pem.bytes())

    def listener(self, **more: str) -> str:
        """A listener's YAML."""
        keys = {"cert": str(self.cert), "key": str(self.key), **more}
        tls = ", ".join(f"{key}: {value}" for key, value in keys.items())
        return f'{{address: "127.0.0.1:0", tls: {{{tls}}}}}'

    def client(self) -> ssl.SSLContext:
        """A client that trusts the CA."""
        context = ssl.create_default_context()
        self.ca.configure_trust(context)
        return context

    async def serial(self, address: str) -> str:
        """The serial number of the certificate that a new connection is shown."""
        async with await Client.to(address, self.client()) as client:
            certificate = client.writer.get_extra_info("peercert")
        serial: str = certificate["serialNumber"]
        return serial


@pytest.fixture
def authority(room: Path) -> Authority:
    return Authority(room)


@pytest.fixture
def impatient(monkeypatch: pytest.MonkeyPatch) -> None:
    """The watch looks every 10 ms."""
    monkeypatch.setattr(CertificateWatch.run, "__defaults__", (0.01,))


async def test_serves_tls(front: Front, authority: Authority) -> None:
    """A client that trusts the authority is served, HTTP/1.1 by ALPN; plain HTTP is not."""
    server = await front(listen=authority.listener())
    (address,) = server.addresses
    offers = authority.client()
    offers.set_alpn_protocols(["h2", "http/1.1"])
    async with await Client.to(address, offers) as client:
        assert client.writer.get_extra_info("ssl_object").selected_alpn_protocol() == "http/1.1"
        assert (await client.get("/")).body == b"ok"
    async with await Client.to(address) as plain:
        plain.writer.write(b"GET / HTTP/1.1\r\nHost: a\r\n\r\n")
        assert not (await plain.reader.read()).startswith(b"HTTP/")


async def test_client_ca(front: Front, authority: Authority) -> None:
    """With `client_ca` a client needs a certificate of that authority, and of no other."""
    server = await front(listen=authority.listener(client_ca=str(authority.client_ca)))
    (address,) = server.addresses
    known, stranger = authority.client(), authority.client()
    authority.ca.issue_cert("client").configure_cert(known)
    trustme.CA().issue_cert("client").configure_cert(stranger)
    assert (await get(address, tls=known)).status == 200
    for refused in (stranger, authority.client()):
        with pytest.raises((OSError, EOFError)):
            async with await Client.to(address, refused) as client:
                # TLS 1.3 tells a client of its refusal only once it reads.
                client.writer.write(b"GET / HTTP/1.1\r\nHost: a\r\n\r\n")
                await client.reader.readexactly(1)


@pytest.mark.parametrize("workers", ["1", "2"])
async def test_a_key_that_does_not_fit(serve: Serve, authority: Authority, workers: str) -> None:
    """Such files end the command with status 1 and one line, before any worker is started."""
    authority.issue(key=False)
    remora = await serve(listen=authority.listener(), workers=workers)
    assert await remora.ended() == 1
    (line,) = remora.lines
    assert line.startswith("remora: the TLS files of 127.0.0.1:0 fail: ")


@pytest.mark.usefixtures("impatient")
async def test_renewed(front: Front, authority: Authority, logged: Logged) -> None:
    """New handshakes get a renewed certificate; a connection that is open goes on."""
    server = await front(listen=authority.listener())
    (address,) = server.addresses
    before = await authority.serial(address)
    async with await Client.to(address, authority.client()) as client:
        assert (await client.get("/")).status == 200
        authority.issue()
        await logged.said("took up the renewed certificate")
        assert await authority.serial(address) != before
        assert (await client.get("/")).status == 200


@pytest.mark.usefixtures("impatient")
async def test_broken_renewal(front: Front, authority: Authority, logged: Logged) -> None:
    """A certificate that cannot be used is logged and not taken up; the next good one is."""
    server = await front(listen=authority.listener())
    (address,) = server.addresses
    before = await authority.serial(address)
    authority.cert.write_text("no certificate")
    await logged.said("was not taken up, the old certificate stays")
    assert await authority.serial(address) == before
    authority.issue()
    await logged.said("took up the renewed certificate")
    assert await authority.serial(address) != before


@pytest.mark.usefixtures("impatient")
async def test_certificate_before_key(front: Front, authority: Authority, logged: Logged) -> None:
    """A certificate that is written before its key is taken up when the key is there."""
    server = await front(listen=authority.listener())
    (address,) = server.addresses
    before = await authority.serial(address)
    authority.issue(key=False)
    await logged.said("was not taken up")
    assert await authority.serial(address) == before
    authority.write_key()
    await logged.said("took up the renewed certificate")
    assert await authority.serial(address) != before


@pytest.mark.usefixtures("impatient")
async def test_listeners_share_a_certificate(
    front: Front, authority: Authority, logged: Logged
) -> None:
    """Each of several listeners with the same certificate takes up its renewal."""
    server = await front(listen=f"[{authority.listener()}, {authority.listener()}]")
    before = [await authority.serial(address) for address in server.addresses]
    assert before[0] == before[1]
    authority.issue()
    await logged.said("took up the renewed certificate", 2)
    after = [await authority.serial(address) for address in server.addresses]
    assert after[0] == after[1] != before[0]
