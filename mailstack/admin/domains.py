"""`mailstack domain`: the domains that we serve."""

from __future__ import annotations

from dataclasses import asdict

import click

from mailstack.admin.operator import confirm, json_option, operator, yes_option
from mailstack.admin.output import done, show_rows
from mailstack.directory import verbs


@click.group("domain")
def command() -> None:
    """The domains that we accept mail for."""


@command.command("list")
@json_option
def list_(as_json: bool) -> None:
    """List the domains.

    Columns in a pipe: name, users, aliases, created.

    Example: mailstack domain list --json
    """
    rows = [asdict(info) for info in operator().read(verbs.list_domains)]
    show_rows(("name", "users", "aliases", "created"), rows, as_json)


@command.command("add")
@click.argument("name")
@json_option
def add(name: str, as_json: bool) -> None:
    """Accept mail for the domain NAME from now on.

    Example: mailstack domain add example.org
    """
    added = operator().write(verbs.add_domain, name)
    done(f"{added} added", {"name": added}, as_json)


@command.command("remove")
@click.argument("name")
@yes_option
@json_option
def remove(name: str, yes: bool, as_json: bool) -> None:
    """Accept no more mail for the domain NAME, which must have no users and aliases left.

    Example: mailstack domain remove example.org --yes
    """
    confirm(f"Remove the domain {name}?", yes)
    removed = operator().write(verbs.remove_domain, name)
    done(f"{removed} removed", {"name": removed}, as_json)
