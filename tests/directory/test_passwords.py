"""Password hashes: ours, and those that other systems made."""

from __future__ import annotations

import base64
import hashlib
from unittest import mock

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from mailstack.directory.key_hashes import KeyHash
from mailstack.directory.keys import Keeping
from mailstack.directory.passwords import (
    KNOWN_SCHEMES,
    MAX_PASSWORD,
    BadHash,
    BadPassword,
    Passwords,
    Verdict,
    prepare,
)
from mailstack.directory.settings import DirectoryConfig
from mailstack.wire.sasl import KEYED, cram_md5, scram
from mailstack.wire.sasl.prep import saslprep

CHEAP = DirectoryConfig(argon2_memory_kib=8, argon2_time_cost=1)
passwords = Passwords(CHEAP)
SECRET = "correct horse"


def _salted(algorithm: str) -> bytes:
    salt = b"pepper12"
    return hashlib.new(algorithm, SECRET.encode() + salt).digest() + salt


def _bare(algorithm: str) -> str:
    return base64.b64encode(hashlib.new(algorithm, SECRET.encode()).digest()).decode()


# As other programs write them: libxcrypt, Dovecot's doveadm pw, OpenLDAP's slappasswd.
IMPORTED = {
    "{SSHA}": base64.b64encode(_salted("sha1")).decode(),
    "{SSHA256}": base64.b64encode(_salted("sha256")).decode(),
    "{SSHA512}": base64.b64encode(_salted("sha512")).decode(),
    "{SMD5}": base64.b64encode(_salted("md5")).decode(),
    "{SSHA256.b64}": base64.b64encode(_salted("sha256")).decode(),
    "{SSHA256.HEX}": _salted("sha256").hex(),
    "{ssha512.hex}": _salted("sha512").hex(),
    "{SHA}": _bare("sha1"),
    "{SHA1}": _bare("sha1"),
    "{SHA256}": _bare("sha256"),
    "{SHA512}": _bare("sha512"),
    "{SHA512.hex}": base64.b64decode(_bare("sha512")).hex(),
    "{sha256}": base64.b64decode(_bare("sha256")).hex().upper(),  # its length says that it is hex
    "{SHA} ": base64.b64decode(_bare("sha1")).hex(),
    "{MD5}": _bare("md5"),
    "{PLAIN-MD5}": base64.b64decode(_bare("md5")).hex(),
    "{PLAIN-MD5.B64}": _bare("md5"),
    "{LDAP-MD5}": _bare("md5"),
    "{PLAIN}": SECRET,
    "{CLEARTEXT}": SECRET,
    "{PLAIN.B64}": base64.b64encode(SECRET.encode()).decode(),
    "{plain}": SECRET,
}


def crypted() -> dict[str, str]:
    """Hashes by passlib's own implementations, at the least cost."""
    from passlib import hash as schemes

    bcrypt = schemes.bcrypt.using(rounds=4).hash(SECRET)
    sha512 = schemes.sha512_crypt.using(rounds=1000).hash(SECRET)
    sha256 = schemes.sha256_crypt.using(rounds=1000).hash(SECRET)
    md5 = schemes.md5_crypt.hash(SECRET)
    des = schemes.des_crypt.hash(SECRET)
    argon2 = schemes.argon2.using(memory_cost=8, rounds=1, parallelism=1).hash(SECRET)
    pbkdf2 = schemes.ldap_pbkdf2_sha256.using(rounds=10).hash(SECRET)
    return {
        "{BLF-CRYPT}": bcrypt,
        "{BCRYPT}": bcrypt.replace("$2b$", "$2y$"),
        "{CRYPT}": sha512,
        "{SHA512-CRYPT}": sha512,
        "{SHA256-CRYPT}": sha256,
        "{MD5-CRYPT}": md5,
        "{MD5} ": md5,
        "{DES-CRYPT}": des,
        "{CRYPT} ": des,
        "{ARGON2ID}": argon2,
        "{ARGON2}": argon2,
        "{PBKDF2-SHA256}": pbkdf2.removeprefix("{PBKDF2-SHA256}"),
        "": bcrypt,
        " ": sha512,
    }


