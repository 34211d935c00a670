r"""What `Server.send` takes (RFC 3501 section 7): dataclasses that know their octets, bytes, or tuples.

    await say((Flags(names), Exists(3), Recent(0)))
    return Tagged(tag, "OK", "SELECT completed", code="READ-WRITE")

Raw bytes must be whole lines with CRLF and never a tagged reply: only a `Tagged` moves the session's state
(see states.AFTER). Hot paths build bytes with `fetch` and the functions of `quoting`, which are also here.
"""

from __future__ import annotations

import binascii
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from typing import ClassVar, TypeAlias

from mailstack.wire.imap import quoting
from mailstack.wire.imap.commands import Malformed, Partial
from mailstack.wire.imap.quoting import (
    NIL,
    astring,
    date_time,
    flags,
    literal,
    mailbox,
    mailbox_utf8,
    nstring,
    parenthesized,
    quote,
    quoted,
    string,
)
from mailstack.wire.imap.sequence import SequenceSet
from mailstack.wire.imap.states import State

__all__ = [
    "NIL",
    "AnyResponse",
    "Bye",
    "Capabilities",
    "Challenge",
    "Continuation",
    "ESearch",
    "Enabled",
    "Exists",
    "Expunged",
    "Flags",
    "Greeting",
    "Identity",
    "ListResponse",
    "LsubResponse",
    "Namespaces",
    "Naming",
    "Quota",
    "QuotaRoot",
    "Recent",
    "Response",
    "SearchResponse",
    "StatusResponse",
    "Tagged",
    "Untagged",
    "Vanished",
    "append_uid",
    "astring",
    "copy_uid",
    "date_time",
    "encode",
    "fetch",
    "fetch_uid",
    "flags",
    "literal",
    "mailbox",
    "mailbox_utf8",
    "nstring",
    "parenthesized",
    "quote",
    "refusal",
    "string",
]  # fmt: skip


class Response:
    """Anything the server says; `encode` gives whole lines."""

    __slots__ = ()

    def encode(self) -> bytes:
        """The octets, CRLF included."""
        raise NotImplementedError

    def encode_utf8(self) -> bytes:
        """The octets for a client that has enabled UTF-8 (RFC 6855, RFC 9051): names are not in UTF-7."""
        return self.encode()


AnyResponse: TypeAlias = "Response | bytes | tuple[Response | bytes, ...]"


def encode(response: AnyResponse, *, utf8: bool = False) -> bytes:
    """The octets of a response in any of its three forms; `utf8`: see `Response.encode_utf8`."""
    if isinstance(response, bytes):
        return response
    if isinstance(response, tuple):
        return b"".join([encode(part, utf8=utf8) for part in response])
    return response.encode_utf8() if utf8 else response.encode()


class Naming(Response):
    """A response with mailbox names in it, which are written by `write`."""

    __slots__ = ()

    def line(self, write: Callable[[str], bytes]) -> bytes:
        """The octets, with each mailbox name as `write` has it."""
        raise NotImplementedError

    def encode(self) -> bytes:
        return self.line(mailbox)

    def encode_utf8(self) -> bytes:
        return self.line(mailbox_utf8)


def _status(status: str, words: str, code: str | None) -> bytes:
    bracketed = b"" if code is None else b"[" + code.encode("ascii", "replace") + b"] "
    return status.encode() + b" " + bracketed + quoting.text(words) + b"\r\n"


# Status responses (RFC 3501 section 7.1)


@dataclass(frozen=True, slots=True)
class Tagged(Response):
    """The end of a command: OK, NO or BAD. `code` is a response code without brackets, e.g. "READ-WRITE".

    The session moves by states.AFTER for the command in hand; `becomes` overrides that.
    """

    tag: str
    status: str
    text: str
    code: str | None = None
    becomes: State | None = None

    def encode(self) -> bytes:
        return self.tag.encode("ascii") + b" " + _status(self.status, self.text, self.code)


