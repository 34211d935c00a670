"""`mailstack suppression`: addresses elsewhere that our users cannot send to."""

from __future__ import annotations

import time
from dataclasses import asdict

import click

from mailstack.admin.operator import json_option, operator
from mailstack.admin.output import Misuse, OperatorError, done, show_rows
from mailstack.admin.trace import Span


@click.group("suppression")
def command() -> None:
    """Addresses that bounced for good: our users' mail to them is refused with the reason."""


@command.command("list")
@click.option("--limit", type=click.IntRange(1), default=1000, show_default=True, help="The most addresses.")
@json_option
def list_(limit: int, as_json: bool) -> None:
    """List the addresses, newest first.

    Columns in a pipe: address, since, until, reason.

    Example: mailstack suppression list
    """
    from mailstack.mta import suppression

    rows = [asdict(one) for one in operator().read(suppression.list_suppressed, time.time(), limit)]
    show_rows(("address", "since", "until", "reason"), rows, as_json)


@command.command("add")
@click.argument("address")
@click.option("--reason", default="by the operator", show_default=True, help="What its senders are told.")
@click.option("--for", "span", type=Span(), default=None, help="For so long: 12h, 30d; by default for good.")
@json_option
def add(address: str, reason: str, span: float | None, as_json: bool) -> None:
    """Refuse mail of our users to ADDRESS.

    Example: mailstack suppression add bob@example.net --reason "left the company"
    """
    from mailstack.mail.address import Address, BadAddress
    from mailstack.mta import suppression

    try:
        key = str(Address.parse(address)).lower()
    except BadAddress as error:
        raise Misuse(f"{address}: {error}") from error
    now = time.time()
    operator().write(suppression.suppress, key, reason, now, None if span is None else now + span)
    done(f"{key} added", {"address": key}, as_json)


@command.command("remove")
@click.argument("address")
@json_option
def remove(address: str, as_json: bool) -> None:
    """Let our users write to ADDRESS again.

    Example: mailstack suppression remove bob@example.net
    """
    from mailstack.mta import suppression

    if not operator().write(suppression.clear, address):
        raise OperatorError(f"{address} is not in the list")
    done(f"{address} removed", {"address": address}, as_json)
