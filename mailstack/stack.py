"""The assembly: every arrow between the parts is drawn here, once, from top to bottom.

The module is also what ``twistd mailstack`` loads: `Options` and `makeService`.
"""

from __future__ import annotations

import gc
import random
import resource
from collections.abc import Callable, Sequence
from functools import partial
from pathlib import Path
from typing import Any

from OpenSSL import SSL
from twisted.application.service import Service
from twisted.internet.defer import Deferred, maybeDeferred
from twisted.internet.task import LoopingCall
from twisted.logger import ILogObserver, Logger
from twisted.python import usage

from mailstack import __version__
from mailstack.access.imap import ImapAccess
from mailstack.access.pop3 import Pop3Access
from mailstack.config import Config, ConfigError, load
from mailstack.db import Database
from mailstack.db.schema import is_current
from mailstack.directory.directory import Directory
from mailstack.mda import Delivery
from mailstack.msa import Submission
from mailstack.msa.limits import HourlyLimits
from mailstack.mta.exchangers import Exchangers
from mailstack.mta.forwarding import Forwarding
from mailstack.mta.hops import known_hops
from mailstack.mta.lmtp import AtOnce, Lmtp
from mailstack.mta.postmaster import Postmaster
from mailstack.mta.queue import Queue, unsigned
from mailstack.mta.relay import Relay
from mailstack.mta.return_paths import ReturnPaths
from mailstack.mta.routes import Routes
from mailstack.mta.security import Protection
from mailstack.mta.sts_policies import StsPolicies
from mailstack.mta.suppression import Suppressions
from mailstack.mta.tls_reports import ReportReader, TlsReports
from mailstack.mta.transfer import Transfer
from mailstack.net.client_tls import Roots
from mailstack.net.conversation import Welcomes
from mailstack.net.door import Door, DoorLimits
from mailstack.net.https import Https
from mailstack.net.listener import Listener, Speaks
from mailstack.net.log import observer
from mailstack.net.lookups import DnsLookups
from mailstack.net.peer import Network, Peer
from mailstack.net.reception import Reception
from mailstack.net.resolver import Resolver
from mailstack.net.settings import ListenersConfig, LogConfig
from mailstack.net.sign_in import SignIn, Vouches
from mailstack.net.tls import ServerTls
from mailstack.net.transcript import Transcript
from mailstack.policy import Surroundings
from mailstack.policy.authentication import Authentication
from mailstack.policy.loader import BadPolicy
from mailstack.policy.loader import load as load_policy
from mailstack.policy.panel import Panel
from mailstack.signing import Keyring, Signing
from mailstack.store import MessageStore
from mailstack.trail import Trail
from mailstack.wire import pop3, smtp
from mailstack.wire.imap.framer import Limits as ImapLimits
from mailstack.wire.imap.server import Server as ImapServer
from mailstack.work import Overloaded, Work

GC_THRESHOLDS = (20_000, 20, 50)  # new objects before a look at them; such looks before one at older ones
TLS_SECONDS = 60.0  # between looks whether the certificate was renewed
BUSY = {
    "smtp": b"421 4.7.0 Too many connections, try again later\r\n",
    "imap": b"* BYE [UNAVAILABLE] Too many connections, try again later\r\n",
    "pop3": b"-ERR [SYS/TEMP] Too many connections, try again later\r\n",
}

_log = Logger(namespace="mailstack")


class CannotStart(Exception):
    """The stack cannot run as it is configured; the message is for the operator: what, where, what to do."""