@dataclass(frozen=True, slots=True)
class Untagged(Response):
    """`* OK`, `* NO` (a warning), `* BAD`."""

    status: str
    text: str
    code: str | None = None

    def encode(self) -> bytes:
        return b"* " + _status(self.status, self.text, self.code)


@dataclass(frozen=True, slots=True)
class Greeting(Response):
    """The first words: `* OK [CAPABILITY ...] text`."""

    text: str
    capabilities: tuple[str, ...] = ()

    def encode(self) -> bytes:
        code = "CAPABILITY " + " ".join(self.capabilities) if self.capabilities else None
        return b"* " + _status("OK", self.text, code)


@dataclass(frozen=True, slots=True)
class Bye(Response):
    """`* BYE`: the connection ends. After LOGOUT say it together with the tagged OK, as one tuple."""

    text: str
    code: str | None = None

    def encode(self) -> bytes:
        return b"* " + _status("BYE", self.text, self.code)


@dataclass(frozen=True, slots=True)
class Continuation(Response):
    """`+ text`: the client may go on with a literal, an APPEND, or is idling."""

    text: str = "OK"

    def encode(self) -> bytes:
        return b"+ " + quoting.text(self.text) + b"\r\n"


@dataclass(frozen=True, slots=True)
class Challenge(Response):
    """A SASL challenge (RFC 3501 section 6.2.2): `+ ` and base64; b"" is an empty challenge."""

    data: bytes = b""

    def encode(self) -> bytes:
        return b"+ " + binascii.b2a_base64(self.data, newline=False) + b"\r\n"


def refusal(event: Malformed) -> Response:
    """The answer to a `Malformed`: tagged where it had a tag, untagged BAD where not, BYE if it is fatal."""
    if event.fatal:
        return Bye(event.text, event.code)
    if event.tag is None:
        return Untagged(event.status, event.text, event.code)
    return Tagged(event.tag, event.status, event.text, event.code)


def append_uid(uidvalidity: int, uids: Iterable[int]) -> str:
    """The code APPENDUID (RFC 4315 section 3)."""
    return f"APPENDUID {uidvalidity} {SequenceSet.of(uids)}"


def copy_uid(uidvalidity: int, pairs: Iterable[tuple[int, int]]) -> str | None:
    """The code COPYUID for (source UID, target UID) pairs; None without any (RFC 4315 section 3)."""
    pairs = sorted(pairs)
    if not pairs:
        return None
    source = SequenceSet.of(pair[0] for pair in pairs)
    return f"COPYUID {uidvalidity} {source} {SequenceSet.of(pair[1] for pair in pairs)}"


# Server and mailbox status (RFC 3501 sections 7.2 and 7.3)


@dataclass(frozen=True, slots=True)
class Capabilities(Response):
    """`* CAPABILITY IMAP4rev1 ...`."""

    names: tuple[str, ...]

    def encode(self) -> bytes:
        return ("* CAPABILITY " + " ".join(self.names) + "\r\n").encode("ascii")


@dataclass(frozen=True, slots=True)
class Enabled(Response):
    """`* ENABLED`, also with no name (RFC 5161 section 3.2)."""

    names: tuple[str, ...] = ()

    def encode(self) -> bytes:
        return " ".join(("* ENABLED", *self.names)).encode("ascii") + b"\r\n"


@dataclass(frozen=True, slots=True)
class ListResponse(Naming):
    r"""`* LIST (\HasNoChildren \Sent) "/" Sent`. `delimiter` None is NIL.

    `child_info`: selection options that some child matches: CHILDINFO of RFC 5258 section 3.5.
    `old_name`: OLDNAME (RFC 9051 section 6.3.9.7), where a name was changed.
    """

    name: str
    attributes: tuple[str, ...] = ()
    delimiter: str | None = "/"
    child_info: tuple[str, ...] = ()
    old_name: str | None = None

    def line(self, write: Callable[[str], bytes]) -> bytes:
        extended = []
        if self.child_info:
            extended.append(b'"CHILDINFO" ' + parenthesized(map(quote, self.child_info)))
        if self.old_name is not None:
            extended.append(b'"OLDNAME" ' + parenthesized([write(self.old_name)]))
        suffix = b" " + parenthesized(extended) if extended else b""
        return b"* LIST " + _listed(self.attributes, self.delimiter, write(self.name)) + suffix + b"\r\n"


