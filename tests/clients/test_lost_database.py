"""The database is lost: what every client saw by IMAP comes back from the files (docs: step 6)."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from imapclient import IMAPClient

from tests.clients.test_libraries import imap, letter
from tests.running import RunningStack

NAMES = ("INBOX", "Archive", "Work", "Work/Deep &-er", "Grüße")


def _fill(client: IMAPClient, stack: RunningStack) -> None:
    for name in NAMES[2:]:
        client.create_folder(name)
    client.unsubscribe_folder("Junk")
    client.subscribe_folder("Work")
    client.subscribe_folder("not there")
    for name in NAMES:
        for number in range(4):
            client.append(name, bytes(letter(stack, "alice", "alice", f"{name} {number}".encode().hex())))
        client.select_folder(name)
        client.add_flags([1], [b"\\Seen", b"\\Flagged"])
        client.add_flags([2], [b"\\Answered", b"\\Draft", b"Project", b"$Forwarded"])
        client.add_flags([4], [b"Project"])
        client.delete_messages([3])
        client.expunge()
    client.rename_folder("Work", "Works")


def _seen(client: IMAPClient) -> dict[str, Any]:
    """All that a client can see."""
    listed = client.list_folders()
    seen: dict[str, Any] = {"list": sorted(listed), "subscribed": sorted(client.list_sub_folders())}
    for _, _, name in listed:
        box = client.select_folder(name, readonly=True)
        uids = client.search("ALL")
        found = (
            client.fetch(uids, ["FLAGS", "INTERNALDATE", "RFC822.SIZE", "ENVELOPE", "BODY.PEEK[]"])
            if uids
            else {}
        )
        for items in found.values():
            items[b"FLAGS"] = tuple(sorted(flag for flag in items[b"FLAGS"] if flag != b"\\Recent"))
            items.pop(b"SEQ")
        seen[name] = (box[b"UIDVALIDITY"], dict(found))
    return seen


def test_all_that_clients_saw_survives(tmp_path: Path) -> None:
    stack = RunningStack(tmp_path / "example", users=("alice",)).start()
    try:
        with imap(stack, "alice") as client:
            _fill(client, stack)
            before = _seen(client)
            next_uids = {
                name: client.folder_status(name, "UIDNEXT")[b"UIDNEXT"] for _, _, name in before["list"]
            }
        stack.stop()
        databases = [path for path in (stack.directory / "data").glob("mailstack.db*") if path.is_file()]
        assert databases
        for path in databases:
            path.unlink()
        stack.configured("db", "upgrade")
        stack.configured("domain", "add", stack.domain)
        stack.add_user("alice")
        stack.start()
        with imap(stack, "alice") as client:
            assert _seen(client) == before
            for name, uid in next_uids.items():
                assert client.folder_status(name, "UIDNEXT")[b"UIDNEXT"] >= uid
    finally:
        stack.stop()
