"""Maildirs that a real Dovecot wrote are taken over in place: UIDs, UIDVALIDITY, flags, keywords, subscriptions."""

from __future__ import annotations

import os
import re
import shutil
import subprocess
import tempfile
from collections.abc import Iterator
from pathlib import Path

import pytest

from mailstack.store import dovecot
from mailstack.store.rows import MAILDIR
from tests.dovecot import dovecot_conf
from tests.running import PATIENCE
from tests.store.harness import Harness, now

IMAP = Path("/usr/lib/dovecot/imap")
SETTINGS = """
mail_uid = {uid}
mail_gid = {gid}
ssl = no
protocols = imap
namespace inbox {{
  inbox = yes
  separator = /
}}
"""
OLD = "mail_location = maildir:{folder}/home/Maildir\n"
NEW = "mail_driver = maildir\nmail_path = {folder}/home/Maildir\n"
READS_PACKED = ("mail_plugins = zlib\n", "mail_plugins {\n mail_compress = yes\n}\n")
WRITES_PACKED = (
    "plugin {{\n zlib_save = {how}\n zlib_save_level = 6\n}}\n",
    "mail_compress_write_method = {how}\n",
)


@pytest.fixture
def folder() -> Iterator[Path]:
    """Where Dovecot may write: it refuses to be root."""
    path = Path(tempfile.mkdtemp(prefix="mailstack-dovecot-"))
    for name in ("home", "run"):
        (path / name).mkdir()
    if os.geteuid() == 0:
        for each in (path, path / "home", path / "run"):
            os.chown(each, 65534, 65534)
    yield path
    shutil.rmtree(path)


class Dovecot:
    """Its imap program, logged in, without a server around it."""

    def __init__(self, folder: Path, packs: str | None = None) -> None:
        """It packs messages by gz, bz2 or zstd; given "", it only reads those that are packed."""
        if not IMAP.exists():
            pytest.skip("Dovecot is not installed")
        self.folder = folder
        self.ids = (65534, 65534) if os.geteuid() == 0 else (os.getuid(), os.getgid())
        own = [text.format(folder=folder) for text in (OLD, NEW)]
        if packs is not None:
            own = [text + plugin for text, plugin in zip(own, READS_PACKED, strict=True)]
        if packs:
            own = [text + plugin.format(how=packs) for text, plugin in zip(own, WRITES_PACKED, strict=True)]
        common = SETTINGS.format(uid=self.ids[0], gid=self.ids[1])
        self.conf = dovecot_conf(folder, common, old=own[0], new=own[1])

    def run(self, *commands: bytes) -> bytes:
        """Do the commands; what it says."""
        script = b"".join(b"a%d %b\r\n" % (n, each) for n, each in enumerate((*commands, b"LOGOUT")))
        uid, gid = self.ids
        done = subprocess.run(
            [IMAP, "-c", self.conf],
            input=script,
            capture_output=True,
            timeout=PATIENCE,
            env={
                "USER": "alice",
                "HOME": str(self.folder / "home"),
                "PATH": os.environ["PATH"],
                "DOVECOT_PRESERVE_ENVS": "USER HOME",  # 2.4 starts itself again
            },
            user=uid if os.geteuid() == 0 else None,
            group=gid if os.geteuid() == 0 else None,
            extra_groups=[] if os.geteuid() == 0 else None,
            check=False,
        )
        assert b"OK Logout completed" in done.stdout, (done.stdout, done.stderr)
        assert b" NO " not in done.stdout, done.stdout
        assert b" BAD " not in done.stdout, done.stdout
        return done.stdout

    @property
    def maildir(self) -> Path:
        return self.folder / "home" / "Maildir"


def append(mailbox: bytes, text: bytes, flags: bytes = b"") -> bytes:
    return b'APPEND "%b" (%b) "01-Feb-2020 10:00:00 +0000" {%d+}\r\n%b' % (mailbox, flags, len(text), text)


def mail(number: int) -> bytes:
    return b"From: a@example.org\r\nSubject: number %d\r\n\r\nbody %d\r\n" % (number, number)


def take_over(harness: Harness, maildir: Path) -> None:
    home = harness.root / "example.org" / "alice"
    home.mkdir(parents=True)
    shutil.copytree(maildir, home / MAILDIR)
    now(harness.store.provision(1))


