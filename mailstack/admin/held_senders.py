"""`mailstack sender`: our users whose mail is held."""

from __future__ import annotations

import time
from dataclasses import asdict

import click

from mailstack.admin.operator import json_option, operator
from mailstack.admin.output import OperatorError, done, show_rows


@click.group("sender")
def command() -> None:
    """Our users whose mail is held, because it looked as if somebody else sent it, or by you."""


@command.command("list")
@json_option
def list_(as_json: bool) -> None:
    """List who is held.

    Columns in a pipe: login, since, reason.

    Example: mailstack sender list
    """
    from mailstack.mta import senders

    rows = [asdict(one) for one in operator().read(senders.list_held)]
    show_rows(("login", "since", "reason"), rows, as_json)


@command.command("hold")
@click.argument("login")
@click.option("--reason", default="by the operator", show_default=True, help="Why.")
@json_option
def hold(login: str, reason: str, as_json: bool) -> None:
    """Hold what LOGIN has waiting, and what it will submit; "[ADDRESS]" is a client of a trusted network.

    Example: mailstack sender hold alice@example.org
    """
    from mailstack.directory.verbs import get_user
    from mailstack.mta import senders

    if not (login.startswith("[") and login.endswith("]")):
        login = operator().read(get_user, login).address
    now = operator()
    held = now.write(senders.hold_sender, login, reason, time.time(), now.order())
    done(f"{login} is held; {held} entries wait", {"login": login, "entries": held}, as_json)


@command.command("release")
@click.argument("login")
@json_option
def release(login: str, as_json: bool) -> None:
    """Let LOGIN send again, and all of its mail that is held go.

    Example: mailstack sender release alice@example.org
    """
    from mailstack.mta import senders

    now = operator()
    freed = now.write(senders.release_sender, login, time.time(), now.order())
    if freed is None:
        raise OperatorError(f"{login} is not held")
    done(f"{login} may send again; {freed} entries go now", {"login": login, "entries": freed}, as_json)
