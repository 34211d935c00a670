"""ARC: our seals are verified by dkimpy and by us, and no broken chain is mended."""

from __future__ import annotations

import dkim
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from mailstack.mail.dkim import Chain, Signer
from mailstack.mail.dkim.arc import Sealing, seal
from mailstack.mail.dkim.signing import read, split
from tests.mail.dkim.corpus import BODIES, NOW, RECORDS, RSA, SIGNERS, message, txt

OURS = SIGNERS[1]


def chain_of(data: bytes) -> tuple[Chain, tuple[str, str]]:
    header, body = split(iter([data]))
    chain = Chain(header)
    for chunk in body:
        chain.body(chunk)
    return chain, chain.conclude({name: RECORDS.get(name, []) for name in chain.names})


def sealed(data: bytes, signer: Signer = OURS) -> bytes:
    chain, (state, _) = chain_of(data)
    header, hashed = read([data])
    what = Sealing(signer, "mail.a.test", f"dkim=none; arc={state}", state, NOW)
    return seal(header, hashed, chain, what) + data


def dkimpy_says(data: bytes) -> bytes:
    state, _, _ = dkim.arc_verify(data, dnsfunc=txt)
    return state


@pytest.mark.parametrize("name", BODIES)
class TestEveryBody:
    def test_dkimpy_verifies_ours(self, name: str) -> None:
        once = sealed(message(BODIES[name]))
        assert dkimpy_says(once) == b"pass"
        twice = sealed(b"Received: from x\r\n" + once)
        assert dkimpy_says(twice) == b"pass"
        assert dkimpy_says(sealed(twice)) == b"pass"

    def test_we_verify_ours(self, name: str) -> None:
        data = message(BODIES[name])
        assert chain_of(data)[1] == ("none", "")
        for length in range(1, 4):
            data = sealed(data)
            chain, state = chain_of(data)
            assert (chain.length, state) == (length, ("pass", ""))


def sealed_by_dkimpy(data: bytes) -> bytes:
    name = b"mail%d.test" % len(data)  # it takes the chain's state from the results of that name
    results = b"Authentication-Results: %s; arc=%s\r\n" % (name, dkimpy_says(data))
    fields = dkim.arc_sign(results + data, b"rs", b"a.test", RSA.pem().encode(), name, timestamp=NOW)
    return b"".join(fields) + results + data


def test_dkimpy_and_we_seal_in_turn() -> None:
    data = message(BODIES["blanks"])
    for length, one in enumerate((sealed_by_dkimpy, sealed, sealed_by_dkimpy, sealed), 1):
        data = one(data)
        chain, state = chain_of(data)
        assert (chain.length, state) == (length, ("pass", ""))
        assert dkimpy_says(data) == b"pass"


class TestBrokenChains:
    data = sealed(sealed(message(b"Hello\r\n")))

    def state(self, old: bytes, new: bytes) -> tuple[str, str]:
        assert old in self.data
        return chain_of(self.data.replace(old, new, 1))[1]

    def test_a_changed_body(self) -> None:
        assert self.state(b"Hello", b"HellO") == ("fail", "i=2: body hash did not verify")

    def test_a_changed_subject(self) -> None:
        assert self.state(b"a  test", b"a best") == ("fail", "bad signature")

    def test_changed_results(self) -> None:
        assert self.state(b"dkim=none; arc=none", b"dkim=pass; arc=none") == ("fail", "i=2: bad seal")

    def test_a_set_that_is_not_whole(self) -> None:
        assert self.state(b"ARC-Seal: i=1", b"X-Seal: i=1") == ("fail", "a set is not whole")

    def test_a_gap(self) -> None:
        assert self.state(b"ARC-Seal: i=1", b"ARC-Seal: i=3")[0] == "fail"

    def test_no_number(self) -> None:
        found = self.state(b"ARC-Authentication-Results: i=1", b"ARC-Authentication-Results: j=1")
        assert found == ("fail", "a set without its number")

    def test_the_wrong_state(self) -> None:
        assert self.state(b"cv=pass", b"cv=none") == ("fail", "i=2: cv=none")

    def test_no_key(self) -> None:
        chain = Chain(split(iter([self.data]))[0])
        chain.body(b"Hello\r\n")
        assert chain.names == ["rs._domainkey.a.test"]
        assert chain.conclude({"rs._domainkey.a.test": []})[0] == "fail"

    def test_a_failed_chain_is_sealed_as_failed_once(self) -> None:
        broken = self.data.replace(b"Hello", b"HellO")
        third = sealed(broken)
        assert b"ARC-Seal: i=3" in third
        assert b"cv=fail" in third
        assert sealed(third) == third
        assert chain_of(third)[1][0] == "fail"
        assert dkimpy_says(third) != b"pass"

    def test_only_rsa_seals(self) -> None:
        assert sealed(message(b"Hello\r\n"), SIGNERS[0]) == message(b"Hello\r\n")

    @given(st.binary(max_size=80))
    @settings(max_examples=100, deadline=None)
    def test_garbage_never_passes(self, garbage: bytes) -> None:
        garbage = garbage.replace(b"\r", b"").replace(b"\n", b"")
        assert chain_of(b"ARC-Seal: " + garbage + b"\r\n" + self.data)[1][0] == "fail"
