"""Finds the checks that the configuration file lists, and makes them with their own settings.

Nothing registers itself: a module is imported because it is listed, from the plugins folder or from wherever
Python finds it.
"""

from __future__ import annotations

import dataclasses
import importlib
import json
import sys
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any, Literal

from pydantic import TypeAdapter, ValidationError

from mailstack.policy.check import Check, Surroundings
from mailstack.policy.panel import Panel, Seat
from mailstack.policy.settings import Listed, PolicyConfig

Service = Literal["relay", "submission", "lmtp"]


class BadPolicy(Exception):
    """A check cannot be used; the message is one line for the operator."""


@dataclasses.dataclass(frozen=True, slots=True)
class Common:
    """What [policy.NAME] may hold for every check, beside its own settings."""

    services: tuple[Service, ...] | None = None  # None: those that the check says itself
    on_error: Literal["tempfail", "pass"] | None = None
    seconds: float | None = None
    message_seconds: float | None = None


def load(config: PolicyConfig, around: Callable[[str], Surroundings], clock: Any) -> Panel | None:
    """All checks of the configuration, in order; None if there are none. Raises BadPolicy; blocks."""
    listed = config.listed()
    if not listed:
        return None
    folder = str(config.plugins)
    if folder not in sys.path:
        sys.path.insert(0, folder)
    return Panel([_seat(config, one, around(one.name)) for one in listed], clock)


def _seat(config: PolicyConfig, listed: Listed, surroundings: Surroundings) -> Seat:
    kind = _class(listed, config.plugins)
    table = config.settings.get(listed.name, {})
    common_names = {one.name for one in dataclasses.fields(Common)}
    common = _validated(Common, {k: v for k, v in table.items() if k in common_names}, listed.name)
    own = {key: value for key, value in table.items() if key not in common_names}
    settings = _own_settings(kind, own, listed.name, config.plugins)
    try:
        check = kind(settings, surroundings)
    except (ValueError, OSError) as error:
        raise BadPolicy(f"policy.{listed.name}: {error}") from error
    return Seat(
        listed.name,
        check,
        kind.services if common.services is None else common.services,
        common.on_error or config.on_error,
        common.seconds or config.seconds,
        common.message_seconds or config.message_seconds,
    )


def _class(listed: Listed, plugins: Path) -> type[Check]:
    where = f"policy.checks: {listed.module}:{listed.class_name}"
    try:
        module = importlib.import_module(listed.module)
    except ModuleNotFoundError as error:
        if error.name is not None and listed.module.startswith(error.name):
            raise BadPolicy(f"{where}: no such module, neither in {plugins} nor elsewhere") from error
        raise BadPolicy(f"{where}: it needs {error.name}, which is not installed") from error
    except Exception as error:
        raise BadPolicy(f"{where}: the module does not load: {type(error).__name__}: {error}") from error
    kind = getattr(module, listed.class_name, None)
    if not isinstance(kind, type) or not issubclass(kind, Check):
        raise BadPolicy(f"{where}: not a class that derives from mailstack.policy.Check")
    return kind


def _own_settings(kind: type[Check], table: Mapping[str, Any], name: str, base: Path) -> Any:
    if kind.Settings is None:
        if table:
            raise BadPolicy(f"policy.{name}.{next(iter(table))} - unknown key; the check has none")
        return None
    settings = _validated(kind.Settings, table, name)
    paths = {
        one.name: base / value
        for one in dataclasses.fields(settings)
        if isinstance(value := getattr(settings, one.name), Path)
    }
    return dataclasses.replace(settings, **paths) if paths else settings


def _validated(kind: type[Any], table: Mapping[str, Any], name: str) -> Any:
    known = [one.name for one in dataclasses.fields(kind)]
    for key in table:
        if key not in known:
            raise BadPolicy(f"policy.{name}.{key} - unknown key; there are: {', '.join(known) or 'none'}")
    try:
        return TypeAdapter(kind).validate_json(json.dumps(dict(table)), strict=True)
    except ValidationError as error:
        first = error.errors(include_url=False)[0]
        key = ".".join([f"policy.{name}", *(str(step) for step in first["loc"])])
        raise BadPolicy(f"{key} - {first['msg']}") from error
