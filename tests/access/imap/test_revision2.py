"""IMAP4rev2 beside IMAP4rev1 (RFC 9051): what ENABLE IMAP4rev2 changes, by the items of its appendix E."""

from __future__ import annotations

import re
from collections.abc import Callable

import pytest

from tests.access.imap.harness import Client, World

Talk = Callable[[Client, str], None]

MAIL = b"From: a@b.test\r\nSubject: one\r\n\r\nbody\r\n"
FOLDED_IN = {  # item 2: for clients of IMAP4rev1, and for what ENABLE alone does not tell
    "NAMESPACE", "UNSELECT", "UIDPLUS", "ESEARCH", "SEARCHRES", "ENABLE", "IDLE", "SASL-IR", "LIST-EXTENDED",
    "LIST-STATUS", "MOVE", "LITERAL+", "BINARY", "SPECIAL-USE", "STATUS=SIZE",
}  # fmt: skip


@pytest.fixture
def client(world: World) -> Client:
    client = world.connect().login()
    assert client.ask("e ENABLE IMAP4rev2") == b"* ENABLED IMAP4rev2\r\ne OK ENABLE completed\r\n"
    return client


def test_both_revisions_are_offered_with_what_is_folded_in(world: World) -> None:
    """Item 2 and appendix A."""
    words = world.connect().login().ask("a CAPABILITY").split(b"\r\n")[0].decode().split()
    assert {"IMAP4rev1", "IMAP4rev2"} | FOLDED_IN <= set(words)
    assert "LITERAL-" not in words  # RFC 7888 section 5: one of the two


def test_until_then_all_is_as_rfc_3501_has_it(world: World, talk: Talk) -> None:
    """Section 7.2.2: server responses conform to RFC 3501 until the client asks for more."""
    world.append(MAIL)
    talk(world.connect().login(), r"""
        C: a SELECT INBOX
        S: * FLAGS ...
        S: * 1 EXISTS
        S: * 1 RECENT
        S: * OK [UNSEEN 1] First unseen
        S: * OK [PERMANENTFLAGS ...] ...
        S: * OK [UIDVALIDITY ...] UIDs valid
        S: * OK [UIDNEXT 2] Predicted next UID
        S: * OK [HIGHESTMODSEQ ...] Highest
        S: * OK [MAILBOXID ...] Mailbox id
        S: * OK [URLMECH INTERNAL] URLs can be signed
        S: a OK [READ-WRITE] SELECT completed
        C: b SEARCH ALL
        S: * SEARCH 1
        S: b OK SEARCH completed
        C: c STORE 1 +FLAGS (\Seen)
        S: * 1 FETCH (FLAGS (\Seen \Recent))
        S: c OK STORE completed
    """)  # fmt: skip


def test_sizes_have_63_bits(client: Client) -> None:
    """Item 1, appendix D."""
    client.ask("s SELECT INBOX")
    assert client.ask(f"a SEARCH SMALLER {2**63 - 1}") == b'* ESEARCH (TAG "a")\r\na OK SEARCH completed\r\n'
    assert client.ask(f"a FETCH 1:* BODY.PEEK[]<{2**40}.{2**41}>") == b"a OK FETCH completed\r\n"
    assert client.ask(f"a APPEND INBOX {{{2**40}}}").startswith(b"a NO [TOOBIG] ")


def test_status_has_size_and_deleted(world: World, client: Client, talk: Talk) -> None:
    """Item 3."""
    world.append(MAIL, flags=(r"\Deleted",))
    world.append(MAIL)
    talk(client, f"""
        C: a STATUS INBOX (MESSAGES SIZE DELETED)
        S: * STATUS INBOX (MESSAGES 2 SIZE {2 * len(MAIL)} DELETED 1)
        S: a OK STATUS completed
    """)  # fmt: skip


