"""The addresses of a header field (RFC 5322 section 3.4), read as far as they can be."""

from __future__ import annotations

import re
from dataclasses import dataclass, field

from mailstack.mail.charset import raw_text

MAX_VALUE = 256 * 1024  # characters of one value that are read


@dataclass(frozen=True, slots=True)
class Mailbox:
    """One address of a header field; `name` still holds RFC 2047 words. An absent domain is ""."""

    name: str | None
    local_part: str
    domain: str


@dataclass(frozen=True, slots=True)
class Group:
    """A named group of addresses (RFC 5322 section 3.4)."""

    name: str
    members: tuple[Mailbox, ...]


_ATOM = r'[^\s"(),:;<>@\[\]\\]+'
_SIMPLE = re.compile(
    rf'\s*(?:(?:"([^"\\]*)"|({_ATOM}(?:[ \t]+{_ATOM})*))?\s*<({_ATOM})@({_ATOM})>'
    rf"|({_ATOM})@({_ATOM}))\s*(?:,|\Z)"
)
_TOKEN = re.compile(
    r"(?P<word>=\?[^?\s]{1,80}\?[bBqQ]\?[^?\s]*\?=)"
    r'|"(?P<quoted>(?:[^"\\]+|\\.)*)(?:"|\\?\Z)'
    rf"|(?P<atom>{_ATOM})"
    r"|(?P<literal>\[[^\[\]]*\])"
    r"|(?P<special>[(),:;<>@\[\]\\])",
    re.DOTALL,
)
_COMMENT = re.compile(r"[^()\\]+|\\.|[()\\]", re.DOTALL)
_QUOTED_PAIR = re.compile(r"\\(.)", re.DOTALL)


def parse_addresses(value: bytes | str) -> list[Mailbox | Group]:
    """The addresses of a field's value (RFC 5322 section 3.4); what is broken is read as far as it goes.

    Source routes are dropped. An address with no name takes its comment for one, as in ``bob@b.test (Bob)``.
    """
    text = (raw_text(value) if isinstance(value, bytes) else value)[:MAX_VALUE]
    if "\n" in text:
        text = text.replace("\r", "").replace("\n", "")
    simple = _simple(text)
    return _Reader().read(text) if simple is None else simple


def _simple(text: str) -> list[Mailbox | Group] | None:
    """What nearly all fields hold, ``name <local@domain>`` with commas, or None if there is anything else."""
    found: list[Mailbox | Group] = []
    at = 0
    while at < len(text):
        match = _SIMPLE.match(text, at)
        if match is None:
            return None
        quoted, phrase, local_part, domain, bare_local_part, bare_domain = match.groups()
        if bare_local_part:
            found.append(Mailbox(None, bare_local_part, bare_domain))
        else:
            found.append(Mailbox(quoted or phrase or None, local_part, domain))
        at = match.end()
    return found


@dataclass(slots=True)
class _Reader:
    """Reads token by token; every token has a meaning, so there is no error to report."""

    found: list[Mailbox | Group] = field(default_factory=list)
    members: list[Mailbox] | None = None  # of the group that is open
    group: str = ""
    words: list[str] = field(default_factory=list)  # a phrase, or a local-part, or a domain after "@"
    local_part: list[str] | None = None  # set by "@"
    phrase: list[str] | None = None  # set by "<"
    closed: bool = False  # set by ">"
    comment: str = ""

    def read(self, text: str) -> list[Mailbox | Group]:
        at = 0
        while match := _TOKEN.search(text, at):
            at = match.end()
            kind = match.lastgroup
            if kind == "special":
                if match[0] == "(":
                    at = self._comment(text, at)
                else:
                    self._special(match[0])
            elif not self.closed:
                quoted = match["quoted"]
                self.words.append(match[0] if quoted is None else _QUOTED_PAIR.sub(r"\1", quoted))
        self._end_address()
        self._end_group()
        return self.found

    def _special(self, special: str) -> None:
        match special:
            case "," if self.phrase is not None and self.local_part == []:
                self.words, self.local_part = [], None  # between two hosts of a source route
            case ",":
                self._end_address()
            case "<" if self.phrase is None:
                self.phrase, self.words, self.local_part = self.words, [], None
            case ">":
                self.closed = self.phrase is not None
            case "@" if self.local_part is None:
                self.local_part, self.words = self.words, []
            case "@" if not self.closed:
                self.words.append("@")
            case ":" if self.phrase is not None:
                self.words, self.local_part = [], None  # the end of a source route
            case ":" if self.members is None:
                self.group, self.members, self.words, self.comment = " ".join(self.words), [], [], ""
            case ";":
                self._end_address()
                self._end_group()
            case _:
                pass

    def _comment(self, text: str, at: int) -> int:
        start, depth = at, 1
        while depth and (match := _COMMENT.match(text, at)):
            at = match.end()
            depth += {"(": 1, ")": -1}.get(match[0], 0)
        self.comment = text[start : at - 1 if not depth else at].strip()
        return at

    def _end_address(self) -> None:
        words, local_part, phrase = self.words, self.local_part, self.phrase
        if local_part is None:
            address = Mailbox(None, "".join(words) if phrase is not None else " ".join(words), "")
        else:
            address = Mailbox(None, "".join(local_part), "".join(words))
        name = " ".join(phrase) if phrase else self.comment
        if name:
            address = Mailbox(name, address.local_part, address.domain)
        if address.local_part or address.domain or phrase:
            if self.members is None:
                self.found.append(address)
            else:
                self.members.append(address)
        self.words, self.local_part, self.phrase, self.comment, self.closed = [], None, None, "", False

    def _end_group(self) -> None:
        if self.members is not None:
            self.found.append(Group(self.group, tuple(self.members)))
        self.members = None
