"""`mailstack serve`: the stack in the foreground, run by twistd inside this process."""

from __future__ import annotations

import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any, NoReturn

import click

from mailstack.admin.operator import operator
from mailstack.config import ConfigError


def serve(path: Path, overrides: Sequence[str] = ()) -> NoReturn:
    """Run the stack of the settings at `path` until SIGINT or SIGTERM; exits the process.

    Status 2: the settings are wrong; 1: the stack cannot start, or twistd does not know it.
    """
    from twisted.python import usage
    from twisted.scripts import twistd

    options: Any = twistd.ServerOptions()  # type: ignore[attr-defined]
    try:
        options.parseOptions(arguments(path, overrides))
        twistd.runApp(options)
    except ConfigError as error:
        _give_up(error.messages, 2)
    except usage.UsageError as error:
        _give_up([_about_usage(error)], 1)
    except Exception as error:
        words = explain(error)
        if words is None:
            raise
        _give_up([words], 1)
    sys.exit(0)


def arguments(path: Path, overrides: Sequence[str]) -> list[str]:
    """The command line for twistd that means the same."""
    sets = [part for one in overrides for part in ("--set", one)]
    return ["--nodaemon", "--no_save", "--pidfile=", "--umask=077", "mailstack", "--config", str(path), *sets]


def explain(error: BaseException) -> str | None:
    """One line for the operator about what keeps the stack from starting; None: it is a bug of ours."""
    from OpenSSL import SSL, crypto
    from sqlalchemy.exc import SQLAlchemyError

    if _is_ours(error):
        return str(error)
    if isinstance(error, OSError):
        return f"{error.filename or 'the system'}: {error.strerror or error}"
    if isinstance(error, (SSL.Error, crypto.Error)):
        return f"[tls] certificate and key cannot be used together: {error}; see docs/install.md"
    if isinstance(error, SQLAlchemyError):
        first = str(getattr(error, "orig", None) or error).splitlines()[0]
        return f"[database] cannot be used: {first}"
    return None


def _is_ours(error: BaseException) -> bool:
    """Whether it is one of our own errors whose text is a line for the operator."""
    return type(error).__module__.partition(".")[0] == "mailstack" and bool(str(error))


def _about_usage(error: Exception) -> str:
    if "Unknown command" in str(error):
        return "twistd does not know mailstack: install it, for example with: python3 -m pip install -e ."
    return str(error)


def _give_up(lines: Sequence[str], status: int) -> NoReturn:
    for line in lines:
        print(f"mailstack: {line}", file=sys.__stderr__)  # by now sys.stderr may write to the log
    sys.exit(status)


@click.command("serve")
def command() -> None:
    """Run the whole stack in the foreground, until SIGINT or SIGTERM.

    The same as: twistd -n mailstack --config FILE

    Example: mailstack --config /srv/mail/mailstack.toml serve
    """
    now = operator()
    serve(now.path, now.overrides)
