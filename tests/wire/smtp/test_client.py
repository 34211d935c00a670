"""The client's side of SMTP: replies, offers, commands, content."""

from __future__ import annotations

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from mailstack.mail.address import Address
from mailstack.mail.envelope import Envelope, Recipient
from mailstack.mail.reply import Reply
from mailstack.wire.smtp import client
from mailstack.wire.smtp.client import BadReply, DotStuffing, Offers, ReplyReader
from mailstack.wire.smtp.data import DotContent

BOB = Address("bob", "b.test")
ALICE = Address("alice", "a.test")

quick = settings(max_examples=150, deadline=None)


def read(data: bytes, pieces: int | None = None) -> list[Reply | str]:
    """Every reply, and the complaint at the end if there is one; in pieces of that many octets."""
    reader = ReplyReader()
    found: list[Reply | str] = []
    step = pieces or max(1, len(data))
    for start in range(0, len(data), step):
        reader.receive_data(data[start : start + step])
        try:
            while (reply := reader.next_reply()) is not None:
                found.append(reply)
        except BadReply as error:
            return [*found, f"bad: {error}"]
    return found


class TestReplies:
    @pytest.mark.parametrize("pieces", [None, 1, 3])
    def test_lines_codes_and_enhanced_codes(self, pieces: int | None) -> None:
        data = (
            b"220 mx.b.test ESMTP\r\n250-mx.b.test hello\r\n250-SIZE 1000\r\n250 HELP\r\n"
            b"550-5.1.1 no such\r\n550 5.1.1 user\r\n354\r\n250 2.0.0\r\n250 4.2.0 odd\r\n"
        )
        assert read(data, pieces) == [
            Reply(220, "", "mx.b.test ESMTP"),
            Reply(250, "", "mx.b.test hello\nSIZE 1000\nHELP"),
            Reply(550, "5.1.1", "no such\nuser"),
            Reply(354, "", ""),
            Reply(250, "2.0.0", ""),
            Reply(250, "", "4.2.0 odd"),  # a code of another class is text
        ]

    def test_a_bare_lf_ends_a_reply_too(self) -> None:
        assert read(b"250 ok\n") == [Reply(250, "", "ok")]

    def test_what_a_terminal_or_a_log_would_obey_becomes_blank(self) -> None:
        [reply] = read(b"550 a\x1b[31mred\x00\xff\xc2\x9b\xe2\x80\xa8 x\r\n")
        assert isinstance(reply, Reply)
        assert reply.text == "a [31mred \ufffd   x"

    def test_what_is_not_asked_for_is_not_taken_apart(self, monkeypatch: pytest.MonkeyPatch) -> None:
        """A server that pours out replies must not keep everybody else waiting while they are read."""
        lines: list[bytes] = []
        read = ReplyReader._line
        monkeypatch.setattr(ReplyReader, "_line", lambda self, line: lines.append(line) or read(self, line))
        reader = ReplyReader()
        for _ in range(3):
            reader.receive_data((b"250-x\r\n" * 99 + b"250 x\r\n") * 90)
        for asked in (1, 2):
            assert reader.next_reply() is not None
            assert len(lines) == 100 * asked
        assert not reader.idle

    @pytest.mark.parametrize(
        ("data", "complaint"),
        [
            (b"HTTP/1.1 400 Bad Request\r\n", "not a reply"),
            (b"\r\n", "not a reply"),
            (b"99 x\r\n", "not a reply"),
            (b"150 x\r\n", "not a reply"),
            (b"600 x\r\n", "not a reply"),
            (b"2500 x\r\n", "not a reply"),
            (b"250_x\r\n", "not a reply"),
            (b"250-a\r\n550 b\r\n", "two codes"),
            (b"250-x\r\n" * 101, "100 lines"),
            (b"250 " + b"x" * 2048, "2048 octets"),
            (b"250 " + b"x" * 2048 + b"\r\n", "2048 octets"),
            (b"250 ok\r\n" * 26_000, "more replies than commands"),
        ],
    )
    def test_what_is_no_reply_is_told_apart(self, data: bytes, complaint: str) -> None:
        reader = ReplyReader()
        reader.receive_data(data)
        with pytest.raises(BadReply, match=complaint):
            while reader.next_reply() is not None:
                pass
        reader.receive_data(b"250 ok\r\n")
        with pytest.raises(BadReply):
            reader.next_reply()

    def test_a_reply_without_end_costs_little(self) -> None:
        reader = ReplyReader()
        for _ in range(1000):
            reader.receive_data(b"250-" + b"x" * 2000 + b"\r\n")
        assert len(reader._unread) == 0
        assert sum(len(text) for _, text in reader._lines) <= client.MAX_TEXT

    @quick
    @given(
        st.lists(
            st.sampled_from(
                [b"250 ok\r\n", b"250-a\r\n", b"451 4.7.1 later\r\n", b"x\r\n", b"2", b"\r", b"\n"]
            )
        )
    )
    def test_any_split_gives_the_same(self, pieces: list[bytes]) -> None:
        data = b"".join(pieces)
        assert read(data) == read(data, 1) == read(data, 5)

    @quick
    @given(st.binary(max_size=400))
    def test_no_bytes_do_harm(self, data: bytes) -> None:
        assert read(data) == read(data, 1)

    def test_idle_means_nothing_was_left_over(self) -> None:
        reader = ReplyReader()
        reader.receive_data(b"220 ready\r\n250 injected")
        reader.next_reply()
        assert not reader.idle
        clean = ReplyReader()
        clean.receive_data(b"220 ready\r\n")
        clean.next_reply()
        assert clean.idle


