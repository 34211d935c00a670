"""The operator's pages and the code: every refusal is explained (operator-replies.md), every setting of SMTP named."""

from __future__ import annotations

import ast
import functools
import re
from collections.abc import Iterator
from pathlib import Path
from typing import get_type_hints

import mailstack
from mailstack.config import Config
from mailstack.msa.settings import TrustedConfig

ROOT = Path(mailstack.__file__).parent
PAGE = (ROOT.parent / "docs" / "operator-replies.md").read_text("utf-8")
# What speaks to clients: its every text stands in the table.
TO_CLIENTS = (
    "net/",
    "msa/",
    "mta/relay",
    "mta/lmtp",
    "mda/",
    "wire/smtp/replies",
    "policy/panel",
    "policy/milter",
    "mail/reply",
)
SYNTAX = ("501", "5.5.4")  # the text of such a reply is its own explanation


def text_of(node: ast.expr, named: dict[str, str]) -> str | None:
    """A text in the code, with … for what differs."""
    match node:
        case ast.Constant(value=str(text)):
            return text
        case ast.JoinedStr(values=parts):
            return "".join(text_of(one, named) or "…" for one in parts)
        case ast.Name(id=name):
            return named.get(name)
    return None


@functools.cache
def in_code() -> tuple[tuple[str, str, str, str], ...]:
    """Where, code, enhanced code and text of each refusal that is written down with constants."""
    return tuple(_refusals())


def _refusals() -> Iterator[tuple[str, str, str, str]]:
    for path in sorted(ROOT.rglob("*.py")):
        place = str(path.relative_to(ROOT))
        if "imap" in path.parts or "pop3" in path.parts or place.startswith("admin"):
            continue
        named: dict[str, str] = {}
        for node in ast.walk(ast.parse(path.read_text("utf-8"))):
            match node:
                case ast.Assign(targets=[ast.Name(id=name)], value=value):
                    named[name] = text_of(value, named) or ""
                case ast.Call(args=[ast.Constant(value=int(code)), ast.Constant(value=str(enhanced)), *rest]):
                    if code >= 400 and re.fullmatch(r"[45]\.\d+\.\d+", enhanced):
                        yield place, str(code), enhanced, text_of(rest[0], named) or "" if rest else ""


@functools.cache
def rows() -> set[tuple[str, str]]:
    """The replies of the page."""
    first = re.findall(r"^\| (\d{3} [^|]*) \|", PAGE, re.MULTILINE)
    return {(pair[:3], pair[4:]) for cell in first for pair in cell.split(", ")}


def test_every_refusal_is_explained() -> None:
    """But for those of checks, which have pages of their own."""
    missing = {
        (code, enhanced): place
        for place, code, enhanced, _ in in_code()
        if (code, enhanced) not in rows() and not place.startswith("policy/")
    }
    assert missing == {}, "give each a row in docs/operator-replies.md"


def test_what_is_explained_is_said() -> None:
    said = {(code, enhanced) for _, code, enhanced, _ in in_code()}
    said |= {("501", "5.1.3"), ("501", "5.1.7"), SYNTAX}  # made of parts
    said |= {
        ("554", enhanced)
        for enhanced in re.findall(r'_cannot\("([\d.]+)"', (ROOT / "mta/transaction.py").read_text("utf-8"))
    }
    assert rows() - said == set()


def test_the_words_to_clients_are_the_same() -> None:
    """Each text stands in a row of its reply."""
    for place, code, enhanced, text in in_code():
        if not place.startswith(TO_CLIENTS) or (code, enhanced) == SYNTAX or not text.strip("…"):
            continue
        lines = [line for line in PAGE.splitlines() if line.startswith(f"| {code} {enhanced} |")]
        assert any(text in line for line in lines), (place, code, enhanced, text)


def test_every_setting_of_smtp_is_on_a_page() -> None:
    """On one that says what it is for, beside the list that is made from the code."""
    pages = [
        path.read_text("utf-8")
        for path in (ROOT.parent / "docs").glob("*.md")
        if path.name != "configuration.md"
    ]
    words = set(re.findall(r"\w+", "\n".join(pages)))
    hints = get_type_hints(Config)
    sections = ("listeners", "auth", "oauth", "policy", "msa", "relay", "lmtp", "mta", "mda", "dkim")
    named = {name: hints[name] for name in sections} | {"msa.trusted": TrustedConfig}
    missing = [f"{name}.{key}" for name in named for key in get_type_hints(named[name]) if key not in words]
    assert missing == []


def test_there_are_many() -> None:
    assert len(in_code()) > 60
    assert len(rows()) > 45
