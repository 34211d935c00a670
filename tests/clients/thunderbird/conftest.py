"""One Thunderbird and one stack for all files of this folder: two IMAP accounts, a POP3 account, and one that signs in by tokens."""

from __future__ import annotations

import json
import shutil
import zipfile
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.clients.thunderbird.account import Account
from tests.clients.thunderbird.openid import OpenId
from tests.clients.thunderbird.program import Thunderbird, thunderbird
from tests.provider import AUDIENCE, ISSUER, Signer, write_key_set
from tests.running import RunningStack, running

ANNA, BERT, CORA, DORA = "anna", "bert", "cora", "dora"  # IMAP over TLS, IMAP with STARTTLS, POP3, OAuth2

_ADD_ON = Path(__file__).parents[3] / "deploy" / "thunderbird-oauth" / "manifest.json"


@pytest.fixture(scope="package")
def openid() -> Iterator[OpenId]:
    """The provider whose tokens our server takes."""
    with OpenId(Signer("one")).serving() as one:
        yield one


@pytest.fixture(scope="package")
def stack(openid: OpenId, tmp_path_factory: pytest.TempPathFactory) -> Iterator[RunningStack]:
    """A server that logs every line, keeps a copy of what is sent and limits what anna may keep."""
    if shutil.which("thunderbird") is None:
        pytest.skip("thunderbird is not installed; get it with: apt-get install thunderbird")
    folder = tmp_path_factory.mktemp("thunderbird")
    settings = (
        "log.conversation=true",
        "msa.save_sent=true",
        f'oauth.keys_file="{write_key_set(folder / "keys.json", openid.signer)}"',
        f'oauth.issuer="{ISSUER}"',
        f'oauth.audience=["{AUDIENCE}"]',
        "msa.auth_failure_seconds=0.0",
        "access.imap.auth_failure_seconds=0.0",
    )
    with running(folder / "example", users=("alice", ANNA, BERT, CORA, DORA), settings=settings) as one:
        one.configured("user", "quota", one.address(ANNA), "50M")
        yield one


@pytest.fixture(scope="package")
def program(stack: RunningStack, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Thunderbird]:
    """Thunderbird, which trusts our authority."""
    with thunderbird(shutil.which("thunderbird") or "", tmp_path_factory.mktemp("mozilla")) as one:
        one.trust(stack.ca.read_text())
        yield one


@pytest.fixture(scope="package")
def anna(program: Thunderbird, stack: RunningStack) -> Account:
    return Account(program, stack, ANNA, "imap", tls=True)


@pytest.fixture(scope="package")
def bert(program: Thunderbird, stack: RunningStack) -> Account:
    return Account(program, stack, BERT, "imap", tls=False)


@pytest.fixture(scope="package")
def cora(program: Thunderbird, stack: RunningStack) -> Account:
    return Account(program, stack, CORA, "pop3", tls=True)


@pytest.fixture(scope="package")
def dora(
    program: Thunderbird, stack: RunningStack, openid: OpenId, tmp_path_factory: pytest.TempPathFactory
) -> Account:
    """The add-on of deploy/ with our provider in it, then the account; the server's name must have a dot."""
    manifest = json.loads(_ADD_ON.read_text())
    manifest["oauth_provider"] |= {
        "authorizationEndpoint": f"{openid.url}/authorize",
        "tokenEndpoint": f"{openid.url}/token",
        "hostnames": ["127.0.0.1"],
    }
    file = tmp_path_factory.mktemp("add-on") / "sign-in.xpi"
    with zipfile.ZipFile(file, "w") as xpi:
        xpi.writestr("manifest.json", json.dumps(manifest))
    program.install(str(file))
    return Account(program, stack, DORA, "imap", tls=True, host="127.0.0.1", oauth=True)
