"""Whatever is said: an answer from the RFC or a clean close, never a fault of ours."""

from __future__ import annotations

from collections.abc import Iterator

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from tests.access.imap import corpus
from tests.access.imap.harness import Client, World

NUMBERS = [
    "0",
    "1",
    "*",
    "1:*",
    "*:1",
    "4294967295",
    "4294967296",
    "1,2,3",
    "2:1",
    "1:2:3",
    "-1",
    "1," * 300 + "1",
    "99:100",
]
ITEMS = [
    *(
        "FLAGS",
        "ALL",
        "FULL",
        "(FLAGS UID)",
        "BODY[]",
        "BODY.PEEK[]<0.1>",
        "BODY[]<1.0>",
        "BODY[0]",
        "BODY[1.0]",
        "RFC822",
    ),
    *(
        "BODY[1.1.1.1.1.1.1.1]",
        "BODY[99999999999]",
        "BODY.PEEK[HEADER.FIELDS ()]",
        "BODY.PEEK[HEADER.FIELDS (a b)]<1.9>",
    ),
    *(
        "BODY[MIME]",
        "BODY.PEEK[1.MIME]",
        "BODY.PEEK[HEADER.FIELDS.NOT (SUBJECT)]",
        "BODY.PEEK[]<4294967295.4294967295>",
    ),
    *(
        "BODYSTRUCTURE",
        "ENVELOPE",
        "(BODY.PEEK[TEXT] BODY.PEEK[1] BODY.PEEK[2.1] BODY.PEEK[1.HEADER])",
        "X",
        "()",
        "MODSEQ",
    ),
]
NAMES = [
    "INBOX",
    "inbox/x",
    '""',
    '"a\\\\b"',
    "&AAA",
    "&-",
    "&//8-",
    "%",
    "*",
    "a/",
    "/",
    '"\u00e9"',
    "x" * 500,
    "Trash",
]
KEYS = [
    *(
        "ALL",
        "SUBJECT x",
        'BODY ""',
        'TEXT ""',
        "OR SEEN",
        "NOT",
        "1:*",
        "UID 1:*",
        "BEFORE 31-Feb-2000",
        "SINCE 1-Jan-0001",
    ),
    *(
        "SENTON 1-Jan-2000",
        "LARGER -1",
        "LARGER 99999999999",
        "HEADER",
        'HEADER "" ""',
        "KEYWORD a",
        "KEYWORD \\Seen",
        "()",
    ),
    *(
        "CHARSET",
        "CHARSET UTF-8 TEXT \u00e9",
        "RETURN",
        "RETURN (COUNT) ALL",
        "MODSEQ 1",
        "OLDER 1",
        "SINCE 1-Jan-9999",
        "ON x",
    ),
]
FLAGS = [
    "FLAGS ()",
    "FLAGS (\\Seen)",
    "+FLAGS \\Seen",
    "-FLAGS.SILENT (a b c)",
    "FLAGS (\\Bogus)",
    "+FLAGS (\\*)",
    "FLAGS (]x)",
]


@pytest.fixture(scope="module")
def world() -> Iterator[World]:
    world = World()
    for message in corpus.ALL:
        world.append(message)
    yield world
    world.close()


@pytest.fixture(scope="module")
def client(world: World) -> Client:
    return world.connect().select()


def in_step(client: Client, command: str) -> bytes:
    """The answer; afterwards the session must be in step and have something selected."""
    said = client.ask(command)
    assert b"SERVERBUG" not in said, said
    assert b"t OK" in said or b"t NO" in said or b"t BAD" in said, said
    assert b"z OK NOOP" in client.ask("z NOOP"), f"out of step after {command!r}"
    return said