def assemble(config: Config, reactor: Any) -> Stack:
    """The whole stack, not yet started. Blocks; raises CannotStart."""
    database = _database(config)
    tls = _certificate(config)
    transcript = _transcript(config)
    chance = random.SystemRandom()

    work = Work(reactor, database, config.work)
    resolver = Resolver(reactor, config.dns)
    directory = Directory(work, config.directory, reactor, config.auth.keeping)
    sign_in = SignIn(
        directory, reactor, config.auth, hostname=config.hostname, provider=_provider(config, reactor, work)
    )
    store = MessageStore(config.store, work, reactor, database.is_sqlite, config.msa.save_sent)
    policy = _policy(config, reactor, work, resolver)  # who is asked before mail is taken
    trail = Trail(config.trail, work, reactor)
    keyring = Keyring(work, reactor)
    signing = Signing(keyring, work, reactor, trail)
    reception = Reception(work, config.data / "spool" / "incoming", reactor, chance, policy, trail)

    mda = Delivery(directory, store, work, config.mda, trail)  # 4 save in the Maildir
    exchangers = Exchangers(resolver, config.mta, config.hostname, chance)
    https = Https(reactor, resolver, config.mta.ca_file)
    tls_reports = TlsReports(config.hostname, config.mta.tls_reports_from, resolver, https, work, reactor)
    protection = Protection(
        config.mta,
        resolver,
        StsPolicies(resolver, https, work, reactor),
        tls_reports.count if config.mta.tls_reports else None,
    )
    hops = known_hops(config.mta, reactor, chance)
    transfer = Transfer(  # 3 to the next MTA, by MX
        config.mta,
        config.hostname,
        exchangers,
        work,
        reactor,
        transcript=transcript("transfer"),
        protection=protection,
        roots=_roots(config),
        hops=hops,
    )
    return_paths = ReturnPaths(directory, work, reactor)  # of what we forward
    routes = Routes(return_paths, mda, transfer, ReportReader(config.mta.tls_reports_to, work, reactor))
    queue = Queue(
        config.mta,
        work,
        routes,
        reactor,
        hostname=config.hostname,
        spool=config.data / "spool" / "queue",
        random=chance,
        hops=hops,
        trail=trail,
        postmaster=Postmaster(directory, config.hostname, config.directory.postmaster).address,
        forwarding=Forwarding(
            return_paths,
            work,
            reactor,
            hostname=config.hostname,
            keyring=keyring if config.dkim.seal else None,
            lookups=DnsLookups(resolver),
            trail=trail,
            verified=policy is not None and policy.has(Authentication, "relay"),
        ),
        sign=signing.signed if config.dkim.sign else unsigned,
    )
    tls_reports.take = queue.take
    submission = Submission(  # 1, 2 from our users
        config.msa,
        hostname=config.hostname,
        directory=directory,
        accepts=signing.before(queue) if config.dkim.sign else queue,
        reception=reception,
        sign_in=sign_in,
        tls=tls is not None,
        refusal=Suppressions(work, reactor).refusal if config.mta.suppress else None,
        limits=HourlyLimits(config.msa, work, reactor),
        store=store,
    )
    relay = Relay(  # 3 from other MTAs
        config.relay,
        hostname=config.hostname,
        directory=return_paths,
        accepts=queue,
        reception=reception,
        tls=tls is not None,
        patient=config.listeners.unlimited_networks,
        full=lambda user: store.is_full(user.id, (user.quota_octets, user.quota_messages)),
    )
    lmtp = Lmtp(  # 4 from another program's queue
        config.lmtp,
        hostname=config.hostname,
        directory=directory,
        accepts=AtOnce(queue),
        reception=reception,
        tls=tls is not None,
    )
    pop3_access = Pop3Access(  # 5 the MUA asks,
        store,
        sign_in,
        config.access.pop3,
        clock=reactor,
        work=work,
        hostname=config.hostname,
        offers_tls=tls is not None,
    )
    imap_access = ImapAccess(  # 6 and there it is
        store,
        sign_in,
        config.access.imap,
        clock=reactor,
        work=work,
        hostname=config.hostname,
        offers_tls=tls is not None,
    )
    imap_limits = ImapLimits(message=config.access.imap.max_message_octets)

    speaks: dict[str, tuple[str, Callable[[], Any], Welcomes]] = {
        "smtp": ("smtp", smtp.Server, relay),
        "submission": ("smtp", smtp.Server, submission),
        "submissions": ("smtp", smtp.Server, submission),
        "lmtp": ("smtp", partial(smtp.Server, lmtp=True), lmtp),
        "imap": ("imap", partial(ImapServer, imap_limits), imap_access),
        "imaps": ("imap", partial(ImapServer, imap_limits), imap_access),
        "pop3": ("pop3", pop3.Server, pop3_access),
        "pop3s": ("pop3", pop3.Server, pop3_access),
    }
    listeners = _listeners(config, reactor, speaks, tls)
    _allow_open_files(config.listeners.connections)
    return Stack(reactor, reception, listeners, [queue, tls_reports, transfer, store, trail, work], tls)


class Stack(Service):
    """What `assemble` put together, started from the bottom up and stopped from the top down."""

    def __init__(
        self,
        reactor: Any,
        reception: Reception,
        listeners: list[Listener],
        below: list[Any],
        tls: ServerTls | None,
    ) -> None:
        self._reactor = reactor
        self._reception = reception
        self._listeners = listeners
        self._below = below  # queue, store, trail, work: each needs those after it
        self._tls = tls
        self._renewals = LoopingCall(self._look_for_renewal)
        self._renewals.clock = reactor

    def privilegedStartService(self) -> None:
        """Take the ports while we still may; raise PortUnavailable."""
        for listener in self._listeners:
            listener.privilegedStartService()

    def startService(self) -> None:
        """Start everything; raise OSError or PortUnavailable."""
        super().startService()
        self._reception.prepare()
        for service in reversed(self._below):
            service.startService()
        for listener in self._listeners:
            listener.startService()
        self._renewals.start(TLS_SECONDS, now=False)
        _log.info("mailstack {version} is ready", version=__version__)

    def stopService(self) -> Deferred[None]:
        """Take no more connections, finish what was begun, then stop the queue, the store and the threads."""
        super().stopService()
        return Deferred.fromCoroutine(self._stop())

    async def _stop(self) -> None:
        self._renewals.stop()
        for listener in self._listeners:
            await listener.close()
        for service in self._below:
            await maybeDeferred(service.stopService)
        _log.info("mailstack has stopped")

    async def _look_for_renewal(self) -> None:
        if self._tls is not None:
            work: Work = self._below[-1]
            try:
                await work.files(self._tls.refresh)
            except Overloaded:
                pass  # there is a next time


