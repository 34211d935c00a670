"""Step 4 of the journey: a recipient of ours becomes a message in the inbox.

Theory of operation. Recipients are resolved to users; each user gets the message once, however many
addresses of theirs it was sent to, and all of them in one call of the store, so in one transaction. Each
delivery has a name made from the queue id and the user: a repeat, after a crash or by a queue that did not
hear our answer, is recognised and answered as the first was. Addresses elsewhere that an alias stands for
are the queue's to send to.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace
from typing import Protocol

from twisted.logger import Logger

from mailstack.directory import Local, NotLocal, Resolution
from mailstack.mail.address import Address
from mailstack.mail.envelope import Envelope
from mailstack.mail.message import Message
from mailstack.mail.reply import LOCAL_ERROR, Reply
from mailstack.mda.settings import MdaConfig
from mailstack.mda.trace import delivered_to, fields, header
from mailstack.store.values import Delivered, NoSuchMailbox, OverQuota, Parcel, StoreError
from mailstack.trail.notes import DELIVERED, NO_NOTES, Notes
from mailstack.work import Work

_log = Logger(namespace="mailstack.mda")

INBOX = "INBOX"
JUNK = "Junk"

UNKNOWN_USER = Reply(550, "5.1.1", "No such user here")
NOT_OURS = Reply(451, "4.3.5", "This address is not delivered here; try again later")
LOOP = Reply(554, "5.4.6", "Mail loop: it was delivered to this mailbox before")
FULL_FOR_GOOD = Reply(552, "5.2.2", "Mailbox is full")
FULL_FOR_NOW = Reply(452, "4.2.2", "Mailbox is full; try again later")

Outcome = Delivered | StoreError | OSError


class Residents(Protocol):
    """What is asked of the directory."""

    async def resolve(self, address: Address) -> Resolution | None: ...


class Delivers(Protocol):
    """What is asked of the store."""

    async def deliver(self, parcels: Sequence[Parcel]) -> list[Outcome]: ...

    async def provision(self, user_id: int) -> None: ...


@dataclass(frozen=True, slots=True)
class _Addressee:
    """One user for whom a transaction has the message, and where it is to go."""

    local: Local
    mailbox: str
    key: str  # what stands for this mailbox in the delivery's name


class Delivery:
    """Delivers to our users' mailboxes; see `Accepts`."""

    def __init__(
        self,
        directory: Residents,
        store: Delivers,
        work: Work,
        config: MdaConfig | None = None,
        trail: Notes = NO_NOTES,
    ) -> None:
        self._directory = directory
        self._store = store
        self._work = work
        self._config = config or MdaConfig()
        self._trail = trail

    async def accept(self, envelope: Envelope, message: Message) -> dict[Address, Reply]:
        """Deliver for each recipient: 2xx once it is durably in the mailbox of everybody it stands for.

        Of several users behind one address the worst answer counts, 4xx before 5xx before 2xx: who repeats
        it repeats it for all, and those who have it get no second copy.
        """
        whom: dict[Address, list[_Addressee]] = {}
        replies: dict[Address, Reply] = {}
        for recipient in envelope.recipients:
            found = await self._resolve(envelope, recipient.address)
            if isinstance(found, Reply):
                replies[recipient.address] = found
            else:
                whom[recipient.address] = found
        addressees = {one.key: one for group in whom.values() for one in group}
        answers, outcomes = await self._deliver(envelope, message, addressees)
        for address, group in whom.items():
            replies[address] = _worst(answers[one.key] for one in group)
            self._note(envelope, address, group, outcomes)
        for address, reply in replies.items():
            _log.info("{id}: to=<{to}> {reply}", id=envelope.id, to=address, reply=reply)
        return replies

    async def _resolve(self, envelope: Envelope, address: Address) -> list[_Addressee] | Reply:
        try:
            resolution = await self._directory.resolve(address)
        except NotLocal:
            return NOT_OURS  # the domain was ours when this was accepted: perhaps it will be again
        except Exception:
            _log.failure("{id}: the directory did not answer", id=envelope.id)
            return LOCAL_ERROR
        if resolution is None:
            return UNKNOWN_USER
        if not resolution.locals:
            return NOT_OURS
        return [self._addressee(envelope, local) for local in resolution.locals]

    def _addressee(self, envelope: Envelope, local: Local) -> _Addressee:
        user = local.user.address.key
        if envelope.junk:
            mailbox = JUNK
        else:
            mailbox = local.detail if self._config.detail_mailbox and local.detail else INBOX
        return _Addressee(local, mailbox, user if mailbox == INBOX else f"{user}+{mailbox}")

    async def _deliver(
        self, envelope: Envelope, message: Message, addressees: dict[str, _Addressee]
    ) -> tuple[dict[str, Reply], dict[str, Outcome | None]]:
        try:
            passed = await self._passed(message)
        except (OSError, EOFError):
            _log.failure("{id}: the message cannot be read", id=envelope.id)
            return dict.fromkeys(addressees, LOCAL_ERROR), {}
        answers: dict[str, Reply] = {}
        parcels: dict[str, Parcel] = {}
        for key, one in addressees.items():
            if one.local.user.address.key in passed:
                answers[key] = LOOP
            else:
                parcels[key] = _parcel(envelope, message, one)
        outcomes = await self._store_all(envelope, parcels)
        answers |= {key: self._answer(envelope, outcome) for key, outcome in outcomes.items()}
        return answers, outcomes

    def _note(
        self,
        envelope: Envelope,
        address: Address,
        group: Sequence[_Addressee],
        outcomes: dict[str, Outcome | None],
    ) -> None:
        """Write down into which mailboxes it went."""
        for one in group:
            outcome = outcomes.get(one.key)
            if isinstance(outcome, Delivered):
                self._trail.note(
                    envelope.id,
                    DELIVERED,
                    address,
                    user=str(one.local.user.address),
                    mailbox=one.mailbox,
                    mailbox_id=outcome.mailbox_id,
                    uidvalidity=outcome.uidvalidity,
                    uid=outcome.uid,
                    repeated=outcome.repeated or None,
                )

    async def _passed(self, message: Message) -> frozenset[str]:
        """Who had this message before."""
        if all(isinstance(part, bytes) for part in message.parts):
            return delivered_to(header(message))
        return delivered_to(await self._work.files(header, message))

    async def _store_all(self, envelope: Envelope, parcels: dict[str, Parcel]) -> dict[str, Outcome | None]:
        """What the store says of each parcel; None where it could not say."""
        outcomes = await self._try(envelope, parcels)
        missing = {key: parcels[key] for key, one in outcomes.items() if isinstance(one, NoSuchMailbox)}
        if not missing:
            return outcomes
        # A mailbox for the detail that is not there, or an INBOX not made yet: INBOX it is, made if need be.
        for user_id in {parcel.user_id for parcel in missing.values() if parcel.mailbox == INBOX}:
            try:
                await self._store.provision(user_id)
            except StoreError:
                continue  # the user was just removed
            except Exception:
                _log.failure("{id}: no INBOX", id=envelope.id)
        again = {key: replace(parcel, mailbox=INBOX) for key, parcel in missing.items()}
        return outcomes | await self._try(envelope, again)

    async def _try(self, envelope: Envelope, parcels: dict[str, Parcel]) -> dict[str, Outcome | None]:
        if not parcels:
            return {}
        try:
            outcomes = await self._store.deliver(list(parcels.values()))
        except Exception:
            _log.failure("{id}: the store did not take it", id=envelope.id)
            return dict.fromkeys(parcels)
        return dict(zip(parcels, outcomes, strict=True))

    def _answer(self, envelope: Envelope, outcome: Outcome | None) -> Reply:
        match outcome:
            case Delivered():
                return Reply(250, "2.1.5", f"Ok: delivered as {envelope.id}")
            case OverQuota():
                return FULL_FOR_NOW if self._config.over_quota == "defer" else FULL_FOR_GOOD
            case None:
                return LOCAL_ERROR
            case NoSuchMailbox():
                _log.warn("{id}: not stored, the user is being removed: {why}", id=envelope.id, why=outcome)
                return LOCAL_ERROR
        _log.error("{id}: not stored: {why!r}", id=envelope.id, why=outcome)
        return LOCAL_ERROR


def _parcel(envelope: Envelope, message: Message, one: _Addressee) -> Parcel:
    user = one.local.user
    return Parcel(
        user_id=user.id,
        mailbox=one.mailbox,
        message=message.prefixed(fields(envelope.reverse_path, user.address)),
        delivery=f"{envelope.id}:{one.key}",
        quota=(user.quota_octets, user.quota_messages),
    )


def _worst(replies: Iterable[Reply]) -> Reply:
    return max(replies, key=lambda reply: (reply.transient, reply.permanent))
