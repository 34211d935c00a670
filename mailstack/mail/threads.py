"""THREAD (RFC 5256 section 3): ORDEREDSUBJECT, REFERENCES, and REFS, which is REFERENCES without subjects.

How it works. Messages are nodes, numbered from 0 in the order given; Message-IDs that are only referred to
become further nodes, the dummies. A forest is three lists over the nodes, so that nothing is recursive and a
thread of a hundred thousand messages is like any other.
"""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace

from mailstack.mail.collation import casemap
from mailstack.mail.sorting import RUN, in_runs
from mailstack.mail.subjects import Subject, base_subject

MOST_REFERENCES = 200  # of one message; of more, the last ones count
_MESSAGE_ID = re.compile(r"<([^<>]{1,996})>")
_WALKS = 20  # steps up the forest for each node, in all, to find loops


def subject_of(value: str) -> Subject:
    """The base subject, casemapped, of a subject that is decoded.

    What could not be read in its charset is compared by octets (RFC 5255 section 4.6).
    """
    base, reply = base_subject(value)
    return Subject(base if "\ufffd" in base else casemap(base), reply)


@dataclass(frozen=True, slots=True)
class Messages:
    """What is to be threaded, column by column, in the order of sequence numbers: objects would cost more."""

    numbers: Sequence[int]  # what the answer names each by
    sent: Sequence[int]  # the Date field in UTC, seconds since 1970; INTERNALDATE where there is none
    subjects: Sequence[str]  # "r" for a reply or else "-", then the base as `subject_of` gives it
    ids: Sequence[str | bytes]  # the Message-ID, as `message_ids` gives it, or a digest; empty: there is none
    references: Iterable[Sequence[str | bytes]]  # the same: of References, or else the first of In-Reply-To
    arrivals: Sequence[int]  # INTERNALDATE; only REFS needs it

    def __len__(self) -> int:
        return len(self.numbers)


@dataclass(frozen=True, slots=True)
class Forest:
    """Threads: the roots in order, each node's children in order, and its number; None for a dummy."""

    roots: list[int]
    children: list[list[int]]
    numbers: list[int | None]


def message_ids(value: str) -> list[str]:
    """The identifiers of a References, In-Reply-To or Message-ID value, without brackets and blanks."""
    found = _MESSAGE_ID.findall(value)
    if any(" " in name or "\t" in name for name in found):
        return ["".join(name.split()) for name in found]
    return found


def ordered_subject(messages: Messages) -> Forest:
    """ORDEREDSUBJECT: messages of one base subject are a thread, all answers to its first."""
    threads: dict[str, list[int]] = {}
    for node in in_runs(range(len(messages)), messages.sent.__getitem__):
        threads.setdefault(messages.subjects[node][1:], []).append(node)
    children = [_NONE] * len(messages)
    roots = []
    for members in threads.values():  # in the order of their first members' dates
        roots.append(members[0])
        children[members[0]] = members[1:]
    return Forest(roots, children, list(messages.numbers))


def references(messages: Messages) -> Forest:
    """REFERENCES, steps 1 to 6 of the RFC."""
    building = _Building(messages)
    roots = building.pruned()
    building.sort([building.children[node] for node in roots if node >= len(messages)])
    roots = building.gathered(building.sorted(roots))
    return building.forest(roots)


def refs(messages: Messages) -> Forest:
    """REFS (draft-ietf-morg-inthread): by references alone; the thread with the newest arrival comes last."""
    building = _Building(messages)
    roots = building.pruned()
    newest = [*messages.arrivals, *[0] * (len(building.parent) - len(messages))]
    for node in building.bottom_up(roots):
        for child in building.children[node]:
            newest[node] = max(newest[node], newest[child])
    forest = building.forest(roots)
    return replace(forest, roots=in_runs(forest.roots, newest.__getitem__))


_NONE: list[int] = []  # the children of all that have none; nothing is ever put in


def _repeated(words: Sequence[str]) -> set[str]:
    """Those that are there more than once; counted in runs: other threads wait for each."""
    times: Counter[str] = Counter()
    for start in range(0, len(words), RUN):
        times.update(words[start : start + RUN])
    return {word for word, count in times.items() if count > 1}


