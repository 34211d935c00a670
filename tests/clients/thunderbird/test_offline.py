"""What Thunderbird does without a connection, and what it makes of it afterwards."""

from __future__ import annotations

from tests.clients.test_libraries import imap
from tests.clients.thunderbird.account import Account
from tests.clients.thunderbird.program import Thunderbird
from tests.running import RunningStack, eventually


def test_a_folder_is_taken_offline(anna: Account, program: Thunderbird) -> None:
    """300 messages; read and marked without a connection, of which the server learns afterwards."""
    anna.gets(*(f"number {count}" for count in range(300)), mailbox="Many")
    eventually(lambda: anna.download("Many") == 300)
    program.goOffline()
    try:
        assert ".dots" in anna.source("Many", "number 250")
        anna.mark("Many", "number 7", {"starred": True})
    finally:
        program.goOnline()
    anna.open("Many")  # it may wait with what it has to tell of a folder until that is opened
    anna.kept("Many", lambda flags: "\\Flagged" in flags["number 7"])


def test_what_was_done_offline_happens_when_online(
    anna: Account, program: Thunderbird, stack: RunningStack
) -> None:
    """Flag, tag, copy, move, delete, a message to send: the server has all of it, and each once.

    The oldest message is moved: where it was only marked or copied, Thunderbird 153 does the rest of that folder when
    the folder is next opened, with any server. A draft is left out: now and then its playback opens Drafts, appends
    nothing and goes on to the next folder.
    """
    anna.gets("moved", "gone", "copied", "tagged", "starred", mailbox="Plane")
    anna.gets(mailbox="Landed")
    anna.download("Plane")
    program.goOffline()
    try:
        anna.mark("Plane", "starred", {"starred": True})
        anna.mark("Plane", "tagged", {"tag": "$label1"})
        anna.transfer("Plane", ["copied"], "Landed", False)
        anna.transfer("Plane", ["moved"], "Landed", True)
        anna.remove("Plane", "gone")
        written = {"to": stack.address("alice"), "body": "above the clouds"}
        anna.write({**written, "subject": "from the plane", "then": ["Later"]})
    finally:
        program.goOnline()
    eventually(lambda: anna.titles("Plane") == ["copied", "starred", "tagged"])
    eventually(lambda: anna.titles("Landed") == ["copied", "moved"])
    anna.kept("Plane", lambda flags: "\\Flagged" in flags["starred"] and "$label1" in flags["tagged"])
    eventually(lambda: anna.titles("Trash").count("gone") == 1)
    eventually(lambda: anna.titles("Sent").count("from the plane") == 1)
    with imap(stack, "alice") as client:
        client.select_folder("INBOX")
        [_] = eventually(lambda: client.noop() and client.search(["SUBJECT", "from the plane"]))
