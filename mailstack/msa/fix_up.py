"""What submission does to a header section: checks the authors, adds what is missing, takes Bcc out."""

from __future__ import annotations

import re

from mailstack.mail.address import Address, BadAddress
from mailstack.mail.fields import Group, Mailbox, parse_addresses
from mailstack.mail.reply import Refused, Reply

_MOST_AUTHORS = 20
_MOST_FROM = 8 * 1024  # octets of a From field

# A field of interest with its folded lines (RFC 5322 section 2.2.3).
_FIELD = re.compile(
    rb"(?im)^(From|Sender|Date|Message-ID|Bcc|Resent-Bcc)[ \t]*:([^\r\n]*(?:\r\n[ \t][^\r\n]*)*)(?:\r\n|\Z)"
)


class Draft:
    """The header section of a message that its author submits."""

    def __init__(self, header: bytes) -> None:
        self.header = header  # as it came
        self._values: dict[bytes, list[bytes]] = {}
        self._dropped: list[tuple[int, int]] = []  # where fields are that do not go on: Bcc
        self._senders: list[tuple[int, int]] = []  # where Sender fields are
        self._authors: list[Address] | None = None
        for match in _FIELD.finditer(header):
            name = match[1].lower()
            if name.endswith(b"bcc"):
                self._dropped.append(match.span())
            else:
                if name == b"sender":
                    self._senders.append(match.span())
                self._values.setdefault(name, []).append(match[2])

    def authors(self) -> list[Address]:
        """The addresses of the From field, none if it is absent; raise Refused where it is broken."""
        if self._authors is None:
            self._authors = self._read_authors()
        return self._authors

    def _read_authors(self) -> list[Address]:
        values = self._values.get(b"from", [])
        if not values:
            return []
        if len(values) > 1:
            raise Refused(Reply(550, "5.6.0", "Message has more than one From field"))
        if len(values[0]) > _MOST_FROM:
            raise Refused(Reply(550, "5.6.0", "From field is too long"))
        found: list[Mailbox] = []
        for one in parse_addresses(values[0]):
            found += one.members if isinstance(one, Group) else (one,)
        if not found:
            raise Refused(Reply(550, "5.6.0", "From field has no address"))
        if len(found) > _MOST_AUTHORS:
            raise Refused(Reply(550, "5.6.0", "From field has too many addresses"))
        return [_address(one) for one in found]

    def sender(self) -> Address | None:
        """The address of the Sender field; None where there is not exactly one (RFC 5322 section 3.6.2)."""
        values = self._values.get(b"sender", [])
        if len(values) != 1 or len(values[0]) > _MOST_FROM:
            return None
        found = parse_addresses(values[0])
        if len(found) != 1 or isinstance(found[0], Group):
            return None
        try:
            return _address(found[0])
        except Refused:
            return None

    def replace_sender(self, address: Address) -> bytes:
        """Take the Sender fields out; the one to put in their place."""
        self._dropped = sorted(self._dropped + self._senders)
        return f"Sender: {address}\r\n".encode()

    def missing(self, *, author: Address, date: str, message_id: str) -> bytes:
        """Fields for what RFC 5322 section 3.6 asks for and the message lacks."""
        fields = (("From", str(author)), ("Date", date), ("Message-ID", message_id))
        lines = [f"{name}: {value}" for name, value in fields if name.lower().encode() not in self._values]
        return "".join(f"{line}\r\n" for line in lines).encode()

    def remaining(self) -> bytes:
        """The header section without Bcc and what was replaced; the same object where it loses nothing."""
        if not self._dropped:
            return self.header
        kept = []
        begin = 0
        for start, end in self._dropped:
            kept.append(self.header[begin:start])
            begin = end
        kept.append(self.header[begin:])
        return b"".join(kept)


def _address(mailbox: Mailbox) -> Address:
    try:
        return Address.parse(str(Address(mailbox.local_part, mailbox.domain)))
    except BadAddress as error:
        raise Refused(Reply(550, "5.7.1", "From field has a broken address")) from error
