"""DKIM: what we sign is verified by dkimpy and opendkim; what they sign, or an enemy forged, by us."""

from __future__ import annotations

import shutil
import subprocess
from pathlib import Path

import dkim
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from mailstack.mail.dkim import BadKey, PrivateKey, PublicKey, Signer, Verifier
from mailstack.mail.dkim.canonical import BodyHash, relaxed_field
from mailstack.mail.dkim.signing import sign, split
from mailstack.mail.dkim.verifying import Records, Verdict
from tests.mail.dkim.corpus import BODIES, ED25519, HEADER, NOW, RECORDS, RSA, SIGNERS, message, txt
from tests.running import PATIENCE

OPENDKIM = shutil.which("opendkim")


def signed(data: bytes, *signers: Signer) -> bytes:
    return sign([data], signers or SIGNERS, NOW) + data


def verify(data: bytes, records: Records = RECORDS, now: float = NOW, step: int = 1 << 20) -> list[Verdict]:
    header, body = split(iter([data]))
    verifier = Verifier(header, now)
    for chunk in body:
        for at in range(0, len(chunk), step):
            verifier.body(chunk[at : at + step])
    return verifier.conclude({name: records.get(name, []) for name in verifier.names})


def results(verdicts: list[Verdict]) -> list[tuple[str, str, str]]:
    return [(one.result, one.selector, one.reason) for one in verdicts]


BOTH_PASS = [("pass", "rs", ""), ("pass", "ed", "")]


@pytest.mark.parametrize("name", BODIES)
class TestEveryBody:
    def test_dkimpy_verifies_ours(self, name: str) -> None:
        data = signed(message(BODIES[name]))
        both = dkim.DKIM(data)
        assert both.verify(0, dnsfunc=txt)
        assert both.verify(1, dnsfunc=txt)

    def test_we_verify_ours(self, name: str) -> None:
        assert results(verify(signed(message(BODIES[name])))) == BOTH_PASS

    @pytest.mark.parametrize("how", [b"relaxed", b"simple"])
    def test_we_verify_dkimpys(self, name: str, how: bytes) -> None:
        data = message(BODIES[name])
        field = dkim.sign(data, b"rs", b"a.test", RSA.pem().encode(), canonicalize=(how, how))
        assert results(verify(field + data)) == [("pass", "rs", "")]

    def test_however_it_is_cut(self, name: str) -> None:
        data = BODIES[name][:5000]
        for relaxed in (True, False):
            whole, pieces = BodyHash(relaxed), BodyHash(relaxed)
            whole.update(data)
            for at in range(len(data)):
                pieces.update(data[at : at + 1])
            assert pieces.digest() == whole.digest()


@given(st.lists(st.sampled_from([b" ", b"\t", b"\r\n", b"\r", b"\n", b"a"]), max_size=12), st.booleans())
@settings(max_examples=200, deadline=None)
def test_any_body_hashes_as_dkimpy_has_it(parts: list[bytes], relaxed: bool) -> None:
    import hashlib

    from dkim.canonicalization import Relaxed, Simple

    body = b"".join(parts)
    if relaxed and body and not body.endswith(b"\r\n"):
        body += b"\r\n"  # as SMTP does; dkimpy would keep blanks before a line end that it adds itself
    expected = (Relaxed if relaxed else Simple).canonicalize_body(body)
    if b"".join(parts) != body:
        body = b"".join(parts)
    for step in (1, 2, 100):
        ours = BodyHash(relaxed)
        for at in range(0, len(body), step):
            ours.update(body[at : at + step])
        assert ours.digest() == hashlib.sha256(expected).digest(), expected


@pytest.mark.skipif(OPENDKIM is None, reason="opendkim is not installed")
@pytest.mark.parametrize("name", BODIES)
def test_opendkim_verifies_ours(name: str, tmp_path: Path) -> None:
    keys = tmp_path / "keys"
    keys.write_text(f"rs._domainkey.a.test {RSA.record()}\n")
    config = tmp_path / "opendkim.conf"
    config.write_text(f"Mode v\nTestPublicKeys {keys}\nOn-BadSignature reject\n")
    letter = tmp_path / "letter"
    body = BODIES[name]
    if body and not body.endswith(b"\r\n"):
        body += b"\r\n"  # as SMTP does; opendkim's -t reads lines
    letter.write_bytes(sign([message(BODIES[name])], SIGNERS[1:], NOW) + message(body))
    assert OPENDKIM is not None
    ran = subprocess.run(
        [OPENDKIM, "-x", str(config), "-vv", "-t", str(letter)],
        capture_output=True,
        text=True,
        timeout=PATIENCE,
        check=False,
    )
    assert "verification (s=rs, d=a.test, 2048-bit key) succeeded" in ran.stdout + ran.stderr, ran


