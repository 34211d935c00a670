"""A real Postfix as next hop that says no in its own ways: what becomes of the mail, and what is kept of why."""

from __future__ import annotations

import smtplib
from collections.abc import Iterator
from typing import Any

import pytest

from tests.peers import postfix
from tests.running import RunningStack, eventually, running

RULES = (
    "inline:{ {grey@strict.test=450 4.2.0 Greylisted} {later@strict.test=421 4.3.2 Come_back} "
    "{never@strict.test=554 5.7.1 Not_you} {gone@strict.test=550 5.1.1 Nobody} }"
)
SETTINGS = {
    "smtputf8_enable": "no",
    "message_size_limit": "20000",
    "smtpd_recipient_restrictions": f"check_recipient_access {RULES}, permit_mynetworks, reject",
    "postscreen_access_list": "static:reject",
    "postscreen_denylist_action": "drop",
    "postscreen_blacklist_action": "drop",
    "postscreen_greet_wait": "1s",
}
TO = {
    "grey@strict.test": ("deferred", "450 4.2.0", "Greylisted"),
    "later@strict.test": ("deferred", "421 4.3.2", "Come_back"),
    "never@strict.test": ("bounced", "554 5.7.1", "Not_you"),
    "gone@strict.test": ("bounced", "550 5.1.1", "Nobody"),
    "big@strict.test": ("bounced", "552 5.3.4", "the server takes 20000"),
    "j\u00f6rg@strict.test": ("bounced", "554 5.6.7", "UTF-8"),
    "anybody@screened.test": ("bounced", "521 5.3.2", ""),
}


@pytest.fixture(scope="module")
def ours(tmp_path_factory: pytest.TempPathFactory) -> Iterator[RunningStack]:
    """Our stack, which has sent each of them a message."""
    with postfix("strict.test", SETTINGS) as theirs:
        routes = (
            f'mta.routes={{"strict.test"="smtp://127.0.0.1:{theirs.port}", '
            f'"screened.test"="smtp://127.0.0.1:{theirs.screened}"}}'
        )
        settings = (routes, "auth.plaintext_networks=['127.0.0.0/8']")
        folder = tmp_path_factory.mktemp("strict")
        with running(folder / "ours", users=("alice",), settings=settings) as stack:
            with smtplib.SMTP("127.0.0.1", stack.ports["submission"]) as client:
                client.login(stack.address("alice"), "alice-secret")
                client.ehlo()
                for to in TO:
                    assert (
                        client.mail(stack.address("alice"), ["SMTPUTF8"] if not to.isascii() else ())[0]
                        == 250
                    )
                    assert client.rcpt(to)[0] == 250
                    body = "x" * 60 + "\r\n"
                    text = f"From: alice@example.test\r\nSubject: hello\r\n\r\n{body * (400 if 'big' in to else 1)}"
                    assert client.data(text)[0] == 250
            yield stack


@pytest.mark.parametrize("to", TO)
def test_the_reason_is_kept(ours: RunningStack, to: str) -> None:
    event, code, words = TO[to]

    def ended() -> Any:
        """The trail's word on it, once there is one."""
        lines = ours.json("trace", to)
        return next((line for line in lines if line["event"] in ("deferred", "bounced", "sent")), None)

    line = eventually(ended)
    assert line["event"] == event, line
    assert line["detail"]["reply"].startswith(code), line
    assert words in line["detail"]["reply"]
    entries = [one for one in ours.json("queue", "list") if one["recipient"] == to]
    assert len(entries) == (event == "deferred")
    for entry in entries:
        assert code in entry["last_reply"]
        assert words in entry["last_reply"]
        assert (entry["state"], entry["attempts"]) == ("waiting", 1)


def test_the_operator_is_in_the_trail(ours: RunningStack) -> None:
    """Held, released, tried again, dropped, each with a name."""
    to = "grey@strict.test"
    [entry] = eventually(
        lambda: [one for one in ours.json("queue", "list") if one["recipient"] == to and not one["active"]]
    )
    for verb in ("hold", "release", "retry", "drop"):
        words = ("--yes",) if verb == "drop" else ()
        eventually(lambda verb=verb, words=words: changed(ours, verb, str(entry["id"]), *words))
    events = ["held", "released", "retried", "dropped"]
    told = [line for line in ours.json("trace", to) if line["event"] in events]
    assert [line["event"] for line in told] == events
    assert all(line["detail"]["by"] for line in told)
    assert not [one for one in ours.json("queue", "list") if one["recipient"] == to]


def changed(ours: RunningStack, verb: str, *words: str) -> bool:
    """Do it once the entry is in a state for that: an attempt may be under way."""
    try:
        ours.configured("queue", verb, *words)
    except AssertionError:
        return False
    return True
