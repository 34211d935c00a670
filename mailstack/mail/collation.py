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


def casemap(text: str) -> str:
    """The text's key: keys compare, by code points, as i;unicode-casemap compares the texts.

    Two texts are equal if their keys are; one contains the other if its key does. Never raises.
    """
    if text.isascii():
        return text.upper()
    return text.translate(_MAPPING)
