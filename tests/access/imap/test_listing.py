"""LIST, LSUB and the commands on names, with the examples of RFC 5258 section 5."""

from __future__ import annotations

from collections.abc import Callable

import pytest

from tests.access.imap.harness import Client, World

Talk = Callable[[Client, str], None]

DEFAULTS = r"""
        S: * LIST (\HasNoChildren) "/" INBOX
        S: * LIST (\HasNoChildren \Archive) "/" Archive
        S: * LIST (\HasNoChildren \Drafts) "/" Drafts
        S: * LIST (\HasNoChildren \Junk) "/" Junk
        S: * LIST (\HasNoChildren \Sent) "/" Sent
        S: * LIST (\HasNoChildren \Trash) "/" Trash"""


def test_a_new_account(world: World, talk: Talk) -> None:
    talk(
        world.connect().login(),
        rf"""
        C: a LIST "" "*"{DEFAULTS}
        S: a OK LIST completed
        C: b LIST "" "%"{DEFAULTS}
        S: b OK LIST completed
        C: c LIST "" ""
        S: * LIST (\Noselect) "/" ""
        S: c OK LIST completed
        C: d LIST "" inbox
        S: * LIST (\HasNoChildren) "/" INBOX
        S: d OK LIST completed
        C: e LIST "" nothing
        S: e OK LIST completed
        C: f LIST "" (INBOX "S%") RETURN (SPECIAL-USE)
        S: * LIST (\HasNoChildren) "/" INBOX
        S: * LIST (\HasNoChildren \Sent) "/" Sent
        S: f OK LIST completed
        C: g LIST (SPECIAL-USE) "" "*"
        S: * LIST (\HasNoChildren \Archive) "/" Archive
        S: * LIST (\HasNoChildren \Drafts) "/" Drafts
        S: * LIST (\HasNoChildren \Junk) "/" Junk
        S: * LIST (\HasNoChildren \Sent) "/" Sent
        S: * LIST (\HasNoChildren \Trash) "/" Trash
        S: g OK LIST completed
        C: h LIST (SUBSCRIBED SPECIAL-USE) "" "T*"
        S: * LIST (\Subscribed \HasNoChildren \Trash) "/" Trash
        S: h OK LIST completed
        """,
    )


def test_create_delete_rename(world: World, talk: Talk) -> None:
    talk(
        world.connect().login(),
        r"""
        C: a CREATE Work/Reports
        S: a OK [MAILBOXID (F...)] CREATE completed
        C: b LIST "" "W*"
        S: * LIST (\HasChildren) "/" Work
        S: * LIST (\HasNoChildren) "/" Work/Reports
        S: b OK LIST completed
        C: c LIST "Work/" "%"
        S: * LIST (\HasNoChildren) "/" Work/Reports
        S: c OK LIST completed
        C: d CREATE Work/Reports
        S: d NO [ALREADYEXISTS] ...
        C: e CREATE inbox
        S: e NO [ALREADYEXISTS] ...
        C: f RENAME Work Play
        S: f OK RENAME completed
        C: g LIST "" "*/*"
        S: * LIST (\HasNoChildren) "/" Play/Reports
        S: g OK LIST completed
        C: h RENAME Work Play
        S: h NO [NONEXISTENT] ...
        C: i RENAME Play Sent
        S: i NO [ALREADYEXISTS] ...
        C: j DELETE Play/Reports
        S: j OK DELETE completed
        C: k DELETE Play/Reports
        S: k NO [NONEXISTENT] ...
        C: l DELETE INBOX
        S: l NO [CANNOT] ...
        C: m CREATE Trailing/
        S: m OK [MAILBOXID (F...)] CREATE completed
        C: n LIST "" "T*"
        S: * LIST (\HasNoChildren) "/" Trailing
        S: * LIST (\HasNoChildren \Trash) "/" Trash
        S: n OK LIST completed
        C: o CREATE Later (USE (\Archive))
        S: o OK [MAILBOXID (F...)] CREATE completed
        C: p LIST (SPECIAL-USE) "" "L*"
        S: * LIST (\HasNoChildren \Archive) "/" Later
        S: p OK LIST completed
        C: q CREATE Never (USE (\All))
        S: q NO [USEATTR] ...
        """,
    )