def test_everything_is_taken_over(harness: Harness, folder: Path) -> None:
    theirs = Dovecot(folder)
    theirs.run(
        *(append(b"INBOX", mail(number)) for number in range(6)),
        append(b"INBOX", mail(6), rb"\Seen $Forwarded custom"),
        b"SELECT INBOX",
        rb"UID STORE 2,4 +FLAGS.SILENT (\Deleted)",
        b"EXPUNGE",
        rb"UID STORE 3 +FLAGS.SILENT (\Flagged \Answered custom)",
        b'CREATE "Archive/2026"',
        b'CREATE "Entw&APw-rfe"',
        b'SUBSCRIBE "Archive/2026"',
        b'SUBSCRIBE "Entw&APw-rfe"',
        b"SUBSCRIBE INBOX",
        append(b"Archive/2026", mail(9)),
    )
    said = theirs.run(
        b"STATUS INBOX (UIDVALIDITY UIDNEXT MESSAGES)",
        b"STATUS Archive/2026 (UIDVALIDITY UIDNEXT MESSAGES)",
        b"SELECT INBOX",
        b"UID FETCH 1:* (UID RFC822.SIZE)",
    )
    wanted = [
        tuple(map(int, found))
        for found in re.findall(rb"MESSAGES (\d+) UIDNEXT (\d+) UIDVALIDITY (\d+)", said)
    ]
    assert wanted[0][:2] == (5, 8)

    take_over(harness, theirs.maildir)
    for name, (messages, uidnext, uidvalidity) in zip(("INBOX", "Archive/2026"), wanted, strict=True):
        info = now(harness.store.status(1, name))
        assert (info.messages, info.uidnext, info.uidvalidity) == (messages, uidnext, uidvalidity)
    assert harness.contents() == {1: mail(0), 3: mail(2), 5: mail(4), 6: mail(5), 7: mail(6)}
    flags = harness.flags()
    assert flags[3] == {r"\Flagged", r"\Answered", "custom"}
    assert flags[7] == {r"\Seen", "$Forwarded", "custom"}
    assert {"Archive/2026", "Entwürfe", "INBOX"} <= now(harness.store.subscriptions(1))
    assert now(harness.store.status(1, "Entwürfe")).messages == 0
    sizes = {int(uid): int(size) for uid, size in re.findall(rb"UID (\d+) RFC822.SIZE (\d+)", said)}
    box = now(harness.store.open(1, "INBOX"))
    entries = [box.entry(uid) for uid in sizes]
    assert [entry.size for entry in entries if entry] == list(sizes.values())
    assert {entry.internal_date for entry in entries if entry} == {1_580_551_200}
    harness.check()
    assert harness.deliver(20).uid == 8


def test_once_taken_over_it_is_ours(harness: Harness, folder: Path) -> None:
    """Dovecot's files stay where they are, and say nothing any more."""
    theirs = Dovecot(folder)
    theirs.run(append(b"INBOX", mail(1)), append(b"INBOX", mail(2)), b"SELECT INBOX", b"UID FETCH 1:* FLAGS")
    take_over(harness, theirs.maildir)
    box = now(harness.store.open(1, "INBOX"))
    now(box.expunge([1]))
    now(harness.store.unsubscribe(1, "Trash"))
    harness.upkeep()
    assert (harness.path() / dovecot.UIDLIST).exists()
    from mailstack.store.rebuild import rebuild_user

    harness.database.write(lambda db: rebuild_user(harness.root, db, 1, "example.org/alice"))
    harness.restart()
    assert harness.contents() == {2: mail(2)}
    assert now(harness.store.status(1, "INBOX")).uidvalidity == box.uidvalidity
    assert "Trash" not in now(harness.store.subscriptions(1))
    assert harness.deliver(20).uid >= 3


class TestFiles:
    def test_a_list(self, tmp_path: Path) -> None:
        text = "3 V1790000000 N7 Gabc\n1 :a,S=1\n2 W20 S10 :b:2,S\nnonsense\n2 :again\n0 :zero\n9 :c\n"
        (tmp_path / dovecot.UIDLIST).write_text(text)
        wanted = dovecot.UidList(1_790_000_000, 10, {"a,S=1": 1, "b": 2, "c": 9})
        assert dovecot.read_uids(tmp_path) == wanted

    @pytest.mark.parametrize(
        "text",
        ["", "1 1790000000 7\n1 a\n", "3 N7\n", "3 V0 N7\n", "3 V1 N0\n", "3 V99999999999 N7\n", "\0" * 100],
    )
    def test_no_list(self, tmp_path: Path, text: str) -> None:
        (tmp_path / dovecot.UIDLIST).write_text(text)
        assert dovecot.read_uids(tmp_path) is None

    def test_keywords(self, tmp_path: Path) -> None:
        (tmp_path / dovecot.KEYWORDS).write_text("0 $Forwarded\n1 a b\n30 late\nx y\n2 custom\n")
        assert dovecot.read_keywords(tmp_path) == {8: "$Forwarded", 10: "custom"}

    @pytest.mark.parametrize(
        "text",
        ["V\t2\n\nArchive\t2026\nEntw&APw-rfe\nINBOX\n", "Archive.2026\nEntw&APw-rfe\nINBOX\n..\n"],
    )
    def test_subscriptions(self, tmp_path: Path, text: str) -> None:
        (tmp_path / "subscriptions").write_text(text)
        assert dovecot.read_subscriptions(tmp_path) == ["Archive/2026", "Entwürfe", "INBOX"]
