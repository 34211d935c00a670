"""`mailstack user grant`, `revoke`, `grants`, `size`: what a user may submit, and in whose name."""

from __future__ import annotations

from dataclasses import asdict

import click

from mailstack.admin.operator import json_option, operator
from mailstack.admin.output import Size, done, show_json, show_rows, size
from mailstack.directory import verbs


@click.command("grant")
@click.argument("user")
@click.argument("address")
@json_option
def grant(user: str, address: str, as_json: bool) -> None:
    """Let USER send as ADDRESS, or as every address of a domain, written "@example.org".

    Their own address, and the aliases that reach them, need no grant.

    Example: mailstack user grant alice@example.org office@example.org
    """
    from mailstack.directory.grants import grant as run

    key = operator().write(run, user, address)
    done(f"{user} may send as {key}", {"user": user, "address": key}, as_json)


@click.command("revoke")
@click.argument("user")
@click.argument("address")
@json_option
def revoke(user: str, address: str, as_json: bool) -> None:
    """Take a grant back: USER may send as ADDRESS no more.

    Example: mailstack user revoke alice@example.org office@example.org
    """
    from mailstack.directory.grants import revoke as run

    key = operator().write(run, user, address)
    done(f"{user} may not send as {key}", {"user": user, "address": key}, as_json)


@click.command("grants")
@click.argument("user", required=False)
@json_option
def grants(user: str | None, as_json: bool) -> None:
    """List what was granted, to USER or to everybody.

    Columns in a pipe: user, address.

    Example: mailstack user grants alice@example.org
    """
    from mailstack.directory.grants import list_grants

    rows = [asdict(row) for row in operator().read(list_grants, user)]
    show_rows(("user", "address"), rows, as_json)


@click.command("size")
@click.argument("address")
@click.argument("octets", type=Size(), required=False, metavar="[SIZE]")
@json_option
@click.pass_context
def largest(context: click.Context, address: str, octets: int | None, as_json: bool) -> None:
    """Let ADDRESS submit messages of at most SIZE ("none": as the configuration says); without one, tell it.

    \b
    Examples: mailstack user size alice@example.org 200M
              mailstack user size alice@example.org none
    """
    now = operator()
    found = now.read(verbs.get_user, address)
    most = found.max_message_octets
    if context.get_parameter_source("octets") is click.core.ParameterSource.COMMANDLINE:
        now.write(verbs.set_max_message, address, octets)
        most = octets
    if as_json:
        show_json({"address": found.address, "max_message_octets": most})
    else:
        click.echo(f"{found.address}\t{size(most)}")


COMMANDS = (grant, revoke, grants, largest)