def test_a_name_that_only_holds_others_is_taken(world: World, talk: Talk) -> None:
    """RFC 3501 section 6.3.5: it is an error to rename to a mailbox name that already exists, INBOX too."""
    talk(
        world.connect().login(),
        r"""
        C: a CREATE Holds/One
        S: a OK [MAILBOXID (F...)] CREATE completed
        C: b DELETE Holds
        S: b OK DELETE completed
        C: c RENAME INBOX Holds
        S: c NO [ALREADYEXISTS] ...
        C: d RENAME Sent Holds
        S: d NO [ALREADYEXISTS] ...
        C: e LIST "" "Holds"
        S: * LIST (\Noselect \HasChildren) "/" Holds
        S: e OK LIST completed
        C: f CREATE Holds
        S: f OK [MAILBOXID (F...)] CREATE completed
        """,
    )


@pytest.mark.parametrize("name", ['"a//b"', '"/a"', '"a*b"', '"%"', '"a\x01b"', "x" * 2000])
def test_names_that_cannot_be(world: World, name: str) -> None:
    said = world.connect().login().ask(f"a CREATE {name}")
    assert said.startswith((b"a NO [CANNOT]", b"a BAD")), said


@pytest.mark.parametrize(
    "name", ["..", "../../etc/passwd", ".", ".hidden", "a.b", "cur", "new", "tmp", "a\\b", "~root"]
)
def test_hostile_names_are_only_names(world: World, name: str) -> None:
    before = {path.name for path in world.path.iterdir()}
    client = world.connect().login()
    quoted = '"' + name.replace("\\", "\\\\") + '"'
    said = client.ask(f"a CREATE {quoted}")
    assert said.startswith(b"a OK"), said
    assert client.ask(f"b APPEND {quoted} {{3+}}\r\nabc").startswith(b"b OK")
    assert client.ask(f"c DELETE {quoted}").startswith(b"c OK")
    assert {path.name for path in world.path.iterdir()} == before


def test_unicode_names(world: World, talk: Talk) -> None:
    talk(
        world.connect().login(),
        r"""
        C: a CREATE Entw&APw-rfe
        S: a OK [MAILBOXID (F...)] CREATE completed
        C: b LIST "" Entw*
        S: * LIST (\HasNoChildren) "/" Entw&APw-rfe
        S: b OK LIST completed
        C: c STATUS Entw&APw-rfe (MESSAGES)
        S: * STATUS Entw&APw-rfe (MESSAGES 0)
        S: c OK STATUS completed
        """,
    )


def test_subscriptions(world: World, talk: Talk) -> None:
    client = world.connect().login()
    for name in ("Drafts", "Junk", "Archive", "Trash"):
        client.ask(f"u UNSUBSCRIBE {name}")
    talk(
        client,
        r"""
        C: a LSUB "" "*"
        S: * LSUB () "/" INBOX
        S: * LSUB () "/" Sent
        S: a OK LSUB completed
        C: b CREATE x/y/z
        S: b OK [MAILBOXID (F...)] CREATE completed
        C: c SUBSCRIBE x/y/z
        S: c OK SUBSCRIBE completed
        C: d LSUB "" "%"
        S: * LSUB () "/" INBOX
        S: * LSUB () "/" Sent
        S: * LSUB (\Noselect) "/" x
        S: d OK LSUB completed
        C: e LSUB "x/" "%"
        S: * LSUB (\Noselect) "/" x/y
        S: e OK LSUB completed
        C: e2 LSUB "" x
        S: e2 OK LSUB completed
        C: f DELETE x/y/z
        S: f OK DELETE completed
        C: g LIST (SUBSCRIBED) "" "x*"
        S: * LIST (\Subscribed \NonExistent \Noselect \HasNoChildren) "/" x/y/z
        S: g OK LIST completed
        C: g2 LSUB "" "x/y/*"
        S: * LSUB (\Noselect) "/" x/y/z
        S: g2 OK LSUB completed
        C: g3 LIST (SUBSCRIBED) "" "x*" RETURN (METADATA (/shared/comment) MYRIGHTS STATUS (MESSAGES))
        S: * LIST (\Subscribed \NonExistent \Noselect \HasNoChildren) "/" x/y/z
        S: g3 OK LIST completed
        C: h UNSUBSCRIBE x/y/z
        S: h OK UNSUBSCRIBE completed
        C: i LIST "" "S*" RETURN (SUBSCRIBED CHILDREN)
        S: * LIST (\Subscribed \HasNoChildren \Sent) "/" Sent
        S: i OK LIST completed
        """,
    )


