"""ACL, METADATA, FILTERS and LANGUAGE over the real store."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace

import pytest

from tests.access.imap.harness import Client, World

Talk = Callable[[Client, str], None]
SHARED = '"Other Users/alice@example.test/INBOX"'


@pytest.fixture
def alice(world: World) -> Client:
    for at in range(3):
        world.append(f"Subject: {at}\r\n\r\nx\r\n".encode())
    return world.connect().select()


def bob(world: World, alice: Client, rights: str) -> Client:
    assert b"r OK" in alice.ask(f"r SETACL INBOX bob@example.test {rights}")
    return world.connect().login("bob")


class TestRights:
    def test_lists(self, alice: Client, talk: Talk) -> None:
        talk(alice, """
            C: a SETACL INBOX bob@example.test lrs
            S: a OK SETACL completed
            C: b SETACL INBOX bob@example.test +ik
            S: b OK SETACL completed
            C: c GETACL INBOX
            S: * ACL INBOX alice@example.test lrswipkxteacd bob@example.test lrsikc
            S: c OK GETACL completed
            C: d DELETEACL INBOX bob@example.test
            S: d OK DELETEACL completed
            C: e GETACL INBOX
            S: * ACL INBOX alice@example.test lrswipkxteacd
            S: e OK GETACL completed
            C: f MYRIGHTS INBOX
            S: * MYRIGHTS INBOX lrswipkxteacd
            S: f OK MYRIGHTS completed
            C: g LISTRIGHTS INBOX bob@example.test
            S: * LISTRIGHTS INBOX bob@example.test "" l r s w i p k x t e a c d
            S: g OK LISTRIGHTS completed
            C: h SETACL INBOX bob@example.test lz
            S: h BAD The rights are lrswipkxtea
            C: i SETACL INBOX nobody@example.test l
            S: i NO [CANNOT] ...
            C: j LIST "" INBOX RETURN (MYRIGHTS)
            S: * LIST (\\HasNoChildren) "/" INBOX
            S: * MYRIGHTS INBOX lrswipkxteacd
            S: j OK LIST completed
        """)  # fmt: skip

    def test_without_l_it_is_not_there(self, world: World, alice: Client, talk: Talk) -> None:
        talk(world.connect().login("bob"), f"""
            C: a SELECT {SHARED}
            S: a NO [NONEXISTENT] ...
            C: b STATUS {SHARED} (MESSAGES)
            S: b NO [NONEXISTENT] ...
            C: c GETACL {SHARED}
            S: c NO [NONEXISTENT] ...
            C: d LIST "" "Other Users/*"
            S: d OK LIST completed
        """)  # fmt: skip

    def test_whoever_may_only_look(self, world: World, alice: Client, talk: Talk) -> None:
        client = bob(world, alice, "lr")
        assert b"s OK [READ-ONLY] SELECT completed" in client.ask(f"s SELECT {SHARED}")
        talk(client, f"""
            C: a FETCH 1 (BODY[TEXT])
            S: * 1 FETCH (BODY[TEXT] {{3}}
            S: x
            S: )
            S: a OK FETCH completed
            C: b STORE 1 +FLAGS (\\Seen)
            S: b NO [READ-ONLY] ...
            C: c EXPUNGE
            S: c NO [READ-ONLY] ...
            C: d COPY 1 INBOX
            S: d OK [COPYUID ... 1 1] COPY completed
            C: e COPY 1 {SHARED}
            S: e NO [NOPERM] ...
            C: f APPEND {SHARED} {{3+}}
            C: x
            C:
            S: f NO [NOPERM] ...
            C: g DELETE {SHARED}
            S: g NO [NOPERM] ...
            C: h GETACL {SHARED}
            S: h NO [NOPERM] ...
            C: i CREATE "Other Users/alice@example.test/INBOX/new"
            S: i NO [NOPERM] ...
        """)  # fmt: skip

    def test_each_flag_has_its_right(self, world: World, alice: Client, talk: Talk) -> None:
        client = bob(world, alice, "lrs")
        assert b"s OK [READ-WRITE]" in client.ask(f"s SELECT {SHARED}")
        talk(client, r"""
            C: a STORE 1 +FLAGS.SILENT (\Seen)
            S: a OK STORE completed
            C: b STORE 1 +FLAGS.SILENT (\Deleted)
            S: b NO [NOPERM] ...
            C: c STORE 1 +FLAGS.SILENT (\Flagged)
            S: c NO [NOPERM] ...
            C: d STORE 1 FLAGS.SILENT (\Flagged)
            S: * 1 FETCH (FLAGS ())
            S: d OK STORE completed
            C: e EXPUNGE
            S: e NO [NOPERM] ...
            C: f MOVE 1 Trash
            S: f NO [NOPERM] ...
            C: g REPLACE 1 INBOX {3}
            S: g NO [NOPERM] ...
        """)  # fmt: skip

    def test_close_removes_nothing_without_e(self, world: World, alice: Client) -> None:
        client = bob(world, alice, "lrst")
        client.ask(f"s SELECT {SHARED}")
        assert b"a OK" in client.ask(r"a STORE 1 +FLAGS.SILENT (\Deleted)")
        assert b"b OK" in client.ask("b CLOSE")
        assert b"MESSAGES 3" in alice.ask("b STATUS INBOX (MESSAGES)")

    def test_all_of_it(self, world: World, alice: Client) -> None:
        client = bob(world, alice, "lrswite")
        client.ask(f"s SELECT {SHARED}")
        assert b"[COPYUID" in client.ask("a MOVE 1 INBOX")
        assert b"* 1 EXPUNGE" in alice.ask("b NOOP")
        assert b"Other Users/alice@example.test/INBOX" in client.ask('c LIST "" *')


class TestMetadata:
    def test_of_a_mailbox(self, alice: Client, talk: Talk) -> None:
        talk(alice, """
            C: a SETMETADATA INBOX (/private/comment "mine" /shared/comment "ours" /private/a/b "deep")
            S: a OK SETMETADATA completed
            C: b GETMETADATA INBOX (/private/comment /shared/comment /private/none)
            S: * METADATA INBOX (/private/comment mine /shared/comment ours /private/none NIL)
            S: b OK GETMETADATA completed
            C: c GETMETADATA (DEPTH 1) INBOX /private
            S: * METADATA INBOX (/private/comment mine)
            S: c OK GETMETADATA completed
            C: d GETMETADATA (DEPTH infinity MAXSIZE 4) INBOX (/private /shared)
            S: * METADATA INBOX (...)
            S: d OK GETMETADATA completed
            C: e GETMETADATA (MAXSIZE 3) INBOX /private/comment
            S: e OK [METADATA LONGENTRIES 4] GETMETADATA completed
            C: f SETMETADATA INBOX (/private/comment NIL)
            S: f OK SETMETADATA completed
            C: g GETMETADATA INBOX /private/comment
            S: * METADATA INBOX (/private/comment NIL)
            S: g OK GETMETADATA completed
            C: h LIST "" INBOX RETURN (METADATA (/shared/comment))
            S: * LIST (\\HasNoChildren) "/" INBOX
            S: * METADATA INBOX (/shared/comment ours)
            S: h OK LIST completed
            C: i GETMETADATA Nowhere /private/comment
            S: i NO [NONEXISTENT] ...
        """.replace(" mine", ' "mine"').replace(" ours", ' "ours"').replace('""mine""', '"mine"').replace('""ours""', '"ours"'))  # fmt: skip

    def test_too_large(self, world: World, alice: Client) -> None:
        world.store._config = replace(world.store._config, metadata_octets=9)
        said = alice.ask(b'a SETMETADATA INBOX (/private/comment "0123456789")')
        assert said == b"a NO [METADATA MAXSIZE 9] The value is too large\r\n"
        world.store._config = replace(world.store._config, metadata_entries=1)
        said = alice.ask(b'b SETMETADATA INBOX (/private/a "1" /private/b "2")')
        assert said == b"b NO [METADATA TOOMANY] Too many annotations\r\n"

    def test_filters(self, alice: Client, talk: Talk) -> None:
        talk(alice, """
            C: a SETMETADATA "" (/private/filters/values/second "SUBJECT 1" /private/filters/values/loop "FILTER loop" /private/filters/values/bad "NONSENSE")
            S: a OK SETMETADATA completed
            C: b SEARCH FILTER second
            S: * SEARCH 2
            S: b OK SEARCH completed
            C: c SEARCH NOT FILTER Second
            S: * SEARCH 1 3
            S: c OK SEARCH completed
            C: d SEARCH FILTER loop
            S: d NO [UNDEFINED-FILTER loop] There is no such filter
            C: e SEARCH FILTER bad
            S: e NO [UNDEFINED-FILTER bad] There is no such filter
            C: f SEARCH FILTER none
            S: f NO [UNDEFINED-FILTER none] There is no such filter
        """)  # fmt: skip


def test_language(alice: Client, talk: Talk) -> None:
    talk(alice, """
        C: a LANGUAGE
        S: * LANGUAGE ("i-default" "EN")
        S: a OK LANGUAGE completed
        C: b LANGUAGE de en-GB
        S: * LANGUAGE ("EN")
        S: b OK LANGUAGE completed
        C: c LANGUAGE default
        S: * LANGUAGE ("i-default")
        S: c OK LANGUAGE completed
        C: d LANGUAGE de
        S: d NO We speak English only
    """)  # fmt: skip
