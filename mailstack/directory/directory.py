"""The directory: who lives here, what an address stands for, and whether a password is theirs.

Theory of operation. Every answer is one trip to a thread, or none where it was given a moment ago: what was
found is remembered for two seconds, and that a domain is not ours; that there is no such user never is, so
that a new one gets mail at once. Each login reads the stored hash; only the costly proof is remembered, under
a key made of login, password and that hash with a secret of this process, so a password changed by any
process counts from the next login on. The same login asked for many times at once (a mail client opens five
connections) is proved once.

SCRAM and CRAM-MD5 prove themselves: `claim` gives what they need, the same way and at the same cost for
logins that are none, and `admit` writes the login down.
"""

from __future__ import annotations

import hashlib
import os
from collections.abc import Coroutine
from dataclasses import dataclass
from typing import Any

from twisted.internet.defer import Deferred
from twisted.internet.interfaces import IReactorTime
from twisted.logger import Logger
from twisted.python.failure import Failure

from mailstack.directory import lookups
from mailstack.directory.cache import Remembered
from mailstack.directory.grants import is_granted
from mailstack.directory.keys import Keeping
from mailstack.directory.lookups import Credentials, Holder, TooManyTargets
from mailstack.directory.model import Local, NotLocal, Resolution, User
from mailstack.directory.names import address_key, domain_key
from mailstack.directory.passwords import BadPassword, Passwords, Verdict, prepare
from mailstack.directory.settings import DirectoryConfig
from mailstack.mail.address import MAX_DOMAIN, Address
from mailstack.wire.sasl import Keys
from mailstack.work import Overloaded, Work

__all__ = ["Directory", "Local", "NotLocal", "Resolution", "User"]

_log = Logger()

_MOST_ANSWERS = 8192  # remembered, of each kind
_SHOWN = 100  # characters of a login in the log
_FAKE_SALTS = "fake salts"  # the name of the secret that they are made of
_NO_KEYS = Keeping()
_PROVED = Verdict(True)


@dataclass(frozen=True, slots=True)
class Claim:
    """Somebody who wants to prove that they are the user called `login`, and the keys to do it with."""

    login: str
    user: User | None
    last_login: int | None  # Unix seconds
    keys: Keys
    obstacle: str = ""  # why no proof can succeed: no password leads to these keys; "": it can


