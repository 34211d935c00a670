"""Whether what a start has found after a power cut is what was promised before it."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterator, Mapping
from dataclasses import dataclass

from tests.crash.promises import Clock, Due, Promises, Step, Where, due
from tests.crash.recovery import Found, World


@dataclass(frozen=True, slots=True)
class _Uid:
    told: int
    uidvalidity: int
    uid: int
    token: str


Steps = Mapping[tuple[str, str], list[tuple[int, int, Where]]]


class Judge:
    """Knows all promises by their places in the trace."""

    def __init__(self, promises: Promises, clock: Clock) -> None:
        self._promises = promises
        self._steps = _placed(promises.steps, clock)
        self._mailboxes = _placed(promises.mailboxes, clock)
        self._queued = {
            key: (clock.place(step.begun), clock.place(step.answered))
            for key, step in promises.queued.items()
        }
        self._taken = {key: min(map(clock.place, marks)) for key, marks in promises.taken.items()}
        self._uids = {
            user: [_Uid(clock.place(one.told), one.uidvalidity, one.uid, one.token) for one in told]
            for user, told in promises.uids.items()
        }

    def after_start(self, world: World, moment: int) -> list[str]:
        """What is wrong after a cut at that place of the trace."""
        wrong = list(world.problems)
        for user, found in world.messages.items():
            by_token: dict[str, list[Found]] = defaultdict(list)
            for message in found:
                by_token[message.token].append(message)
            wrong += self._as_sent(user, by_token)
            for (whose, token), steps in self._steps.items():
                if whose == user:
                    wrong += _as_promised(f"{user}: {token}", by_token[token], due(steps, moment))
            for (whose, name), steps in self._mailboxes.items():
                there: Where = {name: frozenset()} if name in world.boxes[user] else {}
                if whose == user and not due(steps, moment).allows(there):
                    wrong.append(f"{user}: mailbox {name}: it is {'there' if there else 'not there'}")
            wrong += self._same_uids(user, found, world.boxes[user], moment)
        return [*wrong, *self._in_queue(world, moment)]

    def after_rebuild(self, world: World, moment: int) -> list[str]:
        """What is wrong where the index was lost with it: mail is there, and has its UIDs, if not its flags."""
        wrong: list[str] = []
        for user, found in world.messages.items():
            by_token: dict[str, list[Found]] = defaultdict(list)
            for message in found:
                by_token[message.token].append(message)
            wrong += self._as_sent(user, by_token)
            for (whose, token), steps in self._steps.items():
                if whose == user:
                    for name in due(steps, moment).names:
                        count = sum(one.mailbox == name for one in by_token[token])
                        if count != 1:
                            wrong.append(f"{user}: {token}: {count} in {name} once the index is made anew")
            wrong += self._same_uids(user, found, world.boxes[user], moment)
        return wrong

    def _as_sent(self, user: str, by_token: Mapping[str, list[Found]]) -> Iterator[str]:
        for token, found in by_token.items():
            ending = self._promises.content.get(token)
            if ending is not None and any(not one.content.endswith(ending) for one in found):
                yield f"{user}: {token}: not as it was sent"

    def _same_uids(
        self, user: str, found: list[Found], boxes: Mapping[str, tuple[int, int]], moment: int
    ) -> Iterator[str]:
        told = [one for one in self._uids.get(user, []) if one.told <= moment]
        tokens = {(one.uidvalidity, one.uid): one.token for one in told}
        uids = {(one.uidvalidity, one.token): one.uid for one in told}
        nexts = dict(boxes.values())
        for message in found:
            token = tokens.get((message.uidvalidity, message.uid), message.token)
            if token != message.token:
                yield f"{user}: UID {message.uid} of {message.mailbox} was {token}, now it is {message.token}"
            uid = uids.get((message.uidvalidity, message.token), message.uid)
            if uid != message.uid:
                yield f"{user}: {message.token} in {message.mailbox} had UID {uid}, now {message.uid}"
        for one in told:
            if nexts.get(one.uidvalidity, one.uid + 1) <= one.uid:
                yield f"{user}: UID {one.uid} of {one.token} can be given again"
        validities = {validity for validity, _ in boxes.values()}
        inbox = {one.uidvalidity for one in told if self._is_of_inbox(user, one)}
        if not inbox <= validities:
            yield f"{user}: another UIDVALIDITY"

    def _is_of_inbox(self, user: str, one: _Uid) -> bool:
        return any("INBOX" in where for _, _, where in self._steps[user, one.token][:1])

    def _in_queue(self, world: World, moment: int) -> Iterator[str]:
        everywhere = [*world.queue.values(), *(one.content for one in world.messages.get("alice", []))]
        for (token, recipient), (_, answered) in self._queued.items():
            ending, subject = self._promises.content[token], f"\r\nSubject: {token}\r\n".encode()
            waiting = [
                content
                for (_, to), content in world.queue.items()
                if to == recipient and subject in b"\r\n" + content
            ]
            if any(not content.endswith(ending) for content in waiting):
                yield f"queue: {token} is not as it was sent"
            if len(waiting) > 1:
                yield f"queue: {token} for {recipient} is there {len(waiting)} times"
            if answered > moment or waiting or self._taken.get((token, recipient), moment + 1) <= moment:
                continue
            bounced = recipient.startswith("nobody") and any(
                subject in content and recipient.encode() in content for content in everywhere
            )
            if not bounced:
                yield f"queue: {token} for {recipient} is lost"


def _as_promised(what: str, found: list[Found], wanted: Due) -> Iterator[str]:
    where: dict[str, frozenset[str]] = {}
    for message in found:
        if message.mailbox in where:
            yield f"{what}: twice in {message.mailbox}"
        where[message.mailbox] = message.flags - {"\\Recent"}
    if not wanted.allows(where):
        yield f"{what}: it is {_said(where)}, promised was {_said(wanted.answered)}" + (
            "" if wanted.under_way is None else f", then {_said(wanted.under_way)} was asked for"
        )


def _said(where: Where) -> str:
    return ", ".join(f"in {name} ({' '.join(sorted(flags))})" for name, flags in where.items()) or "nowhere"


def _placed(steps: Mapping[tuple[str, str], list[Step]], clock: Clock) -> Steps:
    return {
        key: [(clock.place(one.begun), clock.place(one.answered), one.where) for one in known]
        for key, known in steps.items()
    }
