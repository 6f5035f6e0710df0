"""`${NAME}` in a file."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from proxy.config import Config
from proxy.loader import ConfigError, load_text
from tests.config.layers import FakeConfig

UPSTREAMS = "upstreams: {default: {endpoints: ['http://127.0.0.1:8000']}}\n"


def text(more: str, **env: str) -> Config:
    """The Config of a file with one upstream and `more`."""
    return load_text(UPSTREAMS + more, "test.yaml", env)


def fake(config: Config) -> FakeConfig:
    """The keys of the one layer in the chain."""
    (layer,) = config.chain
    assert isinstance(layer.config, FakeConfig)
    return layer.config


@pytest.mark.parametrize(
    ("written", "env", "workers"),
    [
        ("${N}", {"N": "3"}, 3),
        ('"${N}"', {"N": "3"}, 3),
        ("${N:-2}", {}, 2),
        ("${N:-2}", {"N": "3"}, 3),
        ("${N:-2}", {"N": ""}, 2),
        ("1${N}", {"N": "0"}, 10),
        ("${A}${B}", {"A": "1", "B": "2"}, 12),
    ],
)
def test_a_number_from_the_environment(written: str, env: dict[str, str], workers: int) -> None:
    """What is put in is read as what the key holds, in quotes or not."""
    assert text(f"workers: {written}\n", **env).workers == workers


def test_every_kind_of_value_from_the_environment() -> None:
    """Text, numbers, booleans, durations, `off`, addresses and names of layers."""
    config = text(
        "listen: ${HOST:-0.0.0.0}:${PORT}\n"
        "admin: ${ADMIN}\n"
        "drain: {quiet: '${QUIET}', timeout: '${TIMEOUT:-3s}'}\n"
        "chain:\n"
        "  - ${LAYER}:\n"
        "      enabled: ${ENABLED}\n"
        "      token: ${TOKEN}\n"
        "      cost: ${COST}\n",
        PORT="81", ADMIN="off", QUIET="1s", LAYER="tests.config.layers:Fake", ENABLED="false",
        TOKEN="0042", COST="tokens",
    )  # fmt: skip
    assert config.listen[0].address == "0.0.0.0:81"
    assert config.admin is None
    assert (config.drain.quiet, config.drain.timeout) == (1.0, 3.0)
    assert fake(config).enabled is False
    assert fake(config).cost == "tokens"


@pytest.mark.parametrize("token", ["42", "1.50", "true", "null", "off", "~", "1e5", "a: b", "[a]"])
def test_a_secret_may_look_like_anything(token: str) -> None:
    """A token of digits stays the digits that it is, in quotes or not."""
    for written in ("${TOKEN}", '"${TOKEN}"'):
        config = text(
            f"chain:\n  - tests.config.layers:Fake:\n      token: {written}\n", TOKEN=token
        )
        secret = fake(config).token
        assert secret is not None
        assert secret.get_secret_value() == token


@given(st.text(st.characters(codec="utf-8"), min_size=1))
def test_a_value_never_becomes_structure(value: str) -> None:
    """Whatever the environment holds, it is one value of the file, to the letter."""
    name = load_text(
        UPSTREAMS + "routes:\n  - name: ${NAME}\n    upstream: default\n", "t", {"NAME": value}
    ).routes[0].name  # fmt: skip
    assert name == value


def test_dollars_that_are_no_reference() -> None:
    """`$${` is `${`; a lone `$` or `$$` is itself; a default ends at the first brace."""
    for written, name in [
        ("$${N}", "${N}"),
        ("a$b$$c", "a$b$$c"),
        ("$", "$"),
        ("'${N:-a b:-c}d'", "a b:-cd"),
        ("'${N:-}x'", "x"),
    ]:
        assert text(f"routes:\n  - name: {written}\n").routes[0].name == name


def test_a_default_is_text_to_the_end() -> None:
    """A URL in a default keeps its colons and slashes."""
    config = load_text(
        "upstreams:\n  default:\n    endpoints:\n      - ${U:-http://h:1}\n", "t", {}
    )
    assert config.upstreams["default"].endpoints == ["http://h:1"]


def test_unset_ones_are_all_reported_beside_other_mistakes() -> None:
    """Each at its place, once, and without a second complaint about the value that is missing."""
    with pytest.raises(ConfigError) as caught:
        text("workers: ${A}\nadmin: ${B}\nlog: {level: loud}\n")
    assert [one.message for one in caught.value.mistakes] == [
        "the environment has no `A`",
        "the environment has no `B`",
        "debug, info, warning or error is expected",
    ]


def test_the_environment_of_the_process_is_the_default(monkeypatch: pytest.MonkeyPatch) -> None:
    """Without `env` the variables are those of the process, at the time of loading."""
    monkeypatch.setenv("REMORA_TEST_WORKERS", "7")
    assert load_text(UPSTREAMS + "workers: ${REMORA_TEST_WORKERS}\n", "t").workers == 7
