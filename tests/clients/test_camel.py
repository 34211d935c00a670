"""Camel, Evolution's library: it has the server tell of all mailboxes by NOTIFY (RFC 5465), and asks no more."""

from __future__ import annotations

import json
import re
import subprocess
from pathlib import Path
from typing import Any

import pytest

from tests.clients.test_programs import ran
from tests.more_peers import program
from tests.running import PATIENCE, RunningStack

PYTHON = "/usr/bin/python3"  # the bindings are Debian's
SEES = """
import gi
gi.require_version("Camel", "1.2")
from gi.repository import Camel, Gio
assert Gio.TlsBackend.get_default().supports_tls()
assert Gio.SettingsSchemaSource.get_default().lookup("org.gnome.evolution-data-server", True)
"""
PACKAGES = "python3-gi gir1.2-camel-1.2 evolution-data-server-common glib-networking"


@pytest.fixture(scope="module")
def talk(stack: RunningStack, tmp_path_factory: pytest.TempPathFactory) -> tuple[dict[str, Any], str]:
    """What it found out, by subject; and the conversation as the library has logged it."""
    provider = program(
        "usr/lib/evolution-data-server/camel-providers/libcamelimapx.so", "evolution-data-server"
    )
    if (
        not Path(PYTHON).exists()
        or subprocess.run([PYTHON, "-c", SEES], capture_output=True, timeout=PATIENCE).returncode
    ):
        pytest.skip(f"Camel is not there; get it with: apt-get install {PACKAGES}")
    place = tmp_path_factory.mktemp("camel")
    words = (stack.ports["imaps"], stack.address("camel"), "camel-secret", stack.ca, place)
    script = Path(__file__).with_name("camel.py")
    environment = {"EDS_CAMEL_PROVIDER_DIR": str(provider.parent), "CAMEL_DEBUG": "imapx:io"}
    alone = {"PYTHONPATH": "", "HOME": str(place), "GSETTINGS_BACKEND": "memory"}
    out = ran(PYTHON, "-W", "ignore", str(script), *map(str, words), **environment, **alone).stdout
    lines = [line.partition(" ") for line in out.splitlines()]
    found = {name: json.loads(value) for name, _, value in lines if value}
    assert "DONE" in found, out
    return found, (place / "said").read_text()


def test_it_subscribes_to_everything(talk: tuple[dict[str, Any], str]) -> None:
    """NOTIFY with what it wants of new messages; LIST-STATUS; and it idles: what comes then, nobody asked for."""
    _, conversation = talk
    notify = re.search(
        r"NOTIFY SET \(selected \(MessageNew \(UID RFC822.SIZE RFC822.HEADER FLAGS BODYSTRUCTURE( PREVIEW)?\)"
        r" MessageExpunge FlagChange\)\) \(personal \(MessageNew MessageExpunge MailboxName SubscriptionChange\)\)",
        conversation,
    )
    assert notify
    assert bool(notify[1]) == (
        ' PREVIEW "' in conversation
    )  # RFC 8970: Camel 3.56 asks for it, and 3.46 does not
    assert "OK NOTIFY completed" in conversation
    assert (
        "RETURN (CHILDREN SUBSCRIBED STATUS (MESSAGES UNSEEN UIDVALIDITY UIDNEXT HIGHESTMODSEQ)"
        in conversation
    )
    assert " IDLE'" in conversation


def test_what_others_do_in_the_open_mailbox(talk: tuple[dict[str, Any], str]) -> None:
    """A new message with its header, flags and expunges, without a FETCH of its own."""
    found, conversation = talk
    assert (found["arrived"], found["flagged"], found["gone"]) == (["arrived"], True, [])
    # What it asks for itself, on connections with CONDSTORE too, comes without MODSEQ.
    assert re.search(
        r"\* 1 FETCH \(UID 1 RFC822.SIZE \d+ FLAGS .* MODSEQ \(\d+\) RFC822.HEADER ", conversation
    )


def test_what_others_do_elsewhere(talk: tuple[dict[str, Any], str]) -> None:
    """STATUS of a mailbox that is not open, LIST of one that is new, subscribed to, gone."""
    found, conversation = talk
    assert found["elsewhere"] == ["elsewhere"]
    assert "* STATUS Sent (UIDNEXT 2 MESSAGES 1 " in conversation
    assert (found["create"], found["subscribe"], found["delete"]) == (True, True, True)


def test_its_own_work(talk: tuple[dict[str, Any], str]) -> None:
    """CREATE in UTF-8, APPEND, SEARCH, FETCH, STORE, MOVE, and QRESYNC when a mailbox is opened again."""
    found, conversation = talk
    assert (found["appended"], found["subjects"], found["found"]) == ("1", ["Grüße"], [1, 0])
    assert found["text"] == "a needle in it\r\n"
    assert found["moved"] == [[], ["Grüße", "elsewhere"]]
    assert "SELECT Sent (QRESYNC (" in conversation
