"""[policy] of the configuration file."""

from __future__ import annotations

import re
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal

AUTHENTICATION = "mailstack.policy.authentication:Authentication"

OnError = Literal["tempfail", "pass"]

_LISTED = re.compile(r"(?:(?P<name>[a-z][\w-]*)=)?(?P<module>[A-Za-z_][\w.]*):(?P<class_name>\w+)")


@dataclass(frozen=True, slots=True)
class Listed:
    """One entry of `checks`, taken apart."""

    name: str
    module: str
    class_name: str


@dataclass(frozen=True, slots=True)
class PolicyConfig:
    """What is asked before mail is taken. Each check has its own settings in [policy.NAME]."""

    checks: tuple[str, ...] = (AUTHENTICATION,)  # in this order: "module:Class" or "NAME=module:Class"
    plugins: Path = Path("plugins")  # the folder that is searched for their modules, before Python's own
    seconds: float = 60.0  # that one check may take at connect, EHLO, MAIL or RCPT
    message_seconds: float = 480.0  # and for a whole message
    on_error: OnError = "tempfail"  # 451 where a check fails or is too slow; or go on as if it were not there
    settings: dict[str, dict[str, Any]] = field(default_factory=dict)  # by NAME: what [policy.NAME] holds

    def __post_init__(self) -> None:
        if self.seconds <= 0 or self.message_seconds <= 0:
            raise ValueError("policy.seconds and policy.message_seconds must be above 0")
        names = [one.name for one in self.listed()]
        for name in names:
            if names.count(name) > 1:
                raise ValueError(
                    f'policy.checks has two of the name {name}; write "NAME={name}..." to tell them apart'
                )
            if name in RESERVED:
                raise ValueError(f'policy.checks: the name {name} is a setting; write "NAME=module:Class"')

    def listed(self) -> list[Listed]:
        """The checks in order; raise ValueError for one that is not written as it should be."""
        return [_listed(text) for text in self.checks]


RESERVED = frozenset(PolicyConfig.__dataclass_fields__)


def _listed(text: str) -> Listed:
    found = _LISTED.fullmatch(text)
    if found is None:
        raise ValueError(f'policy.checks: "{text[:60]}" is not "module:Class" or "name=module:Class"')
    name = found["name"] or found["module"].rpartition(".")[2].lower()
    return Listed(name, found["module"], found["class_name"])
