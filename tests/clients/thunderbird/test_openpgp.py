"""OpenPGP in Thunderbird: what it signs and encrypts comes back through our server without one octet changed."""

from __future__ import annotations

import pytest

from tests.clients.test_libraries import imap
from tests.clients.thunderbird.account import Account
from tests.running import RunningStack, eventually

TEXT = "Grüße\n.\n..\nFrom here\nblanks at the end  \n\nÄnde\n"


@pytest.fixture(scope="module")
def bert(bert: Account) -> Account:
    """With a key of his own, which he writes to himself with."""
    bert.makeKey()
    return bert


def raw(stack: RunningStack, user: str, mailbox: str, subject: str) -> bytes:
    """The only message with this subject, as the server keeps it."""
    with imap(stack, user) as client:
        client.select_folder(mailbox, readonly=True)
        [uid] = eventually(lambda: client.noop() and client.search(["SUBJECT", subject]))
        return bytes(client.fetch([uid], ["BODY.PEEK[]"])[uid][b"BODY[]"])


def body(message: bytes) -> bytes:
    return message.partition(b"\r\n\r\n")[2]


def test_a_signature_holds(bert: Account, stack: RunningStack) -> None:
    """As the receiver sees it; and whoever got it by Bcc has the same body without the field."""
    bert.write(
        {
            "to": bert.address,
            "bcc": stack.address("alice"),
            "subject": "signed",
            "body": TEXT,
            "secure": ["sign"],
        }
    )
    bert.shows("INBOX", ["signed"])
    seen = bert.readSecured("INBOX", "signed")
    assert (seen["signed"], seen["encrypted"]) == ("ok", "")
    assert "..\nFrom here\nblanks at the end" in seen["text"].replace("\n ", "\n")
    sent = raw(stack, bert.user, "Sent", "signed")
    assert b"multipart/signed" in sent
    for user in (bert.user, "alice"):
        got = raw(stack, user, "INBOX", "signed")
        assert body(got) == body(sent)
        assert b"\nBcc:" not in got
    bert.remove("INBOX", "signed", True)


def test_encrypted_with_its_subject(bert: Account, stack: RunningStack) -> None:
    """The server knows neither text nor subject; in the window both are there, and the signature within is good."""
    bert.write(
        {"to": bert.address, "subject": "geheim ✓", "body": TEXT, "secure": ["sign", "encrypt", "subject"]}
    )
    bert.shows("INBOX", ["..."])
    kept = raw(stack, bert.user, "INBOX", "...")
    assert b"multipart/encrypted" in kept
    assert body(kept) == body(raw(stack, bert.user, "Sent", "..."))
    seen = bert.readSecured("INBOX", "...")
    assert (seen["signed"], seen["encrypted"]) == ("ok", "ok")
    assert seen["subject"].endswith("geheim ✓")
    assert "From here" in seen["text"]
    assert "Ände" in seen["text"]
