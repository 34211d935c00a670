"""The settings, gathered: one TOML file, each section the frozen dataclass that lies beside its code.

Theory of operation. The file is read as TOML, `--set` overrides are laid over it, keys that no dataclass has
are found by walking the dataclasses, and pydantic checks the values strictly (a number in quotes is none).
Every mistake of all three is gathered into one ConfigError, a line each: file, key, what is wrong, the value,
what to do.
"""

from __future__ import annotations

import dataclasses
import difflib
import json
import math
import re
import tomllib
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import date, datetime, time
from pathlib import Path
from typing import Any, get_type_hints

from pydantic import TypeAdapter, ValidationError
from sqlalchemy import make_url
from sqlalchemy.exc import ArgumentError

from mailstack.access.settings import AccessConfig
from mailstack.db import DatabaseConfig
from mailstack.directory.settings import DirectoryConfig
from mailstack.mail.address import BadAddress, parse_domain
from mailstack.mda.settings import MdaConfig
from mailstack.msa.settings import MsaConfig
from mailstack.mta.relay_settings import LmtpConfig, RelayConfig
from mailstack.mta.settings import MtaConfig
from mailstack.net.dns_settings import DnsConfig
from mailstack.net.settings import AuthConfig, ListenersConfig, LogConfig, OAuthConfig, TlsConfig
from mailstack.policy.settings import PolicyConfig
from mailstack.signing.settings import DkimConfig
from mailstack.store.settings import StoreConfig
from mailstack.trail.settings import TrailConfig
from mailstack.work import WorkConfig


class ConfigError(Exception):
    """The settings cannot be used; `messages` has a line for each mistake."""

    def __init__(self, messages: Sequence[str]) -> None:
        super().__init__("\n".join(messages))
        self.messages = tuple(messages)


@dataclass(frozen=True, slots=True)
class Config:
    """The whole file. Paths are absolute once `load` returns it."""

    hostname: str  # our name in greetings, EHLO, Received: it should resolve, and PTR should say it
    data: Path = Path("data")  # the folder of database, mail and spool
    listeners: ListenersConfig = field(default_factory=ListenersConfig)
    tls: TlsConfig = field(default_factory=TlsConfig)
    auth: AuthConfig = field(default_factory=AuthConfig)
    oauth: OAuthConfig = field(default_factory=OAuthConfig)
    directory: DirectoryConfig = field(default_factory=DirectoryConfig)
    policy: PolicyConfig = field(default_factory=PolicyConfig)
    msa: MsaConfig = field(default_factory=MsaConfig)
    relay: RelayConfig = field(default_factory=RelayConfig)
    lmtp: LmtpConfig = field(default_factory=LmtpConfig)
    mta: MtaConfig = field(default_factory=MtaConfig)
    mda: MdaConfig = field(default_factory=MdaConfig)
    access: AccessConfig = field(default_factory=AccessConfig)
    store: StoreConfig = field(default_factory=StoreConfig)
    dkim: DkimConfig = field(default_factory=DkimConfig)
    trail: TrailConfig = field(default_factory=TrailConfig)
    dns: DnsConfig = field(default_factory=DnsConfig)
    database: DatabaseConfig = field(default_factory=DatabaseConfig)
    work: WorkConfig = field(default_factory=WorkConfig)
    log: LogConfig = field(default_factory=LogConfig)

    def __post_init__(self) -> None:
        try:
            parse_domain(self.hostname)
        except BadAddress as error:
            raise ValueError(f"hostname is not a host name: {error}") from error
        if "." not in self.hostname or self.hostname.startswith("["):
            raise ValueError("hostname is not a full host name, such as mail.example.org")
        for name in ("readers", "files", "batch", "queue"):
            if getattr(self.work, name) < 1:
                raise ValueError(f"work.{name} must be at least 1: nothing would ever be done")


def load(path: Path, overrides: Sequence[str] = ()) -> Config:
    """Read the file at `path`, lay `overrides` (``dotted.key=TOML value``) over it; raise ConfigError."""
    path = Path(path).absolute()
    return parse(_read(path), path, overrides)


def parse(text: str, path: Path, overrides: Sequence[str] = ()) -> Config:
    """The settings in `text`, which was read from `path`; raise ConfigError."""
    try:
        table = tomllib.loads(text)
    except tomllib.TOMLDecodeError as error:
        raise ConfigError([f"{path}: not TOML - {error}; correct that line, then try again"]) from error
    mistakes = [f"--set {text}: {message}" for text, message in _override(table, overrides)]
    _gather_check_settings(table)
    mistakes += [f"{path}: {message}" for message in _unknown(Config, table)]
    try:
        config = _ADAPTER.validate_json(json.dumps(table, default=_plain), strict=True)
    except ValidationError as error:
        mistakes += [f"{path}: {message}" for message in _explain(error, table)]
        raise ConfigError(mistakes) from None
    mistakes += [f"{path}: {message}" for message in _numbers(config)]
    if not mistakes:
        try:
            return _located(config, path.parent)
        except ArgumentError:
            mistakes.append(
                f"{path}: database.url - not a database URL; write sqlite:///FILE or postgresql+psycopg://..."
            )
    raise ConfigError(mistakes)


