"""The SMTP session: where content ends, what it may hold, and any bytes in any pieces."""

from __future__ import annotations

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from mailstack.wire.smtp import Server, State, events
from mailstack.wire.smtp.replies import BARE_LINE_END
from tests.wire.smtp.transcripts import EHLO, EXTENSIONS, RCPT, Client, Yes, converse


class TestEndOfData:
    SMUGGLING = [
        "\n.\n",
        "\n.\r\n",
        "\r.\r",
        "\r\n.\n",
        "\r\n.\r",
        "\r.\r\n",
        "\n.\r",
        "\r\n\0.\r\n",
        "\r\r\n.\r\r\n",
        "\n\n.\n\n",
    ]

    @pytest.mark.parametrize("mark", SMUGGLING)
    def test_only_one_spelling_ends_a_message(self, mark: str) -> None:
        smuggled = "MAIL FROM:<evil@example.net>\r\nRCPT TO:<victim@example.org>\r\nDATA\r\nhaha"
        text = f"EHLO x\r\nMAIL FROM:<>\r\nRCPT TO:<a@b.example>\r\nDATA\r\nbegin{mark}{smuggled}\r\n.\r\nNOOP\r\n"
        for step in (0, 1, 2, 3, 5):
            role = Yes()
            said = Client(role)
            replies = said.hear(text.encode(), step).split(b"\r\n")
            assert len([one for one in role.events if isinstance(one, events.Mail)]) == 1
            assert role.messages == []
            assert replies[-3].startswith(b"550 5.6.0" if "\0" in mark else b"550 5.6.11"), replies
            assert replies[-2].startswith(b"250 2.0.0")

    @pytest.mark.parametrize(
        ("sent", "content"),
        [
            (b".\r\n", b""),
            (b"\r\n.\r\n", b"\r\n"),
            (b"a\r\n.\r\n", b"a\r\n"),
            (b"..\r\n.\r\n", b".\r\n"),
            (b"...\r\n.\r\n", b"..\r\n"),
            (b".a\r\n.\r\n", b"a\r\n"),
            (b"a\r\n..\r\n..\r\n.\r\n", b"a\r\n.\r\n.\r\n"),
            (b"a.\r\nb\r\n.\r\n", b"a.\r\nb\r\n"),
            (b"\x01\xff\x80\r\n.\r\n", b"\x01\xff\x80\r\n"),
            (b"\r\n..\r\n\r\n.\r\n", b"\r\n.\r\n\r\n"),
        ],
    )
    def test_content(self, sent: bytes, content: bytes) -> None:
        for step in range(8):
            role = Yes()
            said = Client(role).hear(
                b"EHLO x\r\nMAIL FROM:<>\r\nRCPT TO:<a@b.example>\r\nDATA\r\n" + sent, step
            )
            assert role.messages == [content]
            assert said.endswith(b"250 2.0.0 Queued\r\n")

    @settings(max_examples=200, deadline=None)
    @given(
        st.lists(
            st.sampled_from([b"\r\n", b".", b"a", b"\xff", b"..", b"\r\n.", b"xyz", b"\r\n..\r\n"]),
            max_size=30,
        ),
        st.lists(st.integers(1, 9), min_size=1, max_size=20),
    )
    def test_stuffed_content_comes_back(self, words: list[bytes], cuts: list[int]) -> None:
        content = b"".join(words) + b"\r\n"
        stuffed = (b"\r\n" + content).replace(b"\r\n.", b"\r\n..")[2:] + b".\r\n"
        role = Yes()
        client = Client(role)
        client.hear(b"EHLO x\r\nMAIL FROM:<>\r\nRCPT TO:<a@b.example>\r\nDATA\r\n")
        begin = 0
        for i in range(len(stuffed)):
            end = begin + cuts[i % len(cuts)]
            client.hear(stuffed[begin:end])
            begin = end
        assert role.messages == [content]

    def test_chunks_are_as_large_as_they_come(self) -> None:
        role = Yes()
        client = Client(role)
        client.hear(b"EHLO x\r\nMAIL FROM:<>\r\nRCPT TO:<a@b.example>\r\nDATA\r\n")
        client.hear(b"x" * 60_000)
        client.hear(b"y" * 60_000 + b"\r\n.\r\n")
        sizes = [len(one.data) for one in role.events if isinstance(one, events.Chunk)]
        assert sizes == [60_000, 60_002]

    def test_what_is_refused_is_swallowed_and_answered_at_its_end(self) -> None:
        for step in (0, 1):
            role = Yes(most=10)
            client = Client(role)
            client.hear(b"EHLO x\r\nMAIL FROM:<>\r\nRCPT TO:<a@b.example>\r\nDATA\r\n")
            assert client.hear(b"0123456789abcdef\r\nNOOP\r\n", step) == b""
            for _ in range(5):
                assert client.hear(b"z" * 1000, step) == b""
                assert len(client.session._buffer) < 10
            assert client.hear(b"\r\n.\r\nNOOP\r\n", step) == b"552 5.3.4 Too big\r\n250 2.0.0 Ok\r\n"
            assert role.messages == []
            chunks = [one for one in role.events if isinstance(one, events.Chunk)]
            assert len(chunks) == (11 if step else 1)  # the one that is refused is the last

    def test_after_a_bare_line_end_nothing_more_is_handed_on(self) -> None:
        role = Yes()
        client = Client(role)
        client.hear(b"EHLO x\r\nMAIL FROM:<>\r\nRCPT TO:<a@b.example>\r\nDATA\r\n")
        client.hear(b"one\r\n")
        client.hear(b"two\n")
        client.hear(b"three\r\n")
        assert client.hear(b".\r\n").startswith(b"550 5.6.11")
        assert role.events[-2:] == [events.Chunk(b"one"), events.EndOfData(BARE_LINE_END)]


