"""Cyrus' imtest, which knows UNAUTHENTICATE (RFC 8437): the connection is then another user's."""

from __future__ import annotations

import os

from tests.clients.test_programs import run
from tests.more_peers import LIBRARIES, program
from tests.running import RunningStack

TYPED = """a SELECT INBOX
b UNAUTHENTICATE
c STATUS INBOX (MESSAGES)
d LOGIN {bob} bob-secret
e GETACL INBOX
f LOGOUT
"""


def test_one_connection_for_two_users(stack: RunningStack) -> None:
    environment = {
        "LD_LIBRARY_PATH": os.pathsep.join([str(LIBRARIES), os.environ.get("LD_LIBRARY_PATH", "")])
    }
    imtest = program("usr/lib/cyrus/bin/imtest", "cyrus-clients", {**os.environ, **environment})
    alice, bob = stack.address("alice"), stack.address("bob")
    words = (
        "-s",
        "-p",
        str(stack.ports["imaps"]),
        "-m",
        "PLAIN",
        "-u",
        alice,
        "-a",
        alice,
        "-w",
        "alice-secret",
    )
    out = run(str(imtest), *words, "localhost", stdin=TYPED.format(bob=bob), **environment)
    lines = out.splitlines()
    assert "a OK [READ-WRITE] SELECT completed" in lines
    assert "b OK UNAUTHENTICATE completed" in lines
    assert "c BAD not allowed in the not authenticated state" in lines
    assert any(line.startswith("d OK [CAPABILITY") for line in lines)
    assert any(line.startswith("* ACL INBOX") and bob in line for line in lines), out
    assert "f OK LOGOUT completed" in lines