def test_search_answers_esearch(world: World, client: Client, talk: Talk) -> None:
    """Item 4."""
    for _ in range(3):
        world.append(MAIL)
    client.ask("s SELECT INBOX")
    talk(client, """
        C: a SEARCH 1,3
        S: * ESEARCH (TAG "a") ALL 1,3
        S: a OK SEARCH completed
        C: b UID SEARCH SUBJECT one
        S: * ESEARCH (TAG "b") UID ALL 1:3
        S: b OK UID SEARCH completed
        C: c SEARCH SUBJECT nothing
        S: * ESEARCH (TAG "c")
        S: c OK SEARCH completed
        C: d SEARCH RETURN (SAVE) 2
        S: d OK SEARCH completed
        C: e SEARCH RETURN (COUNT) $
        S: * ESEARCH (TAG "e") COUNT 1
        S: e OK SEARCH completed
        C: f SEARCH CHARSET UTF-8 SUBJECT "öne"
        S: * ESEARCH (TAG "f")
        S: f OK SEARCH completed
        C: g SEARCH CHARSET x-none SUBJECT one
        S: g NO [BADCHARSET ...] unknown charset
    """)  # fmt: skip


def test_which_keys_are_substrings(world: World, client: Client) -> None:
    """Item 5: all that are strings; a keyword is a whole one."""
    world.append(MAIL, flags=("Label12",))
    client.ask("s SELECT INBOX")
    for key in ("FROM b.t", "SUBJECT N", 'HEADER Subject ""', "BODY od", "TEXT ubj"):
        assert b"ALL 1" in client.ask(f"a SEARCH {key}")
    assert b"ALL" not in client.ask("a SEARCH KEYWORD Label1")


def test_continued_parameters_are_joined(world: World, client: Client) -> None:
    """Item 6: RFC 2231; what is in a charset keeps its name with the asterisk (section 7.5.2)."""
    world.append(
        b"Content-Type: application/pdf; name*0=one; name*1=two; x*0*=utf-8''%C3%BC; x*1=\"ber.pdf\"\r\n"
        b"Content-Disposition: attachment; filename*0=a; filename*1=b\r\n\r\nx\r\n"
    )
    client.ask("s SELECT INBOX")
    said = client.ask("a FETCH 1 BODYSTRUCTURE")
    assert b'("name" "onetwo" "x*" "utf-8\'\'%C3%BCber.pdf")' in said
    assert b'("attachment" ("filename" "ab"))' in said


def test_move_tells_copyuid(world: World, client: Client, talk: Talk) -> None:
    """Item 7."""
    for _ in range(2):
        world.append(MAIL)
    client.ask("s SELECT INBOX")
    talk(client, """
        C: a MOVE 1 Trash
        S: * OK [COPYUID ... 1 1] Moved
        S: * 1 EXPUNGE
        S: a OK MOVE completed
        C: b UID MOVE 2 Trash
        S: * OK [COPYUID ... 2 2] Moved
        S: * 1 EXPUNGE
        S: b OK MOVE completed
    """)  # fmt: skip


@pytest.mark.parametrize(
    "command", ["COPY 1 Nowhere", "MOVE 1 Nowhere", "UID COPY 1 Nowhere", "UID MOVE 1 Nowhere"]
)
def test_copy_and_move_make_no_mailbox(world: World, client: Client, command: str) -> None:
    """Item 8."""
    world.append(MAIL)
    client.ask("s SELECT INBOX")
    assert client.ask(f"a {command}") == b"a NO [TRYCREATE] No such mailbox; create it first\r\n"
    assert b"Nowhere" not in client.ask('b LIST "" *')


def test_select_and_examine(world: World, client: Client, talk: Talk) -> None:
    """Items 9 to 12: CLOSED, LIST; no UNSEEN, no RECENT."""
    world.append(MAIL)
    client.ask("a SUBSCRIBE Sent")
    talk(client, r"""
        C: a SELECT inbox
        S: * FLAGS (\Answered \Flagged \Deleted \Seen \Draft)
        S: * 1 EXISTS
        S: * OK [PERMANENTFLAGS (... \*)] Flags permitted
        S: * OK [UIDVALIDITY ...] UIDs valid
        S: * OK [UIDNEXT 2] Predicted next UID
        S: * OK [HIGHESTMODSEQ ...] Highest
        S: * OK [MAILBOXID ...] Mailbox id
        S: * OK [URLMECH INTERNAL] URLs can be signed
        S: * LIST (...\HasNoChildren) "/" INBOX
        S: a OK [READ-WRITE] SELECT completed
        C: b EXAMINE Sent
        S: * OK [CLOSED] ...
        S: * FLAGS ...
        S: * 0 EXISTS
        S: * OK [PERMANENTFLAGS ()] Read-only
        S: * OK [UIDVALIDITY ...] UIDs valid
        S: * OK [UIDNEXT 1] Predicted next UID
        S: * OK [HIGHESTMODSEQ ...] Highest
        S: * OK [MAILBOXID ...] Mailbox id
        S: * OK [URLMECH INTERNAL] URLs can be signed
        S: * LIST (\Subscribed \HasNoChildren \Sent) "/" Sent
        S: b OK [READ-ONLY] EXAMINE completed
        C: c SELECT Nowhere
        S: * OK [CLOSED] ...
        S: c NO [NONEXISTENT] ...
        C: d CHECK
        S: d BAD ...
    """)  # fmt: skip


