"""What a good file becomes."""

from __future__ import annotations

import ipaddress
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from pydantic import ValidationError

from proxy.config import Config, Limits, Listener, ListenerTLS, Timeouts, Upstream
from proxy.loader import ConfigError, default_config, load, load_text
from tests.config.layers import Fake, FakeConfig, Outer

UPSTREAMS = "upstreams: {default: {endpoints: ['http://127.0.0.1:8000']}}\n"


def text(more: str = "") -> Config:
    """The Config of a file with one upstream and `more`."""
    return load_text(UPSTREAMS + more, "test.yaml", {})


def test_the_least_file() -> None:
    """One endpoint is enough; everything else has its default."""
    config = text()
    assert config == Config(upstreams={"default": Upstream(endpoints=["http://127.0.0.1:8000"])})
    assert [listener.address for listener in config.listen] == ["127.0.0.1:8080"]
    assert config.admin == "127.0.0.1:9901"
    (route,) = config.routes
    assert (route.match.path, route.upstream, route.chain) == ("/*", "default", None)


def test_units_are_read() -> None:
    """Durations become seconds, sizes bytes, `off` None."""
    config = text(
        "limits: {head: 8KiB, body: off, send_timeout: off}\ndrain: {quiet: 0s, timeout: 1500ms}\n"
    )
    assert (config.limits.head, config.limits.body, config.limits.send_timeout) == (
        8192,
        None,
        None,
    )
    assert (config.drain.quiet, config.drain.timeout) == (0.0, 1.5)


@pytest.mark.parametrize(
    ("listen", "places"),
    [
        (":8080", [("", 8080, None)]),
        ("'[::1]:80'", [("::1", 80, None)]),
        ("unix:/run/r.sock", [("", 0, "/run/r.sock")]),
        ("[a:1, b:1]", [("a", 1, None), ("b", 1, None)]),
        ("{address: 'a:1'}", [("a", 1, None)]),
        ("[a:1, {address: 'B:2'}]", [("a", 1, None), ("b", 2, None)]),
        ("[a:0, a:0]", [("a", 0, None), ("a", 0, None)]),
        ("['0.0.0.0:1', '[::]:1']", [("0.0.0.0", 1, None), ("::", 1, None)]),
    ],
)
def test_listen(listen: str, places: list[tuple[str, int, str | None]]) -> None:
    """A text, a list or a mapping; every form of an address; port 0 as often as one likes."""
    assert [tuple(one.parsed) for one in text(f"listen: {listen}\n").listen] == places


def test_listen_with_tls(tmp_path: Path) -> None:
    """The files of a TLS listener are paths to files that are there."""
    (tmp_path / "crt").touch()
    (tmp_path / "key").touch()
    config = text(
        f"listen: {{address: ':1', tls: {{cert: {tmp_path}/crt, key: {tmp_path}/key}}}}\n"
    )
    tls = ListenerTLS(cert=tmp_path / "crt", key=tmp_path / "key")
    assert config.listen == [Listener(address=":1", tls=tls)]


@pytest.mark.parametrize("off", ["off", "false", "'off'", "OFF"])
def test_off_is_off(off: str) -> None:
    """`off` is one value, however YAML reads it."""
    config = text(f"admin: {off}\nforwarded: {off}\n")
    assert (config.admin, config.forwarded) == (None, "off")


@pytest.mark.parametrize(
    ("word", "value"), [("true", True), ("yes", True), ("on", True), ("no", False), ("off", False)]
)
def test_booleans(word: str, value: bool) -> None:
    """Where true or false is expected, YAML 1.1's words for them do."""
    tls = f"{{verify: {word}, server_name: {word}}}" if word != "true" else "{verify: true}"
    config = load_text(f"upstreams: {{a: {{endpoints: ['https://h'], tls: {tls}}}}}\n"
                       "routes: [{upstream: a}]\n", "test.yaml", {})  # fmt: skip
    tls_read = config.upstreams["a"].tls
    assert tls_read.verify is value
    assert tls_read.server_name == (None if word == "true" else word)


