"""`mailstack domain`: the domains that we serve."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict
from typing import TYPE_CHECKING, Any

import click

from mailstack.admin.operator import confirm, json_option, operator, yes_option
from mailstack.admin.output import OperatorError, done, on_terminal, show_json, show_rows
from mailstack.directory import verbs

if TYPE_CHECKING:
    from mailstack.admin.record_checks import Finding
    from mailstack.admin.records import Record

_CHECKED = ("state", "need", "name", "type", "wanted", "found")


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


@command.command("dns")
@click.argument("name")
@click.option("--check", is_flag=True, help="Ask the DNS what is there.")
@json_option
def dns(name: str, check: bool, as_json: bool) -> None:
    """Print the DNS records that the domain NAME needs, as lines of a zone file.

    With --check, ask the DNS, and tell how each record stands: ok, missing, differs, or unknown where there
    was no answer. Columns in a pipe: state, need, name, type, wanted, found. Exit status 1 if a record that
    is required is not ok.

    Examples: mailstack domain dns example.org
              mailstack domain dns example.org --check
    """
    import time

    from mailstack.admin import record_checks, records
    from mailstack.signing.verbs import list_keys

    now = operator()
    domain = now.read(verbs.one_domain, name)
    hostname = now.config.hostname.lower()
    keys = now.read(list_keys, domain)
    wanted = records.wanted(domain, hostname, now.config.listeners, keys, time.time())
    if not check:
        _show_zone(wanted, as_json)
        return
    findings = record_checks.examine(now.config.dns, domain, hostname, wanted)
    columns = [name for name in _CHECKED if name != "wanted" or not on_terminal()]  # keys are long
    show_rows(columns, [_row(finding) for finding in findings], as_json)
    if bad := [one.record for one in findings if one.record.required and one.state != record_checks.OK]:
        names = ", ".join(f"{record.type} of {record.name}" for record in bad)
        raise OperatorError(f"required and not ok: {names}")


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


def _show_zone(wanted: Sequence[Record], as_json: bool) -> None:
    from mailstack.admin.records import zone_lines

    if as_json:
        show_json([asdict(record) for record in wanted])
        return
    for line in zone_lines(wanted):
        click.echo(line)


def _row(finding: Finding) -> dict[str, Any]:
    record = finding.record
    return {
        "state": finding.state,
        "need": "required" if record.required else "recommended",
        "name": record.name,
        "type": record.type,
        "wanted": record.value,
        "found": finding.found or None,
        "why": record.why,
    }