class TestOffers:
    def test_keywords_and_size(self) -> None:
        text = "MX.B.Test greets you\nsize 52428800\nAUTH=PLAIN LOGIN\n8BITMIME\n\n-what\nPIPELINING"
        offers = Offers.read(Reply(250, "", text))
        assert offers.name == "mx.b.test"
        assert offers.size == 52428800
        assert set(offers.keywords) == {"SIZE", "AUTH", "8BITMIME", "PIPELINING"}
        assert offers.keywords["AUTH"] == "PLAIN LOGIN"

    @pytest.mark.parametrize("words", ["SIZE", "SIZE 0", "SIZE x", "SIZE -1", "SIZE 9" + "9" * 30, "OTHER"])
    def test_no_usable_size_is_none(self, words: str) -> None:
        assert Offers.read(Reply(250, "", f"mx\n{words}")).size is None


def offers(*keywords: str) -> Offers:
    return Offers("mx", dict.fromkeys(keywords, ""))


class TestCommands:
    def test_nothing_is_said_that_was_not_offered(self) -> None:
        recipient = Recipient(BOB, frozenset({"FAILURE", "DELAY"}), "rfc822;bob@old.test")
        envelope = Envelope("q", ALICE, (recipient,), ret="FULL", envid="x")
        assert client.mail(envelope, 99, offers()) == b"MAIL FROM:<alice@a.test>\r\n"
        assert client.rcpt(recipient, offers()) == b"RCPT TO:<bob@b.test>\r\n"

    def test_everything_that_was_offered(self) -> None:
        recipient = Recipient(BOB, frozenset({"FAILURE", "DELAY"}), "rfc822;b+ob@old.test")
        envelope = Envelope("q", None, (recipient,), ret="HDRS", envid="a=b c")
        every = offers("SIZE", "8BITMIME", "SMTPUTF8", "DSN")
        assert client.mail(envelope, 99, every, "8BITMIME", True) == (
            b"MAIL FROM:<> SIZE=99 BODY=8BITMIME SMTPUTF8 RET=HDRS ENVID=a+3Db+20c\r\n"
        )
        assert client.rcpt(recipient, every) == (
            b"RCPT TO:<bob@b.test> NOTIFY=DELAY,FAILURE ORCPT=rfc822;b+2Bob@old.test\r\n"
        )

    def test_hello(self) -> None:
        assert client.hello("mx.a.test") == b"EHLO mx.a.test\r\n"
        assert client.hello("mx.a.test", b"HELO") == b"HELO mx.a.test\r\n"

    def test_a_command_is_one_line_whatever_the_address(self) -> None:
        with pytest.raises(ValueError, match="two lines"):
            client.rcpt(Recipient(Address("a\r\nDATA", "b.test")), offers())

    def test_which_envelopes_need_smtputf8(self) -> None:
        plain = Envelope("q", ALICE, (Recipient(BOB),))
        assert not client.needs_smtputf8(plain)
        assert client.needs_smtputf8(plain.only((Recipient(Address("bøb", "b.test")),)))
        assert client.needs_smtputf8(Envelope("q", Address("å", "a.test"), (Recipient(BOB),)))


def stuffed(*chunks: bytes) -> bytes:
    stuffing = DotStuffing()
    return b"".join([stuffing.encode(chunk) for chunk in chunks] + [stuffing.finish()])


class TestDotStuffing:
    @pytest.mark.parametrize(
        ("content", "sent"),
        [
            (b"", b".\r\n"),
            (b"a", b"a\r\n.\r\n"),
            (b"a\r\n", b"a\r\n.\r\n"),
            (b".", b"..\r\n.\r\n"),
            (b".\r\n.a\r\n..\r\n", b"..\r\n..a\r\n...\r\n.\r\n"),
            (b"a\n.\nb", b"a\r\n..\r\nb\r\n.\r\n"),  # the smuggler's ends of content
            (b"a\r.\rb", b"a\r\n..\r\nb\r\n.\r\n"),
            (b"a\r\n.\rb\n", b"a\r\n..\r\nb\r\n.\r\n"),
            (b"a\r", b"a\r\n.\r\n"),
            (b"a\r\r\n", b"a\r\n\r\n.\r\n"),
        ],
    )
    def test_line_ends_and_dots(self, content: bytes, sent: bytes) -> None:
        assert stuffed(content) == sent
        assert stuffed(*(content[i : i + 1] for i in range(len(content)))) == sent

    @quick
    @given(
        st.lists(st.sampled_from([b".", b"\r", b"\n", b"\r\n", b"a", b"..", b"\r\n.\r\n"]), max_size=30),
        st.integers(1, 7),
    )
    def test_any_split_gives_the_same_and_only_the_end_ends_it(self, pieces: list[bytes], size: int) -> None:
        content = b"".join(pieces)
        whole = stuffed(content)
        assert stuffed(*(content[i : i + size] for i in range(0, len(content), size))) == whole
        assert whole.count(b"\r\n.\r\n") + whole.startswith(b".\r\n") == 1
        assert whole.count(b"\n") == whole.count(b"\r") == whole.count(b"\r\n")

    @quick
    @given(st.lists(st.sampled_from([b".", b"\r\n", b"a", b".."]), max_size=30))
    def test_our_own_server_reads_back_what_was_sent(self, pieces: list[bytes]) -> None:
        content = b"".join([*pieces, b"\r\n"])
        received, rest = DotContent().feed(stuffed(content))
        assert (received, rest) == (content, b"")
