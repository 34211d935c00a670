"""After all other files of this folder: neither side has said what the other did not like."""

from __future__ import annotations

import re

from tests.clients.thunderbird.program import Thunderbird
from tests.running import RunningStack


def test_both_sides_understood_each_other(program: Thunderbird, stack: RunningStack) -> None:
    """In all that the other tests did: no BAD, no NO, no 4xx or 5xx, no -ERR; no answer of ours is a riddle to it.

    But for the login by a token that had expired, and for what one of its connections asks about a folder that
    another has just renamed.
    """
    assert [line for line in program.log().splitlines() if "Syntax Error" in line] == []
    refused = re.compile(
        r" conversation: (imaps? \S+ S: \S+ (BAD|NO (?!\[(AUTHENTICATIONFAILED|NONEXISTENT)\]))|pop3s? \S+ S: -ERR"
        r"|(smtp|submissions?) \S+ S: [45]\d\d[ -](?!4\.3\.2 \S+ Shutting down))|unexpected|Traceback"
    )
    assert [line for line in stack.log().splitlines() if refused.search(line)] == []
    assert stack.log().count("login refused: ") == stack.log().count(
        "login refused: token refused: Signature has"
    )
