"""ImapFlow, the IMAP library of many programs in Node: it turns IMAP4rev2, QRESYNC and UTF-8 on together."""

from __future__ import annotations

import json
from pathlib import Path

from tests.clients.test_programs import ran
from tests.more_peers import node
from tests.running import RunningStack


def test_it_speaks_revision_2(stack: RunningStack) -> None:
    environment = node("imapflow")
    stack.configured("user", "quota", stack.address("flow"), "20M")
    words = (str(stack.ports["imaps"]), stack.address("flow"), "flow-secret", str(stack.ca))
    out = ran("node", str(Path(__file__).with_name("imapflow.cjs")), *words, **environment).stdout
    lines = [line.partition(" ")[::2] for line in out.splitlines()]
    assert lines[-1][0] == "DONE", out
    said = {name: json.loads(value) for name, value in lines[:-1]}
    assert said["enabled"] == ["CONDSTORE", "IMAP4REV2", "QRESYNC", "UTF8=ACCEPT"]
    assert said["limit"] == 50 * 1024 * 1024  # APPENDLIMIT
    assert said["made"] == ["Flow/Bücher", True, "string"]  # OBJECTID
    assert said["appended"] == 1
    assert said["status"].items() >= {"messages": 3, "unseen": 2, "deleted": 0}.items()  # in LIST; RFC 9208
    assert said["status"]["size"] > 500
    assert {"\\Archive", "\\Drafts", "\\Junk", "\\Sent", "\\Trash"} <= set(said["special"])
    assert said["open"] == [3, True, True]
    assert said["fetched"] == [1, ["Work", "\\Seen"], "string", "text/plain"]
    assert (said["same"], said["thread"], said["search"]) == ([1], [1, 2], [2, 3])
    assert said["text"] == "Grüße"
    assert said["moved"] == [3]
    assert said["heard"] == [["gone", 3, True], ["flags", 2, ["\\Flagged"]]]
    assert said["changed"] == [2]
    assert said["quota"]["storage"]["limit"] == 20 * 1024 * 1024
