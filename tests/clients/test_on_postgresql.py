"""The whole stack on PostgreSQL: the operator's commands, delivery, queue, IMAP; and again after a kill -9."""

from __future__ import annotations

from pathlib import Path

from tests.clients.test_libraries import imap, letter, submit
from tests.postgres import fresh_database
from tests.running import RunningStack, free_ports


def test_the_stack_on_postgresql(tmp_path: Path) -> None:
    [nobody] = free_ports(1)
    settings = [f'database.url="{fresh_database()}"', f'mta.routes={{"*"="smtp://127.0.0.1:{nobody}"}}']
    stack = RunningStack(tmp_path / "example", users=(), settings=settings)
    stack.configured("db", "upgrade")
    stack.configured("domain", "add", stack.domain)
    for user in ("alice", "bob"):
        stack.add_user(user)
    try:
        for subject in ("before", "after"):
            stack.start()
            message = letter(stack, "alice", "bob", subject)
            message["Cc"] = f"{subject}@elsewhere.test"
            submit(stack, "alice", message)
            with imap(stack, "bob") as client:
                client.select_folder("INBOX")
                assert len(client.search(["SUBJECT", subject])) == 1
                client.add_flags(client.search("ALL"), [rb"\Flagged"])
            stack.kill()
        queued = {entry["recipient"] for entry in stack.json("queue", "list")}
        assert queued == {"before@elsewhere.test", "after@elsewhere.test"}
        stack.start()
        with imap(stack, "bob") as client:
            client.select_folder("INBOX", readonly=True)
            assert client.search("FLAGGED") == [1, 2]
    finally:
        stack.stop()
