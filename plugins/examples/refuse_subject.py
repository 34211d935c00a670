"""Refuses messages by words in their subject: list "refuse_subject:RefuseSubject". See docs/policy.md."""

from dataclasses import dataclass

from mailstack.policy import Check, Incoming, Refused, Reply, Transaction


@dataclass(frozen=True)
class Words:
    words: tuple[str, ...] = ("lottery",)


class RefuseSubject(Check):
    Settings = Words

    async def message(self, now: Transaction, incoming: Incoming) -> None:
        subject = incoming.field("subject").lower()
        if any(word.lower() in subject for word in self.settings.words):
            raise Refused(Reply(550, "5.7.1", "We do not want this"))
