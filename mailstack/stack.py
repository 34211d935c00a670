"""The assembly: every arrow between the parts is drawn here, once, from top to bottom.

The module is also what ``twistd mailstack`` loads: `Options` and `makeService`.
"""

from __future__ import annotations

import gc
import sys
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

from twisted.logger import ILogObserver, Logger
from twisted.python import usage

from mailstack.access.imap import ImapAccess
from mailstack.access.pop3 import Pop3Access
from mailstack.config import Config, ConfigError, load
from mailstack.ground import Ground, prepare
from mailstack.mda.delivery import Delivery
from mailstack.msa.limits import HourlyLimits
from mailstack.msa.submission import Submission
from mailstack.msa.trusted import Trust, TrustedFirst
from mailstack.mta.exchangers import Exchangers
from mailstack.mta.forwarding import Forwarding
from mailstack.mta.hops import Hops, known_hops
from mailstack.mta.lmtp import Lmtp
from mailstack.mta.postmaster import Postmaster
from mailstack.mta.queue import Queue, Submissions, unsigned
from mailstack.mta.relay import Relay
from mailstack.mta.return_paths import ReturnPaths
from mailstack.mta.routes import Routes
from mailstack.mta.security import Protection
from mailstack.mta.sts_policies import StsPolicies
from mailstack.mta.suppression import Suppressions
from mailstack.mta.tls_reports import ReportReader, TlsReports
from mailstack.mta.transfer import Transfer
from mailstack.net.conversation import Welcomes
from mailstack.net.gateways import default_gateways
from mailstack.net.https import Https
from mailstack.net.log import observer
from mailstack.net.lookups import DnsLookups
from mailstack.net.reach import Reach
from mailstack.net.settings import LogConfig
from mailstack.policy.authentication import Authentication
from mailstack.policy.panel import Panel
from mailstack.service import Spoken, Stack, listeners
from mailstack.wire import pop3, smtp
from mailstack.wire.imap.framer import Limits as ImapLimits
from mailstack.wire.imap.server import Server as ImapServer

_log = Logger(namespace="mailstack")

# New objects before a look at them; such looks before one at older ones: it takes 15 ms then, not 75.
GC_THRESHOLDS = (10_000, 5, 400)
LOCK_SECONDS = 0.001  # that a thread computes while another waits for Python's lock


def assemble(config: Config, reactor: Any) -> Stack:
    """The whole stack, not yet started. Blocks; raises CannotStart."""
    ground = prepare(config, reactor)
    return_paths = ReturnPaths(ground.directory, ground.work, reactor)  # of what we forward

    outward = _outward(ground)  # 3 to the next MTA, by MX
    mda = Delivery(ground.directory, ground.store, ground.work, config.mda, ground.trail)  # 4 to the Maildir
    reports = ReportReader(config.mta.tls_reports_to, ground.work, reactor)
    routes = Routes(return_paths, mda, outward.transfer, reports)
    queue = _queue(ground, routes, outward.hops, return_paths)  # 2
    outward.tls_reports.take = queue.take

    trust = _trust(ground, queue, return_paths)  # of our printers and scripts
    submission = _submission(ground, queue)
    relay: Welcomes = _relay(ground, queue, return_paths)
    if trust.config.on_smtp:
        relay = TrustedFirst(trust, submission, relay, logins=False)

    speaks = _conversations(
        submission=TrustedFirst(trust, submission, submission),  # 1, 2 from our users
        relay=relay,  # 3 from other MTAs
        lmtp=_lmtp(ground, queue, return_paths),  # 4 from another program's queue
        pop3_access=_pop3(ground),  # 5 the MUA asks,
        imap_access=_imap(ground),  # 6 and there it is
        imap_limits=ImapLimits(message=config.access.imap.max_message_octets),
    )
    below = [
        queue,
        outward.tls_reports,
        outward.transfer,
        ground.store,
        ground.trail,
        ground.seat,
        ground.work,
    ]
    return Stack(ground, listeners(ground, speaks), below)


@dataclass(frozen=True, slots=True)
class Outward:
    """What sends mail away, and keeps account of how that went."""

    transfer: Transfer
    hops: Hops
    tls_reports: TlsReports


def _outward(ground: Ground) -> Outward:
    config, reactor = ground.config, ground.reactor
    exchangers = Exchangers(ground.resolver, config.mta, config.hostname, ground.chance)
    https = Https(reactor, ground.resolver, ground.roots, reach=Reach(config.mta.private_networks))
    tls_reports = TlsReports(
        config.hostname, config.mta.tls_reports_from, ground.resolver, https, ground.work, reactor
    )
    protection = Protection(
        config.mta,
        ground.resolver,
        StsPolicies(ground.resolver, https, ground.work, reactor),
        tls_reports.count if config.mta.tls_reports else None,
    )
    hops = known_hops(config.mta, reactor, ground.chance)
    transfer = Transfer(
        config.mta,
        config.hostname,
        exchangers,
        ground.work,
        reactor,
        transcript=ground.transcript("transfer"),
        protection=protection,
        roots=ground.roots,
        hops=hops,
    )
    return Outward(transfer, hops, tls_reports)