def _keys(mechanism: str, secret: str = SECRET) -> str:
    """The keys of a password in the place of a hash, as Dovecot has them; always the same."""
    if mechanism == "CRAM-MD5":
        keys = cram_md5.keys_of(secret.encode())
    else:
        keys = scram.keys_of(mechanism, secret.encode(), b"pepper12", 4096)
    return KeyHash(mechanism, keys).text.removeprefix(f"{{{mechanism}}}")


TABLE = {
    **IMPORTED,
    **crypted(),
    **{f"{{{name}}}": _keys(name) for name in KEYED},
    "{HMAC-MD5}": _keys("CRAM-MD5"),
    "{CRAM-MD5.B64}": base64.b64encode(bytes.fromhex(_keys("CRAM-MD5"))).decode(),
}


@pytest.mark.parametrize("prefix", TABLE)
def test_an_imported_hash_knows_its_password_and_is_replaced_by_argon2id(prefix: str) -> None:
    stored = passwords.read_hash(prefix.strip() + TABLE[prefix])
    assert passwords.verify("x" + SECRET, stored) == Verdict(False)
    verdict = passwords.verify(SECRET, stored)
    assert verdict.right
    better = verdict.rehashed or stored
    assert better.startswith("$argon2id$v=19$m=8,t=1,p=1$")
    assert passwords.verify(SECRET, better) == Verdict(True)


def test_pbkdf2_in_dovecots_own_form() -> None:
    """Of it RFC 6070 has the digests."""
    stored = passwords.read_hash("{PBKDF2}$1$salt$4096$4b007901b765489abead49d926f721d065a429c1")
    assert passwords.read_hash(stored) == stored
    assert passwords.verify("password", stored).right
    assert not passwords.verify("passwort", stored).right


class TestKeysForAHash:
    def test_they_are_kept_as_they_came(self) -> None:
        text = "{SCRAM-SHA-1}" + _keys("SCRAM-SHA-1")
        assert passwords.read_hash(text) == text
        assert passwords.read_hash("{HMAC-MD5}" + _keys("CRAM-MD5")) == "{CRAM-MD5}" + _keys("CRAM-MD5")

    @pytest.mark.parametrize("mechanism", KEYED)
    def test_they_are_keys_of_their_user(self, mechanism: str) -> None:
        [made] = Keeping((mechanism,), 5000).make(SECRET)
        stored = passwords.read_hash(KeyHash(mechanism, made.keys).text)
        assert Keeping(KEYED, 4096).brought(stored) == (made,)

    def test_not_of_a_mechanism_that_is_off(self) -> None:
        stored = passwords.read_hash("{CRAM-MD5}" + _keys("CRAM-MD5"))
        assert Keeping(("SCRAM-SHA-256",), 4096).brought(stored) == ()
        assert Keeping(KEYED, 4096).brought(passwords.hash(SECRET)) == ()

    @pytest.mark.parametrize("mechanism", KEYED)
    def test_made_with_saslprep_or_without(self, mechanism: str) -> None:
        password = "h\u00e4sslich\u00aa"  # SASLprep makes the last letter an "a"
        prepared = passwords.read_hash(f"{{{mechanism}}}{_keys(mechanism, saslprep(password))}")
        plain = passwords.read_hash(f"{{{mechanism}}}{_keys(mechanism, password)}")
        assert prepared != plain
        assert passwords.verify(password, prepared).right
        assert passwords.verify(password, plain).right
        assert not passwords.verify(password + "a", plain).right


def test_a_plain_password_is_taken_as_it_is() -> None:
    assert passwords.verify("gr\u00fcn 1 ", passwords.read_hash("{PLAIN}gr\u00fcn 1 ")).right
    encoded = base64.b64encode("gr\u00fcn".encode()).decode()
    assert passwords.verify("gr\u00fcn", passwords.read_hash("{PLAIN.b64}" + encoded)).right