class TestWhatIsSigned:
    def test_the_field_word_for_word(self) -> None:
        field = sign([message(b"Hello\r\n")], SIGNERS[1:], NOW)
        lines = field.decode().split("\r\n")
        assert lines[:6] == [
            "DKIM-Signature: v=1; a=rsa-sha256; c=relaxed/relaxed; d=a.test;",
            "\ts=rs; t=1700000000;",
            "\th=From:From:To:To:Cc:Subject:Subject:Date:Date:Message-ID:Message-ID:",
            "\t Reply-To:MIME-Version:MIME-Version:Content-Type:",
            "\t Content-Transfer-Encoding:References;",
            "\tbh=Ba3gj8+xBPQLJTahTfzW6RbWQ/XPgESxkCi2B66PSQg=;",
        ]
        assert lines[6].startswith("\tb=")

    @pytest.mark.parametrize(
        "added", [b"From: eve@c.test", b"Subject: other", b"To: x@c.test", b"Cc: y@c.test"]
    )
    def test_nothing_can_be_added_to_what_is_oversigned(self, added: bytes) -> None:
        data = signed(message(b"Hello\r\n"))
        assert {one.result for one in verify(added + b"\r\n" + data)} == {"fail"}

    def test_fields_of_the_way_may_be_added(self) -> None:
        data = signed(message(b"Hello\r\n"))
        assert results(verify(b"Received: from x\r\nX-Spam: no\r\n" + data)) == BOTH_PASS

    def test_a_changed_body(self) -> None:
        data = signed(message(b"Hello\r\n")).replace(b"\r\n\r\nHello", b"\r\n\r\nHellO")
        assert results(verify(data)) == [
            ("fail", "rs", "body hash did not verify"),
            ("fail", "ed", "body hash did not verify"),
        ]

    def test_a_changed_subject(self) -> None:
        data = signed(message(b"Hello\r\n")).replace(b"a  test", b"a best")
        assert {one.reason for one in verify(data)} == {"bad signature"}

    def test_a_message_without_a_header(self) -> None:
        assert results(verify(signed(b"\r\nHello\r\n"))) == BOTH_PASS

    def test_a_key_brought_along(self) -> None:
        again = PrivateKey.load(RSA.pem())
        assert (again.record(), again.algorithm) == (RSA.record(), "rsa")
        assert PrivateKey.load(ED25519.pem()).record() == ED25519.record()
        with pytest.raises(BadKey):
            PrivateKey.load("no key")