@dataclass(frozen=True, slots=True)
class LsubResponse(Naming):
    """`* LSUB () "/" Sent`."""

    name: str
    attributes: tuple[str, ...] = ()
    delimiter: str | None = "/"

    def line(self, write: Callable[[str], bytes]) -> bytes:
        return b"* LSUB " + _listed(self.attributes, self.delimiter, write(self.name)) + b"\r\n"


def _listed(attributes: tuple[str, ...], delimiter: str | None, name: bytes) -> bytes:
    # Some clients do not read an atom here: always quote the empty name, which is not an atom anyway.
    return b"%b %b %b" % (flags(attributes), nstring(delimiter), name)


@dataclass(frozen=True, slots=True)
class StatusResponse(Naming):
    """`* STATUS name (MESSAGES 3 ...)`, items in the order given; text goes as it is (`(F1)`, `NIL`)."""

    name: str
    items: Mapping[str, int | str]

    def line(self, write: Callable[[str], bytes]) -> bytes:
        items = " ".join(f"{item} {value}" for item, value in self.items.items())
        return b"* STATUS " + write(self.name) + b" (" + items.encode("ascii") + b")\r\n"


MANY = 5_000  # numbers written in one go: other threads wait for it


@dataclass(frozen=True, slots=True)
class SearchResponse(Response):
    """`* SEARCH 1 2 3`, also with no number; `modseq` where MODSEQ was asked for (RFC 7162 section 3.1.5)."""

    word: ClassVar[str] = "SEARCH"

    numbers: Iterable[int]
    modseq: int | None = None

    def encode(self) -> bytes:
        suffix = "" if self.modseq is None else f" (MODSEQ {self.modseq})"
        numbers = list(self.numbers)
        some = [" ".join(map(str, numbers[at : at + MANY])) for at in range(0, len(numbers), MANY)]
        return (" ".join(("*", self.word, *some)) + suffix + "\r\n").encode("ascii")


@dataclass(frozen=True, slots=True)
class ESearch(Naming):
    """`* ESEARCH (TAG "a1") UID COUNT 2 ALL 4,7` (RFC 4731 section 3.1). What is None is left out.

    `partial`: the range asked for and what lies in it, maybe nothing (RFC 9394). `relevancy`: a score from
    1 to 100 for each message of ALL or PARTIAL (RFC 6203). `source`: mailbox and UIDVALIDITY (RFC 7377).
    """

    tag: str
    uid: bool
    minimum: int | None = None
    maximum: int | None = None
    count: int | None = None
    all: SequenceSet | None = None
    modseq: int | None = None
    partial: tuple[Partial, SequenceSet] | None = None
    relevancy: tuple[int, ...] | None = None
    source: tuple[str, int] | None = None

    def line(self, write: Callable[[str], bytes]) -> bytes:
        correlator = f'* ESEARCH (TAG "{self.tag}"'.encode("ascii")
        if self.source is not None:
            correlator += b" MAILBOX %b UIDVALIDITY %d" % (write(self.source[0]), self.source[1])
        words = ["UID"] if self.uid else []
        values: dict[str, object] = {
            "MIN": self.minimum,
            "MAX": self.maximum,
            "COUNT": self.count,
            "ALL": self.all or None,
        }
        if self.partial is not None:
            values["PARTIAL"] = f"({self.partial[0]} {self.partial[1] or 'NIL'})"
        if self.relevancy is not None:
            values["RELEVANCY"] = "(" + " ".join(map(str, self.relevancy)) + ")"
        values["MODSEQ"] = self.modseq
        words += [f"{name} {value}" for name, value in values.items() if value is not None]
        return b" ".join((correlator + b")", *(word.encode("ascii") for word in words))) + b"\r\n"


