"""Thunderbird signs in by OAuth2 with a provider of ours that it knows from an add-on; no password is typed in."""

from __future__ import annotations

import re

import pytest

from tests.clients.test_libraries import imap
from tests.clients.thunderbird.account import Account
from tests.clients.thunderbird.conftest import DORA
from tests.clients.thunderbird.marionette import Asked
from tests.clients.thunderbird.openid import OpenId
from tests.running import RunningStack, eventually

SSL, OAUTH2 = 3, 10


def logins(stack: RunningStack, protocol: str) -> int:
    """How many there were by a token so far."""
    return stack.log().count(f"{protocol} login of {stack.address(DORA)} from 127.0.0.1 by XOAUTH2 tls=")


def arrived(stack: RunningStack, subject: str) -> None:
    """Alice has it, once."""
    with imap(stack, "alice") as client:
        client.select_folder("INBOX")
        [_] = eventually(lambda: client.noop() and client.search(["SUBJECT", subject]))


def test_an_account_without_a_password(dora: Account, openid: OpenId, stack: RunningStack) -> None:
    """The provider's page in a window, the code from there for a token (with PKCE), the token to our server."""
    assert dora.guessed == {"incoming": [SSL, OAUTH2, False], "outgoing": [SSL, OAUTH2, False]}
    assert openid.log == ["authorization_code"]
    assert logins(stack, "imap") >= 1
    assert dora.folders()["INBOX"] == ["Inbox"]


def test_sending_by_the_same_token(dora: Account, openid: OpenId, stack: RunningStack) -> None:
    dora.write({"to": stack.address("alice"), "subject": "by token", "body": "without a password"})
    arrived(stack, "by token")
    dora.kept("Sent", lambda flags: "by token" in flags)
    assert logins(stack, "submission") == 1
    assert openid.log == ["authorization_code"]


def test_the_next_token_comes_without_the_page(dora: Account, openid: OpenId, stack: RunningStack) -> None:
    """As when an hour is over: by the refresh token."""
    before = logins(stack, "imap")
    dora.closeConnections()
    dora.forgetToken()
    dora.open("INBOX")
    eventually(lambda: logins(stack, "imap") > before)
    assert openid.log[-1] == "refresh_token"


def test_a_token_that_is_refused(dora: Account, openid: OpenId, stack: RunningStack) -> None:
    """It says so, falls back to nothing, and goes in with the next token."""
    openid.claims.append(
        {"exp": 1000}
    )  # a provider whose clock is wrong: its own time for the token is not over
    dora.closeConnections()
    dora.forgetToken()
    before = len(stack.log())
    with pytest.raises(Asked, match="Authentication failure"):
        dora.open("INBOX")
    dora.program.reply(False)
    said = stack.log()[before:]
    assert "login refused: token refused: Signature has expired" in said
    assert re.search(
        r" S: \+ \S+\n.* C: (\S+) AUTHENTICATE XOAUTH2 .*\n.* S: \1 NO \[AUTHENTICATIONFAILED\]", said
    )
    logged_in = logins(stack, "imap")
    dora.forgetToken()
    dora.open("INBOX")
    eventually(lambda: logins(stack, "imap") > logged_in)
