"""Password hashes that Dovecot makes (`doveadm pw`), each taken, proved and replaced."""

from __future__ import annotations

import shutil
import subprocess

import pytest

from mailstack.directory.key_hashes import SCHEMES
from mailstack.directory.keys import Keeping
from mailstack.directory.passwords import BadHash, Passwords, Verdict
from mailstack.directory.settings import DirectoryConfig
from mailstack.wire.sasl import KEYED
from tests.running import PATIENCE

PASSWORD = "str\u00f6mung 7"
TAKEN = [
    "ARGON2ID",
    "ARGON2I",
    "BLF-CRYPT",
    "SHA512-CRYPT",
    "SHA256-CRYPT",
    "MD5-CRYPT",
    "DES-CRYPT",
    "CRYPT",
    "SSHA512",
    "SSHA256",
    "SSHA",
    "SMD5",
    "SHA512",
    "SHA256",
    "SHA",
    "SHA1",
    "MD5",
    "LDAP-MD5",
    "PLAIN-MD5",
    "PBKDF2",
    "SCRAM-SHA-256",
    "SCRAM-SHA-1",
    "CRAM-MD5",
    "HMAC-MD5",
    "PLAIN",
    "CLEAR",
    "CLEARTEXT",
]
ENCODED = ["SSHA256.HEX", "SHA512.HEX", "PLAIN-MD5.B64", "CRAM-MD5.B64", "MD5-CRYPT.B64", "PBKDF2.HEX"]
REFUSED = ["DIGEST-MD5", "OTP", "PLAIN-MD4", "PLAIN-TRUNC"]  # docs/operator-users.md says why

passwords = Passwords(DirectoryConfig(argon2_memory_kib=8, argon2_time_cost=1))


def hashed(scheme: str, password: str = PASSWORD) -> str:
    if shutil.which("doveadm") is None:
        pytest.skip("doveadm is not installed; get it with: apt-get install dovecot-core")
    words = ["doveadm", "-O", "pw", "-u", "alice@example.org", "-s", scheme, "-p", password]
    said = subprocess.run(words, capture_output=True, text=True, timeout=PATIENCE)
    assert said.returncode == 0, said.stderr
    return said.stdout.strip()


@pytest.mark.parametrize("scheme", [*TAKEN, *ENCODED])
def test_taken(scheme: str) -> None:
    stored = passwords.read_hash(hashed(scheme))
    assert PASSWORD not in stored
    assert passwords.verify("another", stored) == Verdict(False)
    verdict = passwords.verify(PASSWORD, stored)
    assert verdict.right
    assert (verdict.rehashed or stored).startswith("$argon2id$v=19$m=8,t=1,p=1$")
    brought = Keeping(KEYED, 4096).brought(stored)
    assert [one.mechanism for one in brought] == [
        name for given, name in SCHEMES.items() if scheme.startswith(given)
    ]


@pytest.mark.parametrize("scheme", REFUSED)
def test_refused(scheme: str) -> None:
    with pytest.raises(BadHash, match="unknown password scheme"):
        passwords.read_hash(hashed(scheme, "secret"))
