"""ENVELOPE, BODY and BODYSTRUCTURE as finished IMAP syntax (RFC 3501 section 7.4.2).

Every string is written quoted: NUL, CR and LF cannot stand in one and become blanks. 8-bit text is written
in UTF-8, as clients read it that have enabled it (RFC 6855, RFC 9051); for others `downgrade` makes 7 bits
of it.
"""

from __future__ import annotations

import re
from collections.abc import Iterable
from functools import lru_cache

from mailstack.mail.fields import (
    ENVELOPE_FIELDS,
    Group,
    Mailbox,
    field_value,
    iterate_fields,
    parse_addresses,
)
from mailstack.mail.mime_part import Parameters, Part

MAX_HEADER = 256 * 1024  # octets of a header section that are read for an envelope
MAX_ADDRESSES = 64 * 1024  # of them, those of one kind of address field

_SHORT = 256  # octets of an address field that is remembered as it is written: the same people write again

_UNSAFE = re.compile(r"[^\x01-\x08\x0b\x0c\x0e-\x21\x23-\x5b\x5d-\x7f]")
_FORBIDDEN = dict.fromkeys(b"\0\t\r\n", " ")  # the tab may stand there, but comes from folding
_ADDRESS_FIELDS = frozenset((b"from", b"sender", b"reply-to", b"to", b"cc", b"bcc"))


def string(text: str | None) -> bytes:
    """An nstring: NIL or a quoted string in UTF-8 (RFC 3501 section 4.3, RFC 6855 section 3)."""
    if text is None:
        return b"NIL"
    if _UNSAFE.search(text) is not None:
        text = text.translate(_FORBIDDEN).replace("\\", "\\\\").replace('"', '\\"')
    return b'"%s"' % text.encode("utf-8", "replace")


def envelope(header: bytes) -> bytes:
    """The parenthesized ENVELOPE of a header section; no literal; never raises.

    Several fields of one address kind count as one; of the others the last holds. Sender and Reply-To default
    to From. Dates are as written. Source routes are NIL; an address without a domain has the host "".
    """
    return envelope_of_fields(iterate_fields(header[:MAX_HEADER]))


def envelope_of_fields(fields: Iterable[tuple[bytes, bytes]]) -> bytes:
    """The same of fields that are split already (`mail.fields.split_fields`)."""
    texts: dict[bytes, str] = {}
    lists: dict[bytes, bytes] = {}
    for name, raw in fields:
        if name in _ADDRESS_FIELDS:
            written = _recurring(raw) if len(raw) <= _SHORT else _addresses(raw)
            lists[name] = lists.get(name, b"") + written
        elif name in ENVELOPE_FIELDS:
            texts[name] = field_value(raw)
    from_ = lists.get(b"from")
    return b"(%s %s %s %s %s %s %s %s %s %s)" % (
        string(texts.get(b"date")),
        string(texts.get(b"subject")),
        _listed(from_),
        _listed(lists.get(b"sender") or from_),
        _listed(lists.get(b"reply-to") or from_),
        _listed(lists.get(b"to")),
        _listed(lists.get(b"cc")),
        _listed(lists.get(b"bcc")),
        string(texts.get(b"in-reply-to")),
        string(texts.get(b"message-id")),
    )


def _listed(addresses: bytes | None) -> bytes:
    return b"(%s)" % addresses if addresses else b"NIL"


def _addresses(raw: bytes) -> bytes:
    written: list[bytes] = []
    for address in parse_addresses(field_value(raw)[:MAX_ADDRESSES]):
        if isinstance(address, Group):
            written.append(b"(NIL NIL %s NIL)" % string(address.name))
            written.extend(map(_address, address.members))
            written.append(b"(NIL NIL NIL NIL)")
        else:
            written.append(_address(address))
    return b"".join(written)


_recurring = lru_cache(maxsize=4_000)(_addresses)


def _address(address: Mailbox) -> bytes:
    return b"(%s NIL %s %s)" % (
        string(address.name),
        string(address.local_part),
        string(address.domain),
    )


def bodies(part: Part) -> tuple[bytes, bytes]:
    """The parenthesized BODY (no extension data) and BODYSTRUCTURE of a scanned part; no literals."""
    if part.is_multipart:
        parts = [bodies(child) for child in part.children]
        subtype = string(part.subtype)
        extended = b"%s %s" % (_parameters(part.parameters), _extension(part))
        return (
            b"(%s %s)" % (b"".join([body for body, _ in parts]), subtype),
            b"(%s %s %s)" % (b"".join([structure for _, structure in parts]), subtype, extended),
        )
    written = _basic(part)
    extended = b"%s %s" % (string(part.md5), _extension(part))
    if not part.is_message:
        lines = b" %d" % part.lines if part.type == "text" else b""
        return b"(%s%s)" % (written, lines), b"(%s%s %s)" % (written, lines, extended)
    [embedded] = part.children
    written += b" " + envelope(embedded.fields)
    body, structure = bodies(embedded)
    return (
        b"(%s %s %d)" % (written, body, part.lines),
        b"(%s %s %d %s)" % (written, structure, part.lines, extended),
    )


def _basic(part: Part) -> bytes:
    """What every leaf has, text and embedded messages too."""
    parameters = part.parameters
    if part.type == "text" and part.value("charset") is None:
        parameters = (*parameters, ("charset", "us-ascii"))  # RFC 2045 section 5.2
    return b"%s %s %s %s %d" % (
        _kind(part.type, part.subtype, parameters),
        string(part.id),
        string(part.description),
        string(part.encoding),
        part.size,
    )


@lru_cache(maxsize=250)
def _kind(type: str, subtype: str, parameters: Parameters) -> bytes:
    return b"%s %s %s" % (string(type), string(subtype), _parameters(parameters))


def _parameters(parameters: Parameters) -> bytes:
    if not parameters:
        return b"NIL"
    return b"(%s)" % b" ".join([b"%s %s" % (string(name), string(value)) for name, value in parameters])


def _extension(part: Part) -> bytes:
    """Disposition, language and location, which leaves and multiparts share."""
    if part.disposition is None and not part.language and part.location is None:
        return b"NIL NIL NIL"
    disposition = b"NIL"
    if part.disposition is not None:
        disposition = b"(%s %s)" % (string(part.disposition[0]), _parameters(part.disposition[1]))
    return b"%s %s %s" % (disposition, _languages(part.language), string(part.location))


def _languages(languages: tuple[str, ...]) -> bytes:
    return b"(%s)" % b" ".join(map(string, languages)) if languages else b"NIL"
