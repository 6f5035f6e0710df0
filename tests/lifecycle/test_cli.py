"""The command line: exit statuses, and what is said."""

from __future__ import annotations

import json
import sys
from pathlib import Path

import pytest
from jsonschema import Draft202012Validator

from proxy import __version__
from proxy.cli import main

COMMANDS = ("serve", "check", "schema", "demo")

GOOD = 'upstreams: {default: {endpoints: ["http://127.0.0.1:8000"]}}\n'
WRONG = """\
lisen: 127.0.0.1:8080
drain: {quiet: 5}
upstreams: {default: {endpoints: ["nonsense"]}}
"""


@pytest.fixture(autouse=True)
def own_path(monkeypatch: pytest.MonkeyPatch) -> None:
    """The command adds to sys.path."""
    monkeypatch.setattr(sys, "path", list(sys.path))


def run(*arguments: str) -> int:
    """The exit status, also where argparse ends the process itself."""
    try:
        return main(arguments)
    except SystemExit as end:
        assert isinstance(end.code, int)
        return end.code


@pytest.fixture
def written(tmp_path: Path) -> tuple[str, str]:
    """A good file and a wrong one."""
    good, wrong = tmp_path / "good.yaml", tmp_path / "wrong.yaml"
    good.write_text(GOOD)
    wrong.write_text(WRONG)
    return str(good), str(wrong)


def test_version(capsys: pytest.CaptureFixture[str]) -> None:
    """`remora --version` names the version of the package."""
    assert run("--version") == 0
    assert capsys.readouterr().out == f"remora {__version__}\n"


@pytest.mark.parametrize("command", COMMANDS)
def test_help_shows_an_example(command: str, capsys: pytest.CaptureFixture[str]) -> None:
    """The help of each command ends with a line that can be typed."""
    assert run(command, "--help") == 0
    example = capsys.readouterr().out.partition("example:\n")[2]
    assert example.strip().startswith(f"remora {command}")


def test_help_names_every_command(capsys: pytest.CaptureFixture[str]) -> None:
    """`remora --help` lists the commands that are tested here, and no command stands alone."""
    assert run("--help") == 0
    told = capsys.readouterr().out
    assert all(f"\n    {command} " in told for command in COMMANDS)
    assert run() == 2


def test_check(written: tuple[str, str], capsys: pytest.CaptureFixture[str]) -> None:
    """`check` answers 0 for a good file, and 2 with every mistake, each at its place."""
    good, wrong = written
    assert run("check", "-c", good) == 0
    assert capsys.readouterr().out == f"{good}: ok\n"
    assert run("check", "-c", wrong) == 2
    mistakes(wrong, capsys)


def test_serve_a_wrong_file(written: tuple[str, str], capsys: pytest.CaptureFixture[str]) -> None:
    """`serve` lists every mistake of a wrong file and ends with 2."""
    assert run("serve", "-c", written[1]) == 2
    mistakes(written[1], capsys)


def mistakes(path: str, capsys: pytest.CaptureFixture[str]) -> None:
    """All three mistakes of WRONG stand on standard error, one a line, and nothing else."""
    out, err = capsys.readouterr()
    lines = err.splitlines()
    assert out == ""
    assert [line.split(": ")[1] for line in lines] == [
        "lisen", "drain.quiet", "upstreams.default.endpoints[0]"
    ]  # fmt: skip
    assert [line.removeprefix(path).split(":")[1] for line in lines] == ["1", "2", "3"]
    assert "did you mean `listen`?" in lines[0]


@pytest.mark.parametrize("command", ["serve", "check"])
def test_no_such_file(command: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """A file that is not there is one clear line and status 2."""
    path = tmp_path / "absent.yaml"
    assert run(command, "-c", str(path)) == 2
    (line,) = capsys.readouterr().err.splitlines()
    assert line.startswith(f"{path}:1:1: ") and "No such file" in line


@pytest.mark.parametrize(
    ("flags", "named"),
    [
        (["--upstream", "nonsense"], "--upstream: `nonsense` is not an endpoint"),
        (["--upstream", "ftp://a"], "--upstream: `ftp://a` is not an endpoint"),
        (["--upstream", "http://a/v1"], "--upstream: an endpoint has no path"),
        (["--upstream", "http://a:b"], "--upstream: the host or the port"),
        (["--upstream", "http://a", "--listen", "x"], "--listen: `x` is not an address"),
        (["--upstream", "http://a", "--admin", "x"], "--admin: `x` is not an address"),
    ],
)
def test_wrong_flags(flags: list[str], named: str, capsys: pytest.CaptureFixture[str]) -> None:
    """A flag that cannot be read is named in one line, with what would do, and status 2."""
    assert run("serve", *flags) == 2
    (line,) = capsys.readouterr().err.splitlines()
    assert line.startswith(f"command line: {named}")


@pytest.mark.parametrize("flag", ["--listen", "--admin"])
def test_flags_beside_a_file(
    flag: str, written: tuple[str, str], capsys: pytest.CaptureFixture[str]
) -> None:
    """With `-c` the file alone says where to listen: the flags are refused, not ignored."""
    assert run("serve", "-c", written[0], flag, "127.0.0.1:0") == 2
    (line,) = capsys.readouterr().err.splitlines()
    assert line == f"remora: {flag} goes with --upstream; with -c write `{flag[2:]}:` in the file"


@pytest.mark.parametrize("flags", [[], ["-c", "a.yaml", "--upstream", "http://a"]])
def test_file_or_upstream(flags: list[str], capsys: pytest.CaptureFixture[str]) -> None:
    """`serve` wants a file or an upstream, and not both."""
    assert run("serve", *flags) == 2
    assert "--upstream" in capsys.readouterr().err


def test_schema(capsys: pytest.CaptureFixture[str]) -> None:
    """`schema` prints a valid JSON Schema."""
    assert run("schema") == 0
    schema = json.loads(capsys.readouterr().out)
    Draft202012Validator.check_schema(schema)
    assert Draft202012Validator(schema).is_valid(
        {"upstreams": {"default": {"endpoints": ["http://a"]}}}
    )
    assert not Draft202012Validator(schema).is_valid({"lisen": ":80"})