class TestMendedLineEnds:
    """Submission takes a bare LF as the line end that it was meant to be; only CRLF.CRLF ends the message."""

    START = b"EHLO x\r\nMAIL FROM:<>\r\nRCPT TO:<a@b.example>\r\nDATA\r\n"

    def say(self, sent: bytes, step: int) -> tuple[bytes, list[bytes]]:
        role = Yes()
        client = Client(role)
        client.session = Server(mends=True)
        said = client.hear(self.START + sent, step)
        return said.split(b"354 Go ahead\r\n")[1], role.messages

    @pytest.mark.parametrize("step", range(6))
    @pytest.mark.parametrize(
        ("sent", "content"),
        [
            (b"a\nb\n\r\n.\r\n", b"a\r\nb\r\n\r\n"),
            (b"\n\r\n.\r\n", b"\r\n\r\n"),
            (b"a\n.\nMAIL FROM:<>\n.\r\n\n.\nb\r\n.\r\n", b"a\r\n.\r\nMAIL FROM:<>\r\n.\r\n\r\n.\r\nb\r\n"),
            (b"a\n..b\r\n..c\r\n.\r\n", b"a\r\n..b\r\n.c\r\n"),
        ],
    )
    def test_a_bare_lf(self, sent: bytes, content: bytes, step: int) -> None:
        assert self.say(sent, step) == (b"250 2.0.0 Queued\r\n", [content])

    @pytest.mark.parametrize("step", range(4))
    @pytest.mark.parametrize(
        "sent", [b"a\rb\r\n.\r\n", b"a\nb\r\r\n.\r\n", b"a\r.\r\nb\n\r\n.\r\n", b"\r\n.\r\r\n.\r\n"]
    )
    def test_a_bare_cr_is_refused(self, sent: bytes, step: int) -> None:
        said, messages = self.say(sent, step)
        assert said.startswith(b"550 5.6.11")
        assert said.count(b"\r\n") == 1
        assert messages == []

    @settings(max_examples=200, deadline=None)
    @given(
        st.lists(st.sampled_from([b"\r\n", b"\n", b".", b"a", b"\n.", b"\n.\n", b"\n.\r\n"]), max_size=30),
        st.integers(0, 7),
    )
    def test_any(self, words: list[bytes], step: int) -> None:
        content = b"".join(words) + b"\r\n"
        stuffed = (b"\r\n" + content).replace(b"\r\n.", b"\r\n..")[2:] + b".\r\n"
        wanted = content.replace(b"\r\n", b"\n").replace(b"\n", b"\r\n")
        assert self.say(stuffed, step) == (b"250 2.0.0 Queued\r\n", [wanted])


