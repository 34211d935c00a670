"""Writes docs/configuration.md from the settings' own dataclasses: name, type, default, comment.

Run it after a change to a setting: ``.venv/bin/python docs/make_configuration.py``. A test compares the two.
"""

from __future__ import annotations

import ast
import dataclasses
import inspect
import json
import textwrap
from collections.abc import Iterator
from pathlib import Path
from typing import Any, get_args, get_type_hints

from mailstack.config import Config

PAGE = Path(__file__).parent / "configuration.md"

INTRODUCTION = """\
# Configuration

One TOML file, named by `--config` or by the environment variable `MAILSTACK_CONFIG`. `mailstack init` writes
a short one with comments; every key that is left out has the default below. Relative paths are relative to
the file, sizes are in octets, times in seconds. `--set KEY=VALUE` overrides a key for one run; repeat it for
several:

```
mailstack --config mailstack.toml --set log.level=debug --set auth.plaintext_networks='["127.0.0.0/8"]' serve
```

Every mistake is reported at once, each with its file, key, value and remedy, before anything starts; the exit
status is then 2.

*This page is made by `docs/make_configuration.py` from the code.*
"""


def page() -> str:
    """The whole page."""
    return INTRODUCTION + "".join(_sections(Config, ""))


def _sections(section: type, name: str) -> Iterator[str]:
    hints = get_type_hints(section)
    inner = {key: hint for key, hint in hints.items() if dataclasses.is_dataclass(hint)}
    if len(inner) < len(hints):
        heading = f"`[{name}]`" if name else "At the top of the file"
        yield f"\n## {heading}\n\n| key | type | default | meaning |\n| --- | --- | --- | --- |\n"
        comments = _comments(section)
        for one in dataclasses.fields(section):
            if one.name not in inner:
                kind = _kind(hints[one.name])
                yield f"| `{one.name}` | {kind} | {_default(one)} | {comments.get(one.name, '')} |\n"
    for key, hint in inner.items():
        yield from _sections(hint, f"{name}.{key}".lstrip("."))


def _comments(section: type) -> dict[str, str]:
    """The comment at the end of each field's definition, also where it was inherited."""
    found: dict[str, str] = {}
    for one in reversed(section.__mro__):
        if dataclasses.is_dataclass(one):
            found |= _own_comments(one)
    return found


def _own_comments(section: type) -> dict[str, str]:
    source = textwrap.dedent(inspect.getsource(section))
    lines = source.splitlines()
    found = {}
    [definition] = ast.parse(source).body
    assert isinstance(definition, ast.ClassDef)
    for node in definition.body:
        if isinstance(node, ast.AnnAssign) and isinstance(node.target, ast.Name) and node.end_lineno:
            rest = lines[node.end_lineno - 1].encode()[node.end_col_offset or 0 :].decode()
            found[node.target.id] = rest.partition("#")[2].strip().replace("|", "\\|")
    return found


def _kind(hint: Any) -> str:
    names = {str: "text", int: "number", float: "number", bool: "true or false", Path: "path"}
    if hint in names:
        return names[hint]
    text = str(hint)
    if "tuple" in text or "frozenset" in text or "list" in text:
        return "list"
    if "dict" in text:
        return "table"
    choices = [argument for argument in get_args(hint) if isinstance(argument, str)]
    if choices:
        return " or ".join(f'`"{choice}"`' for choice in choices)
    return " or ".join(
        dict.fromkeys(names.get(one, "false") for one in get_args(hint) if one is not type(None))
    )


def _default(one: dataclasses.Field[Any]) -> str:
    value = one.default
    if one.default_factory is not dataclasses.MISSING:
        value = one.default_factory()
    if value is dataclasses.MISSING:
        return "required"
    if value is None:
        return "none"
    if one.name.endswith("_mode"):
        return f"`0o{value:o}`"
    if isinstance(value, (tuple, frozenset)):
        value = [one if isinstance(one, (int, float)) else str(one) for one in value]
    if isinstance(value, Path):
        value = str(value)
    return f"`{json.dumps(value)}`"


if __name__ == "__main__":
    PAGE.write_text(page(), "utf-8")
