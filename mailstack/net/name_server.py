"""A small authoritative name server, on loopback: for the demonstration of the journey and for tests.

Theory of operation. The zone is a dict: a name, and its records in the words of a zone file without name,
class and TTL, as ``{"example.test": ["MX 10 mail.example.test.", "TXT \\"v=spf1 -all\\""]}``. Answers come
from it alone, over UDP, and over TCP where they were too long (RFC 1035 section 4.2, RFC 6891); a name that
is not there is NXDOMAIN, so this server suits closed worlds and never the Internet.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import dns.exception
import dns.flags
import dns.message
import dns.name
import dns.rcode
import dns.rdata
import dns.rdataclass
import dns.rdatatype
import dns.rrset
from twisted.application.service import Service
from twisted.internet.defer import Deferred, gatherResults
from twisted.internet.error import CannotListenError
from twisted.internet.protocol import DatagramProtocol, Factory, Protocol

TTL = 60  # seconds, of every record
IDLE = 10.0  # seconds that a TCP connection may say nothing
MAX_CNAMES = 8
_UDP_DEFAULT = 512  # octets without EDNS, RFC 1035 section 2.3.4
_SAME_PORT_TRIES = 20

Zone = Mapping[str, Sequence[str]]


class NameServer(Service):
    """Serves `zone` at `address` on one port for UDP and TCP; `port` 0: any, known once started."""

    def __init__(self, reactor: Any, zone: Zone, address: str = "127.0.0.1", port: int = 0) -> None:
        self.reactor = reactor
        self._records = _read(zone)
        self.address = address
        self.port = port
        self._ports: list[Any] = []

    def startService(self) -> None:
        """Listen; raise CannotListenError where the port is taken."""
        super().startService()
        self._listen()

    def stopService(self) -> Deferred[Any]:
        """Stop listening."""
        super().stopService()
        ports, self._ports = self._ports, []
        return gatherResults([Deferred.fromCoroutine(_stop(port)) for port in ports])

    def answer(self, query: dns.message.Message) -> dns.message.Message | None:
        """The response to a query, before any truncation; None: say nothing."""
        response = dns.message.make_response(query, recursion_available=True)
        response.flags |= dns.flags.AA
        if query.opcode() != dns.opcode.QUERY or len(query.question) != 1:
            response.set_rcode(dns.rcode.NOTIMP)
            return response
        question = query.question[0]
        name = question.name
        for _ in range(MAX_CNAMES):
            records = self._records.get(name.canonicalize())
            if records is None:
                response.set_rcode(dns.rcode.NXDOMAIN)
                break
            answers = records.get(question.rdtype)
            if answers:
                response.answer.append(dns.rrset.from_rdata_list(name, TTL, answers))
                break
            aliases = records.get(dns.rdatatype.CNAME)
            if not aliases:
                break
            response.answer.append(dns.rrset.from_rdata_list(name, TTL, aliases))
            name = aliases[0].target
        return response

    def datagram(self, wire: bytes) -> bytes | None:
        """The answer to a datagram, truncated to what its sender can take."""
        query, response = self._respond(wire)
        if query is None or response is None:
            return None
        limit = max(_UDP_DEFAULT, query.payload) if query.edns >= 0 else _UDP_DEFAULT
        try:
            return response.to_wire(max_size=limit)
        except dns.exception.TooBig:
            short = dns.message.make_response(query, recursion_available=True)
            short.flags |= dns.flags.TC
            return short.to_wire()

    def framed(self, wire: bytes) -> bytes | None:
        """The answer to a TCP message, with its length in front."""
        _, response = self._respond(wire)
        return None if response is None else response.to_wire(max_size=65535, prepend_length=True)

    def _respond(self, wire: bytes) -> tuple[dns.message.Message | None, dns.message.Message | None]:
        try:
            query = dns.message.from_wire(wire)
        except (dns.exception.DNSException, ValueError):
            return None, None  # not DNS: silence
        if query.flags & dns.flags.QR:
            return None, None
        return query, self.answer(query)

    def _listen(self) -> None:
        for attempt in range(_SAME_PORT_TRIES):
            factory = _Streams(self)
            tcp = self.reactor.listenTCP(self.port, factory, interface=self.address)
            number = tcp.getHost().port
            try:
                udp = self.reactor.listenUDP(number, _Datagrams(self), interface=self.address)
            except CannotListenError:
                tcp.stopListening()
                if self.port or attempt == _SAME_PORT_TRIES - 1:
                    raise
                continue
            self.port = number
            self._ports = [tcp, udp]
            return


class _Datagrams(DatagramProtocol):
    noisy = False

    def __init__(self, server: NameServer) -> None:
        self._server = server

    def datagramReceived(self, datagram: bytes, addr: Any) -> None:
        response = self._server.datagram(datagram)
        if response is not None and self.transport is not None:
            self.transport.write(response, addr)


class _Streams(Factory):
    noisy = False

    def __init__(self, server: NameServer) -> None:
        self._server = server

    def buildProtocol(self, addr: Any) -> Protocol:
        return _Stream(self._server)


class _Stream(Protocol):
    def __init__(self, server: NameServer) -> None:
        self._server = server
        self._unread = b""

    def connectionMade(self) -> None:
        self._idle = self._server.reactor.callLater(IDLE, self._drop)

    def dataReceived(self, data: bytes) -> None:
        self._idle.reset(IDLE)
        self._unread += data
        while len(self._unread) >= 2:
            length = int.from_bytes(self._unread[:2], "big")
            if len(self._unread) < 2 + length:
                return
            wire, self._unread = self._unread[2 : 2 + length], self._unread[2 + length :]
            response = self._server.framed(wire)
            if response is None:
                self._drop()
                return
            assert self.transport is not None
            self.transport.write(response)

    def connectionLost(self, reason: Any = None) -> None:
        if self._idle.active():
            self._idle.cancel()

    def _drop(self) -> None:
        assert self.transport is not None
        self.transport.loseConnection()


async def _stop(port: Any) -> None:
    stopped = port.stopListening()
    if stopped is not None:
        await stopped


def _read(zone: Zone) -> dict[dns.name.Name, dict[dns.rdatatype.RdataType, list[Any]]]:
    read: dict[dns.name.Name, dict[dns.rdatatype.RdataType, list[Any]]] = {}
    for name, records in zone.items():
        types = read.setdefault(dns.name.from_text(name).canonicalize(), {})
        for record in records:
            kind, _, text = record.partition(" ")
            rdtype = dns.rdatatype.from_text(kind)
            types.setdefault(rdtype, []).append(dns.rdata.from_text(dns.rdataclass.IN, rdtype, text))
    return read
