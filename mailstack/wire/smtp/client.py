"""The client's side of SMTP: reads replies, writes commands and content (RFC 5321).

Theory of operation. `ReplyReader` is fed whatever the server sends and gives whole replies or raises
BadReply: lines, their number and their length are bounded, so a server that talks for ever costs a few KiB.
Commands are written by functions that know what the server offered. `DotStuffing` turns content into what
follows DATA, in chunks: every line end becomes CRLF, because a bare CR or LF that we passed on could end
the content for a careless server ("SMTP smuggling").
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field

from mailstack.mail.address import Address
from mailstack.mail.envelope import DeliverBy, Envelope, Recipient
from mailstack.mail.reply import Reply

MAX_LINE = 2048  # octets of a reply line with its end; RFC 5321 section 4.5.3.1.5 promises 512
MAX_LINES = 100  # of one reply
MAX_TEXT = 8192  # characters kept of one reply
MAX_UNREAD = MAX_LINE * MAX_LINES  # octets that nobody has asked for yet; we pipeline few commands

_LINE = re.compile(rb"([2-5][0-9][0-9])(?:([ -])(.*))?", re.DOTALL)
_ENHANCED = re.compile(r"([245]\.\d{1,3}\.\d{1,3})(?: |$)")
_UNPRINTABLE = re.compile(r"[\x00-\x1f\x7f\x80-\x9f\u2028\u2029]")
_LIMIT = re.compile(r"[1-9][0-9]{0,5}", re.ASCII)  # RFC 9422 section 4
_LINE_END = re.compile(rb"\r\n|\r|\n")
_KEYWORD = re.compile(r"[A-Za-z0-9][A-Za-z0-9-]*")


class BadReply(Exception):
    """What the server sent is no SMTP reply; the text says in what. The connection is of no more use."""


class ReplyReader:
    """Bytes from a server to replies. They are taken apart as they are asked for: who is told more than that
    keeps it as it came, and not much of it.
    """

    def __init__(self) -> None:
        self._unread = b""
        self._lines: list[tuple[str, str]] = []  # enhanced code and text of the reply that has begun
        self._code = 0
        self._size = 0
        self._wrong: BadReply | None = None

    @property
    def idle(self) -> bool:
        """Nothing was received that has not been given out."""
        return not (self._unread or self._lines or self._wrong)

    def receive_data(self, data: bytes) -> None:
        """Keep bytes; never fails. After something that is no reply, the rest is dropped."""
        if self._wrong:
            return
        self._unread += data
        if len(self._unread) > MAX_UNREAD:
            self._wrong = BadReply("more replies than commands")
            self._unread = b""

    def next_reply(self) -> Reply | None:
        """The next whole reply, or None until more bytes arrive; raise BadReply once there can be none."""
        if self._wrong:
            raise self._wrong
        try:
            return self._read()
        except BadReply as error:
            self._wrong = error
            self._unread = b""
            raise

    def _read(self) -> Reply | None:
        begin = 0
        reply = None
        while reply is None and (end := self._unread.find(b"\n", begin)) >= 0:
            reply = self._line(self._unread[begin : end + 1])
            begin = end + 1
        self._unread = self._unread[begin:]
        if reply is None and len(self._unread) > MAX_LINE:
            raise BadReply(f"a reply line of more than {MAX_LINE} octets")
        return reply

    def _line(self, line: bytes) -> Reply | None:
        """The reply that ends with this line, if one does."""
        if len(line) > MAX_LINE:
            raise BadReply(f"a reply line of more than {MAX_LINE} octets")
        match = _LINE.fullmatch(line.rstrip(b"\r\n"))
        if not match:
            raise BadReply(f"not a reply: {_clean(line[:80])!r}")
        code, more, text = int(match[1]), match[2] == b"-", _clean(match[3] or b"")
        if self._lines and code != self._code:
            raise BadReply(f"a reply of two codes, {self._code} and {code}")
        self._code = code
        if len(self._lines) == MAX_LINES:
            raise BadReply(f"a reply of more than {MAX_LINES} lines")
        kept = text[: max(0, MAX_TEXT - self._size)]
        self._size += len(kept) + 1
        self._lines.append(_split(code, kept))
        return None if more else self._finish()

    def _finish(self) -> Reply:
        enhanced = self._lines[-1][0] or self._lines[0][0]
        reply = Reply(self._code, enhanced, "\n".join(text for _, text in self._lines))
        self._lines = []
        self._size = 0
        return reply


def _clean(text: bytes) -> str:
    """Text that is safe in a log, a bounce and a terminal."""
    return _UNPRINTABLE.sub(" ", text.decode("utf-8", "replace")).strip()


def _split(code: int, text: str) -> tuple[str, str]:
    """Enhanced status code, if it is one of this class (RFC 2034 section 4), and the rest."""
    match = _ENHANCED.match(text)
    if match and match[1][0] == str(code)[0]:
        return match[1], text[match.end() :].strip()
    return "", text


@dataclass(frozen=True, slots=True)
class Offers:
    """What a server said to EHLO: its name for itself, and keyword to parameters (RFC 5321 section 4.1.1)"""

    name: str = ""
    keywords: dict[str, str] = field(default_factory=dict)

    @classmethod
    def read(cls, reply: Reply) -> Offers:
        """From the reply to EHLO; lines that are no keyword are passed over."""
        first, *lines = reply.text.split("\n")
        keywords: dict[str, str] = {}
        for line in lines:
            match = _KEYWORD.match(line)
            if match:
                keywords[match[0].upper()] = line[match.end() :].lstrip(" =").strip()
        return cls(first.split(" ")[0].lower(), keywords)

    def __contains__(self, keyword: str) -> bool:
        return keyword in self.keywords

    @property
    def size(self) -> int | None:
        """The largest message it takes, in octets; None where it does not say (RFC 1870 section 4)."""
        return _number(self.keywords.get("SIZE", ""))

    def limit(self, name: str) -> int | None:
        """RCPTMAX, MAILMAX or RCPTDOMAINMAX; None where it does not say (RFC 9422 section 4)."""
        for word in self.keywords.get("LIMITS", "").upper().split(" "):
            key, _, value = word.partition("=")
            if key == name:
                return int(value) if _LIMIT.fullmatch(value) else None
        return None

    @property
    def shortest_by_time(self) -> int:
        """The shortest time in seconds within which it may deliver (RFC 2852 section 2)."""
        return _number(self.keywords.get("DELIVERBY", "").partition(",")[0]) or 0


def _number(text: str) -> int | None:
    """A number above 0 as a server writes it; None if it is none."""
    return int(text) if text.isascii() and text.isdecimal() and len(text) < 19 and int(text) else None


def groups(recipients: Sequence[Recipient], offers: Offers) -> list[tuple[Recipient, ...]]:
    """The recipients in as many transactions as the server's limits ask for (RFC 9422)."""
    most = offers.limit("RCPTMAX") or len(recipients)
    most_domains = offers.limit("RCPTDOMAINMAX") or len(recipients)
    made: list[list[Recipient]] = [[]]
    domains: set[str] = set()
    for recipient in recipients:
        more = domains | {recipient.address.domain}
        if made[-1] and (len(made[-1]) >= most or len(more) > most_domains):
            made.append([])
            more = {recipient.address.domain}
        made[-1].append(recipient)
        domains = more
    return [tuple(group) for group in made]