class TestVerdicts:
    data = signed(message(b"Hello\r\n"), SIGNERS[1])

    def changed(self, old: bytes, new: bytes) -> list[tuple[str, str]]:
        assert old in self.data
        found = verify(self.data.replace(old, new, 1))
        return [(one.result, one.reason) for one in found]

    def test_no_key(self) -> None:
        assert results(verify(self.data, {})) == [("permerror", "rs", "no key at rs._domainkey.a.test")]

    def test_no_answer(self) -> None:
        verifier = Verifier(split(iter([self.data]))[0], NOW)
        assert verifier.names == ["rs._domainkey.a.test"]
        verifier.body(b"Hello\r\n")
        [verdict] = verifier.conclude({})
        assert (verdict.result, verdict.domain) == ("temperror", "a.test")

    @pytest.mark.parametrize(
        ("record", "reason"),
        [
            (b"v=DKIM1; p=", "key revoked"),
            (b"v=DKIM2; p=AAAA", "not a DKIM1 record"),
            (b"p=AAAA; v=DKIM1", "not a DKIM1 record"),  # RFC 6376 section 3.6.1: v= is the first
            (b"k=rsa; p=!!!", "broken base64"),
            (b"k=rsa; p=AAAA", "broken key"),
            (b"k=dsa; p=AAAA", "unknown key type dsa"),
            (b"v=spf1 -all", "not a DKIM1 record"),
            (b"some words", "not a tag list"),
            (b"h=sha1; p=AAAA", "not for sha256"),
        ],
    )
    def test_unusable_keys(self, record: bytes, reason: str) -> None:
        [verdict] = verify(self.data, {"rs._domainkey.a.test": [record]})
        assert (verdict.result, verdict.reason) == ("permerror", f"{reason} at rs._domainkey.a.test")

    def test_a_key_of_the_other_kind(self) -> None:
        [verdict] = verify(self.data, {"rs._domainkey.a.test": RECORDS["ed._domainkey.a.test"]})
        assert (verdict.result, verdict.reason) == ("permerror", "inappropriate key algorithm")

    def test_a_short_key(self) -> None:
        # RFC 8301 section 3.2: this one, of 512 bits, was made by openssl.
        short = (
            b"p=MFwwDQYJKoZIhvcNAQEBBQADSwAwSAJBAOkbON8VM1F3y4EdpDsIDUBohEpNFtSXmso/nwQSZUMekGWP"
            b"VgVuX1Uqz6ztfVaf0Ql9AW1uBHMdodSvCmvhUeECAwEAAQ=="
        )
        with pytest.raises(BadKey, match=r"512 bits"):
            PublicKey.parse(short)

    def test_sha1_is_not_taken(self) -> None:
        found = self.changed(b"rsa-sha256", b"rsa-sha1")
        assert found == [("permerror", "algorithm rsa-sha1 is not taken")]

    def test_expired(self) -> None:
        assert self.changed(b"t=1700000000", b"x=1600000000") == [("fail", "expired")]

    def test_a_foreign_identity(self) -> None:
        assert self.changed(b"t=1700000000", b"i=@b.test") == [("permerror", "i= is not in d=")]

    def test_a_key_for_its_very_domain_only(self) -> None:
        """RFC 6376 section 3.6.1, t=s: what is below the domain may not use it."""
        name, data = "rs._domainkey.a.test", message(b"hello\r\n")
        strict = {name: [RECORDS[name][0] + b"; t=s"]}
        for identity, reason in ((b"bob@a.test", ""), (b"bob@x.a.test", "i= is not d=, as the key demands")):
            field = dkim.sign(data, b"rs", b"a.test", RSA.pem().encode(), identity=identity)
            assert [found.result for found in verify(field + data)] == ["pass"]
            [verdict] = verify(field + data, strict)
            assert (verdict.result, verdict.reason) == ("permerror" if reason else "pass", reason)

    def test_tags_twice(self) -> None:
        assert self.changed(b"t=1700000000", b"d=b.test") == [("permerror", "d= twice")]

    def test_from_must_be_signed(self) -> None:
        assert self.changed(b"From:From:", b"") == [("permerror", "From is not signed")]

    def test_not_more_than_eight(self) -> None:
        field = self.data.partition(b"From: ")[0]
        assert len(verify(field * 20 + message(b"Hello\r\n"))) == 8

    @given(st.binary(max_size=120))
    @settings(max_examples=150, deadline=None)
    def test_garbage_is_a_verdict(self, garbage: bytes) -> None:
        field = b"DKIM-Signature: " + garbage.replace(b"\r", b"").replace(b"\n", b"") + b"\r\n"
        for one in verify(field + message(b"Hello\r\n")):
            assert one.result in ("permerror", "fail")


@given(st.binary(max_size=60))
@settings(max_examples=100, deadline=None)
def test_fields_are_canonical_as_dkimpy_has_it(value: bytes) -> None:
    from dkim.canonicalization import Relaxed

    value = bytes(one for one in value if one >= 0x20 or one == 9)
    [(name, expected)] = Relaxed.canonicalize_headers([(b"Subject", b" " + value + b"\r\n")])
    assert relaxed_field(b"Subject: " + value + b"\r\n") == name + b":" + expected


def test_the_header_of_the_tests_is_what_it_says() -> None:
    assert split(iter([message(b"x")]))[0] == HEADER