class Directory:
    """Domains, users and aliases, asked from the reactor's thread."""

    def __init__(
        self, work: Work, config: DirectoryConfig, clock: IReactorTime, keeping: Keeping = _NO_KEYS
    ) -> None:
        self._work = work
        self._config = config
        self._clock = clock
        self._passwords = Passwords(config)
        self._secret = os.urandom(32)
        self._keeping = keeping
        self._fake_salts: bytes | None = None
        self._domains: Remembered[str, bool] = Remembered(clock, config.lookup_cache_seconds, _MOST_ANSWERS)
        self._elsewhere: Remembered[str, bool] = Remembered(clock, config.lookup_cache_seconds, _MOST_ANSWERS)
        self._found: Remembered[str, Resolution] = Remembered(
            clock, config.lookup_cache_seconds, _MOST_ANSWERS
        )
        self._proved: Remembered[bytes, bool] = Remembered(clock, config.cache_seconds, _MOST_ANSWERS)
        self._proving: dict[bytes, list[Deferred[Verdict]]] = {}

    async def is_local(self, domain: str) -> bool:
        """Whether we serve `domain`, in A-labels or U-labels. An address literal is never served."""
        if not domain or len(domain) > MAX_DOMAIN or domain.startswith("["):
            return False
        key = domain_key(domain)
        if self._domains.get(key):
            return True
        if self._elsewhere.get(key):
            return False
        ours = await self._work.read(lookups.is_local, key)
        (self._domains if ours else self._elsewhere).put(key, True)
        return ours

    async def resolve(self, address: Address) -> Resolution | None:
        """Whom `address` stands for; None: nobody here. Raise NotLocal where its domain is not ours.

        An address that leads through too many aliases stands for nobody: its sender is told, and the log
        says why.
        """
        key = address_key(address)
        # The detail keeps its case for the recipient, so only the same spelling shares an answer.
        spelled = f"{address.local_part}@{key.rpartition('@')[2]}"
        found = self._found.get(spelled)
        if found is not None:
            return found
        try:
            found = await self._work.read(lookups.resolve, address, self._config)
        except TooManyTargets as error:
            _log.error("alias refused: {address}: {why}", address=key, why=str(error))
            return None
        if found is not None:
            self._found.put(spelled, found)
        return found

    async def user(self, address: Address) -> User | None:
        """The user whose own address this is."""
        return await self._work.read(lookups.find_user, address_key(address))

    async def may_send_as(self, user: User, address: Address) -> bool:
        """Whether `address` is the user's own, with or without detail, an alias of theirs, or granted."""
        key = address_key(address)
        if key == address_key(user.address):
            return True
        try:
            found = await self.resolve(address)
        except NotLocal:
            found = None
        if found is not None and any(local.user.id == user.id for local in found.locals):
            return True
        return await self._work.read(is_granted, user.id, key)

    async def authenticate(self, login: str, password: str, peer: str = "") -> User | None:
        """The user whose login and password these are, or None; `peer` is for the log.

        Unknown, disabled and wrong cost and answer the same. Raise Overloaded where too many wait already.
        """
        try:
            password = prepare(password)
        except BadPassword as error:
            self.refused(login, peer, str(error))
            return None
        key = _key(login)
        found = await self._work.read(lookups.credentials, key)
        stored = found.password_hash if found is not None and found.enabled else self._passwords.dummy
        verdict, first = await self._verify(key, password, stored)
        if found is None:
            self.refused(login, peer, "unknown user")
            return None
        if not found.enabled:
            self.refused(login, peer, "disabled")
            return None
        if not verdict.right:
            self.refused(login, peer, "wrong password")
            return None
        self._note(found.user, found.last_login, found.password_hash, verdict)
        if first:
            self._beside(self._complete(found, verdict, password), "keys", found.user)
        return found.user

    async def claim(self, login: str, mechanism: str) -> Claim:
        """What a sign-in by `mechanism` (without -PLUS) needs.

        Where the user is unknown, disabled or has no such keys, it costs and looks the same.
        """
        key = _key(login)
        holder = await self._work.read(lookups.holder, key, mechanism)
        if self._fake_salts is None:
            self._fake_salts = await self._secret_of_installation(_FAKE_SALTS)
        pretended = self._keeping.pretend(self._fake_salts, key or login, mechanism)
        if holder is None:
            return Claim(login, None, None, pretended, _obstacle(holder))
        obstacle = _obstacle(holder)
        keys = pretended if obstacle or holder.keys is None else holder.keys
        return Claim(login, holder.user, holder.last_login, keys, obstacle)

    async def admit(self, claim: Claim, peer: str) -> User | None:
        """The user whose proof was right, as a login to be noted."""
        if claim.user is None or claim.obstacle:  # nobody can have proved this; but if they have
            self.refused(claim.login, peer, claim.obstacle)
            return None
        self._note(claim.user, claim.last_login)
        return claim.user

    async def vouched(self, address: str, peer: str) -> User | None:
        """The user of an address that an identity provider vouches for; None where there is none."""
        holder = await self._work.read(lookups.holder, _key(address), "")
        if holder is None or not holder.enabled:
            self.refused(address, peer, _obstacle(holder))
            return None
        self._note(holder.user, holder.last_login)
        return holder.user

    def forget(self) -> None:
        """Drop what is remembered: for tests, and for an operator's command in this very process."""
        for remembered in (self._domains, self._elsewhere, self._found, self._proved):
            remembered.forget()

    async def _verify(self, key: str, password: str, stored: str) -> tuple[Verdict, bool]:
        """The verdict, and whether it was reached for this very call."""
        proof = self._proof(key, password, stored)
        if self._proved.get(proof):
            return Verdict(True), False
        answer: Deferred[Verdict] = Deferred()
        waiting = self._proving.get(proof)
        if waiting is not None:
            waiting.append(answer)
            return await answer, False
        if len(self._proving) >= self._config.waiting_logins:
            raise Overloaded(f"{len(self._proving)} logins are waiting")
        self._proving[proof] = [answer]
        # It runs beside whoever asks: a peer that vanishes takes back its own wait, not that of the others.
        Deferred.fromCoroutine(self._prove(proof, key, password, stored))
        return await answer, True

    async def _prove(self, proof: bytes, key: str, password: str, stored: str) -> None:
        verdict: Verdict | Failure
        try:
            verdict = await self._work.hash(self._passwords.verify, password, stored)
        except Exception:
            verdict = Failure()
        else:
            if verdict.right:
                self._proved.put(proof, True)
            if verdict.rehashed is not None:
                self._proved.put(self._proof(key, password, verdict.rehashed), True)
        for answer in self._proving.pop(proof):
            if not answer.called:
                answer.callback(verdict)  # a Failure given to callback() is an errback

    def _proof(self, key: str, password: str, stored: str) -> bytes:
        """What stands for this login, password and hash in memory: of no use in any other process."""
        digest = hashlib.blake2b(key=self._secret, digest_size=32)
        for text in (key, password, stored):
            data = text.encode()
            digest.update(len(data).to_bytes(4, "big"))
            digest.update(data)
        return digest.digest()

    def _note(
        self, user: User, last_login: int | None, password_hash: str = "", verdict: Verdict = _PROVED
    ) -> None:
        """Write the login down behind the answer, once an hour or where there is a better hash."""
        now = int(self._clock.seconds())
        recent = last_login is not None and 0 <= now - last_login < lookups.LOGIN_NOTED_EVERY
        if recent and verdict.rehashed is None:
            return
        note = self._work.transaction(lookups.note_login, user.id, now, password_hash, verdict.rehashed)
        self._beside(note, "login", user)

    async def _complete(self, found: Credentials, verdict: Verdict, password: str) -> None:
        """Make the keys of SCRAM and CRAM-MD5 where they are not as wanted: the password is at hand."""
        keeping = self._keeping
        if await self._work.read(lookups.kinds_of_keys, found.user.id) == keeping.kinds:
            return
        keys = await self._work.hash(keeping.make, password)
        hashes = [one for one in (found.password_hash, verdict.rehashed) if one is not None]
        await self._work.transaction(lookups.complete_keys, found.user.id, hashes, keys)

    async def _secret_of_installation(self, name: str) -> bytes:
        found = await self._work.read(lookups.secret, name)
        if found is None:
            found = await self._work.transaction(lookups.make_secret, name, os.urandom(32))
        return found

    def _beside(self, doing: Coroutine[Any, Any, None], what: str, user: User) -> None:
        """Have it done behind the answer: a failure is only logged."""
        Deferred.fromCoroutine(doing).addErrback(
            lambda failure: _log.warn(
                "{what} of {address} not noted: {why}", what=what, address=user.address, why=failure.value
            )
        )

    def refused(self, login: str, peer: str, reason: str) -> None:
        """Log a login that is refused, for the operator and for fail2ban."""
        _log.info(
            "login refused: {reason}; login={login!r} peer={peer}",
            reason=reason,
            login=login[:_SHOWN],
            peer=peer or "-",
        )


def _key(login: str) -> str:
    try:
        return address_key(Address.parse(login))
    except ValueError:  # BadAddress, or text that is not Unicode
        return ""  # no user has it; it shall cost what a user costs


def _obstacle(holder: Holder | None) -> str:
    if holder is None:
        return "unknown user"
    if not holder.enabled:
        return "disabled"
    return "" if holder.keys else "no keys for this mechanism until the next login with the password"
