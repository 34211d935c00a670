"""Sequence sets, modified UTF-7, quoting and dates, there and back."""

from __future__ import annotations

import itertools
import re

import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from mailstack.wire.imap import mutf7, quoting
from mailstack.wire.imap.grammar.cursor import LITERAL, Cursor
from mailstack.wire.imap.sequence import LARGEST, SequenceSet

modest = settings(max_examples=150, deadline=None)
number = st.integers(0, LARGEST)
sets = st.lists(st.tuples(number, number), min_size=1, max_size=8).map(
    lambda pairs: SequenceSet(tuple(pairs))
)


class TestSequenceSet:
    @modest
    @given(sets)
    def test_round_trip(self, numbers: SequenceSet) -> None:
        assert SequenceSet.parse(str(numbers)) == numbers

    @modest
    @given(
        st.lists(st.tuples(st.integers(0, 12), st.integers(0, 12)), min_size=1, max_size=6),
        st.integers(0, 15),
    )
    def test_resolve_is_what_a_plain_reading_gives(self, pairs: list[tuple[int, int]], maximum: int) -> None:
        expected = set()
        for first, last in pairs:
            low, high = sorted((first or maximum, last or maximum))
            expected.update(n for n in range(low, high + 1) if 1 <= n <= maximum)
        ranges = SequenceSet(tuple(pairs)).resolve(maximum)
        assert [n for run in ranges for n in run] == sorted(expected)
        assert all(one.stop < two.start for one, two in itertools.pairwise(ranges))

    def test_all_uids_are_not_expanded(self) -> None:
        assert SequenceSet.parse("1:4294967295").resolve(LARGEST) == [range(1, LARGEST + 1)]
        assert SequenceSet.parse("1:*").resolve(3) == [range(1, 4)]

    def test_beyond_the_last_means_the_last_with_a_star(self) -> None:
        assert SequenceSet.parse("559:*").resolve(100) == [range(100, 101)]
        assert SequenceSet.parse("559").resolve(100) == []
        assert SequenceSet.parse("*").resolve(0) == []

    def test_highest(self) -> None:
        assert SequenceSet.parse("5,9:2,*").highest == 9
        assert SequenceSet.parse("*").highest == 0

    @modest
    @given(st.lists(st.integers(1, 30), unique=True).map(sorted))
    def test_of(self, numbers: list[int]) -> None:
        packed = SequenceSet.of(numbers)
        assert [n for run in packed.resolve(30) for n in run] == numbers
        assert bool(packed) == bool(numbers)

    def test_of_keeps_the_order(self) -> None:
        assert str(SequenceSet.of([5, 6, 4, 1, 2, 3])) == "5:6,4,1:3"

    @pytest.mark.parametrize(
        "text", ["", "0", "1,", "a", "1:", ":1", "+1", " 1", "1_0", "²", "٣", "4294967296", "1-2"]
    )
    def test_refused(self, text: str) -> None:
        with pytest.raises(ValueError, match=r"number|ranges"):
            SequenceSet.parse(text)


class TestModifiedUtf7:
    @pytest.mark.parametrize(
        ("name", "wire"),
        [
            ("INBOX", b"INBOX"), ("", b""), ("a&b", b"a&-b"), ("Entwürfe", b"Entw&APw-rfe"), ("台北", b"&U,BTFw-"),
            ("日本語", b"&ZeVnLIqe-"), ("é&é", b"&AOk-&-&AOk-"), ("😀", b"&2D3eAA-"), ("a\tb", b"a&AAk-b"),
        ],
    )  # fmt: skip
    def test_examples(self, name: str, wire: bytes) -> None:
        assert mutf7.encode(name) == wire
        assert mutf7.decode(wire) == name

    @modest
    @given(st.text(st.characters(exclude_categories=["Cs"])))
    def test_round_trip(self, name: str) -> None:
        wire = mutf7.encode(name)
        assert re.fullmatch(rb"[ -~]*", wire)
        assert mutf7.decode(wire) == name

    @pytest.mark.parametrize(
        ("wire", "name"),
        [
            (b"a&b", "a&b"), (b"&", "&"), (b"&AOk", "&AOk"), (b"&A-", "&A-"), (b"&AGE-", "&AGE-"), (b"&2D0-", "&2D0-"),
            (b"&AOk-&AOk-", "&AOk-&AOk-"), (b"&AOl-", "&AOl-"), (b"&/-", "&/-"), ("ü".encode(), "ü"), (b"\xfc", "ü"), (b"&AOkA-", "&AOkA-"),
        ],
    )  # fmt: skip
    def test_ill_formed_names_are_read_raw(self, wire: bytes, name: str) -> None:
        assert mutf7.decode(wire) == name

    @modest
    @given(st.binary() | st.text("&-,/Aaz09+", max_size=20).map(str.encode))
    @example(b"&====-")
    def test_never_raises(self, wire: bytes) -> None:
        name = mutf7.decode(wire)
        assert mutf7.decode(mutf7.encode(name)) == name

    def test_a_lone_surrogate(self) -> None:
        assert mutf7.decode(mutf7.encode("a\ud800b")) == "a\ufffdb"