def test_endpoints() -> None:
    """A final slash says nothing and is dropped; the rest stays as it was written."""
    written = "['http://h:1/', 'https://H', 'http://[::1]:2', 'unix:/run/m.sock']"
    config = load_text(f"upstreams: {{default: {{endpoints: {written}}}}}\n", "test.yaml", {})
    assert config.upstreams["default"].endpoints == [
        "http://h:1", "https://H", "http://[::1]:2", "unix:/run/m.sock",
    ]  # fmt: skip


def test_networks() -> None:
    """A network or a single address, of either version."""
    config = text("trusted_proxies: [10.0.0.0/8, 127.0.0.1, 'fd00::/8']\n")
    assert config.trusted_proxies == [
        ipaddress.ip_network(one) for one in ("10.0.0.0/8", "127.0.0.1/32", "fd00::/8")
    ]


def test_routes_that_differ_are_all_reached() -> None:
    """A narrower path before a wider one, another method, another host: no mistake."""
    text(
        "routes:\n"
        "  - match: {path: /v1/chat}\n"
        "  - match: {path: /v1/*, methods: [POST]}\n"
        "  - match: {path: /v1/*, methods: [POST, GET]}\n"
        "  - match: {path: /v1/*, host: a.example}\n"
        "  - match: {path: /v1/*, host: b.example}\n"
        "  - match: {path: /v1}\n"
        "  - {}\n"
    )


def test_layers_by_class() -> None:
    """`- name`, `- name: {…}` and `- name:` with nothing below; the outermost first."""
    config = text(
        "chain:\n"
        "  - tests.config.layers:Outer\n"
        "  - tests.config.layers:Fake:\n"
        "      ttl: 1h\n"
        "      max_bytes: off\n"
        "      store: {url: 'redis://h'}\n"
        "routes:\n"
        "  - chain:\n"
        "      - tests.config.layers:Fake:\n"
        "    match: {path: /a}\n"
        "  - chain: []\n"
    )
    assert [layer.cls for layer in config.chain] == [Outer, Fake]
    assert [layer.name for layer in config.chain] == [
        "tests.config.layers:Outer", "tests.config.layers:Fake",
    ]  # fmt: skip
    own = config.chain[1].config
    assert isinstance(own, FakeConfig)
    assert (own.ttl, own.max_bytes) == (3600.0, None)
    assert own.store is not None
    assert own.store.timeout == 0.05
    assert config.routes[0].chain is not None
    assert config.routes[0].chain[0].config == FakeConfig()
    assert config.routes[1].chain == []


def test_aliases_are_read() -> None:
    """A value that is written once may stand in several places."""
    config = load_text(
        "upstreams:\n"
        "  default: {endpoints: ['http://h:1'], timeouts: &slow {total: 1h}}\n"
        "  other: {endpoints: ['http://h:2'], timeouts: *slow}\n",
        "test.yaml",
        {},
    )
    assert config.upstreams["default"].timeouts == config.upstreams["other"].timeouts
    assert config.upstreams["other"].timeouts.total == 3600.0


def test_numbers_are_those_of_yaml_1_2() -> None:
    """No octal and no sixty-based numbers: text that looks like one is text."""
    for value in ("010", "1:30", "1_000", "0x10"):
        with pytest.raises(ConfigError, match="a whole number is expected, not text"):
            text(f"workers: {value}\n")


def test_a_config_cannot_be_changed() -> None:
    """What was checked stays what was checked."""
    with pytest.raises(ValidationError, match="frozen"):
        text().limits.headers = 5  # type: ignore[misc]


def test_code_builds_a_config_with_numbers() -> None:
    """Seconds and bytes, and None for off."""
    assert Timeouts(connect=0.5, total=None).connect == 0.5
    assert Limits(body=None, head=100).head == 100


def test_a_byte_order_mark_is_passed_over(tmp_path: Path) -> None:
    """Some editors begin UTF-8 with one."""
    path = tmp_path / "bom.yaml"
    path.write_bytes(b"\xef\xbb\xbf" + UPSTREAMS.encode())
    assert load(path, {}) == text()


def test_a_file_that_is_not_there(tmp_path: Path) -> None:
    """The one mistake names the file and the reason."""
    with pytest.raises(ConfigError) as caught:
        load(tmp_path / "none.yaml", {})
    path = tmp_path / "none.yaml"
    assert str(caught.value) == f"{path}:1:1: (file): cannot be read: No such file or directory"


