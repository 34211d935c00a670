"""A user's limit: seen in IMAP, refused at RCPT once it is reached, and mail flows again when there is room."""

from __future__ import annotations

import smtplib

from tests.clients.test_libraries import imap
from tests.running import RunningStack


def test_full_and_empty_again(stack: RunningStack) -> None:
    stack.configured(
        "user", "add", stack.address("small"), "--password-stdin", "--quota", "20K", stdin="small-secret\n"
    )
    letter = b"Subject: fills\r\n\r\n" + b"x" * 60 + b"\r\n" * 6000
    with smtplib.SMTP("127.0.0.1", stack.ports["smtp"]) as smtp:
        smtp.ehlo()

        def send(data: bytes) -> int:
            smtp.mail("a@elsewhere.test")
            code, _ = smtp.rcpt(stack.address("small"))
            if code == 250:
                code, _ = smtp.data(data)
            else:
                smtp.rset()
            return code

        assert send(letter) == 250
        assert send(letter) in (452, 552)  # too large for what is left
        assert send(b"Subject: fits\r\n\r\n" + b"y" * 7_500) == 250
        with imap(stack, "small") as client:
            [storage] = [one for one in client.get_quota_root("INBOX")[1] if one.resource == "STORAGE"]
            assert storage.limit == 20
            assert storage.usage >= 19
            client.select_folder("INBOX")
            assert len(client.search("ALL")) == 2
            while send(b"Subject: small\r\n\r\n") == 250:
                pass
            client.noop()
            client.delete_messages(client.search("ALL"))
            client.expunge()
            assert send(letter) == 250