def _queue(ground: Ground, routes: Routes, hops: Hops, return_paths: ReturnPaths) -> Queue:
    config, work, reactor = ground.config, ground.work, ground.reactor
    policy = ground.reception.policy
    forwarding = Forwarding(
        return_paths,
        work,
        reactor,
        hostname=config.hostname,
        keyring=ground.keyring if config.dkim.seal else None,
        lookups=DnsLookups(ground.resolver),
        trail=ground.trail,
        verified=isinstance(policy, Panel) and policy.has(Authentication, "relay"),
    )
    return Queue(
        config.mta,
        work,
        routes,
        reactor,
        hostname=config.hostname,
        spool=config.data / "spool" / "queue",
        random=ground.chance,
        node=ground.seat.named(config.mta.node or config.hostname),
        hops=hops,
        trail=ground.trail,
        postmaster=Postmaster(ground.directory, config.hostname, config.directory.postmaster).address,
        forwarding=forwarding,
        sign=ground.signing.signed if config.dkim.sign else unsigned,
    )


def _submission(ground: Ground, queue: Queue) -> Submission:
    config, work, reactor = ground.config, ground.work, ground.reactor
    return Submission(
        config.msa,
        hostname=config.hostname,
        directory=ground.directory,
        accepts=Submissions(queue),
        reception=ground.reception,
        sign_in=ground.sign_in,
        tls=ground.tls is not None,
        refusal=Suppressions(work, reactor).refusal if config.mta.suppress else None,
        limits=HourlyLimits(config.msa, work, reactor),
        store=ground.store,
    )


def _trust(ground: Ground, queue: Queue, return_paths: ReturnPaths) -> Trust:
    """Who submits without a login."""
    config = ground.config
    trusted = config.msa.trusted
    if trusted.networks:
        _log.info(
            "no login is asked of {networks} by submission{smtp}",
            networks=", ".join(map(str, trusted.networks)),
            smtp=" and smtp" if trusted.on_smtp else "",
        )
    return Trust(
        trusted,
        return_paths,
        accepts=queue,
        postmaster=Postmaster(ground.directory, config.hostname, config.directory.postmaster).address,
        limits=HourlyLimits(trusted, ground.work, ground.reactor),
        is_return_path=return_paths.is_return_path,
        proxies=config.listeners.proxy_networks,
        gateways=default_gateways(),
    )


def _relay(ground: Ground, queue: Queue, return_paths: ReturnPaths) -> Relay:
    config, store = ground.config, ground.store
    return Relay(
        config.relay,
        hostname=config.hostname,
        directory=return_paths,
        accepts=queue,
        reception=ground.reception,
        tls=ground.tls is not None,
        patient=config.listeners.unlimited_networks,
        is_return_path=return_paths.is_return_path,
        full=lambda user: store.is_full(user.id, (user.quota_octets, user.quota_messages)),
    )


def _lmtp(ground: Ground, queue: Queue, return_paths: ReturnPaths) -> Lmtp:
    """Mail from another program's queue."""
    config = ground.config
    return Lmtp(
        config.lmtp,
        hostname=config.hostname,
        directory=return_paths,
        accepts=queue,
        reception=ground.reception,
        tls=ground.tls is not None,
        is_return_path=return_paths.is_return_path,
    )


def _pop3(ground: Ground) -> Pop3Access:
    return Pop3Access(
        ground.store,
        ground.sign_in,
        ground.config.access.pop3,
        clock=ground.reactor,
        work=ground.work,
        hostname=ground.config.hostname,
        offers_tls=ground.tls is not None,
    )


def _imap(ground: Ground) -> ImapAccess:
    return ImapAccess(
        ground.store,
        ground.sign_in,
        ground.config.access.imap,
        clock=ground.reactor,
        work=ground.work,
        hostname=ground.config.hostname,
        offers_tls=ground.tls is not None,
        inbox_only=not ground.config.mda.detail_mailbox,
    )


def _conversations(
    *,
    submission: Welcomes,
    relay: Welcomes,
    lmtp: Lmtp,
    pop3_access: Pop3Access,
    imap_access: ImapAccess,
    imap_limits: ImapLimits,
) -> dict[str, Spoken]:
    """What is spoken by each service that a listener may have."""
    to_users = Spoken("smtp", partial(smtp.Server, mends=True), submission)
    pop = Spoken("pop3", pop3.Server, pop3_access)
    imap = Spoken("imap", partial(ImapServer, imap_limits), imap_access)
    return {
        "smtp": Spoken("smtp", smtp.Server, relay),
        "submission": to_users,
        "submissions": to_users,
        "lmtp": Spoken("smtp", partial(smtp.Server, lmtp=True), lmtp),
        "imap": imap,
        "imaps": imap,
        "pop3": pop,
        "pop3s": pop,
    }


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
    sys.setswitchinterval(LOCK_SECONDS)  # a thread that sorts or searches is no reason for others to wait
    return stack
