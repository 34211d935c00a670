"""SCRAM: the RFCs' own exchanges byte for byte, everything malformed, channel binding, a foreign client."""

from __future__ import annotations

import base64
from collections.abc import Callable

import pytest
import scramp
from hypothesis import given, settings
from hypothesis import strategies as st

from mailstack.wire.sasl import (
    BadExchange,
    Challenge,
    Denied,
    Keys,
    Mechanism,
    Proven,
    Terms,
    Wanted,
    scram,
    start,
)
from mailstack.wire.sasl.prep import saslprep
from tests.wire.sasl.scram_client import ScramClient, b64

END_POINT = bytes(range(32))
NONCE = "3rfcNHYJY1ZVvWVs7j"
BOUND = Terms(NONCE, bindings={"tls-server-end-point": END_POINT}, binding_offered=True)
CLEAR = Terms(NONCE)
KEYS = {name: scram.derive(name, "pencil", b"salt" * 4, 4096) for name in scram.NAMES}


def begun(name: str, terms: Terms = CLEAR) -> Mechanism:
    mechanism = start(name, terms)
    assert mechanism is not None
    return mechanism


def challenged(mechanism: Mechanism, first: bytes, keys: Keys | None = None) -> bytes:
    """The challenge after the client's first message."""
    wanted = mechanism.step(first)
    assert isinstance(wanted, Wanted)
    step = wanted.resume(keys or KEYS[wanted.mechanism])
    assert isinstance(step, Challenge)
    return step.data


class TestExamples:
    """RFC 5802 section 5 and RFC 7677 section 3."""

    @pytest.mark.parametrize(
        ("name", "salt", "client_nonce", "server_nonce", "proof", "signature"),
        [
            (
                "SCRAM-SHA-1",
                b"QSXCR+Q6sek8bf92",
                "fyko+d2lbbFgONRv9qkxdawL",
                "3rfcNHYJY1ZVvWVs7j",
                b"v0X8v3Bz2T0CJGbJQyF0X+HI4Ts=",
                b"rmF9pqV8S7suAoZWja4dJRkFsKQ=",
            ),
            (
                "SCRAM-SHA-256",
                b"W22ZaJ0SNY7soEsUEjb6gQ==",
                "rOprNGfwEbeRWgbNEkqO",
                "%hvYDpWUa2RaTCAfuxFIlj)hNlF$k0",
                b"dHzbZapWIk4jUhN+Ute9ytag9zjfMHgsqmmiz7AndVQ=",
                b"6rriTRBi23WpRR/wtup+mMhUZUn/dB5nLTJRsjl95G4=",
            ),
        ],
    )
    def test_byte_for_byte(
        self, name: str, salt: bytes, client_nonce: str, server_nonce: str, proof: bytes, signature: bytes
    ) -> None:
        mechanism = begun(name, Terms(server_nonce))
        wanted = mechanism.step(f"n,,n=user,r={client_nonce}".encode())
        assert isinstance(wanted, Wanted)
        assert (wanted.login, wanted.mechanism) == ("user", name)
        nonce = f"{client_nonce}{server_nonce}".encode()
        challenge = wanted.resume(scram.derive(name, "pencil", base64.b64decode(salt), 4096))
        assert challenge == Challenge(b"r=" + nonce + b",s=" + salt + b",i=4096")
        assert mechanism.step(b"c=biws,r=" + nonce + b",p=" + proof) == Challenge(b"v=" + signature)
        assert mechanism.step(b"") == Proven()