def test_a_plain_password_is_never_stored() -> None:
    assert SECRET not in passwords.read_hash("{PLAIN}" + SECRET)


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("{ROT13}pbeerpg", "unknown password scheme {ROT13}; known are {ARGON2ID}"),
        ("correct horse", "not a password hash; known are {ARGON2ID}"),
        ("mypassword123", "not a password hash"),  # 13 letters: might be a DES hash, but nobody means one
        ("", "not a password hash"),
        ("{}", "not a password hash"),
        ("{SSHA}", "not a {SSHA} hash"),
        ("{SSHA}!!!!", "not a {SSHA} hash"),
        ("{SSHA256.HEX}zz", "is not hex"),
        ("{SSHA256.B64}*", "is not b64"),
        ("{SHA512-CRYPT}$2b$04$aaaa", "not a {SHA512-CRYPT} hash"),
        ("{BLF-CRYPT}$2b$04$short", "damaged"),
        ("{ARGON2ID}$argon2id$v=19$m=8,t=1,p=1$AAAA$", "damaged"),
        ("{PLAIN}", "the password is empty"),
        ("{SHA512-CRYPT}$6$rounds=900000000$abcdefgh$" + "a" * 86, "costs too much"),
        ("{ARGON2ID}$argon2id$v=19$m=4000000,t=1,p=1$c29tZXNhbHQ$" + "A" * 43, "costs too much"),
        ("{ARGON2ID}$argon2id$v=19$m=8,t=17,p=1$c29tZXNhbHQ$" + "A" * 43, "costs too much"),
        ("{ARGON2ID}$argon2id$v=19$m=136,t=1,p=17$c29tZXNhbHQ$" + "A" * 43, "costs too much"),
        ("{PBKDF2-SHA256}2000001$" + "a" * 22 + "$" + "A" * 43, "costs too much"),
        ("{BLF-CRYPT}$2b$31$" + "a" * 53, "costs too much"),
        ("{PBKDF2}$1$salt$90000000$" + "a" * 40, "costs too much"),
        ("{PBKDF2}$1$salt$1000$" + "a" * 38, "not a {PBKDF2} hash"),
        ("{SHA256}" + "a" * 63, "not a {SHA256} hash"),
        ("{SHA256}" + "g" * 64, "not a {SHA256} hash"),
        ("{SHA512}" + "A" * 40 + "=", "not a {SHA512} hash"),
        ("{SCRAM-SHA-256}", "not a {SCRAM-SHA-256} hash"),
        ("{SCRAM-SHA-256}" + _keys("SCRAM-SHA-1"), "not a {SCRAM-SHA-256} hash"),
        ("{SCRAM-SHA-1}" + _keys("SCRAM-SHA-1").replace("4096", "0"), "not a {SCRAM-SHA-1} hash"),
        ("{SCRAM-SHA-1}" + _keys("SCRAM-SHA-1").replace("4096", "-1"), "not a {SCRAM-SHA-1} hash"),
        ("{SCRAM-SHA-1}" + _keys("SCRAM-SHA-1").replace("4096", "9000000"), "costs too much"),
        ("{SCRAM-SHA-1}4096,,AAAA,AAAA", "not a {SCRAM-SHA-1} hash"),
        ("{SCRAM-SHA-1}4096,*,AAAA,AAAA", "not a {SCRAM-SHA-1} hash"),
        ("{CRAM-MD5}" + "a" * 62, "not a {CRAM-MD5} hash"),
        ("{CRAM-MD5}" + "x" * 64, "not a {CRAM-MD5} hash"),
        ("{DIGEST-MD5}" + "a" * 32, "unknown password scheme {DIGEST-MD5}"),
        ("{SSHA}" + "A" * 5000, "too long"),
        ("{SSHA}\u00e9", "not ASCII"),
    ],
)
def test_what_is_no_hash_is_refused_in_words(text: str, words: str) -> None:
    with pytest.raises(BadHash) as refused:
        passwords.read_hash(text)
    assert words in str(refused.value)


def test_every_known_scheme_is_named_in_the_refusal() -> None:
    with pytest.raises(BadHash) as refused:
        passwords.read_hash("{X}y")
    assert all("{" + scheme + "}" in str(refused.value) for scheme in KNOWN_SCHEMES)


@given(st.text(max_size=200))
@settings(max_examples=150, deadline=None)
def test_any_text_is_a_hash_or_a_bad_hash(text: str) -> None:
    try:
        stored = passwords.read_hash(text)
    except BadHash:
        return
    assert passwords.read_hash(stored) == stored


