"""What the journey prints: headings, conversations, a table at the end; color only on a terminal."""

from __future__ import annotations

import re
from collections.abc import Iterable, Sequence

from rich.console import Console
from rich.table import Table
from rich.text import Text

MAX_LINE = 160  # characters shown of a line
_SIDES = {"C": "cyan", "S": "green", "*": "dim"}
_CONTROL = re.compile(r"[\x00-\x1f\x7f-\x9f]")


class Screen:
    """Prints through rich; every line as it is, never wrapped, never read as markup."""

    def __init__(self, console: Console | None = None) -> None:
        self._console = console or Console(highlight=False)

    def step(self, number: int, title: str) -> None:
        """A heading."""
        self._write("")
        self._write(f"Step {number}  {title}", "bold")

    def note(self, text: str) -> None:
        """A remark between the conversations."""
        self._write(f"  {text}")

    def line(self, side: str, text: str) -> None:
        """A line that the client (C), the server (S) or the network (*) said."""
        shown = Text(f"    {side}: ", style=_SIDES.get(side, ""))
        shown.append(_short(_plain(text)))
        self._console.print(shown, soft_wrap=True)

    def seen(self, text: str) -> None:
        """What the step has shown to work."""
        self._write(f"  ok - {text}", "bold green")

    def failed(self, text: str, log: Iterable[str] = ()) -> None:
        """What did not work, and the end of the log that may say why."""
        first, *rest = text.splitlines() or [""]
        self._write(f"  FAILED - {first}", "bold red")
        for line in (*rest, *log):
            self._write(f"    | {line}", "dim")

    def table(self, title: str, rows: Sequence[Sequence[str]]) -> None:
        """A table; the first row has its headings."""
        table = Table(title=title, title_justify="left")
        heads, *body = rows
        for head in heads:
            table.add_column(head, overflow="fold")
        for row in body:
            table.add_row(*(Text(cell) for cell in row))
        self._write("")
        self._console.print(table)

    def _write(self, text: str, style: str = "") -> None:
        self._console.print(Text(_plain(text), style=style), soft_wrap=True)


def _plain(text: str) -> str:
    text = text.replace("\t", "    ")
    return _CONTROL.sub(lambda match: match[0].encode("unicode_escape").decode(), text)


def _short(text: str) -> str:
    return text if len(text) <= MAX_LINE else f"{text[:MAX_LINE]}..."
