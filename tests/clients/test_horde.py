"""Horde's IMAP library (that of Horde's and Nextcloud's webmail), which knows extensions that few others use."""

from __future__ import annotations

import json
import shutil
from pathlib import Path
from typing import Any

import pytest

from tests.clients.test_programs import ran
from tests.running import RunningStack

LIBRARY = Path("/usr/share/php/Horde/Imap/Client.php")


@pytest.fixture(scope="module")
def said(stack: RunningStack) -> dict[str, Any]:
    """What it found out, by subject."""
    php = shutil.which("php")
    if php is None or not LIBRARY.exists():
        pytest.skip(
            "Horde's library is not there; get it with: apt-get install php-cli php-horde-imap-client"
        )
    words = (stack.ports["imaps"], stack.address("horde"), "horde-secret", stack.address("bob"), stack.ca)
    out = ran(php, str(Path(__file__).with_name("horde.php")), *map(str, words)).stdout
    lines = [line.partition(" ") for line in out.splitlines()]
    assert lines[-1][0] == "DONE", out
    found: dict[str, Any] = {"fetch": [], "thread": []}  # which are said several times
    for name, _, value in lines[:-1]:
        if isinstance(found.get(name), list):
            found[name] += [json.loads(value)] if name == "fetch" else json.loads(value)
        else:
            found[name] = json.loads(value)
    return found


def test_it_introduces_itself(said: dict[str, Any]) -> None:
    """ID, LANGUAGE (or it could not have logged in), NAMESPACE."""
    assert said["id"]["name"] == "mailstack"
    assert said["namespaces"] == ["", "Other Users/"]


def test_mailboxes_in_one_command(said: dict[str, Any]) -> None:
    """CREATE-SPECIAL-USE in UTF-8; LIST-EXTENDED, CHILDREN, SPECIAL-USE and LIST-STATUS together."""
    assert said["list"] == {
        "Horde": [["\\subscribed", "\\haschildren"], 4],
        "Horde/Entwürfe": [["\\hasnochildren", "\\drafts"], 0],
    }


def test_messages_put_together(said: dict[str, Any]) -> None:
    """MULTIAPPEND as literal8 after ENABLE UTF8=ACCEPT, CATENATE of a URL, BINARY decoded here."""
    assert said["appended"] == [1, 2, 3]
    assert said["catenated"] == [4]
    assert said["fetch"] == [
        [2, "Grüße Nummer 1", "8bit", "letter 1", True],
        [4, "Grüße Nummer 1", "8bit", "forwarded", True],
    ]


def test_searches(said: dict[str, Any]) -> None:
    """ESEARCH, SEARCHRES, SEARCH=FUZZY with SORT by relevancy, WITHIN, ESORT, SORT=DISPLAY, THREAD."""
    assert said["search"] == ["4", "1", "4", [1, 2, 3, 4], True]
    assert said["saved"] == [3]
    assert said["fuzzy"] == [1, 2, 3]
    assert said["within"] == [1, 2, 3, 4]
    assert said["display"] == [1, 3, 2, 4]
    assert said["thread"] == [[2, 3], [2, 3], [2]]


def test_two_connections(said: dict[str, Any]) -> None:
    """CONDSTORE, QRESYNC, MOVE, UIDPLUS."""
    assert (said["stored"], said["late"]) == ([], [1])
    assert list(said["moved"]) == ["3"]
    changed, vanished, new = said["sync"]
    assert 1 in changed
    assert (vanished, new) == ([4], [])


def test_rights_and_notes(said: dict[str, Any]) -> None:
    """METADATA with its options, ACL, QUOTA."""
    assert said["metadata"] == {"Horde": {"/private/comment": "Größe"}}
    assert said["acl"] == {"horde@example.test": "lrswipkxtea", "bob@example.test": "lrskx"}
    assert (said["mine"], said["rights"]) == ("lrswipkxtea", "r")
    assert said["quota"] == []
