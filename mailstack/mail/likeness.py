"""How like a text is to what is looked for: the measure of SEARCH FUZZY (RFC 6203).

Theory of operation. A text that holds what is looked for scores 100. Else words are compared: a word is the
set of its runs of three letters, two marks before it and one after it, and the likeness of two words is what
they share of what they have (Dice's coefficient). Each word that is looked for counts with the likest word of
the text, if that is at least one half and they share a run inside, and by its length. Their mean, if it is at
least one half, is the score, from 1 to 99. So "helo" finds "hello" and "help", "Muller" finds "Müller",
"work" finds "working".

All is bounded: words of what is looked for, letters of a word, characters of the text whose words are
compared.
"""

from __future__ import annotations

import re

from mailstack.mail.collation import casemap

MOST_WORDS = 16  # of what is looked for
LONGEST = 40  # characters of a word; what is longer is cut
MOST_TEXT = 64 * 1024  # characters of a text whose words are compared
MOST_KNOWN = 50_000  # words whose likeness is remembered
ENOUGH = 0.5
_WORD = re.compile(r"[\w\u0300-\u036f]+")
_RUN = 3


class Needle:
    """What is looked for."""

    __slots__ = ("_folded", "_total", "_words")

    def __init__(self, text: str) -> None:
        self._folded = casemap(text)
        words = dict.fromkeys(word[:LONGEST] for word in _WORD.findall(self._folded))
        self._words = [_Word(word) for word in list(words)[:MOST_WORDS]]
        self._total = sum(word.weight for word in self._words)

    @property
    def runs(self) -> frozenset[str] | None:
        """Runs of three letters: a text that matches holds one of them. None: it need not."""
        short = sum(word.weight for word in self._words if not word.inner)
        if not self._words or short >= ENOUGH * self._total:
            return None
        return frozenset(run for word in self._words for run in word.inner)

    def score(self, text: str) -> int:
        """From 1 to 100, of a casemapped text; 0: it does not match."""
        if self._folded in text:
            return 100
        if not self._words:
            return 0
        there = set(_WORD.findall(text, 0, MOST_TEXT))
        mean = sum(word.weight * word.best(there) for word in self._words) / self._total
        return 0 if mean < ENOUGH else min(99, 1 + int(98 * (mean - ENOUGH) / (1 - ENOUGH)))


class _Word:
    """One word that is looked for, and how like the words seen so far are to it."""

    __slots__ = ("_known", "_runs", "_text", "inner", "weight")

    def __init__(self, text: str) -> None:
        self._text = text
        self._runs = _runs(f"  {text} ")
        self._known: dict[str, float] = {}
        self.inner = _runs(text)
        self.weight = len(text)

    def best(self, words: set[str]) -> float:
        """The likeness of the likest of these."""
        if self._text in words:
            return 1.0
        known = self._known
        if len(known) > MOST_KNOWN:
            known.clear()
        best = 0.0
        for word in words:
            likeness = known.get(word)
            if likeness is None:
                likeness = known[word[: 2 * LONGEST]] = self._likeness(word[:LONGEST])
            best = max(best, likeness)
        return best

    def _likeness(self, word: str) -> float:
        if not any(run in word for run in self.inner):
            return 0.0
        runs = _runs(f"  {word} ")
        likeness = 2 * len(runs & self._runs) / (len(runs) + len(self._runs))
        return likeness if likeness >= ENOUGH else 0.0


def _runs(text: str) -> frozenset[str]:
    return frozenset(text[at : at + _RUN] for at in range(len(text) - _RUN + 1))
