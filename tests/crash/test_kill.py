"""kill -9 under load: what was answered with 250 is there once; what was not is there at most once."""

from __future__ import annotations

import itertools
import smtplib
import threading
import time
from collections import Counter
from pathlib import Path

from tests.clients.test_libraries import imap
from tests.running import RunningStack, free_ports

ROUNDS = 3
SENDERS = 4


def test_nothing_is_lost_and_nothing_doubled(tmp_path: Path) -> None:
    [nobody] = free_ports(1)  # no MTA listens there: what goes out stays in the queue
    stack = RunningStack(
        tmp_path / "example",
        settings=[
            f'mta.routes={{"*"="smtp://127.0.0.1:{nobody}"}}',
            "auth.plaintext_networks=['127.0.0.0/8']",
        ],
    )
    numbers = itertools.count()
    tried: set[str] = set()
    accepted: set[str] = set()
    try:
        for round_number in range(ROUNDS):
            stack.start()
            senders = [
                threading.Thread(target=_send, args=(stack, numbers, tried, accepted)) for _ in range(SENDERS)
            ]
            enough = len(accepted) + 60 + 37 * round_number
            for sender in senders:
                sender.start()
            while len(accepted) < enough:
                assert any(sender.is_alive() for sender in senders), stack.log()
                time.sleep(0.001)
            stack.kill()
            for sender in senders:
                sender.join()
        stack.start()
        _check(stack, tried, accepted)
    finally:
        stack.stop()


def _send(stack: RunningStack, numbers: itertools.count[int], tried: set[str], accepted: set[str]) -> None:
    """Send to bob here and to somebody elsewhere, by submission, until the server dies."""
    try:
        with smtplib.SMTP("127.0.0.1", stack.ports["submission"], timeout=30) as smtp:
            smtp.login(stack.address("alice"), "alice-secret")
            while True:
                name = f"id{next(numbers)}"
                tried.add(name)
                smtp.sendmail(
                    stack.address("alice"),
                    [stack.address("bob"), f"{name}@elsewhere.test"],
                    f"From: {stack.address('alice')}\r\nSubject: {name}\r\n\r\n{'text ' * 50}\r\n",
                )
                accepted.add(name)
    except (smtplib.SMTPException, OSError):
        pass  # that was the kill


def _check(stack: RunningStack, tried: set[str], accepted: set[str]) -> None:
    with imap(stack, "bob") as client:
        client.select_folder("INBOX", readonly=True)
        uids = client.search("ALL")
        envelopes = client.fetch(uids, ["ENVELOPE"])
        found = Counter(envelopes[uid][b"ENVELOPE"].subject.decode() for uid in uids)
        for uid in uids:
            assert client.fetch([uid], ["BODY.PEEK[]"])[uid][b"BODY[]"].endswith(b"text \r\n")
    queued = Counter(
        entry["recipient"].partition("@")[0] for entry in stack.json("queue", "list", "--limit", "100000")
    )
    for where, names in (("mailbox", found), ("queue", queued)):
        assert not accepted - set(names), f"lost from the {where}: {sorted(accepted - set(names))}"
        assert not [name for name, count in names.items() if count > 1], f"doubled in the {where}"
        assert set(names) <= tried
