"""The `remora` command."""

from __future__ import annotations

import argparse
import json
import sys
from collections.abc import Callable, Sequence
from typing import Any

from . import __version__, logs
from .config import Config
from .lifecycle import (
    CannotStart,
    addresses,
    allow_open_files,
    bind_all,
    require_c_extensions,
    require_certificates,
    run,
)
from .loader import ConfigError, default_config, load
from .server import CannotListen, remove_paths
from .supervisor import supervise

MISTAKES = 2
"""Exit status when the file or the command line is wrong."""


class WrongUsage(Exception):
    """Flags that do not go together."""


def main(argv: Sequence[str] | None = None) -> int:
    """Runs one command; the exit status."""
    arguments = _parser().parse_args(argv)
    sys.path.append("")  # so that a file can name a `module:Class` that lies beside it
    command: Callable[[argparse.Namespace], int] = arguments.command
    try:
        return command(arguments)
    except ConfigError as error:
        print(error, file=sys.stderr)
        return MISTAKES
    except WrongUsage as error:
        print(f"remora: {error}", file=sys.stderr)
        return MISTAKES
    except (CannotListen, CannotStart) as error:
        print(f"remora: {error}", file=sys.stderr)
        return 1


def _serve(arguments: argparse.Namespace) -> int:
    require_c_extensions()
    file = _config(arguments)
    logs.set_up(file.log.level, file.log.format)
    require_certificates(file)
    allow_open_files(file)
    sockets = bind_all(file)
    try:
        return supervise(file, sockets) if file.workers > 1 else run(file, sockets)
    except OSError as error:  # what only starting shows: a key that does not fit
        raise CannotStart(str(error)) from error
    finally:
        sockets.close()
        remove_paths(addresses(file))


def _config(arguments: argparse.Namespace) -> Config:
    if arguments.config is not None:
        for flag in ("listen", "admin"):
            if getattr(arguments, flag) is not None:
                raise WrongUsage(
                    f"--{flag} goes with --upstream; with -c write `{flag}:` in the file"
                )
        return load(arguments.config)
    options: dict[str, Any] = {}
    if arguments.listen is not None:
        options["listen"] = arguments.listen
    if arguments.admin is not None:
        options["admin"] = None if arguments.admin == "off" else arguments.admin
    return default_config(arguments.upstream, **options)


def _check(arguments: argparse.Namespace) -> int:
    load(arguments.config)
    print(f"{arguments.config}: ok")
    return 0


def _schema(arguments: argparse.Namespace) -> int:
    from .file.schema import schema

    print(json.dumps(schema(), indent=2))
    return 0


def _demo(arguments: argparse.Namespace) -> int:
    from .demo.show import main as demo

    return demo()


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="remora", description="A sidecar reverse proxy for model servers."
    )
    parser.add_argument("--version", action="version", version=f"remora {__version__}")
    commands = parser.add_subparsers(required=True, metavar="COMMAND")

    serve = _command(
        commands, "serve", _serve, "serve a file, or one upstream without a file",
        "remora serve -c conf/vllm.yaml\n"
        "  remora serve --upstream http://127.0.0.1:8000 --listen 0.0.0.0:8080",
    )  # fmt: skip
    what = serve.add_mutually_exclusive_group(required=True)
    what.add_argument("-c", "--config", metavar="FILE", help="the file to serve")
    what.add_argument("--upstream", metavar="URL", help="the model server, http://host:port")
    serve.add_argument("--listen", metavar="ADDR", help="with --upstream (127.0.0.1:8080)")
    serve.add_argument(
        "--admin", metavar="ADDR|off", help="with --upstream: health and metrics (127.0.0.1:9901)"
    )

    check = _command(
        commands, "check", _check, "check a file: 0, or 2 with every mistake in it",
        "remora check -c remora.yaml",
    )  # fmt: skip
    check.add_argument("-c", "--config", metavar="FILE", required=True, help="the file to check")

    _command(
        commands, "schema", _schema, "print the JSON Schema of the file, for editors",
        "remora schema > remora.schema.json",
    )  # fmt: skip
    _command(
        commands, "demo", _demo, "a real model server behind remora, and a client",
        "remora demo",
    )  # fmt: skip
    return parser


def _command(
    commands: Any, name: str, run_it: Callable[[argparse.Namespace], int], text: str, example: str
) -> argparse.ArgumentParser:
    command: argparse.ArgumentParser = commands.add_parser(
        name,
        help=text,
        description=text.capitalize() + ".",
        epilog=f"example:\n  {example}",
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    command.set_defaults(command=run_it)
    return command
