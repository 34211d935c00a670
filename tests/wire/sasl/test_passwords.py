"""SASL: the exchanges of PLAIN and LOGIN, and what is not one."""

from __future__ import annotations

import base64

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from mailstack.wire.sasl import (
    MAX_RESPONSE,
    BadExchange,
    Challenge,
    Credentials,
    Login,
    Plain,
    decode,
    decode_initial,
    encode,
    start,
)


class TestPlain:
    def test_initial_response(self) -> None:
        assert Plain().step(b"\0alice\0secret") == Credentials("alice", "secret")

    def test_asked_first(self) -> None:
        plain = Plain()
        assert plain.step(None) == Challenge(b"")
        assert plain.step(b"\0alice\0secret") == Credentials("alice", "secret")

    def test_acting_as_oneself(self) -> None:
        assert Plain().step(b"alice\0alice\0secret") == Credentials("alice", "secret")

    def test_utf8(self) -> None:
        assert Plain().step("\0jürgen\0pä ss".encode()) == Credentials("jürgen", "pä ss")

    @pytest.mark.parametrize(
        "response",
        [
            b"",
            b"alice",
            b"alice\0secret",
            b"\0alice\0sec\0ret",
            b"bob\0alice\0secret",
            b"\0\0secret",
            b"\0alice\0",
            b"\0al\xffce\0secret",
            b"\0alice\0" + b"x" * 1025,
            b"\0" + b"x" * 1025 + b"\0secret",
        ],
    )
    def test_bad(self, response: bytes) -> None:
        with pytest.raises(BadExchange):
            Plain().step(response)

    def test_the_longest(self) -> None:
        assert Plain().step(b"\0alice\0" + b"x" * 1024) == Credentials("alice", "x" * 1024)


class TestLogin:
    def test_asked_twice(self) -> None:
        login = Login()
        first = login.step(None)
        assert isinstance(first, Challenge)
        assert encode(first.data) == "VXNlcm5hbWU6"
        second = login.step(b"alice")
        assert isinstance(second, Challenge)
        assert encode(second.data) == "UGFzc3dvcmQ6"
        assert login.step(b"secret") == Credentials("alice", "secret")

    def test_initial_response_is_the_user_name(self) -> None:
        login = Login()
        assert login.step(b"alice") == Challenge(b"Password:")
        assert login.step(b"secret") == Credentials("alice", "secret")

    def test_empty_initial_response_is_asked_again(self) -> None:
        login = Login()
        assert login.step(b"") == Challenge(b"Username:")
        assert login.step(b"alice") == Challenge(b"Password:")

    @pytest.mark.parametrize(
        "answers", [[None, b"al\0ce"], [b"a" * 1025], [None, b"", b"secret"], [b"a", b""], [b"a", b"\xff"]]
    )
    def test_bad(self, answers: list[bytes | None]) -> None:
        login = Login()
        for answer in answers[:-1]:
            assert isinstance(login.step(answer), Challenge)
        with pytest.raises(BadExchange):
            login.step(answers[-1])


def test_no_password_in_a_representation() -> None:
    assert "secret" not in repr(Credentials("alice", "secret"))


def test_mechanisms_by_name() -> None:
    assert isinstance(start("plain"), Plain)
    assert isinstance(start("LOGIN"), Login)
    assert start("NTLM") is None
    assert start("PLAIN") is not start("PLAIN")


class TestBase64:
    @pytest.mark.parametrize(
        "text", [b"A", b"AA", b"AA=", b"====", b"AA==AA==", b"AA =", b"AAA\n", b"\xff\xff==", b"A===", b"*"]
    )
    def test_bad(self, text: bytes) -> None:
        with pytest.raises(BadExchange):
            decode(text)

    def test_bounded(self) -> None:
        decode(base64.b64encode(b"x" * MAX_RESPONSE))
        for size in (MAX_RESPONSE + 1, MAX_RESPONSE + 4, 100_000):
            with pytest.raises(BadExchange):
                decode(base64.b64encode(b"x" * size))

    def test_empty(self) -> None:
        assert decode(b"") == b""
        assert decode_initial(b"=") == b""
        with pytest.raises(BadExchange):
            decode(b"=")

    @settings(max_examples=100, deadline=None)
    @given(st.binary(max_size=60))
    def test_round_trip(self, data: bytes) -> None:
        assert decode(encode(data).encode()) == data

    @settings(max_examples=100, deadline=None)
    @given(st.binary(max_size=200))
    def test_never_anything_but_bad_exchange(self, data: bytes) -> None:
        for step in (decode, decode_initial, Plain().step, Login().step):
            try:
                step(data)
            except BadExchange:
                pass