def _read(path: Path) -> str:
    try:
        return path.read_text("utf-8")
    except FileNotFoundError:
        raise ConfigError([f"{path}: no such file; make one with: mailstack init DIR --domain ..."]) from None
    except UnicodeDecodeError as error:
        raise ConfigError([f"{path}: not UTF-8 at octet {error.start}; save it as UTF-8"]) from None
    except OSError as error:
        raise ConfigError([f"{path}: {error.strerror}; check the path and its permissions"]) from None


def _plain(value: object) -> str:
    """A TOML date as text: no setting takes one, so it only needs to be refused by its own line."""
    assert isinstance(value, (datetime, date, time))
    return value.isoformat()


# Overrides


def _override(table: dict[str, Any], overrides: Sequence[str]) -> Iterator[tuple[str, str]]:
    """Lay `overrides` over `table`; yield those that cannot be, with the reason."""
    for text in overrides:
        name, equals, value = text.partition("=")
        keys = [key.strip() for key in name.split(".")]
        if not equals or not all(keys):
            yield _masked(text), 'not key=value; write for example --set log.level="debug"'
            continue
        try:
            _put(table, keys, _toml_value(value))
        except tomllib.TOMLDecodeError:
            yield _masked(text), "the value is not TOML; quote text, and keep the quotes from the shell"
        except TypeError:
            yield _masked(text), "a part of the key is a value, not a section"


def _toml_value(text: str) -> Any:
    try:
        return tomllib.loads(f"value = {text}")["value"]
    except tomllib.TOMLDecodeError:
        if re.fullmatch(r"[A-Za-z/.][\w./:@%+-]*", text):
            return text  # a bare word or path: a shell takes quotes away before we see them
        raise


def _put(table: dict[str, Any], keys: list[str], value: Any) -> None:
    for key in keys[:-1]:
        table = table.setdefault(key, {})
        if not isinstance(table, dict):
            raise TypeError(key)
    table[keys[-1]] = value


# The policy's checks


def _gather_check_settings(table: dict[str, Any]) -> None:
    """Put each [policy.NAME] of a check that is listed where its settings are looked for."""
    policy = table.get("policy")
    if not isinstance(policy, dict) or not isinstance(policy.get("checks", []), list):
        return
    for text in policy.get("checks", PolicyConfig().checks):
        try:
            name = PolicyConfig((str(text),)).listed()[0].name
        except ValueError:
            continue  # it is refused with the other values
        own = policy.get(name)
        settings = policy.setdefault("settings", {})
        if isinstance(own, dict) and isinstance(settings, dict):
            settings[name] = policy.pop(name)


# Unknown keys


def _unknown(section: type, table: Mapping[str, Any], prefix: str = "") -> Iterator[str]:
    known = get_type_hints(section)
    for key, value in table.items():
        if key not in known:
            meant = _meant(key, known, prefix)
            yield f"{prefix}{key} - unknown {_kind(value)} (got {_shown(key, value)}); {meant}"
        elif dataclasses.is_dataclass(known[key]) and isinstance(value, dict):
            yield from _unknown(known[key], value, f"{prefix}{key}.")


def _kind(value: Any) -> str:
    return "section" if isinstance(value, dict) else "key"


def _meant(key: str, known: Mapping[str, Any], prefix: str) -> str:
    elsewhere = [name for name in _every_key(Config) if name.rpartition(".")[2] == key]
    close = difflib.get_close_matches(key, known, 1, 0.6)
    if elsewhere and not prefix:
        return f"did you mean {elsewhere[0]}?"
    if close:
        return f"did you mean {prefix}{close[0]}?"
    if elsewhere:
        return f"did you mean {elsewhere[0]}?"
    return f"remove it; {prefix.rstrip('.') or 'the file'} has: {', '.join(known)}"


def _every_key(section: type, prefix: str = "") -> Iterator[str]:
    for name, hint in get_type_hints(section).items():
        yield f"{prefix}{name}"
        if dataclasses.is_dataclass(hint):
            yield from _every_key(hint, f"{prefix}{name}.")  # type: ignore[arg-type]


# Bad values


def _numbers(section: Any, prefix: str = "") -> Iterator[str]:
    """No setting means anything as a negative number, as infinity or as no number at all."""
    for one in dataclasses.fields(section):
        value = getattr(section, one.name)
        if dataclasses.is_dataclass(value):
            yield from _numbers(value, f"{prefix}{one.name}.")
        for number in value if isinstance(value, tuple) else (value,):
            if isinstance(number, (int, float)) and not 0 <= number < math.inf:
                key = f"{prefix}{one.name}"
                yield f"{key} - must be 0 or more, and finite (got {number}); {_example(key)}"