def test_nothing_is_recent(world: World, client: Client, talk: Talk) -> None:
    """Item 12; the words of IMAP4rev1 are read all the same."""
    client.ask("s SELECT INBOX")
    world.append(MAIL)
    talk(client, r"""
        C: a NOOP
        S: * 1 EXISTS
        S: a OK NOOP completed
        C: b FETCH 1 FLAGS
        S: * 1 FETCH (FLAGS ())
        S: b OK FETCH completed
        C: c FETCH 1 FAST
        S: * 1 FETCH (FLAGS () INTERNALDATE ... RFC822.SIZE ...)
        S: c OK FETCH completed
        C: d SEARCH NEW
        S: * ESEARCH (TAG "d") ALL 1
        S: d OK SEARCH completed
        C: e STATUS INBOX (RECENT)
        S: * STATUS INBOX (RECENT ...)
        S: e OK STATUS completed
    """)  # fmt: skip


@pytest.mark.parametrize("keyword", ["$MDNSent", "$Forwarded", "$Junk", "$NotJunk", "$Phishing"])
def test_the_known_keywords_are_kept(world: World, client: Client, keyword: str) -> None:
    """Item 15."""
    world.append(MAIL)
    client.ask("s SELECT INBOX")
    assert f"FETCH (UID 1 FLAGS ({keyword}))".encode() in client.ask(f"a STORE 1 +FLAGS ({keyword})")
    assert b"ALL 1\r\n" in client.ask(f"b SEARCH KEYWORD {keyword}")


def test_names_and_headers_are_utf8(world: World, client: Client, talk: Talk) -> None:
    """Item 16: no UTF-7, also in what the client sends."""
    world.append("Subject: Grüße\r\n\r\nx\r\n".encode())
    talk(client, """
        C: a CREATE "Entwürfe"
        S: a OK [MAILBOXID ...] CREATE completed
        C: b LIST "" E*
        S: * LIST (\\HasNoChildren) "/" "Entwürfe"
        S: b OK LIST completed
        C: c SELECT Entw&APw-rfe
        S: c NO [NONEXISTENT] ...
        C: d EXAMINE INBOX
        S: ...
        S: ...
        S: ...
        S: ...
        S: ...
        S: ...
        S: ...
        S: ...
        S: * LIST ...
        S: d OK [READ-ONLY] ...
        C: e FETCH 1 ENVELOPE
        S: * 1 FETCH (ENVELOPE (NIL "Grüße" NIL NIL NIL NIL NIL NIL NIL NIL))
        S: e OK FETCH completed
    """)  # fmt: skip


