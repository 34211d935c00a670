"""CRAM-MD5, OAUTHBEARER and XOAUTH2."""

from __future__ import annotations

import hmac
import json

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from mailstack.wire.sasl import (
    BadExchange,
    Challenge,
    Denied,
    Mechanism,
    Proven,
    Terms,
    Token,
    Wanted,
    cram_md5,
    start,
)
from mailstack.wire.sasl.md5 import hmac_from_states, key_states


def begun(name: str) -> Mechanism:
    mechanism = start(name, Terms("nonce", "mx.example.org"))
    assert mechanism is not None
    return mechanism


class TestCramMd5:
    def test_the_example(self) -> None:
        """RFC 2195 section 2."""
        mechanism = start("CRAM-MD5", Terms("1896.697170952", "postoffice.reston.mci.net"))
        assert mechanism is not None
        assert mechanism.step(None) == Challenge(b"<1896.697170952@postoffice.reston.mci.net>")
        wanted = mechanism.step(b"tim b913a602c7eda7a495b4e6e7334d3890")
        assert isinstance(wanted, Wanted)
        assert (wanted.login, wanted.mechanism) == ("tim", "CRAM-MD5")
        assert wanted.resume(cram_md5.derive("tanstaaftanstaaf")) == Proven()
        assert wanted.resume(cram_md5.derive("tanstaaf")) == Denied("wrong password")

    @pytest.mark.parametrize(
        "response",
        [
            b"",
            None,
            b"tim",
            b" " + b"0" * 32,
            b"tim " + b"0" * 31,
            b"tim " + b"0" * 33,
            b"tim " + b"A" * 32,
            b"ti\0m " + b"0" * 32,
            b"ti\xffm " + b"0" * 32,
            b"t" * 1025 + b" " + b"0" * 32,
        ],
    )
    def test_bad(self, response: bytes | None) -> None:
        mechanism = begun("CRAM-MD5")
        mechanism.step(None)
        with pytest.raises(BadExchange):
            mechanism.step(response)

    def test_no_initial_response(self) -> None:
        with pytest.raises(BadExchange):
            begun("CRAM-MD5").step(b"tim " + b"0" * 32)

    def test_names_with_blanks(self) -> None:
        mechanism = begun("CRAM-MD5")
        mechanism.step(b"")
        wanted = mechanism.step(b"a b c " + b"0" * 32)
        assert isinstance(wanted, Wanted)
        assert wanted.login == "a b c"

    @settings(max_examples=100, deadline=None)
    @given(st.binary(max_size=200), st.binary(max_size=300))
    def test_hmac_from_its_middle(self, key: bytes, message: bytes) -> None:
        assert hmac_from_states(key_states(key), message) == hmac.digest(key, message, "md5")


REASONS = {"status": "invalid_token", "scope": "mail"}
BEARER = "OAUTHBEARER"


