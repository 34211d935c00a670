"""The settings: every mistake is told at once, in one line, with the key, the value and what to do."""

from __future__ import annotations

import dataclasses
import re
import runpy
from ipaddress import ip_network
from pathlib import Path

import pytest

from mailstack.admin.first_file import first_file
from mailstack.config import ConfigError, load, parse
from mailstack.net.settings import ListenerConfig

DOCS = Path(__file__).parent.parent / "docs"
FILE = Path("/etc/mailstack/mailstack.toml")
GOOD = 'hostname = "mail.example.test"\n'


def mistakes(text: str, *overrides: str) -> list[str]:
    """What is wrong with `text`, without the name of the file."""
    with pytest.raises(ConfigError) as raised:
        parse(text, FILE, overrides)
    return [message.removeprefix(f"{FILE}: ") for message in raised.value.messages]


# One mistake each, and the whole line that names it.
ONE_MISTAKE = [
    ("", 'hostname - is missing; add for example: hostname = "mail.example.org"'),
    ("hostname = 5", "hostname - should be a valid string (got 5); write text, in quotes"),
    (
        'hostname = "mail"',
        "the file - hostname is not a full host name, such as mail.example.org",
    ),
    ('hostname = "-a.b"', "the file - hostname is not a host name: malformed domain"),
    (
        GOOD + '[listeners]\nimap = "143"',
        'listeners.imap - should be a valid integer, or should be False (got "143"); '
        "write a whole number, without quotes",
    ),
    (
        GOOD + "[listeners]\nimap = 70000",
        "listeners - imap is not a port: 0 to 65535, or false for none",
    ),
    (
        GOOD + "[listeners]\nsubmision = 7",
        "listeners.submision - unknown key (got 7); did you mean listeners.submission?",
    ),
    (GOOD + "smtp = 25", "smtp - unknown key (got 25); did you mean listeners.smtp?"),
    (GOOD + "[wrok]\nreaders = 1", "wrok - unknown section (got a section); did you mean work?"),
    (
        GOOD + "[tls]\nciphers = 1",
        "tls.ciphers - unknown key (got 1); remove it; tls has: certificate, key, minimum",
    ),
    (
        GOOD + '[tls]\nminimum = "1.1"',
        "tls.minimum - should be '1.2' or '1.3' (got \"1.1\"); the default is \"1.2\"",
    ),
    (GOOD + '[tls]\nkey = "k.pem"', "tls - certificate and key come together: give both, or neither"),
    (
        GOOD + '[auth]\nplaintext_networks = ["10.0.0.1/8"]',
        'auth.plaintext_networks.0 - 10.0.0.1/8 has host bits set (got "10.0.0.1/8")',
    ),
    (
        GOOD + 'auth = "none"',
        'auth - is not a section (got "none"); write [auth] on a line, and its keys below it',
    ),
    (
        GOOD + "[work]\nreaders = 2026-01-01",
        'work.readers - should be a valid integer (got "2026-01-01"); write a whole number, without quotes',
    ),
    (
        GOOD + "[database]\npassword = 'tiger'",
        "database.password - unknown key (got a secret); remove it; database has: url, busy_timeout",
    ),
    (
        GOOD + "[database]\nuri = 'postgresql://scott:tiger@db/x'",
        'database.uri - unknown key (got "postgresql://scott:***@db/x"); did you mean database.url?',
    ),
    (
        GOOD + "[database]\nurl = 'scott:tiger'",
        "database.url - not a database URL; write sqlite:///FILE or postgresql+psycopg://...",
    ),
    (
        GOOD + "[log]\nlevel = 'loud'",
        "log.level - should be 'debug', 'info', 'warn', 'error' or 'critical' (got \"loud\"); "
        'the default is "info"',
    ),
    (
        GOOD + "[access.imap]\nidle_seconds = true",
        "access.imap.idle_seconds - should be a valid number (got true); write a number, without quotes",
    ),
    (
        GOOD + "[listeners]\nlmtp_socket_mode = 660",
        "listeners - lmtp_socket_mode is octal: write 0o660, not 660",
    ),
    (GOOD + "[listeners]\naddresses = []", 'listeners - addresses names none; [""] is every address'),
    (
        GOOD + '[listeners]\nproxy_networks = ["0.0.0.0/0"]',
        "listeners - proxy_networks: whoever is in 0.0.0.0/0 could say who they are; name the proxies",
    ),
    (
        GOOD + "[lmtp]\ngreet_pause = 5.0",
        "lmtp.greet_pause - unknown key (got 5.0); did you mean relay.greet_pause?",
    ),
    (
        GOOD + "[work]\nreaders = 0",
        "the file - work.readers must be at least 1: nothing would ever be done",
    ),
    (
        GOOD + "[mta]\nwarn_after = -1.5",
        "mta.warn_after - must be 0 or more, and finite (got -1.5); the default is 14400.0",
    ),
    (
        GOOD + "[mta]\nwarn_after = inf",
        "mta.warn_after - must be 0 or more, and finite (got inf); the default is 14400.0",
    ),
    (
        GOOD + "[dns]\ntimeout = nan",
        "dns.timeout - must be 0 or more, and finite (got nan); the default is 3.0",
    ),
    (
        GOOD + "x = ",
        "not TOML - Invalid value (at end of document); correct that line, then try again",
    ),
    (
        GOOD + "a = = 2\nb = 3",
        "not TOML - Invalid value (at line 2, column 5); correct that line, then try again",
    ),
]


