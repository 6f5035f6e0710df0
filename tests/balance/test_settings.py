"""How a file writes it."""

from __future__ import annotations

import re
import subprocess
import sys
from pathlib import Path
from typing import Any

import jsonschema
import pytest
import yaml

from proxy.config import Upstream
from proxy.file.schema import schema
from proxy.loader import ConfigError, load_text
from proxy.upstream.settings import Balance, Eject, Health, Model, Prefix, Resolve, Session

REFERENCE = Path(__file__).parents[2] / "conf" / "reference.yaml"


def text(keys: str) -> str:
    return f"upstreams: {{default: {{endpoints: ['http://127.0.0.1:8000'], {keys}}}}}\n"


def read(keys: str) -> Upstream:
    return load_text(text(keys), "test.yaml", {}).upstreams["default"]


def accepted(keys: str) -> bool:
    """Whether an editor takes it."""
    validator = jsonschema.Draft202012Validator(schema())
    return not list(validator.iter_errors(yaml.safe_load(text(keys))))


@pytest.mark.parametrize(
    ("keys", "policy", "part"),
    [
        ("balance: least_outstanding", "least_outstanding", None),
        ("balance: round_robin", "round_robin", None),
        ("balance: power_of_two", "power_of_two", None),
        ("balance: session", "session", Session()),
        ("balance: prefix", "prefix", Prefix()),
        ("balance: {session: {header: x-user}}", "session", Session(header="x-user")),
        ("balance: {session: }", "session", Session()),
        ("balance: {prefix: {chars: 64, load: 1}}", "prefix", Prefix(chars=64, load=1)),
        ("balance: {prefix: {max_body: 8MiB}}", "prefix", Prefix(max_body=8 << 20)),
    ],
)
def test_forms_of_balance(keys: str, policy: str, part: Any) -> None:
    """A policy is its name, or its name with keys; loader and schema take both."""
    balance = read(keys).balance
    assert balance.policy == policy
    assert (balance.session or balance.prefix) == part
    assert accepted(keys)


@pytest.mark.parametrize(
    ("keys", "message"),
    [
        ("balance: prefx", "balance: .* is expected; did you mean `prefix`?"),
        ("balance: 5", "a policy is expected"),
        ("balance: {prefix: {}, session: {}}", "two policies: choose one"),
        ("balance: {policy: round_robin, prefix: {}}", "two policies: choose one"),
        ("balance: {prefix: {char: 64}}", "prefix.char: unknown key; did you mean `chars`?"),
        ("balance: {prefix: {chars: 15}}", "prefix.chars: 16 or more"),
        ("balance: {prefix: {load: 0.9}}", "prefix.load: 1"),
        ("balance: {session: {header: 'a b'}}", "session.header: a header's name"),
        ("health: {path: health}", "health.path: a path is expected; write /health"),
        ("health: {path: '/a b'}", "health.path: a path is expected"),
        ("health: {interval: 5}", "health.interval: a bare number has no unit"),
        ("health: null", "health: a mapping is expected, or `off`"),
        ("eject: {consecutive: 0}", "eject.consecutive: 1 or more"),
        ("eject: {time: 301s}", "eject: `time` is over `max_time`"),
        ("resolve: {max_member: 1}", "resolve.max_member: unknown key; did you mean `max_members`"),
        ("slow_start: 5", "slow_start: a bare number"),
    ],
)
def test_mistakes(keys: str, message: str) -> None:
    """Each is told where it stands, in plain words."""
    with pytest.raises(ConfigError) as caught:
        read(keys)
    assert len(caught.value.mistakes) == 1
    assert re.search(message.replace("?", r"\?"), str(caught.value))


def test_an_endpoint_written_twice() -> None:
    """Its connections, its state and its place on the ring are one."""
    twice = "upstreams: {default: {endpoints: ['http://a:1', 'http://b:1', 'http://a:1/']}}\n"
    with pytest.raises(ConfigError, match="`http://a:1` is written twice"):
        load_text(twice, "test.yaml", {})


def test_off() -> None:
    """Checks and names are off unless asked for; ejection is on unless switched off."""
    plain = read("balance: least_outstanding")
    assert (plain.health, plain.resolve, plain.eject) == (None, None, Eject())
    off = read("health: off, resolve: off, eject: off, slow_start: off")
    assert (off.health, off.resolve, off.eject, off.slow_start) == (None, None, None, None)
    on = read("health: {}, resolve: {}, eject: {}")
    assert (on.health, on.resolve, on.eject) == (Health(), Resolve(), Eject())
    assert accepted("health: off, resolve: off, eject: off, slow_start: off")
    assert accepted("health: {}, resolve: {max_members: 5}, eject: {time: 5s}")
    assert not accepted("health: 5") and not accepted("balance: random")


def test_a_policy_says_all_of_itself() -> None:
    """The default is one value however it is written, so that a file can be compared with it."""
    assert read("balance: least_outstanding").balance == Balance()
    assert Balance.model_validate("prefix") == Balance(prefix=Prefix())


@pytest.mark.parametrize("part", [Health, Resolve, Session, Prefix])
def test_the_reference_shows_the_keys_of_what_is_off(part: type[Model]) -> None:
    """Each with its default, in braces, in the comment above the key."""
    shown = [
        yaml.safe_load(braces)
        for braces in re.findall(r"^    # .*?(\{.*\})$", REFERENCE.read_text(), re.MULTILINE)
    ]
    shown = [next(iter(one.values())) if len(one) == 1 else one for one in shown]
    (mine,) = [one for one in shown if set(one) == set(part.model_fields)]
    assert part.model_validate(mine) == part()


def test_checks_do_not_need_aiohttp() -> None:
    """It costs a process 12 MiB; with the admin port off nothing may bring it in."""
    seen = "import sys, proxy.server; sys.exit('aiohttp' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", seen], check=False).returncode == 0