@given(st.text(max_size=60), st.sampled_from(sorted(set(TABLE.values()))))
@settings(max_examples=100, deadline=None)
def test_any_password_is_right_or_wrong(password: str, stored: str) -> None:
    try:
        stored = passwords.read_hash(stored)
    except BadHash:
        pass  # a damaged one in the table must not raise either
    assert passwords.verify(password, stored).right is (password == SECRET)


class TestHostilePasswords:
    @pytest.mark.parametrize(
        "password", ["x" * 73, "x" * 1024, "\u00fc" * 37, "a\0b", "\0", "", "x" * 5000, "\ud800"]
    )
    def test_bcrypt_refuses_without_a_traceback(self, password: str) -> None:
        stored = passwords.read_hash(TABLE["{BLF-CRYPT}"])
        assert passwords.verify(password, stored) == Verdict(False)

    def test_a_hash_that_is_damaged_in_the_table_refuses(self) -> None:
        damaged = (
            "",
            "x",
            "$argon2id$",
            "$2b$",
            "{SSHA}",
            "$6$",
            "\0",
            "{SHA256}",
            "{CRAM-MD5}a",
            "{SCRAM-SHA-1}1,",
        )
        for stored in damaged:
            assert passwords.verify(SECRET, stored) == Verdict(False)

    def test_a_long_password_is_good_for_argon2(self) -> None:
        long = "x" * MAX_PASSWORD
        assert passwords.verify(long, passwords.hash(long)).right

    @pytest.mark.parametrize("password", ["", "x" * 1025, "\u00fc" * 513, "a\0b", "a\nb", "\ud800"])
    def test_what_cannot_be_a_password(self, password: str) -> None:
        with pytest.raises(BadPassword):
            passwords.hash(password)


class TestPreparation:
    def test_letters_composed_differently_are_the_same(self) -> None:
        assert passwords.verify("u\u0308ber", passwords.hash("\u00fcber")).right

    def test_spaces_of_other_scripts_are_spaces(self) -> None:
        assert prepare("a\u3000b\u00a0c") == "a b c"

    def test_nothing_else_is_changed(self) -> None:
        assert prepare("  Aa\u00c4 \uff21 ") == "  Aa\u00c4 \uff21 "  # case, width and outer spaces stay


def test_the_dummy_costs_as_much_as_a_real_hash_and_matches_nothing() -> None:
    real = passwords.hash(SECRET)
    assert passwords.dummy.rsplit("$", 2)[0] == real.rsplit("$", 2)[0]
    assert [len(part) for part in passwords.dummy.split("$")] == [len(part) for part in real.split("$")]
    assert passwords.read_hash(passwords.dummy) == passwords.dummy  # whole: a check of it runs to its end
    assert not passwords.verify(SECRET, passwords.dummy).right
    assert Passwords(CHEAP).dummy != passwords.dummy


@pytest.mark.parametrize("stored", [*sorted(set(TABLE)), "$2b$"])
def test_a_wrong_password_costs_a_check_of_ours_whatever_the_hash(stored: str) -> None:
    """So nobody can tell by a quick answer that there is such a user."""
    if stored in TABLE:
        stored = passwords.read_hash(stored.strip() + TABLE[stored])
    checked: list[str] = []
    verify = passwords._context.verify

    def spied(password: str, hashed: str) -> bool:
        checked.append(hashed)
        return bool(verify(password, hashed))

    with mock.patch.object(passwords._context, "verify", spied):
        assert not passwords.verify("wrong", stored).right
    ours = [one for one in checked if one.startswith("$argon2id$v=19$m=8,t=1,p=1$")]
    assert len(ours) == 1


def test_other_parameters_mean_a_new_hash_at_the_next_login() -> None:
    stronger = Passwords(DirectoryConfig(argon2_memory_kib=16, argon2_time_cost=2))
    verdict = stronger.verify(SECRET, passwords.hash(SECRET))
    assert verdict.right
    assert verdict.rehashed is not None
    assert verdict.rehashed.startswith("$argon2id$v=19$m=16,t=2,p=1$")


def test_the_passlib_that_is_installed_is_libpass() -> None:
    from importlib.metadata import PackageNotFoundError, distribution

    assert distribution("libpass").version
    with pytest.raises(PackageNotFoundError):
        distribution("passlib")  # owns the same files, and fails with today's bcrypt
