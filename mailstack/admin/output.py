"""How commands answer: a table on a terminal, tab-separated lines in a pipe, JSON when asked."""

from __future__ import annotations

import json
import re
import sys
from collections.abc import Iterable, Iterator, Mapping, Sequence
from datetime import UTC, datetime
from itertools import islice
from typing import Any

import click

# Columns whose values are times of the epoch.
_MOMENTS = {"created", "last_login", "received_at", "next_attempt", "last_attempt", "expires", "oldest"}
_MOMENTS |= {"since", "until", "signs_from", "signs_until"}
_UNITS = {"": 1, "K": 1 << 10, "M": 1 << 20, "G": 1 << 30, "T": 1 << 40}
# What a terminal would obey, and what would break a line or a column.
_CONTROL = re.compile("[\x00-\x1f\x7f-\x9f\u2028\u2029\u200e\u200f\u202a-\u202e\u2066-\u2069\ud800-\udfff]")
_AT_ONCE = 500  # rows
_LINE = json.JSONEncoder(default=str)  # ASCII only, so that no terminal and no locale alters it


class OperatorError(click.ClickException):
    """The command cannot be done: one line on standard error, exit status 1."""

    exit_code = 1

    def show(self, file: Any = None) -> None:
        """Write the message, a line for each mistake."""
        for line in self.message.splitlines():
            click.echo(f"mailstack: {line}", file=file or sys.stderr)


class Misuse(OperatorError):
    """The command line or the configuration file is wrong: exit status 2."""

    exit_code = 2


def on_terminal() -> bool:
    """Whether somebody reads the answer as it comes."""
    return sys.stdout.isatty()


def at_keyboard() -> bool:
    """Whether there is somebody to ask."""
    return sys.stdin.isatty()


def show_rows(columns: Sequence[str], rows: Iterable[Mapping[str, Any]], as_json: bool) -> None:
    """Print `columns` of `rows`, as they come; as JSON, a list of objects with all they have."""
    if as_json:
        _show_json_list(rows)
        return
    for some in _some(rows):
        if on_terminal():
            _table(columns, some)
        else:
            click.echo("\n".join("\t".join(plain(name, row[name]) for name in columns) for row in some))


def _some(rows: Iterable[Mapping[str, Any]]) -> Iterator[list[Mapping[str, Any]]]:
    """As many as are written at once; a table's columns are as wide as these need."""
    left = iter(rows)
    while some := list(islice(left, _AT_ONCE)):
        yield some


def show_row(row: Mapping[str, Any], as_json: bool) -> None:
    """Print one thing, a line for each of its values; as JSON, one object."""
    if as_json:
        show_json(row)
        return
    width = max(map(len, row)) + 2 if on_terminal() else 0
    for name, value in row.items():
        label = f"{name}:".ljust(width) if width else f"{name}\t"
        click.echo(label + plain(name, value))


def show_json(value: Any) -> None:
    """Print JSON; ASCII only, so that no terminal and no locale alters it."""
    click.echo(json.dumps(value, indent=2, default=str))


def _show_json_list(rows: Iterable[Mapping[str, Any]]) -> None:
    """A list with a line for each of them, without having it whole."""
    before = "[\n  "
    for some in _some(rows):
        click.echo(before + ",\n  ".join(map(_LINE.encode, some)), nl=False)
        before = ",\n  "
    click.echo("[]" if before.startswith("[") else "\n]")


def done(message: str, row: Mapping[str, Any], as_json: bool) -> None:
    """Say what was done: a sentence, or JSON."""
    if as_json:
        show_json(row)
    else:
        click.echo(visible(message))


def plain(column: str, value: Any) -> str:
    """One value as text without tabs, line ends and control characters; "-" for none."""
    if isinstance(value, str):
        return value if value.isprintable() else visible(value)  # nothing of _CONTROL is printable
    if value is None:
        return "-"
    if isinstance(value, bool):
        return "yes" if value else "no"
    if column in _MOMENTS:
        return moment(value)
    if isinstance(value, (list, tuple)):
        return visible(" ".join(map(str, value))) or "-"
    return visible(str(value))


def visible(text: str) -> str:
    """`text` with control characters as escapes: a mailbox may be named by its enemy."""
    return _CONTROL.sub(lambda match: ascii(match[0])[1:-1], text)


def moment(seconds: float) -> str:
    """A time of the epoch in words of ISO 8601, UTC."""
    try:
        return f"{datetime.fromtimestamp(int(seconds), UTC).isoformat()[:19]}Z"
    except (OverflowError, ValueError, OSError):
        return str(seconds)


def size(octets: int | None) -> str:
    """Octets for a reader: 5G, 1.5M, 320."""
    if octets is None:
        return "-"
    for unit in "TGMK":
        if octets >= _UNITS[unit]:
            return f"{octets / _UNITS[unit]:.4g}{unit}"
    return str(octets)


class Size(click.ParamType["int | None"]):
    """A number of octets: 5G, 500M, 1.5G; "none" is no limit."""

    name = "size"

    def convert(self, value: Any, param: Any, ctx: Any) -> int | None:
        """The octets, or None for no limit."""
        if isinstance(value, int):
            return value
        text = str(value).strip().upper()
        if text == "NONE":
            return None
        match = re.fullmatch(r"([0-9]{1,15}(?:[.][0-9]{1,3})?)([KMGT]?)(?:I?B)?", text)
        if not match or (octets := int(float(match[1]) * _UNITS[match[2]])) >= 1 << 62:
            self.fail(f"{value!r} is not a size; write for example 5G, 500M, or none", param, ctx)
        return octets


def _table(columns: Sequence[str], rows: Iterable[Mapping[str, Any]]) -> None:
    from rich.console import Console
    from rich.table import Table
    from rich.text import Text

    table = Table(box=None, header_style="bold", pad_edge=False)
    for column in columns:
        table.add_column(column.replace("_", " "), overflow="fold")
    for row in rows:
        table.add_row(*(Text(plain(column, row[column])) for column in columns))
    Console().print(table)