class TestBearer:
    @pytest.mark.parametrize(
        ("name", "response", "login", "token"),
        [
            # RFC 7628 section 4.1
            (
                BEARER,
                b"n,a=user@example.com,\x01host=server.example.com\x01port=143\x01"
                b"auth=Bearer vF9dft4qmTc2Nvb3RlckBhbHRhdmlzdGEuY29tCg==\x01\x01",
                "user@example.com",
                "vF9dft4qmTc2Nvb3RlckBhbHRhdmlzdGEuY29tCg==",
            ),
            (BEARER, b"y,,\1auth=bearer a.b-c\1\1", "", "a.b-c"),
            (BEARER, b"n,a=a=2Cb=3D,\1auth=Bearer x\1\1", "a,b=", "x"),
            (BEARER, b"n,,\1auth=\1\1", "", ""),  # section 4.3: where do I get a token?
            (BEARER, b"n,,\1\1", "", ""),
            (
                "XOAUTH2",
                b"user=someuser@example.com\x01auth=Bearer ya29.vF9dft4qmTc2Nvb3RlckBhdHRhdmlzdGEuY29tCg\x01\x01",
                "someuser@example.com",
                "ya29.vF9dft4qmTc2Nvb3RlckBhdHRhdmlzdGEuY29tCg",
            ),
        ],
    )
    def test_tokens(self, name: str, response: bytes, login: str, token: str) -> None:
        for asked in (False, True):
            mechanism = begun(name)
            if asked:
                assert mechanism.step(None) == Challenge(b"")
            step = mechanism.step(response)
            assert isinstance(step, Token)
            assert (step.login, step.token) == (login, token)
            assert token not in repr(step) or not token

    @pytest.mark.parametrize(
        ("name", "dummy", "response"),
        [(BEARER, b"\1", b"n,,\1auth=Bearer x\1\1"), ("XOAUTH2", b"", b"user=u\1auth=Bearer x\1\1")],
    )
    def test_a_refusal_is_told_in_json_then_it_fails(self, name: str, dummy: bytes, response: bytes) -> None:
        """RFC 7628 sections 3.2.2 and 3.2.3."""
        mechanism = begun(name)
        step = mechanism.step(response)
        assert isinstance(step, Token)
        told = step.refuse(REASONS)
        assert isinstance(told, Challenge)
        assert json.loads(told.data) == REASONS
        assert mechanism.step(dummy) == Denied("token refused")

    @pytest.mark.parametrize(
        "response",
        [
            b"",
            b"\1",
            b"n,,",
            b"n,,auth=Bearer x\1\1",
            b"n,,\1auth=Bearer x",
            b"n,,\1auth=Bearer x\1",
            b"n,,\1auth=Basic x\1\1",
            b"n,,\1auth=Bearer\1\1",
            b"n,,\1auth=Bearer a b\1\1",
            b"n,,\1auth=Bearer \xc3\xa4\1\1",
            b"n,,\1auth=Bearer x\1auth=Bearer y\1\1",
            b"n,,\1=x\1\1",
            b"n,,\1x\1\1",
            b"n,,\1a1=x\1\1",
            b"n,,\1auth=Bearer x\1\1\1",
            b"n,,\1auth=Bearer \xff\1\1",
            b"n,,\1" + b"a=b\1" * 30 + b"\1",
            b"p=tls-server-end-point,,\1auth=Bearer x\1\1",
            b"n,user,\1auth=Bearer x\1\1",
            b"user=u\1auth=Bearer x\1\1",
        ],
    )
    def test_bad(self, response: bytes) -> None:
        with pytest.raises(BadExchange):
            begun(BEARER).step(response)

    @pytest.mark.parametrize(
        "response",
        [
            b"auth=Bearer x\1\1",
            b"user=\1auth=Bearer x\1\1",
            b"user=u\1auth=Bearer x\1",
            b"n,,\1auth=Bearer x\1\1",
        ],
    )
    def test_bad_xoauth2(self, response: bytes) -> None:
        with pytest.raises(BadExchange):
            begun("XOAUTH2").step(response)


@settings(max_examples=200, deadline=None)
@given(
    st.sampled_from(["CRAM-MD5", BEARER, "XOAUTH2"]),
    st.lists(
        st.one_of(
            st.none(),
            st.binary(max_size=80),
            st.lists(st.sampled_from([b"n,,", b"\1", b"auth=Bearer x", b"user=u", b"a=b", b"\xff"])).map(
                b"".join
            ),
        ),
        max_size=4,
    ),
)
def test_never_anything_but_bad_exchange(name: str, responses: list[bytes | None]) -> None:
    mechanism = begun(name)
    for response in responses:
        try:
            step = mechanism.step(response)
        except BadExchange:
            return
        if isinstance(step, Token):
            step = step.refuse(REASONS)
        if isinstance(step, Wanted):
            step = step.resume(cram_md5.derive("secret"))
        assert isinstance(step, Challenge | Denied)
        if isinstance(step, Denied):
            return