def reread(value: bytes) -> Cursor:
    """A cursor over octets that a client might have sent, with their literals taken out."""
    text, literals = value, []
    if found := re.match(rb"\{(\d+)\}\r\n", value):
        literals = [value[found.end() : found.end() + int(found[1])]]
        text = LITERAL.encode() + value[found.end() + int(found[1]) :]
    return Cursor(text.decode("latin-1"), literals)


octets = st.binary().map(lambda value: value.replace(b"\0", b""))


class TestQuoting:
    @modest
    @given(octets | st.text('ab"\\ []{}()%*NIL', max_size=6).map(str.encode))
    def test_round_trip(self, value: bytes) -> None:
        for write in (quoting.quote, quoting.astring, quoting.string):
            cursor = reread(write(value))
            assert cursor.astring() == value
            cursor.end()
        assert reread(quoting.nstring(value)).nstring() == value

    @pytest.mark.parametrize(
        ("value", "written"),
        [
            ("INBOX", b"INBOX"), ("", b'""'), ("a b", b'"a b"'), ('a"\\', b'"a\\"\\\\"'), ("nil", b'"nil"'), ("a]", b"a]"),
            ("%", b'"%"'), ("*", b'"*"'), ("a\r\n", b"{3}\r\na\r\n"), ("ü", b"{2}\r\n\xc3\xbc"), (b"\0", b"{1}\r\n\0"), ("a{", b'"a{"'),
            ("(", b'"("'), ("\t", b'"\t"'), ("x y" * 400, b"{1200}\r\n" + b"x y" * 400), ("x" * 2000, b"x" * 2000),
        ],
    )  # fmt: skip
    def test_astring(self, value: str | bytes, written: bytes) -> None:
        assert quoting.astring(value) == written

    def test_nil(self) -> None:
        assert quoting.nstring(None) == b"NIL"
        assert quoting.nstring("NIL") == b'"NIL"'

    def test_mailbox(self) -> None:
        assert quoting.mailbox("Entwürfe & mehr") == b'"Entw&APw-rfe &- mehr"'

    def test_flags(self) -> None:
        assert quoting.flags([r"\Seen", "$Forwarded"]) == rb"(\Seen $Forwarded)"
        assert quoting.flags([]) == b"()"

    @pytest.mark.parametrize(
        ("words", "written"),
        [("a\r\nb", b"a b"), ("", b"."), ("[ALERT] x", b"(ALERT] x"), ("é\0", b"."), ("ok", b"ok")],
    )
    def test_text(self, words: str, written: bytes) -> None:
        assert quoting.text(words) == written

    @pytest.mark.parametrize(
        ("seconds", "zone", "written"),
        [
            (0, 0, b'" 1-Jan-1970 00:00:00 +0000"'), (-1, 0, b'"31-Dec-1969 23:59:59 +0000"'),
            (1_706_778_000, 60, b'" 1-Feb-2024 10:00:00 +0100"'), (1_706_778_000, -210, b'" 1-Feb-2024 05:30:00 -0330"'),
            (10**15, 0, b'"31-Dec-9999 01:46:40 +0000"'), (-(10**15), 0, b'" 1-Jan-0001 22:13:20 +0000"'),
        ],
    )  # fmt: skip
    def test_date_time(self, seconds: int, zone: int, written: bytes) -> None:
        assert quoting.date_time(seconds, zone) == written

    @modest
    @given(st.integers(-62_000_000_000, 253_000_000_000), st.integers(-840, 840))
    def test_date_time_round_trip(self, seconds: int, zone: int) -> None:
        read = reread(quoting.date_time(seconds, zone)).date_time()
        assert (read.seconds, read.zone) == (seconds, zone)