@dataclass(frozen=True, slots=True)
class Flags(Response):
    """`* FLAGS (...)`: the flags that the mailbox knows."""

    names: tuple[str, ...]

    def encode(self) -> bytes:
        return b"* FLAGS " + flags(self.names) + b"\r\n"


@dataclass(frozen=True, slots=True)
class Exists(Response):
    """`* n EXISTS`."""

    count: int

    def encode(self) -> bytes:
        return b"* %d EXISTS\r\n" % self.count


@dataclass(frozen=True, slots=True)
class Recent(Response):
    """`* n RECENT`."""

    count: int

    def encode(self) -> bytes:
        return b"* %d RECENT\r\n" % self.count


@dataclass(frozen=True, slots=True)
class Expunged(Response):
    """`* n EXPUNGE`, by sequence number."""

    number: int

    def encode(self) -> bytes:
        return b"* %d EXPUNGE\r\n" % self.number


@dataclass(frozen=True, slots=True)
class Vanished(Response):
    """`* VANISHED (EARLIER) 4,7`, by UID (RFC 7162 section 3.2.10)."""

    uids: SequenceSet
    earlier: bool = False

    def encode(self) -> bytes:
        return f"* VANISHED {'(EARLIER) ' if self.earlier else ''}{self.uids}\r\n".encode("ascii")


def fetch(number: int, items: Iterable[bytes]) -> bytes:
    """`* n FETCH (...)` of ready items: `fetch(3, [b"UID 7", b"FLAGS " + flags(names)])`."""
    return b"* %d FETCH (%b)\r\n" % (number, b" ".join(items))


def fetch_uid(uid: int, items: Iterable[bytes]) -> bytes:
    """`* n UIDFETCH (...)`, which takes the place of FETCH after ENABLE UIDONLY (RFC 9586 section 3.3)."""
    return b"* %d UIDFETCH (%b)\r\n" % (uid, b" ".join(items))


# Extensions


@dataclass(frozen=True, slots=True)
class Namespaces(Naming):
    """`* NAMESPACE (("" "/")) NIL NIL` (RFC 2342): our own, and prefixes of other users' and shared ones."""

    prefix: str = ""
    delimiter: str = "/"
    others: tuple[str, ...] = ()
    shared: tuple[str, ...] = ()

    def line(self, write: Callable[[str], bytes]) -> bytes:
        spaces = ((self.prefix,), self.others, self.shared)
        return b"* NAMESPACE %b %b %b\r\n" % tuple(self._space(names, write) for names in spaces)

    def _space(self, names: tuple[str, ...], write: Callable[[str], bytes]) -> bytes:
        if not names:
            return NIL
        pairs = (parenthesized([quoted(write(name)), quote(self.delimiter)]) for name in names)
        return b"(" + b"".join(pairs) + b")"


@dataclass(frozen=True, slots=True)
class Identity(Response):
    """`* ID (...)` (RFC 2971 section 3.2); NIL if there is nothing to tell."""

    parameters: tuple[tuple[str, str | None], ...] = ()

    def encode(self) -> bytes:
        words = [word for name, value in self.parameters for word in (quote(name), nstring(value))]
        return b"* ID " + (parenthesized(words) if words else NIL) + b"\r\n"


@dataclass(frozen=True, slots=True)
class Quota(Response):
    """`* QUOTA root (STORAGE 10 512)`: resources as name, usage, limit; STORAGE in units of 1024 octets."""

    root: str
    resources: tuple[tuple[str, int, int], ...]

    def encode(self) -> bytes:
        resources = " ".join(f"{name} {usage} {limit}" for name, usage, limit in self.resources)
        return b"* QUOTA " + quote(self.root) + b" (" + resources.encode("ascii") + b")\r\n"


@dataclass(frozen=True, slots=True)
class QuotaRoot(Naming):
    """`* QUOTAROOT INBOX ""`: the quota roots of a mailbox, maybe none."""

    name: str
    roots: tuple[str, ...]

    def line(self, write: Callable[[str], bytes]) -> bytes:
        return b" ".join((b"* QUOTAROOT", write(self.name), *map(quote, self.roots))) + b"\r\n"