class TestChunking:
    def test_two_chunks(self) -> None:
        role = converse(
            RCPT
            + """C: BDAT 8
C: Hello,
C: BDAT 9 LAST
C: \\r\\n.\\r\\nabc.\\c
S: 250 2.0.0 8 octets
S: 250 2.0.0 Queued
C: NOOP
S: 250
"""
        )
        assert role.messages == [b"Hello,\r\n\r\n.\r\nabc."]

    def test_last_of_nothing(self) -> None:
        role = converse(
            RCPT
            + "C: BDAT 4\nC: ab\nS: 250 2.0.0 4\nC: bdat 0 last\nS: 250 2.0.0 Queued\nC: MAIL FROM:<>\nS: 250\n"
        )
        assert role.messages == [b"ab\r\n"]

    def test_reset_between_chunks(self) -> None:
        role = converse(
            RCPT
            + """C: BDAT 4
C: ab
S: 250
C: RSET
S: 250
C: BDAT 3 LAST
C: x\\c
C:
S: 503 5.5.1
C: MAIL FROM:<>
S: 250
C: RCPT TO:<a@b.example>
S: 250
C: BDAT 2 LAST
C:
S: 250 2.0.0 Queued
"""
        )
        assert role.messages == [b"\r\n"]

    def test_without_recipients_the_octets_are_swallowed(self) -> None:
        converse(EHLO + "C: MAIL FROM:<>\nS: 250\nC: BDAT 6 LAST\nC: QUIT\nC: NOOP\nS: 554 5.5.1\nS: 250\n")

    def test_a_refused_chunk_spoils_the_rest(self) -> None:
        role = converse(
            RCPT
            + """C: BDAT 8
C: 123456
C: BDAT 6
C: QUIT
C: BDAT 4 LAST
C: ab
C: NOOP
S: 552 5.3.4
S: 503 5.5.1
S: 503 5.5.1
S: 250
C: MAIL FROM:<>
S: 250
""",
            most=5,
        )
        assert role.messages == []

    def test_after_data_fails_bdat_is_out_of_sequence(self) -> None:
        converse(
            RCPT
            + """C: DATA
S: 354
C: a\\nb
C: .
S: 550 5.6.11
C: BDAT 6 LAST
C: NOOP
S: 503 5.5.1
C: NOOP
S: 250
"""
        )

    @pytest.mark.parametrize("argument", ["", "x", "-1", "1 FIRST", "1 LAST more", "9" * 19, "1.5", "0x10"])
    def test_an_unknown_size_ends_the_conversation(self, argument: str) -> None:
        client = Client()
        client.hear(b"EHLO x\r\nMAIL FROM:<>\r\nRCPT TO:<a@b.example>\r\n")
        said = client.hear(f"BDAT {argument}\r\nMAIL FROM:<evil@example.net>\r\n".encode())
        assert said.startswith(b"501 5.5.4")
        assert said.count(b"\r\n") == 1
        assert client.session.closed

    @pytest.mark.parametrize(
        "chunks",
        [[b"a\nb"], [b"a\rb"], [b"a\r", b"b"], [b"a", b"\nb"], [b"a\r"], [b"a\r\n", b"\n"], [b"\r", b"\r\n"]],
    )
    def test_bare_line_ends(self, chunks: list[bytes]) -> None:
        for step in (0, 1):
            role = Yes()
            client = Client(role)
            client.hear(b"EHLO x\r\nMAIL FROM:<>\r\nRCPT TO:<a@b.example>\r\n")
            text = b"".join(b"BDAT %d\r\n%b" % (len(one), one) for one in chunks) + b"BDAT 0 LAST\r\nNOOP\r\n"
            said = client.hear(text, step)
            assert b"550 5.6.11" in said
            assert said.endswith(b"250 2.0.0 Ok\r\n")
            assert role.messages == []
            client.hear(b"RSET\r\nMAIL FROM:<>\r\nRCPT TO:<a@b.example>\r\nBDAT 2 LAST\r\n\r\n", step)
            assert role.messages == [b"\r\n"]

    def test_a_line_end_cut_in_two(self) -> None:
        role = converse(
            RCPT + "C: BDAT 2\nC: a\\r\\c\nC: BDAT 1 LAST\nC: \\n\\c\nS: 250\nS: 250 2.0.0 Queued\n"
        )
        assert role.messages == [b"a\r\n"]


