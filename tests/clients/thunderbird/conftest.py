"""One Thunderbird and one stack for all files of this folder: two IMAP accounts and a POP3 account."""

from __future__ import annotations

import shutil
from collections.abc import Iterator

import pytest

from tests.clients.thunderbird.account import Account
from tests.clients.thunderbird.program import Thunderbird, thunderbird
from tests.running import RunningStack, running

ANNA, BERT, CORA = "anna", "bert", "cora"  # IMAP over TLS, IMAP with STARTTLS, POP3


@pytest.fixture(scope="package")
def stack(tmp_path_factory: pytest.TempPathFactory) -> Iterator[RunningStack]:
    """A server that logs every line, keeps a copy of what is sent and limits what anna may keep."""
    if shutil.which("thunderbird") is None:
        pytest.skip("thunderbird is not installed; get it with: apt-get install thunderbird")
    with running(
        tmp_path_factory.mktemp("thunderbird") / "example",
        users=("alice", ANNA, BERT, CORA),
        settings=("log.conversation=true", "msa.save_sent=true"),
    ) as one:
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
