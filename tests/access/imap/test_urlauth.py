"""URLAUTH and URL-PARTIAL (RFC 4467, RFC 5092, RFC 5550)."""

from __future__ import annotations

import os
import re
from collections.abc import Callable, Iterator

import pytest
from sqlalchemy import delete, update

from mailstack.access.imap import urls
from mailstack.access.settings import ImapConfig
from mailstack.directory.tables import users
from mailstack.wire.imap.url import authorized
from tests.access.imap.harness import Client, World

Talk = Callable[[Client, str], None]

MAIL = b"From: a@b.test\r\nSubject: one\r\n\r\nThe quick brown fox\r\n"
BASE = "imap://alice%40example.test@mail.example.test/INBOX/;UID=1"
ACCESS = "user+bob%40example.test"


@pytest.fixture
def world() -> Iterator[World]:
    world = World(ImapConfig(submit_users=("bob@example.test",), url_hosts=("localhost",)))
    world.append(MAIL)
    yield world
    world.close()


@pytest.fixture
def alice(world: World) -> Client:
    return world.connect().login()


@pytest.fixture
def bob(world: World) -> Client:
    return world.connect().login("bob")


def signed(client: Client, rump: str) -> str:
    said = client.ask(f'g GENURLAUTH "{rump}" INTERNAL').decode()
    found = re.fullmatch(r'\* GENURLAUTH "(.*)"\r\ng OK GENURLAUTH completed\r\n', said)
    assert found is not None, said
    assert found[1].startswith(rump + ":internal:")
    return found[1]


def fetched(client: Client, url: str) -> bytes | None:
    said = client.ask(f'f URLFETCH "{url}"')
    end = b"\r\nf OK URLFETCH completed\r\n"
    head = b'* URLFETCH "%b" ' % url.encode()
    assert said.startswith(head) and said.endswith(end), said  # noqa: PT018
    value = said[len(head) : -len(end)]
    if value == b"NIL":
        return None
    size, _, data = value.partition(b"}\r\n")
    assert int(size[1:]) == len(data)
    return data


class TestTranscripts:
    def test_sign_and_fetch(self, world: World, alice: Client, bob: Client, talk: Talk) -> None:
        rump = f"{BASE}/;SECTION=TEXT;URLAUTH={ACCESS}"
        talk(alice, f"""
            C: a SELECT INBOX
            S: * FLAGS ...
            S: * 1 EXISTS
            S: * 1 RECENT
            S: * OK [UNSEEN 1] ...
            S: * OK [PERMANENTFLAGS ...
            S: * OK [UIDVALIDITY ...
            S: * OK [UIDNEXT ...
            S: * OK [HIGHESTMODSEQ ...
            S: * OK [MAILBOXID ...
            S: * OK [URLMECH INTERNAL] URLs can be signed
            S: a OK [READ-WRITE] SELECT completed
            C: b GENURLAUTH "{rump}" INTERNAL "{BASE};URLAUTH=anonymous" internal
            S: * GENURLAUTH "{rump}:internal:..." "{BASE};URLAUTH=anonymous:internal:..."
            S: b OK GENURLAUTH completed
            C: c RESETKEY INBOX INTERNAL
            S: c OK [URLMECH INTERNAL] RESETKEY completed
            C: d RESETKEY
            S: d OK [URLMECH INTERNAL] RESETKEY completed
        """)  # fmt: skip
        url = signed(alice, rump)
        talk(bob, f"""
            C: a URLFETCH "{url}" "{url[:-1]}" "{BASE}"
            S: * URLFETCH "{url}" {{21}}
            S: The quick brown fox
            S:
            S: * URLFETCH "{url[:-1]}" NIL
            S: * URLFETCH "{BASE}" NIL
            S: a OK URLFETCH completed
        """)  # fmt: skip

    def test_what_cannot_be_signed(self, alice: Client, talk: Talk) -> None:
        talk(alice, f"""
            C: a GENURLAUTH "{BASE}" INTERNAL
            S: a BAD Expected ...
            C: b GENURLAUTH "http://x/" INTERNAL
            S: b BAD Not the URL of a message: ...
            C: c GENURLAUTH "{BASE};URLAUTH=anonymous:internal:{'0' * 32}" INTERNAL
            S: c BAD Expected ...
            C: cc GENURLAUTH "{BASE};URLAUTH=anonymous/" INTERNAL
            S: cc BAD Expected ...
            C: d GENURLAUTH "{BASE};URLAUTH=anonymous" XSAMPLE
            S: d NO The only mechanism is INTERNAL
            C: e GENURLAUTH "{BASE.replace("alice", "bob")};URLAUTH=anonymous" INTERNAL
            S: e NO The URL is not of your mailboxes here
            C: f GENURLAUTH "{BASE.replace("mail.", "other.")};URLAUTH=anonymous" INTERNAL
            S: f NO The URL is not of your mailboxes here
            C: g GENURLAUTH "/INBOX/;UID=1;URLAUTH=anonymous" INTERNAL
            S: g NO The URL is not of your mailboxes here
            C: h GENURLAUTH "{BASE.replace("INBOX", "Nowhere")};URLAUTH=anonymous" INTERNAL
            S: h NO [NONEXISTENT] No such mailbox
            C: i GENURLAUTH
            S: i BAD ...
            C: j RESETKEY Nowhere
            S: j NO [NONEXISTENT] No such mailbox
            C: k RESETKEY INBOX XSAMPLE
            S: k NO The only mechanism is INTERNAL
            C: l URLFETCH
            S: l BAD ...
        """.replace("No such mailbox", "No such mailbox..."))  # fmt: skip

    def test_only_after_login(self, world: World, talk: Talk) -> None:
        client = world.connect()
        client.heard()
        for command in ("URLFETCH x", "GENURLAUTH x INTERNAL", "RESETKEY"):
            assert client.ask(f"a {command}").startswith(b"a BAD")


