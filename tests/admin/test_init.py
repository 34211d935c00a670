"""`mailstack init`: what it makes, who may read it, what it refuses."""

from __future__ import annotations

import datetime
import ipaddress
import os
import re
import ssl
import stat
from pathlib import Path

import pytest
from click.testing import CliRunner
from cryptography import x509
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.serialization import load_pem_private_key
from cryptography.x509.oid import ExtendedKeyUsageOID
from cryptography.x509.verification import PolicyBuilder, Store

from mailstack.admin.cli import cli
from mailstack.admin.init import initialize
from mailstack.admin.output import OperatorError
from mailstack.config import load
from mailstack.db import Database
from mailstack.db.schema import is_current
from mailstack.directory.verbs import list_domains


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder that init has filled, with moved ports."""
    folder = tmp_path_factory.mktemp("init") / "new" / "mail"
    initialize(folder, "Example.TEST", "mx1.example.test", 20000)
    return folder


def certificate(folder: Path, name: str) -> x509.Certificate:
    return x509.load_pem_x509_certificate((folder / name).read_bytes())


def test_the_files_and_who_may_read_them(folder: Path) -> None:
    modes = {path.name: stat.S_IMODE(path.stat().st_mode) for path in folder.iterdir()}
    assert modes == {
        "mailstack.toml": 0o600,
        "data": 0o700,
        "ca.pem": 0o600,
        "ca-key.pem": 0o600,
        "cert.pem": 0o600,
        "key.pem": 0o600,
    }
    assert stat.S_IMODE(folder.stat().st_mode) == 0o700
    assert {stat.S_IMODE(path.stat().st_mode) for path in (folder / "data").iterdir()} == {0o600}


def test_the_settings_can_be_loaded(folder: Path) -> None:
    config = load(folder / "mailstack.toml")
    assert config.hostname == "mx1.example.test"
    assert config.data == folder / "data"
    assert config.tls.certificate == folder / "cert.pem"
    assert config.listeners.addresses == ("127.0.0.1",)
    assert [one.port for one in config.listeners.services()] == [
        20025, 20587, 20465, 20143, 20993, 20110, 20995,
    ]  # fmt: skip


def test_the_database_is_current_and_knows_the_domain(folder: Path) -> None:
    database = Database(load(folder / "mailstack.toml").database)
    try:
        assert is_current(database)
        assert [domain.name for domain in database.read(list_domains)] == ["example.test"]
    finally:
        database.dispose()


def test_the_certificate_covers_our_names(folder: Path) -> None:
    made = certificate(folder, "cert.pem")
    names = made.extensions.get_extension_for_class(x509.SubjectAlternativeName).value
    assert names.get_values_for_type(x509.DNSName) == [
        "mx1.example.test", "mail.example.test", "autoconfig.example.test", "localhost",
    ]  # fmt: skip
    assert names.get_values_for_type(x509.IPAddress) == [
        ipaddress.ip_address("127.0.0.1"),
        ipaddress.ip_address("::1"),
    ]
    usage = made.extensions.get_extension_for_class(x509.ExtendedKeyUsage).value
    assert list(usage) == [ExtendedKeyUsageOID.SERVER_AUTH]


def test_the_keys_are_p256_and_belong_to_the_certificates(folder: Path) -> None:
    for key_name, certificate_name in (("key.pem", "cert.pem"), ("ca-key.pem", "ca.pem")):
        key = load_pem_private_key((folder / key_name).read_bytes(), None)
        assert isinstance(key, ec.EllipticCurvePrivateKey)
        assert key.curve.name == "secp256r1"
        assert key.public_key() == certificate(folder, certificate_name).public_key()


def test_a_strict_verifier_accepts_the_chain(folder: Path) -> None:
    now = datetime.datetime.now(datetime.UTC)
    for days, fine in ((0, True), (810, True), (830, False)):
        builder = PolicyBuilder().store(Store([certificate(folder, "ca.pem")]))
        builder = builder.time(now + datetime.timedelta(days=days))
        verifier = builder.build_server_verifier(x509.DNSName("mail.example.test"))
        if fine:
            assert len(verifier.verify(certificate(folder, "cert.pem"), [])) == 2
        else:
            with pytest.raises(x509.verification.VerificationError):
                verifier.verify(certificate(folder, "cert.pem"), [])


def test_openssl_takes_certificate_and_key(folder: Path) -> None:
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(folder / "cert.pem", folder / "key.pem")


def test_the_command_says_what_to_do_next(tmp_path: Path) -> None:
    folder = tmp_path / "mail"
    words = ["init", str(folder), "--domain", "example.test", "--hostname", "mail.example.test"]
    done = CliRunner().invoke(cli, words)
    assert done.exit_code == 0, done.output
    assert f"mailstack --config {folder}/mailstack.toml user add alice@example.test" in done.output
    assert f"mailstack --config {folder}/mailstack.toml serve" in done.output
    assert re.search(r"\bexample[.]test[.] +MX +10 mail[.]example[.]test[.]\n", done.output)
    assert re.search(
        r"\bm[0-9]{8}e[.]_domainkey[.]example[.]test[.] +TXT +[(] \"v=DKIM1; k=ed25519; p=", done.output
    )
    assert "domain dns example.test --check" in done.output
    assert str(folder / "ca.pem") in done.output
    assert load(folder / "mailstack.toml").listeners.smtp == 25


def test_an_international_domain_is_kept_in_a_labels(tmp_path: Path) -> None:
    initialize(tmp_path / "mail", "bücher.example", "mail.bücher.example")
    assert load(tmp_path / "mail" / "mailstack.toml").hostname == "mail.xn--bcher-kva.example"
    names = certificate(tmp_path / "mail", "cert.pem").extensions
    dns = names.get_extension_for_class(x509.SubjectAlternativeName).value.get_values_for_type(x509.DNSName)
    assert "autoconfig.xn--bcher-kva.example" in dns


def test_a_folder_that_is_not_empty_is_refused_and_left_alone(tmp_path: Path) -> None:
    (tmp_path / "precious").write_text("mine")
    with pytest.raises(OperatorError) as raised:
        initialize(tmp_path, "example.test", "mail.example.test")
    assert str(raised.value) == f"{tmp_path} is not empty: name a new folder, or empty this one first"
    assert [path.name for path in tmp_path.iterdir()] == ["precious"]


def test_a_file_in_the_place_of_the_folder(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    with pytest.raises(OperatorError) as raised:
        initialize(tmp_path / "file" / "mail", "example.test", "mail.example.test")
    assert str(raised.value) == f"{tmp_path}/file/mail: Not a directory; name another folder"


@pytest.mark.parametrize(
    ("domain", "hostname", "added", "message"),
    [
        ("example_test", "mail.example.test", 0, "--domain example_test: malformed domain"),
        ("localhost", "m.example.test", 0, "--domain localhost: a full name is needed, such as example.org"),
        ("example.test", "mail", 0, "--hostname mail: a full name is needed, such as example.org"),
        ("[127.0.0.1]", "m.example.test", 0, "--domain [127.0.0.1]: an address literal is not a domain name"),
        ("example.test", 'm.x"\nsmtp=1', 0, '--hostname m.x"\nsmtp=1: malformed domain'),
        ("example.test", "m.example.test", 65000, "--add-to-ports 65000: it must be from 0 to 64540"),
        ("example.test", "m.example.test", -1, "--add-to-ports -1: it must be from 0 to 64540"),
    ],
)
def test_what_cannot_be_used_is_refused_first(
    tmp_path: Path, domain: str, hostname: str, added: int, message: str
) -> None:
    with pytest.raises(OperatorError) as raised:
        initialize(tmp_path / "mail", domain, hostname, added)
    assert str(raised.value) == message
    assert not (tmp_path / "mail").exists()


def test_a_failure_takes_everything_back(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def full(*arguments: object) -> None:
        raise OSError(28, os.strerror(28), "mailstack.db")

    monkeypatch.setattr("mailstack.admin.init._make_database", full)
    with pytest.raises(OperatorError) as raised:
        initialize(tmp_path / "mail", "example.test", "mail.example.test")
    assert str(raised.value) == "mailstack.db: No space left on device"
    assert list((tmp_path / "mail").iterdir()) == []
