"""The first words of a message as a person would read them (RFC 8970)."""

from __future__ import annotations

import html
import mmap

from mailstack.mail.mime import Part, decode_body

LENGTH = 200  # characters (RFC 8970 section 3.2)
_READ = 32 * 1024  # octets of the part, before decoding
_PARTS = 100  # looked at for one that is text
_UNSEEN = ("script", "style", "head", "title")  # elements whose content nobody sees
_BREAKS = ("br", "p", "div", "li", "tr", "td", "th", "h1", "h2", "h3", "h4", "blockquote", "table", "hr")
_LOWER = {upper: upper + 32 for upper in range(ord("A"), ord("Z") + 1)}


def preview(part: Part, data: bytes | mmap.mmap) -> bytes:
    """The preview in UTF-8, white space made single blanks; empty where there is no text. May raise."""
    found = _first_text(part)
    if found is None:
        return b""
    text = decode_body(found, data, _READ)
    if found.subtype in ("html", "xhtml"):
        text = plain(text)
    return _first_words(text).encode("utf-8", "replace")


def plain(markup: str) -> str:
    """What is to be read of HTML: no tags, comments, scripts, styles; entities undone. Linear time."""
    kept: list[str] = []
    lowered = markup.translate(_LOWER)  # of the same length, as lower() would not be
    at = 0
    while True:
        opening = markup.find("<", at)
        if opening < 0:
            kept.append(markup[at:])
            break
        kept.append(markup[at:opening])
        at = _after_tag(lowered, opening, kept)
        if at < 0:
            break
    return html.unescape("".join(kept))


def _first_words(text: str) -> str:
    """The first LENGTH characters that can be seen, white space made single blanks."""
    size = 2 * LENGTH
    while True:
        shown = " ".join(_visible(text[:size]).split())
        if len(shown) >= LENGTH or size >= len(text):
            return shown[:LENGTH].rstrip()
        size *= 4  # there was little to be seen: look at more


def _visible(text: str) -> str:
    if all(map(str.isprintable, text.split())):
        return text
    return "".join(character if character.isprintable() else " " for character in text)


def _after_tag(markup: str, opening: int, kept: list[str]) -> int:
    """Where text goes on after the tag at `opening`; -1: nowhere."""
    if markup.startswith("<!--", opening):
        end = markup.find("-->", opening + 4)
        return end + 3 if end >= 0 else -1
    end = markup.find(">", opening)
    if end < 0:
        return -1
    name = markup[opening + 1 : min(end, opening + 20)].lstrip("/").split(None, 1)
    tag = name[0].rstrip("/") if name else ""
    if tag in _BREAKS:
        kept.append(" ")
    if tag in _UNSEEN and markup[opening + 1] != "/":
        closing = markup.find(f"</{tag}", end)
        return -1 if closing < 0 else (markup.find(">", closing) + 1 or -1)
    return end + 1


def _first_text(part: Part) -> Part | None:
    waiting = [part]
    for _ in range(_PARTS):
        if not waiting:
            return None
        entity = waiting.pop()
        if entity.children:
            waiting.extend(reversed(entity.children))
        elif entity.type == "text" and not (entity.disposition and entity.disposition[0] == "attachment"):
            return entity
    return None