def _listeners(
    config: Config,
    reactor: Any,
    speaks: dict[str, tuple[str, Callable[[], Any], Welcomes]],
    tls: ServerTls | None,
) -> list[Listener]:
    """A listener for each service and each address; TLS ports only where there is a certificate."""
    door = Door(_door_limits(config.listeners), reactor)
    transcript = _transcript(config)
    return [
        Listener(
            reactor,
            Speaks(place.service, session, BUSY[protocol]),
            service,
            door=door,
            port=place.port,
            interface=address,
            path=place.socket,
            mode=config.listeners.lmtp_socket_mode,
            tls=tls,
            implicit_tls=place.tls,
            backlog=config.listeners.backlog,
            transcript=transcript(place.service),
            proxies=_proxies(config.listeners, place.service),
            proxy_seconds=config.listeners.proxy_seconds,
        )
        for place in config.listeners.services()
        if tls is not None or not place.tls
        for protocol, session, service in [speaks[place.service]]
        for address in place.addresses
    ]


def _database(config: Config) -> Database:
    database = Database(config.database)
    if not is_current(database):
        raise CannotStart(
            f"{database.url}: the tables are not those of this version; "
            "bring them up to date with: mailstack db upgrade"
        )
    return database


def _door_limits(config: ListenersConfig) -> DoorLimits:
    return DoorLimits(
        config.connections,
        config.connections_per_address,
        config.connections_per_network,
        config.new_connections_per_address,
        config.new_connections_per_network,
        config.unlimited_networks,
    )


def _proxies(config: ListenersConfig, service: str) -> Sequence[Network]:
    return config.proxy_networks if service in config.proxy_services else ()


def _allow_open_files(connections: int) -> None:
    """Raise our own limit of open files to what that many connections need, as far as the system lets us."""
    wanted = 2 * connections + 1000  # a connection may have a file, and the rest of the stack has some
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    if soft == resource.RLIM_INFINITY or soft >= wanted:
        return
    most = wanted if hard == resource.RLIM_INFINITY else min(wanted, hard)
    if most > soft:
        resource.setrlimit(resource.RLIMIT_NOFILE, (most, hard))
    if most < connections:
        _log.warn(
            "only {most} files may be open, fewer than listeners.connections: {connections}; "
            "raise the limit (LimitNOFILE, ulimit -n) or lower the setting",
            most=most,
            connections=connections,
        )


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


def _transcript(config: Config) -> Callable[[str], Callable[[Peer], Transcript] | None]:
    """Makes what logs a service's conversations; None unless [log] asks for them."""

    def of(service: str) -> Callable[[Peer], Transcript] | None:
        return (lambda peer: Transcript(service, peer)) if config.log.conversation else None

    return of


# What twistd asks for.


class BadSettings(ConfigError, usage.UsageError):
    """twistd shows a usage error as it is, without a traceback."""


class Options(usage.Options):
    """The options of ``twistd mailstack``."""

    optParameters = [["config", "c", "mailstack.toml", "The configuration file."]]

    def __init__(self) -> None:
        super().__init__()
        self.overrides: list[str] = []

    def opt_set(self, setting: str) -> None:
        """Override a setting for this run: dotted.key=TOML-value. May be repeated."""
        self.overrides.append(setting)

    def postOptions(self) -> None:
        """Read the settings, and have twistd log as they say."""
        try:
            self.settings = load(Path(self["config"]), self.overrides)
        except ConfigError as error:
            raise BadSettings(error.messages) from None
        parent = getattr(self, "parent", None)
        if parent is not None and not parent.get("logger") and not parent.get("logfile"):
            Logging.config = self.settings.log
            parent["logger"] = f"{__name__}.Logging.observer"


class Logging:
    """What twistd logs with. It wants a dotted name, so the settings wait where a name can reach them."""

    config: LogConfig = LogConfig()

    @classmethod
    def observer(cls) -> ILogObserver:
        """An observer as [log] asks for."""
        return observer(cls.config)


def makeService(options: Options) -> Stack:
    """The stack that `options` describe; called by twistd."""
    from twisted.internet import reactor

    stack = assemble(options.settings, reactor)
    # What is loaded now lives as long as the process: the garbage collector need not walk it again, and need
    # not run for every few hundred objects of a mailbox that is being loaded.
    gc.collect()
    gc.freeze()
    gc.set_threshold(*GC_THRESHOLDS)
    return stack
