"""Messages and keys for the tests of signing."""

from __future__ import annotations

from mailstack.mail.dkim import PrivateKey, Signer

RSA = PrivateKey.make("rsa")
ED25519 = PrivateKey.make("ed25519")
SIGNERS = (Signer("a.test", "ed", ED25519), Signer("a.test", "rs", RSA))
NOW = 1_700_000_000
RECORDS = {
    "rs._domainkey.a.test": [RSA.record().encode()],
    "ed._domainkey.a.test": [ED25519.record().encode()],
}

HEADER = (
    b"From: Alice <alice@a.test>\r\nTo:  bob@b.test,\r\n\t eve@b.test\r\nSubject: a  test\t of\r\n  folding \r\n"
    b"Date: Sun, 22 Nov 2026 12:00:00 +0000\r\nMessage-ID: <1@a.test>\r\nMIME-Version: 1.0\r\n"
    b"X-Other: one\r\nReferences: <0@a.test>\r\n"
)

BODIES = {
    "plain": b"Hello\r\n",
    "empty": b"",
    "blank lines": b"\r\n\r\n\r\n",
    "no last line end": b"Hello",
    "blank lines behind": b"Hello\r\n\r\n\r\n",
    "blanks": b" Hello \t you  \r\n\t\r\n \r\nand\t\tyou \r\n \r\n",
    "blank lines between": b"\r\n\r\nHello\r\n\r\n\r\nthere\r\n",
    "only blanks": b" \t \r\n",
    "eight bits": "Grüße\r\n".encode(),
    "long": b"0123456789 abcdef  ghijk\t\r\n" * 30_000 + b"\r\n" * 5,
}


def message(body: bytes) -> bytes:
    """A message with that body."""
    return HEADER + b"\r\n" + body


def txt(name: bytes, timeout: int = 5) -> bytes | None:
    """What dkimpy asks the DNS."""
    found = RECORDS.get(name.decode().rstrip("."))
    return found[0] if found else None