commands = st.one_of(
    st.tuples(st.sampled_from(["FETCH", "UID FETCH"]), st.sampled_from(NUMBERS), st.sampled_from(ITEMS)),
    st.tuples(st.sampled_from(["STORE", "UID STORE"]), st.sampled_from(NUMBERS), st.sampled_from(FLAGS)),
    st.tuples(st.sampled_from(["COPY", "UID COPY"]), st.sampled_from(NUMBERS), st.sampled_from(NAMES)),
    st.tuples(st.sampled_from(["SEARCH", "UID SEARCH"]), st.sampled_from(KEYS), st.sampled_from(["", *KEYS])),
    st.tuples(st.sampled_from(["LIST", "LSUB", "RENAME"]), st.sampled_from(NAMES), st.sampled_from(NAMES)),
    st.tuples(
        st.sampled_from(["CREATE", "DELETE", "SUBSCRIBE", "UNSUBSCRIBE", "GETQUOTAROOT"]),
        st.sampled_from(NAMES),
    ),
    st.tuples(
        st.just("STATUS"), st.sampled_from(NAMES), st.sampled_from(["()", "(MESSAGES)", "(X)", "MESSAGES"])
    ),
    st.tuples(
        st.sampled_from(["ID", "ENABLE", "NAMESPACE", "GETQUOTA", "SETQUOTA", "LOGIN", "X"]),
        st.sampled_from(NAMES),
    ),
)


@settings(max_examples=200, deadline=None, suppress_health_check=list(HealthCheck))
@given(command=commands)
def test_commands_with_odd_arguments(client: Client, command: tuple[str, ...]) -> None:
    in_step(client, " ".join(("t", *command)))


@settings(max_examples=100, deadline=None, suppress_health_check=list(HealthCheck))
@given(noise=st.binary(max_size=60))
def test_noise(world: World, noise: bytes) -> None:
    """Any octets, before and after login."""
    for client in (world.connect(), world.connect().login()):
        client.send(noise + b"\r\n")
        client.send(b"z NOOP\r\n")
        assert b"SERVERBUG" not in client.heard()
        client.lose()


def test_every_command_out_of_place(world: World) -> None:
    names = (
        *(
            "SELECT INBOX",
            "EXAMINE INBOX",
            "CREATE x",
            "DELETE x",
            "RENAME x y",
            "SUBSCRIBE x",
            "UNSUBSCRIBE x",
        ),
        *(
            'LIST "" *',
            'LSUB "" *',
            "STATUS INBOX (MESSAGES)",
            "NAMESPACE",
            "GETQUOTAROOT INBOX",
            'GETQUOTA ""',
            "IDLE",
        ),
        *(
            "CHECK",
            "CLOSE",
            "UNSELECT",
            "EXPUNGE",
            "SEARCH ALL",
            "FETCH 1 FLAGS",
            "STORE 1 FLAGS ()",
            "COPY 1 x",
            "MOVE 1 x",
        ),
    )
    for name in names:
        client = world.connect()
        client.heard()
        assert client.ask(f"a {name}").startswith(b"a BAD"), name
    for name in names[14:]:
        assert world.connect().login().ask(f"a {name}").startswith(b"a BAD"), name


def test_an_answer_much_larger_than_the_message_is_streamed(world: World) -> None:
    """200 times the same 100 KiB: never all of it in memory."""
    world.append(b"Subject: x\r\n\r\n" + b"y" * 100_000, "Archive")
    client = world.connect().login()
    client.ask("s SELECT Archive")
    items = " ".join(f"BODY.PEEK[]<{n}.100000>" for n in range(200))
    client.conversation.pauseProducing()
    client.send(f"a FETCH * ({items})\r\n".encode())
    assert len(client.heard()) < 1_000_000
    client.lose()


def test_list_with_very_many_patterns(world: World) -> None:
    client = world.connect().login()
    assert client.ask('a LIST "" (' + " ".join(["*"] * 101) + ")").startswith(b"a NO [LIMIT]")
    said = client.ask('b LIST "" (' + " ".join(["*a*a*a*b"] * 99 + ["INBOX"]) + ")")
    assert said.endswith(b'"/" INBOX\r\nb OK LIST completed\r\n')
