"""`mailstack dkim`: the keys that sign our mail."""

from __future__ import annotations

import time
from dataclasses import asdict
from typing import TYPE_CHECKING, Any

import click

from mailstack.admin.operator import confirm, json_option, operator, yes_option
from mailstack.admin.output import OperatorError, done, moment, show_json, show_rows
from mailstack.admin.trace import Span

if TYPE_CHECKING:
    from mailstack.mail.dkim.keys import Algorithm
    from mailstack.signing.verbs import KeyInfo

_COLUMNS = ("domain", "selector", "algorithm", "state", "signs_from", "signs_until")
_BOTH = "both"

_algorithm = click.option(
    "--algorithm",
    type=click.Choice([_BOTH, "rsa", "ed25519"]),
    default=_BOTH,
    show_default=True,
    help="RSA of 2048 bits, Ed25519, or a key of each.",
)
_selector = click.option("--selector", help="How the new selectors begin; by default with the date.")


@click.group("dkim")
def command() -> None:
    """The keys that sign our mail (RFC 6376). They lie in the database; a running server notices changes."""


@command.command("add")
@click.argument("domain")
@_selector
@_algorithm
@json_option
def add(domain: str, selector: str | None, algorithm: str, as_json: bool) -> None:
    """Make keys for DOMAIN, which sign from now on, and print the DNS records to publish.

    Example: mailstack dkim add example.org
    """
    from mailstack.signing import verbs

    now = time.time()
    keys = verbs.make(_algorithms(algorithm))
    stem = selector or default_stem(now)
    _published(operator().write(verbs.add, domain, keys, stem, now, now), as_json)


@command.command("list")
@click.argument("domain", required=False)
@json_option
def list_(domain: str | None, as_json: bool) -> None:
    """List the keys, of DOMAIN or of all.

    A key is waiting, signing, retired (its record must stay for mail under way), or over: its record and
    the key may go. Columns in a pipe: domain, selector, algorithm, state, signs from, signs until.

    Example: mailstack dkim list example.org
    """
    show_rows(_COLUMNS, [_row(info) for info in _keys(domain)], as_json)


@command.command("dns")
@click.argument("domain")
@json_option
def dns(domain: str, as_json: bool) -> None:
    """Print the DNS records of DOMAIN's keys, as lines of a zone file.

    Example: mailstack dkim dns example.org
    """
    found = _keys(domain)
    if not found:
        raise OperatorError(f"{domain} has no key yet: make one with mailstack dkim add {domain}")
    _published(found, as_json)


@command.command("rotate")
@click.argument("domain")
@click.option(
    "--after",
    type=Span(),
    default="2d",
    show_default=True,
    help="When the new keys take over: 0, 30m, 2h, 2d. Their records must be in the DNS by then.",
)
@_selector
@_algorithm
@json_option
def rotate(domain: str, after: float, selector: str | None, algorithm: str, as_json: bool) -> None:
    """Make new keys for DOMAIN, and print their DNS records; the present ones sign until those take over.

    Example: mailstack dkim rotate example.org --after 2d
    """
    from mailstack.signing import verbs

    now = time.time()
    keys = verbs.make(_algorithms(algorithm))
    stem = selector or default_stem(now)
    made = operator().write(verbs.rotate, domain, keys, stem, now, after)
    _published(made, as_json)
    if not as_json:
        click.echo(
            f"; they sign from {moment(now + after)} on; keep the records of the old ones a week longer"
        )


@command.command("remove")
@click.argument("domain")
@click.argument("selector", required=False)
@yes_option
@json_option
def remove(domain: str, selector: str | None, yes: bool, as_json: bool) -> None:
    """Delete DOMAIN's key SELECTOR, or all its keys.

    Example: mailstack dkim remove example.org m20261122r --yes
    """
    from mailstack.signing import verbs

    confirm(f"Delete {f'the key {selector}' if selector else 'every key'} of {domain} for good?", yes)
    gone = operator().write(verbs.remove, domain, selector)
    words = ", ".join(info.name for info in gone)
    done(f"removed: {words}", {"removed": [info.name for info in gone]}, as_json)


def default_stem(now: float) -> str:
    """How the selectors of keys made now begin: m and the date."""
    return time.strftime("m%Y%m%d", time.gmtime(now))


def _algorithms(name: str) -> list[Algorithm]:
    both: list[Algorithm] = ["rsa", "ed25519"]
    return [one for one in both if name in (_BOTH, one)]


def _keys(domain: str | None) -> list[KeyInfo]:
    from mailstack.signing import verbs

    return operator().read(verbs.list_keys, domain)


def _row(info: KeyInfo) -> dict[str, Any]:
    return {**asdict(info), "name": info.name, "state": info.state(time.time())}


def _published(keys: list[KeyInfo], as_json: bool) -> None:
    from mailstack.signing import verbs

    if as_json:
        show_json([_row(info) for info in keys])
        return
    for info in keys:
        click.echo(verbs.zone(info))
