"""[access]: what cannot work is refused with words."""

from __future__ import annotations

from typing import Any

import pytest

from mailstack.access.settings import AccessConfig, ImapConfig, Pop3Config


def test_defaults_keep_the_rfcs() -> None:
    config = AccessConfig()
    assert config.imap.idle_seconds >= 30 * 60  # RFC 3501 section 5.4
    assert config.pop3.idle_seconds >= 10 * 60  # RFC 1939 section 3


@pytest.mark.parametrize(
    ("kind", "values"),
    [
        (ImapConfig, {"login_seconds": 0.0}),
        (ImapConfig, {"idle_seconds": -1.0}),
        (ImapConfig, {"max_auth_failures": 0}),
        (ImapConfig, {"auth_failure_seconds": -0.1}),
        (ImapConfig, {"max_message_octets": 10}),
        (ImapConfig, {"max_search_octets": 0}),
        (Pop3Config, {"max_auth_failures": 0}),
        (Pop3Config, {"auth_failure_seconds": 61.0}),
    ],
)
def test_what_cannot_work(kind: Any, values: dict[str, Any]) -> None:
    with pytest.raises(ValueError, match="must be"):
        kind(**values)
