"""A full disk and a locked database: 4xx or NO, nothing lost, and service goes on when it clears."""

from __future__ import annotations

import smtplib
import sqlite3
import subprocess
from pathlib import Path

import pytest
from imapclient import IMAPClient
from imapclient.exceptions import IMAPClientError

from tests.clients.test_libraries import imap, trusting
from tests.running import PATIENCE, RunningStack, eventually, running

BIG = b"From: a@elsewhere.test\r\nSubject: big\r\n\r\n" + (b"x" * 70 + b"\r\n") * 14_000  # about 1 MB


def send(stack: RunningStack, data: bytes) -> int:
    """Send one message from outside to bob; return the code of the last answer."""
    with smtplib.SMTP("127.0.0.1", stack.ports["smtp"], timeout=PATIENCE) as smtp:
        smtp.ehlo()
        smtp.mail("a@elsewhere.test")
        code, _ = smtp.rcpt(stack.address("bob"))
        if code == 250:
            code, _ = smtp.data(data)
        assert smtp.noop()[0] == 250  # the session goes on
        return code


def test_a_locked_database_is_a_temporary_failure(tmp_path: Path) -> None:
    with running(tmp_path / "example", settings=["database.busy_timeout=0.2"]) as stack:
        assert send(stack, b"Subject: before\r\n\r\n") == 250
        with imap(stack, "bob") as client:
            client.select_folder("INBOX")
            lock = sqlite3.connect(stack.directory / "data" / "mailstack.db", isolation_level=None)
            lock.execute("BEGIN IMMEDIATE")
            assert 400 <= send(stack, b"Subject: during\r\n\r\n") < 500
            with pytest.raises(IMAPClientError):
                client.add_flags([1], [rb"\Flagged"])
            lock.execute("ROLLBACK")
            lock.close()
            assert send(stack, b"Subject: after\r\n\r\n") == 250
            client.add_flags([1], [rb"\Flagged"])
            client.noop()
            assert client.search(["SUBJECT", "during"]) == []
            assert len(client.search("ALL")) == 2


def _small_disk() -> list[str] | None:
    """How to run a command with a file system of its own, without being root."""
    words = ["unshare", "--user", "--map-root-user", "--mount"]
    try:
        done = subprocess.run(
            [*words, "mount", "-t", "tmpfs", "none", "/mnt"], capture_output=True, timeout=PATIENCE
        )
    except FileNotFoundError:
        return None
    return words if done.returncode == 0 else None


def test_a_full_disk_is_a_temporary_failure(tmp_path: Path) -> None:
    unshare = _small_disk()
    if unshare is None:
        pytest.skip(
            "a file system of a few MB takes user namespaces: apt-get install util-linux, and a kernel that allows them"
        )
    stack = RunningStack(tmp_path / "example")
    data = stack.directory / "data"
    copy = tmp_path / "copy"
    stack.wrap(
        [
            *unshare,
            "sh",
            "-c",
            f'cp -a "{data}" "{copy}" && mount -t tmpfs -o size=12m none "{data}" && cp -a "{copy}/." "{data}" && exec "$@"',
            "sh",
        ]
    )
    stack.start()
    try:
        delivered = 0
        while (code := send(stack, BIG)) == 250:
            delivered += 1
            assert delivered < 20, "the disk does not fill"
        assert 400 <= code < 500
        assert 400 <= send(stack, BIG) < 500
        client = IMAPClient("localhost", stack.ports["imaps"], ssl_context=trusting(stack))
        client.login(stack.address("bob"), "bob-secret")
        client.select_folder("INBOX")
        uids = client.search("ALL")
        assert len(uids) == delivered
        for uid in uids:
            assert client.fetch([uid], ["BODY.PEEK[]"])[uid][b"BODY[]"].endswith(BIG)
        client.delete_messages(uids[:3])
        client.expunge()
        eventually(lambda: send(stack, BIG) == 250)  # the files go a moment after the EXPUNGE
        client.noop()
        assert len(client.search("ALL")) == delivered - 2
        client.logout()
    finally:
        stack.stop()
