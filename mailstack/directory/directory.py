"""The directory: who lives here, what an address stands for, and whether a password is theirs.

Theory of operation. Every answer is one trip to a thread, or none where it was given a moment ago: what was
found is remembered for two seconds, what was not found never is, so that a new user gets mail at once. Each
login reads the stored hash; only the costly proof is remembered, under a key made of login, password and that
hash with a secret of this process, so a password changed by any process counts from the next login on. The
same login asked for many times at once (a mail client opens five connections) is proved once.
"""

from __future__ import annotations

import hashlib
import os

from twisted.internet.defer import Deferred
from twisted.internet.interfaces import IReactorTime
from twisted.logger import Logger
from twisted.python.failure import Failure

from mailstack.directory import lookups
from mailstack.directory.cache import Remembered
from mailstack.directory.lookups import Credentials, TooManyTargets
from mailstack.directory.model import Local, NotLocal, Resolution, User
from mailstack.directory.names import address_key, domain_key
from mailstack.directory.passwords import BadPassword, Passwords, Verdict, prepare
from mailstack.directory.settings import DirectoryConfig
from mailstack.mail.address import MAX_DOMAIN, Address
from mailstack.work import Overloaded, Work

__all__ = ["Directory", "Local", "NotLocal", "Resolution", "User"]

_MOST_ANSWERS = 8192  # remembered, of each kind
_SHOWN = 100  # characters of a login in the log


class Directory:
    """Domains, users and aliases, asked from the reactor's thread."""

    def __init__(self, work: Work, config: DirectoryConfig, clock: IReactorTime) -> None:
        self._work = work
        self._config = config
        self._clock = clock
        self._log = Logger()
        self._passwords = Passwords(config)
        self._secret = os.urandom(32)
        self._domains: Remembered[str, bool] = Remembered(clock, config.lookup_cache_seconds, _MOST_ANSWERS)
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
        ours = await self._work.read(lookups.is_local, key)
        if ours:
            self._domains.put(key, True)
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
            self._log.error("alias refused: {address}: {why}", address=key, why=str(error))
            return None
        if found is not None:
            self._found.put(spelled, found)
        return found

    async def user(self, address: Address) -> User | None:
        """The user whose own address this is."""
        return await self._work.read(lookups.find_user, address_key(address))

    async def may_send_as(self, user: User, address: Address) -> bool:
        """Whether `address` is the user's own, with or without detail, or an alias that reaches them."""
        if address_key(address) == address_key(user.address):
            return True
        try:
            found = await self.resolve(address)
        except NotLocal:
            return False
        return found is not None and any(local.user.id == user.id for local in found.locals)

    async def authenticate(self, login: str, password: str, peer: str = "") -> User | None:
        """The user whose login and password these are, or None; `peer` is for the log.

        Unknown, disabled and wrong cost and answer the same. Raise Overloaded where too many wait already.
        """
        try:
            password = prepare(password)
        except BadPassword as error:
            self._refused(login, peer, str(error))
            return None
        try:
            key = address_key(Address.parse(login))
        except ValueError:  # BadAddress, or text that is not Unicode
            key = ""  # no user has it; it shall cost what a user costs
        found = await self._work.read(lookups.credentials, key)
        stored = found.password_hash if found is not None and found.enabled else self._passwords.dummy
        verdict = await self._verify(key, password, stored)
        if found is None:
            self._refused(login, peer, "unknown user")
            return None
        if not found.enabled:
            self._refused(login, peer, "disabled")
            return None
        if not verdict.right:
            self._refused(login, peer, "wrong password")
            return None
        self._note(found, verdict)
        return found.user

    def forget(self) -> None:
        """Drop what is remembered: for tests, and for an operator's command in this very process."""
        for remembered in (self._domains, self._found, self._proved):
            remembered.forget()

    async def _verify(self, key: str, password: str, stored: str) -> Verdict:
        proof = self._proof(key, password, stored)
        if self._proved.get(proof):
            return Verdict(True)
        answer: Deferred[Verdict] = Deferred()
        waiting = self._proving.get(proof)
        if waiting is not None:
            waiting.append(answer)
            return await answer
        if len(self._proving) >= self._config.waiting_logins:
            raise Overloaded(f"{len(self._proving)} logins are waiting")
        self._proving[proof] = [answer]
        # It runs beside whoever asks: a peer that vanishes takes back its own wait, not that of the others.
        Deferred.fromCoroutine(self._prove(proof, key, password, stored))
        return await answer

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

    def _note(self, found: Credentials, verdict: Verdict) -> None:
        """Write the login down behind the answer, once an hour or where there is a better hash."""
        now = int(self._clock.seconds())
        recent = found.last_login is not None and 0 <= now - found.last_login < lookups.LOGIN_NOTED_EVERY
        if recent and verdict.rehashed is None:
            return
        noted = Deferred.fromCoroutine(
            self._work.transaction(
                lookups.note_login, found.user.id, now, found.password_hash, verdict.rehashed
            )
        )
        noted.addErrback(
            lambda failure: self._log.warn(
                "login of {address} not noted: {why}", address=found.user.address, why=failure.value
            )
        )

    def _refused(self, login: str, peer: str, reason: str) -> None:
        """Log a login that is refused."""
        self._log.info(
            "login refused: {reason}; login={login!r} peer={peer}",
            reason=reason,
            login=login[:_SHOWN],
            peer=peer or "-",
        )