def in_one_session(made: Sequence[tuple[Recipient, ...]], offers: Offers) -> Sequence[tuple[Recipient, ...]]:
    """As many of the groups as one session may name the domains of (RFC 9422 section 4.3); one at least."""
    most = offers.limit("RCPTDOMAINMAX")
    domains: set[str] = set()
    for place, group in enumerate(made):
        domains |= {recipient.address.domain for recipient in group}
        if most is not None and place and len(domains) > most:
            return made[:place]
    return made


def hello(name: str, verb: bytes = b"EHLO") -> bytes:
    """EHLO, HELO for a server that does not know it (RFC 5321 section 4.1.1.1), LHLO in LMTP (RFC 2033)."""
    return b"%s %s\r\n" % (verb, name.encode("ascii", "replace"))


def mail(
    envelope: Envelope,
    size: int,
    offers: Offers,
    body: str = "7BIT",
    smtputf8: bool = False,
    *,
    requiretls: bool = False,
    by_time: int = 0,
) -> bytes:
    """MAIL with the parameters that the server offered (RFC 5321 section 4.1.1.2).

    `body`, `smtputf8` and `requiretls` are what this message needs; the caller has seen to it that they are
    offered. `by_time`: the seconds that its DELIVERBY has left.
    """
    words = [f"MAIL FROM:<{envelope.reverse_path or ''}>"]
    if "SIZE" in offers:
        words.append(f"SIZE={size}")  # RFC 1870 section 6
    if body == "BINARYMIME" or ("8BITMIME" in offers and body != "7BIT"):
        words.append(f"BODY={body}")  # RFC 6152, RFC 3030
    if requiretls:
        words.append("REQUIRETLS")  # RFC 8689 section 4.2.1
    if "MT-PRIORITY" in offers and envelope.priority:
        words.append(f"MT-PRIORITY={envelope.priority}")  # RFC 6710 section 4.2
    if "DELIVERBY" in offers and envelope.deliver_by:  # RFC 2852 section 4
        mode = "R" if envelope.deliver_by.returned else "N"
        words.append(f"BY={by_time};{mode}{'T' if envelope.deliver_by.trace else ''}")
    if "SMTPUTF8" in offers and smtputf8:
        words.append("SMTPUTF8")  # RFC 6531 section 3.4
    if "DSN" in offers:  # RFC 3461 sections 4.3 and 4.4
        if envelope.ret:
            words.append(f"RET={envelope.ret}")
        if envelope.envid:
            words.append(f"ENVID={xtext(envelope.envid)}")
    return _command(words)


