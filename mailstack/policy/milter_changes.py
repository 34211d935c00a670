"""What a milter changes in a message, gathered until it has said its last word."""

from __future__ import annotations

import re

from twisted.logger import Logger

from mailstack.mail.address import Address
from mailstack.mail.fields import split_fields
from mailstack.net.checks import Changes, Incoming, Verdict
from mailstack.net.spool import Content
from mailstack.policy.milter_link import Unreachable
from mailstack.wire import milter

MOST_CHANGES = 1000  # of one message, but for parts of its body

_log = Logger(namespace="mailstack.policy")
_NAME = re.compile(rb"[!-9;-~]{1,200}")
_UNFOLDED = re.compile(rb"\n(?![ \t])")


class Edited:
    """The message as the filter wants it."""

    def __init__(self, incoming: Incoming, leading_space: bool) -> None:
        self._incoming = incoming
        self._blank = b"" if leading_space else b" "
        self._fields: list[tuple[bytes, bytes]] | None = None
        self._body: Content | None = None
        self._sender: tuple[Address | None] | None = None
        self._add: list[Address] = []
        self._remove: list[Address] = []
        self._junk = False
        self._count = 0

    async def apply(self, event: milter.Event) -> None:
        """Note one modification; what makes no sense is logged and left out. Raises OSError."""
        if isinstance(event, milter.ReplaceBody):
            self._body = self._body or self._incoming.new_body()
            await self._body.write(event.data)
            return
        self._count += 1
        if self._count > MOST_CHANGES:
            raise Unreachable("it changes too much")
        match event:
            case milter.AddHeader(name, value):
                self._insert(len(self._split()), name, value)
            case milter.InsertHeader(index, name, value):
                self._insert(max(0, index - 1), name, value)
            case milter.ChangeHeader(index, name, value):
                self._change(index, name, value)
            case milter.AddRecipient(path):
                self._add += self._addresses(path)
            case milter.DeleteRecipient(path):
                self._remove += self._addresses(path)
            case milter.ChangeSender(path):
                self._change_sender(path)
            case milter.Quarantine():
                self._junk = True

    async def verdict(self) -> Verdict | None:
        """All of it; None where nothing changes. Raises OSError."""
        if self._body is not None:
            await self._body.finish()
        changes = None
        if self._fields is not None or self._body or self._sender or self._add or self._remove:
            header = None if self._fields is None else b"".join(raw for _, raw in self._fields)
            changes = Changes(header, self._body, self._sender, tuple(self._add), tuple(self._remove))
        return Verdict(junk=self._junk, changes=changes) if changes or self._junk else None

    def _split(self) -> list[tuple[bytes, bytes]]:
        if self._fields is None:
            self._fields = split_fields(self._incoming.header)
        return self._fields

    def _insert(self, place: int, name: bytes, value: bytes) -> None:
        field = self._field(name, value)
        if field is not None:
            self._split().insert(place, (name.lower(), field))

    def _change(self, index: int, name: bytes, value: bytes) -> None:
        """The `index`th of that name becomes another, or goes; where there is none, one is added."""
        fields = self._split()
        places = [place for place, (found, _) in enumerate(fields) if found == name.lower()]
        if not 1 <= index <= len(places):
            if value:
                self._insert(len(fields), name, value)
        elif not value:
            del fields[places[index - 1]]
        else:
            field = self._field(name, value)
            if field is not None:
                fields[places[index - 1]] = (name.lower(), field)

    def _field(self, name: bytes, value: bytes) -> bytes | None:
        """The field as it stands in a message: what a value's line ends would begin is only folded."""
        if not _NAME.fullmatch(name):
            _log.warn("the filter names a header field {name!r}: left out", name=name[:80])
            return None
        text = value.replace(b"\r\n", b"\n").replace(b"\r", b"\n").rstrip(b"\n")
        text = _UNFOLDED.sub(b"\n\t", text).replace(b"\n", b"\r\n")
        return name + b":" + self._blank + text + b"\r\n"

    def _addresses(self, path: str) -> list[Address]:
        try:
            return [Address.parse(_inner(path))]
        except ValueError as error:
            _log.warn("the filter names an address that is none: {error}", error=str(error))
            return []

    def _change_sender(self, path: str) -> None:
        if not _inner(path):
            self._sender = (None,)
            return
        for address in self._addresses(path):
            self._sender = (address,)


def _inner(path: str) -> str:
    """A path without its angle brackets."""
    text = path.strip()
    return text[1:-1] if text.startswith("<") and text.endswith(">") else text
