"""JavaMail's stores, on which most programs in Java are built: IMAP with its extensions, and POP3."""

from __future__ import annotations

import shutil
from pathlib import Path

import pytest

from tests.clients.test_libraries import imap, letter
from tests.clients.test_programs import ran
from tests.running import RunningStack

LIBRARY = Path("/usr/share/java/javax.mail.jar")


def test_its_stores(stack: RunningStack) -> None:
    """What it says of each; it fails where an answer is not what it must be."""
    if not LIBRARY.exists() or shutil.which("javac") is None:
        pytest.skip("no JavaMail; get it with: apt-get install libmail-java default-jdk-headless")
    stack.configured("user", "quota", stack.address("java"), "20M")
    with imap(stack, "java") as client:
        client.append("INBOX", bytes(letter(stack, "java", "java", "popped")))
    ports = [str(stack.ports[name]) for name in ("imaps", "imap", "pop3")]
    people = [stack.address("java"), "java-secret", stack.address("bob")]
    jars = [LIBRARY, *LIBRARY.parent.glob("*activation*.jar")]
    words = ["java", "-XX:TieredStopAtLevel=1", "-XX:+UseSerialGC", "-cp", ":".join(map(str, jars))]
    source = str(Path(__file__).with_name("JavaStore.java"))
    said = ran(*words, source, *ports, *people).stdout.splitlines()
    assert said[:13] == [
        "id mailstack",  # in COMPRESS=DEFLATE from here on
        "namespaces 1 /",
        "appended 1 2 3",  # UIDPLUS
        "sorted cba",  # SORT
        "young 3 0",  # WITHIN
        "found 2",
        "moved true",  # MOVE
        "missed vanished[2]changed[true]",  # QRESYNC
        "pushed 1",  # IDLE
        "acl java@example.test=acdeiklprstwx",
        "acl bob@example.test=lrs",
        "mine true",
        "rights true",
    ]
    assert said[13].startswith("quota STORAGE=20")
    assert said[14:18] == ["utf8 Grüße", "uidl true", "top true", said[17]]
    assert said[17].startswith("retr popped ")
    with imap(stack, "java") as client:
        assert client.folder_status("INBOX", ["MESSAGES"]) == {b"MESSAGES": 0}