@pytest.mark.parametrize(("text", "message"), ONE_MISTAKE)
def test_a_mistake_has_one_line(text: str, message: str) -> None:
    assert mistakes(text) == [message]


def test_every_mistake_is_told_at_once() -> None:
    found = mistakes("hostnam = 1\n[listeners]\nsmtp = 'x'\npop = 3\n[log]\nlevel = 9\n[mta]\nport = 1.5")
    assert [line.split(" - ")[0] for line in found] == [
        "hostnam",
        "listeners.pop",
        "hostname",
        "listeners.smtp",
        "mta.port",
        "log.level",
    ]


def test_no_secret_is_told() -> None:
    text = (
        GOOD + "[database]\nurl = ['postgresql://a:tiger@h/x']\nsecret = 'tiger'\napi_token = {x = 'tiger'}"
    )
    assert "tiger" not in "\n".join(mistakes(text, "database.password=[tiger"))


@pytest.mark.parametrize(
    ("override", "message"),
    [
        ("log.level", '--set log.level: not key=value; write for example --set log.level="debug"'),
        ("log..level=1", '--set log..level=1: not key=value; write for example --set log.level="debug"'),
        ("hostname=[", "--set hostname=[: the value is not TOML; quote text, and keep the quotes from the shell"),
        ("hostname.a=1", "--set hostname.a=1: a part of the key is a value, not a section"),
        ("log.level=9", "log.level - should be 'debug', 'info', 'warn', 'error' or 'critical' (got 9); "
                        'the default is "info"'),
    ],
)  # fmt: skip
def test_a_mistaken_override(override: str, message: str) -> None:
    assert message in mistakes(GOOD, override)


def test_overrides_are_laid_over_the_file() -> None:
    config = parse(
        GOOD + "[log]\nlevel = 'error'",
        FILE,
        ["log.level=debug", "listeners.smtp=20025", "listeners.pop3 = false",
         'auth.plaintext_networks=["127.0.0.0/8", "fe80::/10"]', "log.file=/var/log/x"],
    )  # fmt: skip
    assert config.log.level == "debug"
    assert config.log.file == Path("/var/log/x")
    assert config.auth.plaintext_networks == (ip_network("127.0.0.0/8"), ip_network("fe80::/10"))
    services = {one.service: one for one in config.listeners.services()}
    assert services["smtp"] == ListenerConfig("smtp", 20025, ("",), tls=False)
    assert services["imaps"] == ListenerConfig("imaps", 993, ("",), tls=True)
    assert "pop3" not in services


def test_paths_are_relative_to_the_file() -> None:
    config = parse(GOOD + "data = 'd'\n[tls]\ncertificate = 'c.pem'\nkey = '/k.pem'", FILE)
    assert config.data == Path("/etc/mailstack/d")
    assert config.store.path == Path("/etc/mailstack/d/mail")
    assert (config.tls.certificate, config.tls.key) == (Path("/etc/mailstack/c.pem"), Path("/k.pem"))
    assert config.database.url == "sqlite:////etc/mailstack/d/mailstack.db"


def test_a_relative_sqlite_file_is_relative_to_the_file_too() -> None:
    assert (
        parse(GOOD + "[database]\nurl = 'sqlite:///x.db'", FILE).database.url
        == "sqlite:////etc/mailstack/x.db"
    )


