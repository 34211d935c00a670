"""What every part of the stack stands on, made from the settings: threads, DNS, the directory, the store.

Whatever the operator has given us is looked at here (the database, certificates, keys, checks): what cannot
be used keeps the stack from starting, with a line that says why.
"""

from __future__ import annotations

import random
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from OpenSSL import SSL

from mailstack.config import Config
from mailstack.db import Database
from mailstack.db.schema import is_current
from mailstack.directory.directory import Directory
from mailstack.net.client_tls import Roots
from mailstack.net.peer import Peer
from mailstack.net.resolver import Resolver
from mailstack.net.seat import Seat
from mailstack.net.sign_in import SignIn, Vouches
from mailstack.net.tls import ServerTls
from mailstack.net.transaction import Reception
from mailstack.net.transcript import Transcript
from mailstack.policy import Surroundings
from mailstack.policy.loader import BadPolicy
from mailstack.policy.loader import load as load_policy
from mailstack.policy.panel import Panel
from mailstack.signing.keyring import Keyring
from mailstack.signing.signing import Signing
from mailstack.store.indexer import index_of
from mailstack.store.message_store import MessageStore
from mailstack.trail.trail import Trail
from mailstack.work import Work


class CannotStart(Exception):
    """The stack cannot run as it is configured; the message is for the operator: what, where, what to do."""


@dataclass(frozen=True, slots=True)
class Ground:
    """What all parts share."""

    config: Config
    reactor: Any
    chance: random.Random
    tls: ServerTls | None  # None: there is no certificate
    roots: Roots  # the authorities whom we believe about other servers
    work: Work
    resolver: Resolver
    directory: Directory
    sign_in: SignIn
    store: MessageStore
    trail: Trail
    keyring: Keyring
    signing: Signing
    reception: Reception
    seat: Seat  # which of the processes that share our folder we are

    def transcript(self, service: str) -> Callable[[Peer], Transcript] | None:
        """Makes what logs a service's conversations; None unless [log] asks for them."""
        return (lambda peer: Transcript(service, peer)) if self.config.log.conversation else None


def prepare(config: Config, reactor: Any) -> Ground:
    """Make it. Blocks; raises CannotStart."""
    database = _database(config)
    work = Work(reactor, database, config.work)
    resolver = Resolver(reactor, config.dns)
    directory = Directory(work, config.directory, reactor, config.auth.keeping)
    provider = _provider(config, reactor, work)
    trail = Trail(config.trail, work, reactor)
    keyring = Keyring(work, reactor)
    chance = random.SystemRandom()
    policy = _policy(config, reactor, work, resolver)  # who is asked before mail is taken
    seat = Seat(config.data / "spool")
    own = f"incoming-{config.mta.node}" if config.mta.node else "incoming"
    incoming = seat.named(own)  # each process empties its own
    return Ground(
        config=config,
        reactor=reactor,
        chance=chance,
        tls=_certificate(config),
        roots=_roots(config),
        work=work,
        resolver=resolver,
        directory=directory,
        sign_in=SignIn(directory, reactor, config.auth, hostname=config.hostname, provider=provider),
        store=MessageStore(
            config.store,
            work,
            reactor,
            recognise_sent=config.msa.save_sent,
            listen=database.listen,
            index=index_of(database),
        ),
        trail=trail,
        keyring=keyring,
        signing=Signing(keyring, work, reactor, trail),
        reception=Reception(work, config.data / "spool" / incoming, reactor, chance, policy, trail),
        seat=seat,
    )


def _database(config: Config) -> Database:
    database = Database(config.database)
    if not is_current(database):
        raise CannotStart(
            f"{database.url}: the tables are not those of this version; "
            "bring them up to date with: mailstack db upgrade"
        )
    return database


def _policy(config: Config, reactor: Any, work: Work, resolver: Resolver) -> Panel | None:
    def around(name: str) -> Surroundings:
        return Surroundings(name, config.hostname, reactor, work, resolver)

    try:
        return load_policy(config.policy, around, reactor)
    except BadPolicy as error:
        raise CannotStart(str(error)) from error


def _certificate(config: Config) -> ServerTls | None:
    if config.tls.certificate is None or config.tls.key is None:
        return None
    try:
        return ServerTls(config.tls.certificate, config.tls.key, config.tls.minimum)
    except OSError as error:
        raise CannotStart(f"tls: {error.filename}: {error.strerror}; name the files in [tls]") from error
    except (SSL.Error, ValueError) as error:
        raise CannotStart(
            f"tls: {config.tls.certificate} and {config.tls.key} cannot be used together: {error}"
        ) from error


def _roots(config: Config) -> Roots:
    try:
        return Roots(config.mta.ca_file)
    except (OSError, SSL.Error) as error:
        raise CannotStart(f"mta.ca_file: {config.mta.ca_file}: {error}; name a PEM file") from error


def _provider(config: Config, reactor: Any, work: Work) -> Vouches | None:
    """The OpenID provider whose tokens are taken; None where none is configured."""
    if not config.oauth.is_on:
        return None
    from mailstack.net.oauth import Provider  # an HTTP client, which few need

    try:
        return Provider(config.oauth, reactor, work)
    except ImportError as error:
        raise CannotStart(
            "oauth: PyJWT is not installed; get it with: pip install 'mailstack[oauth]'"
        ) from error
    except (OSError, ValueError) as error:
        raise CannotStart(f"oauth: {error}; name a readable file of keys or certificates") from error
