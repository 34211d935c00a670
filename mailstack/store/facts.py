"""What is computed once of a message, when it comes: what every client asks for afterwards."""

from __future__ import annotations

import mmap

from twisted.logger import Logger

from mailstack.mail.fields import split_fields
from mailstack.mail.mime import scan
from mailstack.mail.mime_part import Part, pack
from mailstack.store.heading import Heading, heading_of_fields
from mailstack.store.identity import email_id, thread_id
from mailstack.store.preview import preview
from mailstack.store.values import Facts
from mailstack.wire.imap import structure

# Kept in the index, so that the usual BODY[HEADER.FIELDS (...)] needs no file.
COMMON_FIELDS = frozenset(
    {
        *(b"from", b"sender", b"reply-to", b"to", b"cc", b"bcc", b"subject", b"date", b"message-id"),
        *(b"in-reply-to", b"references", b"newsgroups", b"followup-to", b"priority", b"x-priority"),
        *(b"importance", b"content-type", b"content-transfer-encoding", b"mime-version", b"list-id"),
        *(b"list-post", b"list-unsubscribe", b"delivered-to"),
    }
)
MAX_FIELD = 8 * 1024  # octets
MAX_FIELDS = 64 * 1024  # octets of all common fields
MAX_HEADER = 1024 * 1024  # octets of a header section that are looked at for ENVELOPE

_log = Logger()


def compute_facts(data: bytes | mmap.mmap) -> Facts:
    """The facts of a whole message. Never raises: mail that puzzles us is still mail."""
    identity = email_id(data)
    try:
        return _facts(data, scan(data), identity)
    except Exception:
        _log.failure("the structure of a message could not be read; it is kept as plain text")
    try:
        return _facts(data, _plain(data), identity)
    except Exception:
        return Facts(header_size=_plain(data).body, email_id=identity, thread_id=thread_id((), identity))


def _facts(data: bytes | mmap.mmap, part: Part, identity: bytes) -> Facts:
    header = bytes(data[part.header : min(part.body, part.header + MAX_HEADER)])
    split = split_fields(header)
    common = [field for field in split if field[0] in COMMON_FIELDS]
    fields = _joined([raw for _, raw in common])
    body, body_structure = structure.bodies(part)
    return Facts(
        structure.envelope_of_fields(common) if fields else structure.envelope(header),
        body,
        body_structure,
        fields,
        pack(part),
        part.body - part.header,
        identity,
        thread_id(split, identity),
        _preview(part, data),
        *(heading_of_fields(common).kept() if fields else Heading()),
    )


def _preview(part: Part, data: bytes | mmap.mmap) -> bytes:
    try:
        return preview(part, data)
    except Exception:
        _log.failure("a preview could not be made; it is empty")
        return b""


def _joined(fields: list[bytes]) -> bytes:
    """The common fields whole, in order; or nothing where they are too long: then readers take the header."""
    if any(len(raw) > MAX_FIELD for raw in fields) or sum(map(len, fields)) > MAX_FIELDS:
        return b""
    return b"".join(fields)


def _plain(data: bytes | mmap.mmap) -> Part:
    size = len(data)
    at = data.find(b"\r\n\r\n")
    return Part(
        header=0,
        body=size if at < 0 else at + 4,
        end=size,
        lines=0,
        type="text",
        subtype="plain",
        parameters=(),
        id=None,
        description=None,
        encoding="8bit",
        md5=None,
        disposition=None,
        language=(),
        location=None,
        children=(),
    )