class TestWho:
    @pytest.mark.parametrize(
        ("access", "who"),
        [
            ("anonymous", "alice bob"),
            ("authuser", "alice bob"),
            ("user+bob%40example.test", "bob"),
            ("user+BOB%40Example.test", "bob"),
            ("user+alice%40example.test", "alice"),
            ("user+nobody%40example.test", ""),
            ("submit+alice%40example.test", "bob"),  # who is a submission server here
        ],
    )
    def test_may(self, alice: Client, bob: Client, access: str, who: str) -> None:
        url = signed(alice, f"{BASE};URLAUTH={access}")
        assert fetched(alice, url) == (MAIL if "alice" in who else None)
        assert fetched(bob, url) == (MAIL if "bob" in who else None)

    def test_nobody_signs_where_there_is_no_key(self, alice: Client, bob: Client) -> None:
        """Neither for a mailbox of which no URL was signed yet, nor for a user who is none."""
        rump = f"{BASE};URLAUTH=anonymous"
        forged = [authorized(text, urls.NO_KEY) for text in (rump, rump.replace("alice", "nobody"))]
        assert [fetched(bob, url) for url in forged] == [None, None]
        signed(alice, rump)  # now there is one
        assert fetched(bob, forged[0]) is None

    def test_not_by_another_name_of_the_server(self, alice: Client, bob: Client) -> None:
        url = signed(alice, f"{BASE.replace('mail.example.test', 'LOCALHOST')};URLAUTH=anonymous")
        assert fetched(bob, url) == MAIL
        assert fetched(bob, url.replace("LOCALHOST", "elsewhere")) is None


class TestUntil:
    def test_it_expires(self, world: World, alice: Client, bob: Client) -> None:
        url = signed(alice, f"{BASE};EXPIRE=2026-09-21T14:14:00Z;URLAUTH=authuser")  # 1790000040
        assert fetched(bob, url) == MAIL
        world.clock.advance(40)
        assert fetched(bob, url) is None

    @pytest.mark.parametrize("command", ["RESETKEY", "RESETKEY INBOX", "RESETKEY INBOX INTERNAL"])
    def test_the_key_is_reset(self, alice: Client, bob: Client, command: str) -> None:
        url = signed(alice, f"{BASE};URLAUTH=authuser")
        assert fetched(bob, url) == MAIL
        bob.ask("x RESETKEY")  # another's
        alice.ask("x RESETKEY Drafts")
        assert fetched(bob, url) == MAIL
        alice.ask(f"x {command}")
        assert fetched(bob, url) is None
        assert signed(alice, f"{BASE};URLAUTH=authuser") != url

    def test_the_mailbox_is_another_by_that_name(self, world: World, alice: Client, bob: Client) -> None:
        for command in ("CREATE Notes", "APPEND Notes {1+}\r\nx"):
            alice.ask(f"x {command}")
        url = signed(alice, f"{BASE.replace('INBOX', 'Notes')};URLAUTH=authuser")
        assert fetched(bob, url) == b"x"
        for command in ("DELETE Notes", "CREATE Notes", "APPEND Notes {1+}\r\nx"):
            alice.ask(f"x {command}")
        assert fetched(bob, url) is None

    def test_the_user_is_barred(self, world: World, alice: Client, bob: Client) -> None:
        url = signed(alice, f"{BASE};URLAUTH=authuser")
        world.database.write(
            lambda db: db.execute(update(users).where(users.c.id == 1).values(enabled=False))
        )
        assert fetched(bob, url) is None
        world.database.write(lambda db: db.execute(delete(users).where(users.c.id == 1)))
        assert fetched(bob, url) is None


