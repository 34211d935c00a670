"""`mailstack db`: the tables of the database."""

from __future__ import annotations

import click

from mailstack.admin.operator import json_option, operator
from mailstack.admin.output import OperatorError, done


@click.group("db")
def command() -> None:
    """The tables of the database, which a new version of mailstack may have to change."""


@command.command("check")
@json_option
def check(as_json: bool) -> None:
    """Tell whether the tables are those of this program; exit status 1 where they are not.

    Example: mailstack db check
    """
    from mailstack.db import schema

    now = operator()
    now.current_database()
    done(f"current: {schema.HEAD}", {"version": schema.HEAD, "current": True}, as_json)


@command.command("upgrade")
@json_option
def upgrade(as_json: bool) -> None:
    """Make or change the tables to those of this program: all of it, or nothing. Stop the server before.

    Example: mailstack db upgrade
    """
    from mailstack.db import schema

    now = operator()
    try:
        before, after = now.attempt(schema.upgrade, now.database)
    except schema.SchemaTooNew as error:
        raise OperatorError(str(error)) from error
    words = f"current: {after}" if before == after else f"upgraded from {before or 'nothing'} to {after}"
    done(words, {"before": before, "version": after}, as_json)