@pytest.mark.parametrize(
    "content",
    [b"# " + b"x" * 1024 * 1024, b"listen:\n" + b"- a:1\n" * 10_001],
    ids=["bytes", "values"],
)
def test_a_file_that_is_too_large(tmp_path: Path, content: bytes) -> None:
    """Over 1 MiB or 10,000 values a file is refused before anything is made of it."""
    path = tmp_path / "large.yaml"
    path.write_bytes(content)
    with pytest.raises(ConfigError, match=r"over 1MiB|more than 10000 values"):
        load(path, {})


REFERENCE = (Path(__file__).parents[2] / "conf" / "reference.yaml").read_text()
PIECES = [
    "", ":", "\n", "  ", "[", "]", "{", "}", "'", '"', "- ", "#", "&a ", "*a", "!", "null", "off",
    "5", "5s", "${A}", "${A", "$${", "%", "@", "\t", "\x85", "\ufeff", "\r", "---\n", "? ", "<<: ",
    "default", "/*", "\\", "\0", "1e999", "|\n", ">-\n",
]  # fmt: skip


@settings(max_examples=150, deadline=None)
@given(
    st.lists(
        st.tuples(
            st.integers(0, len(REFERENCE)), st.integers(0, 40), st.sampled_from(PIECES) | st.text()
        ),
        min_size=1,
        max_size=4,
    )
)
def test_a_damaged_file_is_a_config_or_a_list_of_mistakes(
    damages: list[tuple[int, int, str]],
) -> None:
    """Whatever is cut out of a file or put into it, nothing but ConfigError is raised."""
    damaged = REFERENCE
    for at, removed, put in damages:
        damaged = damaged[:at] + put + damaged[at + removed :]
    try:
        load_text(damaged, "damaged.yaml", {"A": "[a"})
    except ConfigError as error:
        assert error.mistakes
        for one in error.mistakes:
            assert one.line >= 1
            assert one.col >= 1
            assert one.message
            assert "Input should" not in one.message


def test_mistakes_are_data() -> None:
    """A program can take a mistake apart; they stand in the order of the file."""
    with pytest.raises(ConfigError) as caught:
        text("workers: 0\nlog: {level: x}\nadmin: y\n")
    told = [(one.file, one.line, one.col, one.path) for one in caught.value.mistakes]
    assert told == [
        ("test.yaml", 2, 10, "workers"),
        ("test.yaml", 3, 14, "log.level"),
        ("test.yaml", 4, 8, "admin"),
    ]


def test_default_config() -> None:
    """`serve --upstream`: everything to one endpoint, with every default."""
    assert default_config("http://127.0.0.1:8000") == text()
    config = default_config("unix:/run/m.sock", "0.0.0.0:80", admin=None)
    assert config.upstreams["default"].endpoints == ["unix:/run/m.sock"]
    assert config.listen[0].address == "0.0.0.0:80"
    assert config.admin is None


@pytest.mark.parametrize(
    ("arguments", "told"),
    [
        (("gpu-1:8000",), "command line: --upstream: `gpu-1:8000` is not an endpoint"),
        (("http://h:1/v1",), "command line: --upstream: an endpoint has no path"),
        (("http://h:1", "x"), "command line: --listen: `x` is not an address"),
        (("http://h:1", None, "x"), "command line: --admin: `x` is not an address"),
        (
            ("http://h:1", "[::1]:1", "[::1]:1"),
            "command line: --admin: `[::1]:1` overlaps the listener `[::1]:1`",
        ),
        (
            ("http://h:1", None, ":1"),
            "command line: --admin: `:1` can be reached from outside: add "
            "`admin_token: ${ADMIN_TOKEN}`, or write 127.0.0.1:9901",
        ),
    ],
)
def test_default_config_names_the_flag(arguments: tuple[str], told: str) -> None:
    """A mistake on the command line is told by the flag that it is in."""
    with pytest.raises(ConfigError) as caught:
        default_config(*arguments)
    assert str(caught.value).startswith(told)
    assert len(caught.value.mistakes) == 1