class TestWhat:
    @pytest.mark.parametrize(
        ("part", "data"),
        [
            ("", MAIL),
            ("/;SECTION=HEADER", MAIL[: MAIL.index(b"The")]),
            ("/;SECTION=HEADER.FIELDS%20(Subject)", b"Subject: one\r\n\r\n"),
            ("/;SECTION=TEXT/;PARTIAL=4.5", b"quick"),
            ("/;SECTION=1/;PARTIAL=16", b"fox\r\n"),
            ("/;PARTIAL=0.4", b"From"),
            ("/;SECTION=7", None),
            ("/;SECTION=FOO", None),
            ("/;PARTIAL=1000.5", b""),
        ],
    )
    def test_parts(self, alice: Client, bob: Client, part: str, data: bytes | None) -> None:
        assert fetched(bob, signed(alice, f"{BASE}{part};URLAUTH=authuser")) == data

    @pytest.mark.parametrize(
        ("old", "new"), [("UID=1", "UID=2"), ("authuser", "anonymous"), ("internal:01", "internal:02"), ("TEXT", "HEADER")]
    )  # fmt: skip
    def test_altered(self, world: World, alice: Client, bob: Client, old: str, new: str) -> None:
        world.append(MAIL)
        url = signed(alice, f"{BASE}/;SECTION=TEXT;URLAUTH=authuser")
        assert fetched(bob, url) is not None
        assert fetched(bob, url.replace(old, new)) is None

    def test_uidvalidity(self, alice: Client, bob: Client) -> None:
        url = BASE.replace("/;UID", ";UIDVALIDITY=7/;UID")
        assert fetched(bob, signed(alice, f"{url};URLAUTH=authuser")) is None

    def test_one_by_one(self, world: World, alice: Client) -> None:
        alice.send(f'a GENURLAUTH "{BASE};URLAUTH=authuser" INTERNAL\r\n'.encode(), True)
        assert alice.heard().endswith(b"a OK GENURLAUTH completed\r\n")

    def test_in_pieces(
        self, world: World, alice: Client, bob: Client, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        monkeypatch.setattr(urls, "CHUNK", 7)
        assert fetched(bob, signed(alice, f"{BASE};URLAUTH=authuser")) == MAIL

    def test_a_file_that_has_become_shorter_ends_the_connection(
        self, world: World, alice: Client, bob: Client, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        """The literal's size is said already."""
        monkeypatch.setattr(urls, "CHUNK", 7)
        url = signed(alice, f"{BASE};URLAUTH=authuser")
        [path] = [path for path in world.path.glob("mail/**/*") if path.parent.name in ("new", "cur")]
        os.truncate(path, 10)
        said = bob.ask(f'f URLFETCH "{url}"')
        assert b"}\r\n%b* BYE " % MAIL[:10] in said
        assert bob.closed

    def test_in_catenate(self, alice: Client, bob: Client) -> None:
        url = signed(alice, f"{BASE}/;SECTION=TEXT/;PARTIAL=4.5;URLAUTH={ACCESS}")
        assert bob.ask(f'a APPEND Drafts CATENATE (URL "{url}" TEXT {{1+}}\r\n!)').startswith(
            b"a OK [APPENDUID"
        )
        bob.ask("b SELECT Drafts")
        assert b"{6}\r\nquick!)" in bob.ask("c FETCH 1 BODY.PEEK[]")
        assert b"[BADURL " in alice.ask(f'a APPEND Drafts CATENATE (URL "{url}")')

    def test_of_a_mailbox_that_is_shared(self, world: World, alice: Client, bob: Client) -> None:
        """The key is of the user who signs, and so are the rights."""
        alice.ask("a SETACL INBOX bob@example.test lr")
        rump = "imap://bob%40example.test@mail.example.test/Other%20Users/alice%40example.test/INBOX/;UID=1"
        url = signed(bob, f"{rump};URLAUTH=authuser")
        assert fetched(alice, url) == MAIL
        alice.ask("b DELETEACL INBOX bob@example.test")
        assert fetched(alice, url) is None
