"""kill -9 under load: what was answered with 250 is there once; what was not is there at most once.

The next hop gets a message twice only where its answer was lost, and the log says so. MAILSTACK_KILLS in the
environment is the number of kills.
"""

from __future__ import annotations

import itertools
import os
import random
import smtplib
import threading
import time
from collections import Counter
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.clients.test_libraries import imap
from tests.crash.sink import Sink
from tests.running import PATIENCE, RunningStack, eventually, free_ports

ROUNDS = int(os.environ.get("MAILSTACK_KILLS", "3"))
SENDERS = 4


@pytest.fixture
def sink() -> Iterator[Sink]:
    [port] = free_ports(1)
    one = Sink(port, unanswered=50)
    yield one
    one.close()


def test_nothing_is_lost_and_what_is_doubled_is_logged(tmp_path: Path, sink: Sink) -> None:
    stack = RunningStack(
        tmp_path / "example",
        settings=[
            f'mta.routes={{"*"="smtp://127.0.0.1:{sink.port}"}}',
            "auth.plaintext_networks=['127.0.0.0/8']",
        ],
    )
    numbers = itertools.count()
    tried: set[str] = set()
    accepted: set[str] = set()
    try:
        for _ in range(ROUNDS):
            stack.start()
            senders = [
                threading.Thread(target=_send, args=(stack, numbers, tried, accepted)) for _ in range(SENDERS)
            ]
            enough = len(accepted) + random.randrange(40, 120)
            for sender in senders:
                sender.start()
            while len(accepted) < enough:
                assert any(sender.is_alive() for sender in senders), stack.log()
                time.sleep(0.001)
            stack.kill()
            for sender in senders:
                sender.join()
        stack.start()
        _check(stack, sink, tried, accepted)
    finally:
        stack.stop()


def _send(stack: RunningStack, numbers: itertools.count[int], tried: set[str], accepted: set[str]) -> None:
    """Send to bob here and to somebody elsewhere, by submission, until the server dies."""
    try:
        with smtplib.SMTP("127.0.0.1", stack.ports["submission"], timeout=PATIENCE) as smtp:
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


def _check(stack: RunningStack, sink: Sink, tried: set[str], accepted: set[str]) -> None:
    def drained() -> bool:
        stack.configured("queue", "retry", "--all")  # what had no answer waits for minutes
        return stack.json("queue", "stats")["entries"] == 0

    eventually(drained)
    with imap(stack, "bob") as client:
        client.select_folder("INBOX", readonly=True)
        uids = client.search("ALL")
        envelopes = client.fetch(uids, ["ENVELOPE"])
        found = Counter(envelopes[uid][b"ENVELOPE"].subject.decode() for uid in uids)
        for uid, item in client.fetch(uids, ["BODY.PEEK[TEXT]<0.400>"]).items():
            assert any(value.endswith(b"text \r\n") for value in item.values() if isinstance(value, bytes)), (
                uid
            )
    doubled = [name for name, count in found.items() if count > 1]
    assert not doubled, f"doubled in the mailbox: {doubled}"
    for where, names in (("mailbox", found), ("next hop", sink.taken)):
        assert not accepted - set(names), f"lost from the {where}: {sorted(accepted - set(names))}"
        assert set(names) <= tried
    log = stack.log()
    repeated = Counter({name: count - 1 for name, count in sink.taken.items() if count > 1})
    for name, times in repeated.items():
        to = f"to=<{name}@elsewhere.test>"
        told = [
            line
            for line in log.splitlines()
            if to in line and ("may arrive twice" in line or "may have been taken" in line)
        ]
        assert len(told) >= times, f"{name} was sent {times + 1} times, and the log does not say why: {told}"
    print(
        f"{ROUNDS} kills: {len(tried)} tried, {len(accepted)} accepted, {len(found)} in the mailbox, "
        f"{len(sink.taken)} at the next hop, {sum(repeated.values())} repeated, "
        f"{sum(sink.unanswered.values())} without an answer"
    )