_REMEDIES = {
    "int_type": "write a whole number, without quotes",
    "int_from_float": "write a whole number",
    "float_type": "write a number, without quotes",
    "string_type": "write text, in quotes",
    "bool_type": "write true or false",
    "path_type": "write a path, in quotes",
    "tuple_type": "write a list, in [brackets]",
    "list_type": "write a list, in [brackets]",
    "frozen_set_type": "write a list, in [brackets]",
    "dict_type": "write a table, key = value",
    "ip_v4_network": 'write a network, such as "192.0.2.0/24"',
    "ip_v6_network": 'write a network, such as "2001:db8::/32"',
    "missing": "add it",
}


def _explain(error: ValidationError, table: Mapping[str, Any]) -> Iterator[str]:
    """A line for each key with a bad value; where a union refuses in several ways, all in that line."""
    found: dict[str, list[Any]] = {}
    for detail in error.errors(include_url=False):
        key = _place(detail["loc"], table)
        found.setdefault(key, []).append(detail)
    for key, details in found.items():
        yield _line(key, details)


def _place(location: tuple[int | str, ...], table: Any) -> str:
    """The dotted key, without the names that pydantic adds for the members of a union."""
    parts: list[str] = []
    for step in location:
        if isinstance(table, dict) and (step in table or not parts or _is_field(parts, step)):
            parts.append(str(step))
            table = table.get(step)
        elif isinstance(table, list) and isinstance(step, int) and step < len(table):
            parts.append(str(step))
            table = table[step]
    return ".".join(parts)


def _is_field(parts: list[str], step: object) -> bool:
    section: Any = Config
    for part in parts:
        section = get_type_hints(section).get(part) if dataclasses.is_dataclass(section) else None
    return dataclasses.is_dataclass(section) and step in get_type_hints(section)


def _line(key: str, details: list[Any]) -> str:
    first = details[0]
    if first["type"] == "missing":
        return f"{key} - is missing; {_example(key)}"
    if first["type"] == "value_error":
        words = f"{key or 'the file'} - {first['ctx']['error']}"
        if not isinstance(first["input"], str):
            return words  # raised by a section as a whole: its words name the key and the remedy
        return f"{words} (got {_shown(key, first['input'])})"
    if first["type"] == "dataclass_type":
        shown = _shown(key, first["input"])
        return f"{key} - is not a section (got {shown}); write [{key}] on a line, and its keys below it"
    messages = dict.fromkeys(_lowered(detail["msg"]) for detail in details)
    remedies = dict.fromkeys(_REMEDIES.get(detail["type"], "") for detail in details)
    remedy = ", or ".join(filter(None, remedies)) or _example(key)
    return f"{key} - {', or '.join(messages)} (got {_shown(key, first['input'])}); {remedy}"


def _lowered(message: str) -> str:
    return (message[0].lower() + message[1:]).removeprefix("input ")


def _example(key: str) -> str:
    """What could stand there: the default, where there is one."""
    if key == "hostname":
        return 'add for example: hostname = "mail.example.org"'
    section: Any = Config
    *outer, last = key.split(".")
    for part in outer:
        section = get_type_hints(section).get(part) if dataclasses.is_dataclass(section) else None
    if dataclasses.is_dataclass(section):
        for one in dataclasses.fields(section):
            if one.name == last and isinstance(one.default, (int, float, str)):
                return f"the default is {json.dumps(one.default)}"
    return "see the configuration page of the documentation"


_SECRET = re.compile(r"password|secret|token|credentials", re.IGNORECASE)


def _shown(key: str, value: Any) -> str:
    """The value as far as a terminal and a log may see it: short, and without passwords."""
    if _SECRET.search(key):
        return "a secret"
    if isinstance(value, dict):
        return "a section"
    shown = _masked(json.dumps(value, default=_plain, ensure_ascii=False))
    return shown if len(shown) <= 60 else f"{shown[:57]}..."


def _masked(text: str) -> str:
    text = re.sub(r"(://[^/@:\s]*):[^/\s]*@", r"\1:***@", text)
    name, equals, _ = text.partition("=")
    return f"{name}=***" if equals and _SECRET.search(name) else text


# Places


def _located(config: Config, base: Path) -> Config:
    """Every path absolute: against the folder of the file, database and mail against the data directory."""
    data = Path(base, config.data.expanduser())
    store = dataclasses.replace(config.store, path=Path(data, config.store.path.expanduser()))
    located: Config = _absolute(dataclasses.replace(config, store=store), base)
    url = located.database.url or f"sqlite:///{located.data / 'mailstack.db'}"
    parsed = make_url(url)
    if parsed.get_backend_name() == "sqlite" and parsed.database not in (None, "", ":memory:"):
        parsed = parsed.set(database=str(base / str(parsed.database)))
    database = dataclasses.replace(located.database, url=parsed.render_as_string(hide_password=False))
    return dataclasses.replace(located, database=database)


def _absolute(section: Any, base: Path) -> Any:
    changed: dict[str, Any] = {}
    for one in dataclasses.fields(section):
        value = getattr(section, one.name)
        if isinstance(value, Path):
            changed[one.name] = Path(base, value.expanduser())
        elif dataclasses.is_dataclass(value):
            changed[one.name] = _absolute(value, base)
    return dataclasses.replace(section, **changed)


_ADAPTER: TypeAdapter[Config] = TypeAdapter(Config)