def _rfc5258_example_9(world: World) -> Client:
    client = world.connect().login()
    for name in (
        "foo2/bar1",
        "foo2/bar2",
        "baz2/bar2",
        "baz2/bar22",
        "baz2/bar222",
        "eps2/mamba",
        "qux2/bar2",
    ):
        client.ask(f"c CREATE {name}")
    for name in ("INBOX", "Sent", "Drafts", "Junk", "Archive", "Trash"):
        client.ask(f"u UNSUBSCRIBE {name}")
    for name in (
        *("foo2/bar1", "foo2/bar2", "baz2/bar2", "baz2/bar22", "baz2/bar222"),
        *("eps2", "eps2/mamba", "qux2/bar2"),
    ):
        client.ask(f"s SUBSCRIBE {name}")
    return client


def test_recursivematch_as_in_rfc_5258_example_9(world: World, talk: Talk) -> None:
    """Only foo2, whose child bar1 does not match, is worth a line of its own; baz2 and qux2 are not."""
    talk(
        _rfc5258_example_9(world),
        r"""
        C: d LIST (RECURSIVEMATCH SUBSCRIBED) "" "*2"
        S: * LIST (\Subscribed \HasNoChildren) "/" baz2/bar2
        S: * LIST (\Subscribed \HasNoChildren) "/" baz2/bar22
        S: * LIST (\Subscribed \HasNoChildren) "/" baz2/bar222
        S: * LIST (\Subscribed \HasChildren) "/" eps2 ("CHILDINFO" ("SUBSCRIBED"))
        S: * LIST (\HasChildren) "/" foo2 ("CHILDINFO" ("SUBSCRIBED"))
        S: * LIST (\Subscribed \HasNoChildren) "/" foo2/bar2
        S: * LIST (\Subscribed \HasNoChildren) "/" qux2/bar2
        S: d OK LIST completed
        """,
    )


def test_recursivematch_with_percent(world: World, talk: Talk) -> None:
    talk(
        _rfc5258_example_9(world),
        r"""
        C: e LIST (SUBSCRIBED RECURSIVEMATCH) "" "%"
        S: * LIST (\HasChildren) "/" baz2 ("CHILDINFO" ("SUBSCRIBED"))
        S: * LIST (\Subscribed \HasChildren) "/" eps2 ("CHILDINFO" ("SUBSCRIBED"))
        S: * LIST (\HasChildren) "/" foo2 ("CHILDINFO" ("SUBSCRIBED"))
        S: * LIST (\HasChildren) "/" qux2 ("CHILDINFO" ("SUBSCRIBED"))
        S: e OK LIST completed
        C: f LIST (SUBSCRIBED) "" "%"
        S: * LIST (\Subscribed \HasChildren) "/" eps2
        S: f OK LIST completed
        C: g LIST (RECURSIVEMATCH) "" "%"
        S: g BAD ...
        """,
    )


def test_status_and_list_status(world: World, talk: Talk) -> None:
    world.deliver(b"Subject: one\r\n\r\n1\r\n", b"Subject: two\r\n\r\n2\r\n")
    world.append(b"Subject: three\r\n\r\n3\r\n", flags=[r"\Seen", r"\Deleted"])
    talk(
        world.connect().login(),
        r"""
        C: a STATUS INBOX (MESSAGES RECENT UIDNEXT UNSEEN SIZE DELETED)
        S: * STATUS INBOX (MESSAGES 3 RECENT 3 UIDNEXT 4 UNSEEN 2 SIZE 59 DELETED 1)
        S: a OK STATUS completed
        C: b STATUS inbox (UIDVALIDITY HIGHESTMODSEQ)
        S: * STATUS INBOX (UIDVALIDITY ... HIGHESTMODSEQ ...)
        S: b OK STATUS completed
        C: c STATUS Nowhere (MESSAGES)
        S: c NO [NONEXISTENT] ...
        C: d LIST "" (INBOX Sent) RETURN (SUBSCRIBED STATUS (MESSAGES UNSEEN))
        S: * LIST (\Subscribed \HasNoChildren) "/" INBOX
        S: * STATUS INBOX (MESSAGES 3 UNSEEN 2)
        S: * LIST (\Subscribed \HasNoChildren \Sent) "/" Sent
        S: * STATUS Sent (MESSAGES 0 UNSEEN 0)
        S: d OK LIST completed
        """,
    )
