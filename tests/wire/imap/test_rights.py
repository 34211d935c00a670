"""The algebra of rights (RFC 4314)."""

from __future__ import annotations

import pytest

from mailstack.wire.imap import rights


@pytest.mark.parametrize(
    ("letters", "found"),
    [("", ""), ("lr", "lr"), ("c", "kxc"), ("d", "ted"), ("rwc", "rwkxc"), ("lrswipkxtea", "lrswipkxteacd")],
)
def test_what_is_set_and_what_is_told(letters: str, found: str) -> None:
    assert rights.written(rights.parse(letters)) == "".join(sorted(found, key="lrswipkxteacd".index))


@pytest.mark.parametrize("letters", ["z", "L", "lrq", "0"])
def test_unknown(letters: str) -> None:
    with pytest.raises(rights.UnknownRight):
        rights.parse(letters)


def test_changes() -> None:
    old = rights.parse("lrs")
    assert rights.changed(old, "add", rights.parse("wi")) == frozenset("lrswi")
    assert rights.changed(old, "remove", rights.parse("rd")) == frozenset("ls")
    assert rights.changed(old, "replace", rights.parse("")) == frozenset()


def test_what_store_needs() -> None:
    assert rights.needed_for_flags([r"\Seen", r"\seen"]) == {"s"}
    assert rights.needed_for_flags([r"\Deleted", "$Junk", r"\Flagged"]) == {"t", "w"}
    assert rights.needed_for_flags([]) == frozenset()