def test_names_are_kept_in_normal_form_c(world: World, client: Client, talk: Talk) -> None:
    """Sections 5.1 and 6.3.9.7: the other form is taken in every command, and the client is told."""
    decomposed, composed = "Bu\u0308cher", "B\u00fccher"
    talk(client, f"""
        C: a CREATE "{decomposed}"
        S: * LIST (\\HasNoChildren) "/" "{composed}" ("OLDNAME" ("{decomposed}"))
        S: a OK [MAILBOXID ...] CREATE completed
        C: b CREATE "{composed}"
        S: b NO [ALREADYEXISTS] ...
        C: c STATUS "{decomposed}" (MESSAGES)
        S: * STATUS "{decomposed}" (MESSAGES 0)
        S: c OK STATUS completed
        C: d LIST "" "{decomposed}%"
        S: * LIST (\\HasNoChildren) "/" "{composed}"
        S: d OK LIST completed
        C: e SUBSCRIBE "{decomposed}"
        S: e OK SUBSCRIBE completed
        C: f LIST (SUBSCRIBED) "" "B*"
        S: * LIST (\\Subscribed \\HasNoChildren) "/" "{composed}"
        S: f OK LIST completed
        C: g APPEND "{decomposed}" {{8+}}
        C: a: b
        C:
        C:
        S: * LIST (\\Subscribed \\HasNoChildren) "/" "{composed}" ("OLDNAME" ("{decomposed}"))
        S: g OK [APPENDUID ...] APPEND completed
        C: h EXAMINE "{decomposed}"
        S: ...
        S: * 1 EXISTS
        S: ...
        S: ...
        S: ...
        S: ...
        S: ...
        S: ...
        S: * LIST (\\Subscribed \\HasNoChildren) "/" "{composed}" ("OLDNAME" ("{decomposed}"))
        S: h OK [READ-ONLY] EXAMINE completed
        C: i RENAME "{decomposed}" "{decomposed}s/"
        S: * LIST (\\HasNoChildren) "/" "{composed}s" ("OLDNAME" ("{decomposed}"))
        S: i OK RENAME completed
        C: j DELETE "{decomposed}s"
        S: * LIST (\\NonExistent ...) "/" "{composed}s" ("OLDNAME" ("{decomposed}s"))
        S: j OK DELETE completed
    """)  # fmt: skip


@pytest.mark.parametrize("command", ["CHECK", 'LSUB "" *', "FETCH 1:* (RFC822 RFC822.HEADER RFC822.TEXT)"])
def test_what_is_gone_still_works(client: Client, command: str) -> None:
    """Items 17 to 19."""
    client.ask("s SELECT INBOX")
    assert re.search(rb"^a OK ", client.ask(f"a {command}"), re.MULTILINE)


def test_lsub_by_its_new_name(client: Client, talk: Talk) -> None:
    """Item 19."""
    talk(client, r"""
        C: a LIST (SUBSCRIBED) "" Sent
        S: * LIST (\Subscribed ...) "/" Sent
        S: a OK LIST completed
    """)  # fmt: skip


def test_flags_told_unasked_come_with_the_uid(world: World, client: Client, talk: Talk) -> None:
    """Item 21; also in IDLE (item 20)."""
    for _ in range(2):
        world.append(MAIL)
    other = world.connect().select()
    client.ask("s SELECT INBOX")
    other.ask(r"a STORE 2 +FLAGS.SILENT (\Flagged)")
    talk(client, r"""
        C: a NOOP
        S: * 2 FETCH (UID 2 FLAGS (\Flagged))
        S: a OK NOOP completed
        C: b IDLE
        S: + idling
    """)  # fmt: skip
    other.ask(r"b STORE 1 +FLAGS.SILENT (\Flagged)")
    assert client.heard() == b"* 1 FETCH (UID 1 FLAGS (\\Flagged))\r\n"
    assert client.ask("DONE") == b"b OK IDLE completed\r\n"


def test_enabled_while_a_mailbox_is_selected(world: World) -> None:
    """Section 6.3.1: a client should not; one that does gets what it asks for."""
    world.append(MAIL)
    client = world.connect().select()
    client.ask("a ENABLE IMAP4rev2")
    assert client.ask("b SEARCH ALL").startswith(b'* ESEARCH (TAG "b") ALL 1\r\n')
    assert b"FETCH (UID 1 FLAGS (\\Seen))" in client.ask(r"c STORE 1 FLAGS (\Seen)")


def test_the_next_user_begins_anew(world: World, client: Client) -> None:
    """RFC 8437 section 2: what was enabled is not any more."""
    client.ask("a UNAUTHENTICATE")
    said = client.select().ask("b SEARCH ALL")
    assert said.startswith(b"* SEARCH\r\n")


def test_strings_of_a_login_may_be_utf8(world: World) -> None:
    """Section 4.3: a quoted string is UTF-8; who is not known gets the answer that all of them get."""
    client = world.connect()
    client.heard()
    client.send('a LOGIN "jörg@example.test" "ß"\r\n'.encode())
    world.clock.advance(world.config.auth_failure_seconds)
    world.settle()
    assert client.heard() == b"a NO [AUTHENTICATIONFAILED] Wrong user name or password\r\n"
