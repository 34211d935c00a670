"""THREAD (RFC 5256 section 3): ORDEREDSUBJECT, REFERENCES, and REFS, which is REFERENCES without subjects.

How it works. Messages are nodes, numbered from 0 in the order given; Message-IDs that are only referred to
become further nodes, the dummies. A forest is three lists over the nodes, so that nothing is recursive and a
thread of a hundred thousand messages is like any other.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass
from typing import NamedTuple

from mailstack.mail.collation import casemap
from mailstack.mail.subjects import Subject, base_subject

MOST_REFERENCES = 200  # of one message; of more, the last ones count
_MESSAGE_ID = re.compile(r"<([^<>]{1,996})>")
_WALKS = 20  # steps up the forest for each node, in all, to find loops


NO_SUBJECT = Subject("", False)


def subject_of(value: str) -> Subject:
    """The base subject, casemapped, of a subject that is decoded.

    What could not be read in its charset is compared by octets (RFC 5255 section 4.6).
    """
    base, reply = base_subject(value)
    return Subject(base if "\ufffd" in base else casemap(base), reply)


class Threaded(NamedTuple):
    """One message, in the order of sequence numbers."""

    number: int  # what the answer names it by
    sent: int  # the Date field in UTC, seconds since 1970; INTERNALDATE where there is none
    subject: Subject = NO_SUBJECT  # as `subject_of` gives it
    id: str | bytes = ""  # the Message-ID, as `message_ids` gives it, or a digest; empty if there is none
    references: Sequence[str | bytes] = ()  # the same: of References, or else the first of In-Reply-To
    arrival: int = 0  # INTERNALDATE; only REFS needs it


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


def ordered_subject(messages: Sequence[Threaded]) -> Forest:
    """ORDEREDSUBJECT: messages of one base subject are a thread, all answers to its first."""
    threads: dict[str, list[int]] = {}
    for node in sorted(range(len(messages)), key=lambda node: messages[node].sent):
        threads.setdefault(messages[node].subject.base, []).append(node)
    children: list[list[int]] = [[] for _ in messages]
    roots = []
    for members in threads.values():  # in the order of their first members' dates
        roots.append(members[0])
        children[members[0]] = members[1:]
    return Forest(roots, children, [message.number for message in messages])


def references(messages: Sequence[Threaded]) -> Forest:
    """REFERENCES, steps 1 to 6 of the RFC."""
    building = _Building(messages)
    roots = building.pruned()
    building.sort([building.children[node] for node in roots if node >= len(messages)])
    building.sort([roots])
    roots = building.gathered(roots)
    return building.forest(roots)


def refs(messages: Sequence[Threaded]) -> Forest:
    """REFS (draft-ietf-morg-inthread): by references alone; the thread with the newest arrival comes last."""
    building = _Building(messages)
    roots = building.pruned()
    newest = [message.arrival for message in messages] + [0] * (len(building.parent) - len(messages))
    for node in building.bottom_up(roots):
        for child in building.children[node]:
            newest[node] = max(newest[node], newest[child])
    forest = building.forest(roots)
    forest.roots.sort(key=newest.__getitem__)
    return forest


class _Building:
    """A forest that is being made; -1 is no parent."""

    __slots__ = ("_budget", "children", "messages", "parent")

    def __init__(self, messages: Sequence[Threaded]) -> None:
        self.messages = messages
        self.parent = [-1] * len(messages)
        self.children: list[list[int]] = [[] for _ in messages]
        self._budget = _WALKS * len(messages) + 10_000
        self._link_all()

    # Step 1

    def _link_all(self) -> None:
        messages, parent, children = self.messages, self.parent, self.children
        nodes: dict[str | bytes, int] = {}
        for node, message in enumerate(messages):
            if message.id:
                nodes.setdefault(message.id, node)  # a second one with this identifier has none (step 1.A)
        for node, message in enumerate(messages):
            above = -1
            for name in message.references[-MOST_REFERENCES:]:
                at = nodes.get(name)
                if at is None:
                    at = nodes[name] = len(parent)
                    parent.append(-1)
                    children.append([])
                if above >= 0 and parent[at] < 0 and above != at and not self._is_above(at, above):
                    parent[at] = above
                    children[above].append(at)
                above = at
            if parent[node] != above:
                self._adopt(node, above)

    def _adopt(self, node: int, above: int) -> None:
        """Step 1.B: the last reference is the parent, whatever others said of this message."""
        if above == node or (above >= 0 and self._is_above(node, above)):
            return
        old = self.parent[node]
        if old >= 0:
            self.children[old].remove(node)
        self.parent[node] = above
        if above >= 0:
            self.children[above].append(node)

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
        for node in self.bottom_up(roots):
            if any(child >= count for child in children[node]):
                kept: list[int] = []
                for child in children[node]:
                    kept += children[child] if child >= count else (child,)
                children[node] = kept
        kept = []
        for node in roots:
            if node < count or len(children[node]) > 1:
                kept.append(node)
            else:
                kept += children[node]
        return kept

    def bottom_up(self, roots: Sequence[int]) -> list[int]:
        """Every node that has children, after all its descendants."""
        children = self.children
        found = [node for node in roots if children[node]]
        for node in found:  # it grows meanwhile
            found += [child for child in children[node] if children[child]]
        found.reverse()
        return found

    # Steps 4 and 6

    def _sent(self, node: int) -> tuple[int, int]:
        if node >= len(self.messages):  # a dummy: as its first child
            node = self.children[node][0]
        return self.messages[node].sent, node

    def sort(self, families: Sequence[list[int]]) -> None:
        """Each list of siblings by the sent date."""
        for siblings in families:
            if len(siblings) > 1:
                siblings.sort(key=self._sent)

    def forest(self, roots: list[int]) -> Forest:
        """Sorted, grandchildren before children (step 6)."""
        children = self.children
        self.sort([children[node] for node in self.bottom_up(roots)])
        self.sort([roots])
        numbers: list[int | None] = [message.number for message in self.messages]
        return Forest(roots, children, numbers + [None] * (len(children) - len(numbers)))

    # Step 5

    def gathered(self, roots: list[int]) -> list[int]:
        """Threads with the same base subject become one."""
        count, messages, children = len(self.messages), self.messages, self.children
        subject = {node: messages[node if node < count else children[node][0]].subject for node in roots}
        table: dict[str, int] = {}
        for node in roots:
            base, reply = subject[node]
            known = table.setdefault(base, node)
            if known < count and (node >= count or (subject[known].reply and not reply)):
                table[base] = node
        kept: dict[int, None] = {}
        placed: set[int] = set()  # those below a new dummy, which may come again as roots
        for node in roots:
            if node in placed:
                continue
            base, reply = subject[node]
            known = table[base]
            if not base or known == node:
                kept[node] = None
            elif known >= count:
                children[known] += children[node] if node >= count else [node]
            elif reply and not subject[known].reply:
                children[known].append(node)
            else:
                dummy = len(children)
                children.append([known, node])
                table[base] = dummy
                placed.add(known)
                kept.pop(known, None)
                kept[dummy] = None
        return list(kept)
