"""`mailstack alias`: addresses that stand for others."""

from __future__ import annotations

from dataclasses import asdict

import click

from mailstack.admin.operator import confirm, json_option, operator, yes_option
from mailstack.admin.output import done, show_rows
from mailstack.directory import verbs


@click.group("alias")
def command() -> None:
    """Addresses that stand for others, here or elsewhere.

    An alias of "@example.org" is the catch-all: it gets what is sent to unknown addresses of that domain.
    """


@command.command("list")
@click.argument("address", required=False)
@click.option("--domain", help="Only those of one domain.")
@json_option
def list_(address: str | None, domain: str | None, as_json: bool) -> None:
    """List all aliases, or the targets of ADDRESS.

    Columns in a pipe: address, target.

    Example: mailstack alias list --domain example.org
    """
    rows = [asdict(info) for info in operator().read(verbs.list_aliases, address, domain)]
    show_rows(("address", "target"), rows, as_json)


@command.command("add")
@click.argument("address")
@click.argument("targets", nargs=-1, required=True, metavar="TARGET...")
@json_option
def add(address: str, targets: tuple[str, ...], as_json: bool) -> None:
    """Have ADDRESS stand for each TARGET too.

    \b
    Examples: mailstack alias add info@example.org alice@example.org bob@example.net
              mailstack alias add @example.org alice@example.org
    """
    added = operator().write(verbs.add_alias, address, targets)
    done(f"{added} stands for {', '.join(targets)}", {"address": added, "targets": list(targets)}, as_json)


@command.command("remove")
@click.argument("address")
@click.argument("target", required=False)
@yes_option
@json_option
def remove(address: str, target: str | None, yes: bool, as_json: bool) -> None:
    """Have ADDRESS stand no longer for TARGET, or for anybody.

    Example: mailstack alias remove info@example.org bob@example.net --yes
    """
    confirm(f"Remove the alias {address}" + (f" of {target}?" if target else " and all its targets?"), yes)
    removed = operator().write(verbs.remove_alias, address, target)
    done(f"{address}: {removed} removed", {"address": address, "removed": removed}, as_json)