def test_a_database_password_survives() -> None:
    url = "postgresql+psycopg://scott:ti%40ger@db/mail"
    assert parse(GOOD + f"[database]\nurl = '{url}'", FILE).database.url == url


def test_a_missing_file(tmp_path: Path) -> None:
    with pytest.raises(ConfigError) as raised:
        load(tmp_path / "no.toml")
    assert raised.value.messages == (
        f"{tmp_path}/no.toml: no such file; make one with: mailstack init DIR --domain ...",
    )


def test_a_file_that_is_not_text(tmp_path: Path) -> None:
    (tmp_path / "x.toml").write_bytes(b"a = '\xff'")
    with pytest.raises(ConfigError) as raised:
        load(tmp_path / "x.toml")
    assert raised.value.messages == (f"{tmp_path}/x.toml: not UTF-8 at octet 5; save it as UTF-8",)


def test_a_folder_is_no_file(tmp_path: Path) -> None:
    with pytest.raises(ConfigError) as raised:
        load(tmp_path)
    assert raised.value.messages == (f"{tmp_path}: Is a directory; check the path and its permissions",)


def test_the_first_file_means_the_defaults() -> None:
    made = parse(first_file(str(FILE), "mail.example.test", 0), FILE)
    plain = parse(GOOD, FILE)
    assert dataclasses.replace(made, tls=plain.tls) == plain


def test_the_first_file_with_moved_ports() -> None:
    made = parse(first_file(str(FILE), "mail.example.test", 20000), FILE)
    assert [(one.service, one.port, one.addresses) for one in made.listeners.services()] == [
        ("smtp", 20025, ("127.0.0.1",)),
        ("submission", 20587, ("127.0.0.1",)),
        ("submissions", 20465, ("127.0.0.1",)),
        ("imap", 20143, ("127.0.0.1",)),
        ("imaps", 20993, ("127.0.0.1",)),
        ("pop3", 20110, ("127.0.0.1",)),
        ("pop3s", 20995, ("127.0.0.1",)),
    ]


def test_what_is_commented_out_in_the_first_file_is_right() -> None:
    text = first_file(str(FILE), "mail.example.test", 0)
    opened = re.sub(r"^# (\[?\w+\]?(?: = .*)?)$", r"\1", text, flags=re.MULTILINE)
    config = parse(opened, FILE)
    assert config.mta.routes == {"*": "smtp://smarthost.example.net:25"}
    assert config.dns.nameservers == ("127.0.0.1:53",)
    assert config.log.format == "json"


POLICY = GOOD + '[policy]\nchecks = ["greylist:Greylist", "dkim=mailstack.policy.milter:Milter"]\n'


def test_each_check_has_a_table_of_its_own() -> None:
    config = parse(POLICY + "[policy.dkim]\naddress = 'inet:h:1'\n[policy.greylist]\nseconds = 5\n", FILE)
    assert config.policy.settings == {"dkim": {"address": "inet:h:1"}, "greylist": {"seconds": 5}}
    assert config.policy.plugins == FILE.parent / "plugins"
    set_one = parse(POLICY, FILE, ["policy.dkim.address='unix:/m'"])
    assert set_one.policy.settings == {"dkim": {"address": "unix:/m"}}


@pytest.mark.parametrize(
    ("text", "says"),
    [
        (POLICY + "[policy.greylists]\nx = 1", "policy.greylists - unknown section"),
        (GOOD + "[policy.greylist]\nx = 1", "policy.greylist - unknown section"),
        (GOOD + '[policy]\nchecks = ["greylist"]', '"greylist" is not "module:Class"'),
        (GOOD + '[policy]\nchecks = ["a:B", "a:C"]', "two of the name a"),
        (GOOD + "[policy]\nchecks = [1]", "policy.checks.0 - "),
        (GOOD + '[policy]\nchecks = "a:B"', "policy.checks - "),
    ],
)
def test_mistakes_in_the_policy(text: str, says: str) -> None:
    with pytest.raises(ConfigError) as error:
        parse(text, FILE)
    assert says in str(error.value)


def test_the_documentation_is_of_these_settings() -> None:
    script = runpy.run_path(str(DOCS / "make_configuration.py"))
    page = (DOCS / "configuration.md").read_text("utf-8")
    assert page == script["page"](), "run: .venv/bin/python docs/make_configuration.py"
    for key in ("hostname", "plaintext_networks", "nameservers", "routes", "idle_seconds"):
        assert f"\n| `{key}` | " in page