@pytest.mark.parametrize("name", scram.NAMES)
class TestExchange:
    def test_asked_first(self, name: str) -> None:
        client, mechanism = ScramClient(name, "user", "pencil"), begun(name)
        assert mechanism.step(None) == Challenge(b"")
        final = client.final(challenged(mechanism, client.first()))
        assert mechanism.step(final) == Challenge(client.expected)
        assert mechanism.step(b"") == Proven()

    def test_the_last_response_is_empty(self, name: str) -> None:
        client, mechanism = ScramClient(name, "user", "pencil"), begun(name)
        mechanism.step(client.final(challenged(mechanism, client.first())))
        with pytest.raises(BadExchange):
            mechanism.step(b"x")

    def test_a_wrong_password(self, name: str) -> None:
        client, mechanism = ScramClient(name, "user", "pen"), begun(name)
        assert mechanism.step(client.final(challenged(mechanism, client.first()))) == Denied("wrong password")

    @pytest.mark.parametrize("login", ["a,b=c", "=2C", "jürgen@example.org", "=", ",", "x" * 1000])
    def test_names(self, name: str, login: str) -> None:
        wanted = begun(name).step(ScramClient(name, login, "pencil").first())
        assert isinstance(wanted, Wanted)
        assert wanted.login == login

    def test_acting_as_oneself(self, name: str) -> None:
        client, mechanism = ScramClient(name, "a,b", "pencil", header=b"n,a=a=2Cb,"), begun(name)
        final = client.final(challenged(mechanism, client.first()))
        assert mechanism.step(final) == Challenge(client.expected)

    def test_extensions_that_may_be_ignored(self, name: str) -> None:
        client, mechanism = ScramClient(name, "user", "pencil"), begun(name)
        client.bare += b",x=y,Z=1=2"
        final = client.final(challenged(mechanism, client.first()))
        assert mechanism.step(final) == Challenge(client.expected)

    def test_every_bit_of_the_proof_counts(self, name: str) -> None:
        client = ScramClient(name, "user", "pencil")
        for bit in (0, 7, 80, 159):
            mechanism = begun(name)
            message, proof = client.final(challenged(mechanism, client.first())).split(b",p=")
            bent = bytearray(base64.b64decode(proof))
            bent[bit // 8] ^= 1 << bit % 8
            assert mechanism.step(message + b",p=" + b64(bytes(bent))) == Denied("wrong password")


FIRST = [
    b"",
    b"n",
    b"n,",
    b"n,,",
    b"n,,n=user",
    b"n,,r=abc,n=user",
    b"n,,n=user,n=user,r=abc",
    b"n,,n=user,r=abc,r=abc",
    b"n,,n=user,r=abc,n=user",
    b"n,,n=user,r=abc,m=x",
    b"n,,n=user,r=abc,",
    b"n,,n=user,r=abc,x",
    b"n,,n=user,r=abc,x=",
    b"n,,n=user,r=abc,1=y",
    b"n,,m=must,n=user,r=abc",
    b"n,,n=,r=abc",
    b"n,,n=us=er,r=abc",
    b"n,,n=us=2cer,r=abc",
    b"n,,n=us=3,r=abc",
    b"n,,n=us\0er,r=abc",
    b"n,,n=us\xffer,r=abc",
    b"n,,n=user,r=",
    b"n,,n=user,r=a b",
    b"n,,n=user,r=a\x7fb",
    b"n,,n=user,r=\xc3\xa4",
    b"n,,n=user,r=" + b"x" * 513,
    b"n,,n=" + b"x" * 1025 + b",r=abc",
    b"n,,n=user,r=abc,x=" + b"y" * 5000,
    b"n,a=root,n=user,r=abc",
    b"n,user,n=user,r=abc",
    b"N,,n=user,r=abc",
    b"z,,n=user,r=abc",
    b"p,,n=user,r=abc",
    b"p=,,n=user,r=abc",
    b"p=tls-server-end-point,,n=user,r=abc",
    b"\0alice\0secret",
]


@pytest.mark.parametrize("message", FIRST)
def test_a_malformed_first_message(message: bytes) -> None:
    with pytest.raises(BadExchange):
        begun("SCRAM-SHA-256").step(message)


FINAL: dict[str, Callable[[bytes], bytes]] = {
    "empty": lambda final: b"",
    "no proof": lambda final: final.partition(b",p=")[0],
    "empty proof": lambda final: final.partition(b"p=")[0] + b"p=",
    "short proof": lambda final: final.partition(b"p=")[0] + b"p=" + b64(b"x" * 31),
    "long proof": lambda final: final.partition(b"p=")[0] + b"p=" + b64(b"x" * 33),
    "proof of the other hash": lambda final: final.partition(b"p=")[0] + b"p=" + b64(b"x" * 20),
    "proof not base64": lambda final: final[:-4] + b"!!!=",
    "proof twice": lambda final: final + b",p=" + final.rpartition(b"p=")[2],
    "something behind": lambda final: final + b",x=y",
    "nonce of the client alone": lambda final: final.replace(NONCE.encode(), b""),
    "another nonce": lambda final: final.replace(NONCE.encode(), NONCE[::-1].encode()),
    "no nonce": lambda final: b"c=biws,p=" + final.rpartition(b"p=")[2],
    "nonce twice": lambda final: final.replace(b",p=", b",r=abc,p="),
    "no binding": lambda final: final.partition(b",")[2],
    "binding twice": lambda final: b"c=biws," + final,
    "order": lambda final: b",".join([final.split(b",")[1], final.split(b",")[0], final.split(b",")[2]]),
    "another header": lambda final: final.replace(b"c=biws", b"c=" + b64(b"y,,")),
    "binding not base64": lambda final: final.replace(b"c=biws", b"c=biw"),
    "binding not canonical": lambda final: final.replace(b"c=biws", b"c=" + b64(b"n,,x")[:-3] + b"B=="),
    "binding empty": lambda final: final.replace(b"c=biws", b"c="),
    "extension malformed": lambda final: final.replace(b",p=", b",,p="),
    "too long": lambda final: final.replace(b",p=", b",x=" + b"y" * 5000 + b",p="),
}


@pytest.mark.parametrize("bend", FINAL.values(), ids=FINAL)
def test_a_malformed_final_message(bend: Callable[[bytes], bytes]) -> None:
    client, mechanism = ScramClient("SCRAM-SHA-256", "user", "pencil"), begun("SCRAM-SHA-256")
    final = client.final(challenged(mechanism, client.first()))
    with pytest.raises(BadExchange):
        mechanism.step(bend(final))


class TestChannelBinding:
    HEADER = b"p=tls-server-end-point,,"

    @pytest.mark.parametrize("name", ["SCRAM-SHA-1-PLUS", "SCRAM-SHA-256-PLUS"])
    def test_bound(self, name: str) -> None:
        client = ScramClient(name, "user", "pencil", header=self.HEADER, binding=END_POINT)
        mechanism = begun(name, BOUND)
        final = client.final(challenged(mechanism, client.first()))
        assert mechanism.step(final) == Challenge(client.expected)
        assert mechanism.step(b"") == Proven()

    @pytest.mark.parametrize("binding", [b"", END_POINT[:-1], END_POINT + b"x", bytes(32)])
    def test_bound_to_another_connection(self, binding: bytes) -> None:
        client = ScramClient("SCRAM-SHA-256-PLUS", "user", "pencil", header=self.HEADER, binding=binding)
        mechanism = begun("SCRAM-SHA-256-PLUS", BOUND)
        denied = mechanism.step(client.final(challenged(mechanism, client.first())))
        assert isinstance(denied, Denied)
        assert "channel bindings" in denied.reason

    @pytest.mark.parametrize(
        ("name", "header", "terms"),
        [
            ("SCRAM-SHA-256-PLUS", b"n,,", BOUND),  # the -PLUS mechanism without it
            ("SCRAM-SHA-256-PLUS", b"y,,", BOUND),
            ("SCRAM-SHA-256-PLUS", b"p=tls-unique,,", BOUND),
            ("SCRAM-SHA-256-PLUS", b"p=TLS-SERVER-END-POINT,,", BOUND),
            ("SCRAM-SHA-256-PLUS", b"p=tls-server-end-point,,", CLEAR),
            ("SCRAM-SHA-256", b"p=tls-server-end-point,,", BOUND),  # it without the -PLUS mechanism
            ("SCRAM-SHA-256", b"y,,", BOUND),  # somebody took -PLUS out of what we offered
        ],
    )
    def test_downgrades(self, name: str, header: bytes, terms: Terms) -> None:
        with pytest.raises(BadExchange):
            begun(name, terms).step(header + b"n=user,r=abc")

    @pytest.mark.parametrize(("header", "terms"), [(b"n,,", BOUND), (b"n,,", CLEAR), (b"y,,", CLEAR)])
    def test_without(self, header: bytes, terms: Terms) -> None:
        client, mechanism = (
            ScramClient("SCRAM-SHA-1", "user", "pencil", header=header),
            begun("SCRAM-SHA-1", terms),
        )
        final = client.final(challenged(mechanism, client.first()))
        assert mechanism.step(final) == Challenge(client.expected)

    def test_a_flag_changed_on_the_way(self) -> None:
        """The client said y, somebody between made it n: the header in c= tells."""
        client, mechanism = (
            ScramClient("SCRAM-SHA-1", "user", "pencil", header=b"y,,"),
            begun("SCRAM-SHA-1", BOUND),
        )
        final = client.final(challenged(mechanism, b"n,," + client.bare))
        with pytest.raises(BadExchange):
            mechanism.step(final)


def test_a_foreign_client() -> None:
    """scramp's, which shares nothing with us."""
    for name in scram.NAMES:
        client = scramp.ScramClient([name], "user", "pencil", c_nonce="abcdefgh")
        mechanism = begun(name)
        client.set_server_first(challenged(mechanism, client.get_client_first().encode()).decode())
        step = mechanism.step(client.get_client_final().encode())
        assert isinstance(step, Challenge)
        client.set_server_final(step.data.decode())  # raises if we do not know the password
        assert mechanism.step(b"") == Proven()


class TestSaslprep:
    """RFC 4013 section 3."""

    @pytest.mark.parametrize(
        ("password", "prepared"),
        [
            ("I\u00adX", "IX"),
            ("user", "user"),
            ("USER", "USER"),
            ("\u00aa", "a"),
            ("\u2168", "IX"),
            ("a\u00a0b", "a b"),
            ("u\u0308", "ü"),
        ],
    )
    def test_examples(self, password: str, prepared: str) -> None:
        assert saslprep(password) == prepared

    @pytest.mark.parametrize("password", ["ä\u0007", "\u0627\u0031", "\u00ad"])
    def test_what_it_refuses_stays_as_it_is(self, password: str) -> None:
        assert saslprep(password) == password


@settings(max_examples=200, deadline=None)
@given(
    st.lists(st.one_of(st.none(), st.binary(max_size=80)), max_size=4), st.sampled_from(FIRST), st.booleans()
)
def test_never_anything_but_bad_exchange(responses: list[bytes | None], first: bytes, valid: bool) -> None:
    mechanism = begun("SCRAM-SHA-256")
    for response in [b"n,,n=user,r=abc" if valid else first, *responses]:
        try:
            step = mechanism.step(response)
        except BadExchange:
            return
        if isinstance(step, Wanted):
            step = step.resume(KEYS[step.mechanism])
        assert isinstance(step, Challenge | Denied)


@settings(max_examples=200, deadline=None)
@given(
    st.lists(
        st.sampled_from([b"c=biws", b"r=abc" + NONCE.encode(), b"p=AAAA", b"n=x", b"x=y", b"", b"="]),
        max_size=6,
    )
)
def test_final_messages_of_any_order(parts: list[bytes]) -> None:
    mechanism = begun("SCRAM-SHA-256")
    challenged(mechanism, b"n,,n=user,r=abc")
    with pytest.raises(BadExchange):
        mechanism.step(b",".join(parts))
