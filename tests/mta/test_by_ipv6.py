"""Transfers over IPv6: an exchanger with no other address, one that listens only there, an address literal."""

from __future__ import annotations

import socket
from random import Random

from twisted.internet import reactor
from twisted.internet.error import CannotListenError
from twisted.trial.unittest import SkipTest

from mailstack.mta.exchangers import Exchangers
from mailstack.mta.settings import MtaConfig
from mailstack.mta.transfer import Transfer
from mailstack.net.dns_settings import DnsConfig
from mailstack.net.name_server import NameServer
from mailstack.net.resolver import Resolver
from tests.mta.test_transfer import MESSAGE, TransferCase, envelope


class TestByIPv6(TransferCase):
    """Exchangers, and a recipient's own host, that are reached by IPv6 alone."""

    async def test_names_and_literals(self) -> None:
        try:
            hop = self.hop(interface="::1")
        except CannotListenError:
            raise SkipTest("no IPv6 here") from None
        nobody = self.enterContext(socket.socket())
        nobody.bind(("127.0.0.1", hop.port))  # so that nobody else listens there
        names = NameServer(
            reactor,
            {
                "six.test": ["MX 10 mx.six.test."],
                "mx.six.test": ["AAAA ::1"],
                "both.test": ["MX 10 mx.both.test."],
                "mx.both.test": ["A 127.0.0.1", "AAAA ::1"],  # nobody listens at the first
            },
        )
        names.startService()
        self.addCleanup(names.stopService)
        config = MtaConfig(keep_connections=0, port=hop.port, private_networks=("127.0.0.0/8", "::1/128"))
        resolver = Resolver(reactor, DnsConfig((f"127.0.0.1:{names.port}",)))
        exchangers = Exchangers(resolver, config, "mail.a.test", Random(1))
        transfer = Transfer(config, "mail.a.test", exchangers, self.work, reactor)
        self.addCleanup(transfer.stopService)
        for where in ("six.test", "both.test", "[IPv6:::1]"):
            [result] = (await transfer.send(where, envelope(), MESSAGE)).values()
            self.assertEqual((where, result.reply.code), (where, 250))
        self.assertEqual(hop.messages, [MESSAGE.read()] * 3)