class _Building:
    """A forest that is being made; -1 is no parent."""

    __slots__ = ("_budget", "_rank", "children", "messages", "parent")

    def __init__(self, messages: Messages) -> None:
        self.messages = messages
        self.parent = [-1] * len(messages)
        self.children = [_NONE] * len(messages)
        self._budget = _WALKS * len(messages) + 10_000
        self._link_all()
        # The place of each in the order of the sent dates; a dummy's is that of its first child.
        self._rank = [0] * len(self.children)
        for place, node in enumerate(in_runs(range(len(messages)), messages.sent.__getitem__)):
            self._rank[node] = place

    # Step 1

    def _link_all(self) -> None:
        ids, parent, children = self.messages.ids, self.parent, self.children
        # Of several with one identifier the first has it, the others have none (step 1.A).
        nodes = {ids[node]: node for node in range(len(ids) - 1, -1, -1)}
        nodes.pop("", None)
        nodes.pop(b"", None)
        for node, names in enumerate(self.messages.references):
            above = -1
            for name in names[-MOST_REFERENCES:]:
                at = nodes.get(name)
                if at is None:
                    at = nodes[name] = len(parent)
                    parent.append(-1)
                    children.append(_NONE)
                if above >= 0 and parent[at] < 0 and above != at and not self._is_above(at, above):
                    self._put(at, above)
                above = at
            if parent[node] != above:
                self._adopt(node, above)

    def _put(self, node: int, above: int) -> None:
        self.parent[node] = above
        if self.children[above]:
            self.children[above].append(node)
        else:
            self.children[above] = [node]

    def _adopt(self, node: int, above: int) -> None:
        """Step 1.B: the last reference is the parent, whatever others said of this message."""
        if above == node or (above >= 0 and self._is_above(node, above)):
            return
        old = self.parent[node]
        if old >= 0:
            self.children[old].remove(node)
        if above >= 0:
            self._put(node, above)
        else:
            self.parent[node] = above

    def _is_above(self, node: int, other: int) -> bool:
        """Whether `node` is an ancestor of `other`; also True where finding out has become too dear."""
        if not self.children[node]:
            return False
        parent, steps = self.parent, 0
        while other >= 0 and other != node and steps <= self._budget:
            other = parent[other]
            steps += 1
        self._budget -= steps
        return other == node or self._budget < 0

    # Steps 2 and 3

    def pruned(self) -> list[int]:
        """The roots; dummies are gone, but for those that hold several threads together."""
        count, children = len(self.messages), self.children
        roots = [node for node, above in enumerate(self.parent) if above < 0]
        for node in {above for above in self.parent[count:] if 0 <= above < count}:
            children[node] = self._without_dummies(node)
        kept: list[int] = []
        for node in roots:
            if node < count:
                kept.append(node)
                continue
            children[node] = below = self._without_dummies(node)
            kept += [node] if len(below) > 1 else below
        return kept

    def _without_dummies(self, node: int) -> list[int]:
        """A node's children; in the places of dummies theirs."""
        count, children = len(self.messages), self.children
        found: list[int] = []
        waiting = children[node][::-1]
        while waiting:
            child = waiting.pop()
            if child < count:
                found.append(child)
            else:
                waiting += children[child][::-1]
                children[child] = _NONE
        return found

    def bottom_up(self, roots: Sequence[int]) -> list[int]:
        """Every node that has children, after all its descendants."""
        children = self.children
        found = [node for node in roots if children[node]]
        for node in found:  # it grows meanwhile
            for child in children[node]:
                if children[child]:
                    found.append(child)
        found.reverse()
        return found

    # Steps 4 and 6

    def sort(self, families: Sequence[list[int]]) -> None:
        """Each list of siblings by the sent date."""
        count = len(self.messages)
        for siblings in families:
            if len(siblings) > 1:
                if len(siblings) <= RUN and max(siblings) < count:
                    siblings.sort(key=self._rank.__getitem__)
                else:
                    siblings[:] = self.sorted(siblings)

    def sorted(self, siblings: Sequence[int]) -> list[int]:
        """The same; `siblings` stay as they are."""
        for node in siblings:
            if node >= len(self.messages):
                self._rank[node] = self._rank[self.children[node][0]]
        return in_runs(siblings, self._rank.__getitem__)

    def forest(self, roots: list[int]) -> Forest:
        """Sorted, grandchildren before children (step 6): of dummies, roots all of them, before the roots."""
        children = self.children
        self.sort([siblings for siblings in children if len(siblings) > 1])
        numbers: list[int | None] = [*self.messages.numbers]
        return Forest(self.sorted(roots), children, numbers + [None] * (len(children) - len(numbers)))

    # Step 5

    def gathered(self, roots: list[int]) -> list[int]:
        """Threads with the same base subject become one."""
        count, subjects, children = len(self.messages), self.messages.subjects, self.children
        marked = [subjects[node if node < count else children[node][0]] for node in roots]
        bases = [subject[1:] for subject in marked]
        alike = _repeated(bases) - {""}  # few of them are
        table: dict[str, tuple[int, bool]] = {}  # the thread of each of these, and whether it is a reply
        for node, subject, base in zip(roots, marked, bases, strict=True):
            if base not in alike:
                continue
            reply = subject[0] == "r"
            known, replies = table.setdefault(base, (node, reply))
            if known < count and (node >= count or (replies and not reply)):
                table[base] = node, reply
        kept: dict[int, None] = {}
        placed: set[int] = set()  # those below a new dummy, which may come again as roots
        for node, subject, base in zip(roots, marked, bases, strict=True):
            if base not in alike:
                kept[node] = None
                continue
            known, replies = table[base]
            if node in placed:
                continue
            if known == node:
                kept[node] = None
            elif known >= count:
                self._give(known, children[node] if node >= count else [node])
            elif subject[0] == "r" and not replies:
                self._give(known, [node])
            else:
                dummy = self._new_dummy([known, node])
                table[base] = dummy, False
                placed.add(known)
                kept.pop(known, None)
                kept[dummy] = None
        return list(kept)

    def _give(self, above: int, nodes: list[int]) -> None:
        if self.children[above]:
            self.children[above] += nodes
        else:
            self.children[above] = nodes

    def _new_dummy(self, nodes: list[int]) -> int:
        self.children.append(nodes)
        self._rank.append(0)
        return len(self.children) - 1
