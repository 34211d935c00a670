"""The collation i;unicode-casemap (RFC 5051), which SEARCH, SORT and THREAD use at I18NLEVEL=1 (RFC 5255)."""

from __future__ import annotations

import unicodedata


class _Mapping(dict[int, str]):
    """What each character becomes: its simple titlecase, decomposed; known ones are kept."""

    def __missing__(self, code: int) -> str:
        character = chr(code)
        title = character.title()
        mapped = unicodedata.normalize("NFKD", title if len(title) == 1 else character)
        self[code] = mapped
        return mapped


_MAPPING = _Mapping()
_ASCII = bytes(range(128))
_FEW = 40  # kinds of characters that are replaced one after the other
_PIECE = 65_536  # characters that are mapped at a time


def casemap(text: str) -> str:
    """The text's key: keys compare, by code points, as i;unicode-casemap compares the texts.

    Two texts are equal if their keys are; one contains the other if its key does. Never raises.
    """
    if text.isascii():
        return text.upper()
    if len(text) <= _PIECE:
        return _mapped(text)
    # Each character is mapped by itself. In pieces, as no other thread runs while one of these calls does.
    pieces = (text[start : start + _PIECE] for start in range(0, len(text), _PIECE))
    return "".join([casemap(piece) for piece in pieces])


def _mapped(text: str) -> str:
    # Most text is ASCII but for a few kinds of characters: to look up each one takes ten times as long.
    octets = text.encode("utf-8", "surrogatepass")
    others = set(octets.translate(None, _ASCII).decode("utf-8", "surrogatepass"))
    changed = {each: mapped for each in others if (mapped := _MAPPING[ord(each)]) != each}
    if len(changed) > _FEW or not changed.keys().isdisjoint("".join(changed.values())):
        return text.translate(_MAPPING)
    text = octets.upper().decode("utf-8", "surrogatepass")
    for each, mapped in changed.items():
        text = text.replace(each, mapped)
    return text