def rcpt(recipient: Recipient, offers: Offers, by: DeliverBy | None = None) -> bytes:
    """RCPT with the parameters that the server offered (RFC 5321 section 4.1.1.3, RFC 3461 section 4)."""
    words = [f"RCPT TO:<{recipient.address}>"]
    if "DSN" in offers:
        notify = recipient.notify
        if by is not None and "DELIVERBY" not in offers and "NEVER" not in notify:
            # RFC 2852 section 4.1.4.2: who makes no promise shall at least tell of a delay.
            notify = (notify or frozenset({"FAILURE"})) | {"DELAY"}
        if notify:
            words.append(f"NOTIFY={','.join(sorted(notify))}")
        if recipient.orcpt:
            kind, _, address = recipient.orcpt.partition(";")
            if address.isascii():
                words.append(f"ORCPT={kind};{xtext(address)}")
    return _command(words)


def _command(words: Iterable[str]) -> bytes:
    line = " ".join(words)
    if "\r" in line or "\n" in line:
        raise ValueError("a command of two lines")  # an address that no parser of ours has seen
    return line.encode() + b"\r\n"


def xtext(text: str) -> str:
    """Encode for a DSN parameter (RFC 3461 section 4)."""
    return "".join(
        character if "!" <= character <= "~" and character not in "+=" else f"+{octet:02X}"
        for character in text
        for octet in (character.encode() if not character.isascii() else [ord(character)])
    )


def needs_smtputf8(envelope: Envelope) -> bool:
    """Whether an address itself cannot be said without SMTPUTF8 (RFC 6531 section 3.2)."""
    addresses: list[Address] = [recipient.address for recipient in envelope.recipients]
    if envelope.reverse_path is not None:
        addresses.append(envelope.reverse_path)
    return not all(address.is_ascii for address in addresses)


class DotStuffing:
    """Content to what follows DATA, chunk by chunk (RFC 5321 sections 2.3.8 and 4.5.2)."""

    def __init__(self) -> None:
        self._held = b""  # a CR whose LF may come
        self._starts_line = True

    def encode(self, chunk: bytes) -> bytes:
        """The next octets for the wire."""
        data = self._held + chunk
        self._held = b"\r" if data.endswith(b"\r") else b""
        return self._stuffed(data[: len(data) - len(self._held)])

    def finish(self) -> bytes:
        """The last octets, with the end mark."""
        data = self._stuffed(b"\r\n") if self._held else b""
        self._held = b""
        return data + (b".\r\n" if self._starts_line else b"\r\n.\r\n")

    def _stuffed(self, data: bytes) -> bytes:
        if not data:
            return data
        lines = data.count(b"\r\n")
        if data.count(b"\n") != lines or data.count(b"\r") != lines:
            data = _LINE_END.sub(b"\r\n", data)
        if b"\n." in data:
            data = data.replace(b"\n.", b"\n..")
        if self._starts_line and data.startswith(b"."):
            data = b"." + data
        self._starts_line = data.endswith(b"\n")
        return data
