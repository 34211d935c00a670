"""Every SMTP reply in the code: an enhanced code of its class wherever RFC 2034 wants one."""

from __future__ import annotations

import ast
import re
from collections.abc import Iterator
from pathlib import Path

import pytest

import mailstack

ROOT = Path(mailstack.__file__).parent
PLAIN = {220, 221, 250, 334, 354}  # greeting, EHLO, go-ahead: RFC 2034 section 4 asks for none


def replies() -> Iterator[tuple[str, int, str]]:
    """Where, code and enhanced code of each `Reply(...)` with constants, and of replies written as bytes."""
    for path in sorted(ROOT.rglob("*.py")):
        if "imap" in path.parts or "pop3" in path.parts:
            continue
        name = path.relative_to(ROOT)
        for node in ast.walk(ast.parse(path.read_text("utf-8"))):
            place = f"{name}:{getattr(node, 'lineno', 0)}"
            if isinstance(node, ast.Call) and getattr(node.func, "id", "") == "Reply" and len(node.args) >= 2:
                code, enhanced = node.args[:2]
                if isinstance(code, ast.Constant) and isinstance(enhanced, ast.Constant):
                    yield place, code.value, enhanced.value
            if isinstance(node, ast.Constant) and isinstance(node.value, bytes):
                match = re.match(rb"([245]\d\d)[ -](\d\.\d+\.\d+)? ?.*\r\n", node.value)
                if match:
                    yield place, int(match[1]), (match[2] or b"").decode()


FOUND = list(replies())


@pytest.mark.parametrize(("place", "code", "enhanced"), FOUND)
def test_enhanced(place: str, code: int, enhanced: str) -> None:
    if not enhanced:
        assert code in PLAIN
    else:
        assert re.fullmatch(rf"{code // 100}\.\d{{1,3}}\.\d{{1,3}}", enhanced)


def test_there_are_many() -> None:
    assert len(FOUND) > 60