WORDS = st.sampled_from(
    [
        b"EHLO x\r\n", b"HELO x\r\n", b"MAIL FROM:<a@b.example>\r\n", b"RCPT TO:<c@d.example>\r\n", b"DATA\r\n",
        b".\r\n", b"\r\n.\r\n", b"BDAT 5\r\n", b"BDAT 3 LAST\r\n", b"hello", b"\r\n", b"\n", b"\r", b".", b"RSET\r\n",
        b"AUTH PLAIN\r\n", b"AUTH LOGIN YQ==\r\n", b"*\r\n", b"YQ==\r\n", b"NOOP\r\n", b"\0", b"\xff", b"x" * 1100,
        b"STARTTLS\r\n", b"<", b">", b'"', b" ",
    ]
)  # fmt: skip


def flow(data: bytes, cuts: list[int]) -> tuple[list[events.Event], bytes, list[bytes]]:
    """Events, what the server said, and the messages, for the same bytes in other pieces."""
    role = Yes(EXTENSIONS[:-2] + EXTENSIONS[-1:])  # no STARTTLS: it drops what happens to be in the packet
    client = Client(role)
    said = b""
    begin = 0
    i = 0
    while begin < len(data):
        end = begin + cuts[i % len(cuts)]
        said += client.hear(data[begin:end])
        begin, i = end, i + 1
    # How much of a message is seen depends on where it is cut, if it is refused or never ends; the messages do not.
    return [one for one in role.events if not isinstance(one, events.Chunk)], said, role.messages


class TestAnyBytes:
    @settings(max_examples=200, deadline=None)
    @given(st.lists(WORDS, max_size=40), st.lists(st.integers(1, 40), min_size=1, max_size=8))
    def test_any_split_gives_the_same(self, words: list[bytes], cuts: list[int]) -> None:
        data = b"EHLO x\r\nMAIL FROM:<>\r\nRCPT TO:<a@b.example>\r\n" + b"".join(words)
        assert flow(data, cuts) == flow(data, [len(data)])

    @settings(max_examples=200, deadline=None)
    @given(st.binary(max_size=400), st.integers(1, 50))
    def test_garbage_never_raises(self, data: bytes, step: int) -> None:
        client = Client()
        client.hear(data + b"\r\n", step)
        if not client.session.closed:
            client.hear(b"\r\n.\r\nRSET\r\n")
            assert client.session.state is not State.CLOSED or client.session.closed

    @settings(max_examples=200, deadline=None)
    @given(st.sampled_from([b"MAIL FROM:", b"RCPT TO:", b"EHLO ", b"BDAT ", b"AUTH "]), st.text(max_size=60))
    def test_garbage_arguments_never_raise(self, verb: bytes, text: str) -> None:
        client = Client()
        client.hear(b"EHLO x\r\nMAIL FROM:<>\r\n" if verb.startswith(b"RCPT") else b"EHLO x\r\n")
        data = text.encode("utf-8", "replace").replace(b"\r", b"").replace(b"\n", b"")
        said = client.hear(verb + data + b"\r\n")
        assert said[3:4] in (b" ", b"-", b"")
