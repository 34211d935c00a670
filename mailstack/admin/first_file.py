"""The text of the first mailstack.toml: what a new operator needs, and comments on what else there is."""

from __future__ import annotations

import json

from mailstack.net.settings import SERVICES, ListenersConfig

_ABOUT = {
    "smtp": "mail from other MTAs",
    "submission": "mail from our users, STARTTLS",
    "submissions": "mail from our users, TLS",
    "imap": "STARTTLS",
    "imaps": "TLS",
    "pop3": "STLS",
    "pop3s": "TLS",
}

_TEXT = """\
# mailstack's settings. Every key that is left out has its default; docs/configuration.md lists them all.
# Try a change with:  mailstack --config {path} --set log.level='"debug"' serve
# Paths are relative to this file.

# Our name in greetings, EHLO and Received fields: it must resolve to this host, and the PTR record of this
# host's address should say it.
hostname = {hostname}

# The database, the mail and the spool lie here.
data = "data"

[listeners]
# Addresses to bind; "" is every address, IPv4 and IPv6.
addresses = {addresses}
# A port for each service, or false for none.
{ports}

[tls]
# Ours first, then intermediate certificates. These two came from init, signed by ca.pem beside them: give
# ca.pem to your users, or name a certificate that they trust already. A renewed file is read again by itself.
certificate = "cert.pem"
key = "key.pem"
# minimum = "1.2"

[auth]
# Networks whose clients may log in without TLS. None by default.
plaintext_networks = []
# How users sign in, strongest first; docs/operator-sign-in.md has the choice.
# mechanisms = ["SCRAM-SHA-256", "PLAIN", "LOGIN"]

# [dns]
# Name servers to ask, such as a validating resolver on this host; by default those of /etc/resolv.conf.
# nameservers = ["127.0.0.1:53"]

# [mta]
# Where mail for a domain goes, instead of to its MX; "*" is every domain that is not ours.
# routes = {{ "*" = "smtp://smarthost.example.net:25" }}

# [database]
# By default an SQLite file in the data directory.
# url = "postgresql+psycopg://mailstack:password@localhost/mailstack"

[log]
# debug, info, warn, error or critical; to standard error, or to a file.
level = "info"
# format = "json"
# file = "log/mailstack.log"
"""


def first_file(path: str, hostname: str, add_to_ports: int) -> str:
    """The settings of a new installation in TOML; with `add_to_ports`, moved ports on loopback only."""
    defaults = ListenersConfig()
    lines = [(f"{name} = {getattr(defaults, name) + add_to_ports}", _ABOUT[name]) for name in SERVICES]
    width = max(len(setting) for setting, _ in lines)
    return _TEXT.format(
        path=path,
        hostname=json.dumps(hostname),
        addresses=json.dumps(["127.0.0.1"] if add_to_ports else [""]),
        ports="\n".join(f"{setting:<{width}}  # {about}" for setting, about in lines),
    )
