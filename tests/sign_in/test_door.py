"""The one way in: what is offered, what is refused and how slowly, what the log learns."""

from __future__ import annotations

import ipaddress
from typing import Any

import pytest
from twisted.internet.defer import Deferred
from twisted.internet.task import Clock

from mailstack.net.peer import Peer
from mailstack.net.settings import AuthConfig
from mailstack.net.sign_in import Door, Patience, Refusal, SignIn, Welcome, Why
from mailstack.wire.sasl import MECHANISMS, Challenge
from mailstack.work import Overloaded
from tests.sign_in.people import LOGIN, PASSWORD, USER, People, Tokens
from tests.wire.sasl.scram_client import ScramClient

END_POINT = {"tls-server-end-point": bytes(32)}
ALL = tuple(MECHANISMS)
LAN = (ipaddress.ip_network("10.0.0.0/8"),)


class World:
    """A door, and the time."""

    def __init__(
        self,
        *,
        secure: bool = True,
        bound: bool = True,
        tokens: bool = True,
        address: str = "192.0.2.1",
        mechanisms: tuple[str, ...] = ALL,
    ) -> None:
        self.clock = Clock()
        self.people = People()
        config = AuthConfig(LAN, mechanisms)
        service = SignIn(
            self.people, self.clock, config, provider=Tokens() if tokens else None, nonce=lambda: "nonce"
        )
        self.peer = Peer(address, 4000, 993, secure, bound_to=lambda: END_POINT if bound else {})
        self.door: Door = service.door(self.peer, "imap", Patience(5, 2.0))
        self.waited = 0.0  # seconds, for the last outcome

    def of(self, doing: Any) -> Any:
        """The outcome, as late as it comes."""
        found: list[Any] = []
        Deferred.fromCoroutine(doing).addBoth(found.append)
        self.waited = 0.0
        while not found:
            assert self.clock.getDelayedCalls(), "it waits for ever"
            self.clock.advance(0.5)
            self.waited += 0.5
        return found[0]

    def begin(self, name: str, initial: bytes | None = None) -> Any:
        return self.of(self.door.begin(name, initial))

    def respond(self, data: bytes | None) -> Any:
        return self.of(self.door.respond(data))

    def scram(self, name: str, login: str, password: str, **options: Any) -> list[Any]:
        """All outcomes of one exchange."""
        client = ScramClient(name, login, password, **options)
        outcomes = [self.begin(name, client.first())]
        if isinstance(outcomes[-1], Challenge):
            outcomes.append(self.respond(client.final(outcomes[-1].data)))
        if isinstance(outcomes[-1], Challenge):
            outcomes.append(self.respond(b""))
        return outcomes


class TestOffers:
    def test_in_tls_everything(self) -> None:
        assert World().door.mechanisms == ALL

    def test_in_the_order_of_the_settings(self) -> None:
        assert World(mechanisms=("LOGIN", "SCRAM-SHA-1", "PLAIN")).door.mechanisms == (
            "LOGIN",
            "SCRAM-SHA-1",
            "PLAIN",
        )

    def test_in_clear_nothing(self) -> None:
        world = World(secure=False)
        assert not world.door.is_private
        assert world.door.mechanisms == ()
        for name in ALL:
            assert world.begin(name, b"x") == Refusal(Why.IN_CLEAR)
        assert world.of(world.door.password(LOGIN, PASSWORD)) == Refusal(Why.IN_CLEAR)

    def test_in_clear_from_a_network_that_may(self) -> None:
        world = World(secure=False, address="10.1.2.3")
        assert world.door.mechanisms == tuple(name for name in ALL if not name.endswith("-PLUS"))
        assert world.of(world.door.password(LOGIN, PASSWORD)) == Welcome(USER)

    def test_without_a_binding_no_plus(self) -> None:
        world = World(bound=False)
        assert not any(name.endswith("-PLUS") for name in world.door.mechanisms)
        assert world.begin("SCRAM-SHA-1-PLUS", b"x") == Refusal(Why.UNKNOWN_MECHANISM)

    def test_without_a_provider_no_tokens(self) -> None:
        world = World(tokens=False)
        assert "XOAUTH2" not in world.door.mechanisms
        assert world.begin("OAUTHBEARER", b"n,,\1auth=Bearer good\1\1") == Refusal(Why.UNKNOWN_MECHANISM)

    def test_cram_md5_only_where_it_is_turned_on(self) -> None:
        assert "CRAM-MD5" not in AuthConfig().mechanisms
        assert AuthConfig().keeping.mechanisms == ("SCRAM-SHA-1", "SCRAM-SHA-256")
        world = World(mechanisms=AuthConfig().mechanisms)
        assert world.begin("CRAM-MD5") == Refusal(Why.UNKNOWN_MECHANISM)

    @pytest.mark.parametrize(
        "options",
        [
            {"mechanisms": ("NTLM",)},
            {"mechanisms": ()},
            {"mechanisms": ("PLAIN", "PLAIN")},
            {"scram_iterations": 4095},
        ],
    )
    def test_settings_that_make_no_sense(self, options: Any) -> None:
        with pytest.raises(ValueError, match=r"auth\."):
            AuthConfig(**options)


class TestWelcome:
    @pytest.mark.parametrize("name", ["SCRAM-SHA-1", "SCRAM-SHA-256"])
    def test_scram(self, name: str) -> None:
        assert World().scram(name, LOGIN, PASSWORD)[-1] == Welcome(USER)

    @pytest.mark.parametrize("name", ["SCRAM-SHA-1-PLUS", "SCRAM-SHA-256-PLUS"])
    def test_bound(self, name: str) -> None:
        bound = {"header": b"p=tls-server-end-point,,", "binding": bytes(32)}
        assert World().scram(name, LOGIN, PASSWORD, **bound)[-1] == Welcome(USER)

    def test_able_to_bind_where_this_mechanism_is_not_offered_bound(self) -> None:
        """As by default: msmtp finds a -PLUS, mutt none that it would take before SCRAM-SHA-256."""
        world = World(mechanisms=AuthConfig().mechanisms)
        assert "SCRAM-SHA-1-PLUS" in world.door.mechanisms
        assert "SCRAM-SHA-256-PLUS" not in world.door.mechanisms
        assert world.scram("SCRAM-SHA-256", LOGIN, PASSWORD, header=b"y,,")[-1] == Welcome(USER)
        bound = {"header": b"p=tls-server-end-point,,", "binding": bytes(32)}
        assert world.scram("SCRAM-SHA-1-PLUS", LOGIN, PASSWORD, **bound)[-1] == Welcome(USER)

    def test_somebody_took_plus_out_of_what_was_offered(self) -> None:
        world = World(mechanisms=AuthConfig().mechanisms)
        [refusal] = world.scram("SCRAM-SHA-1", LOGIN, PASSWORD, header=b"y,,")
        assert refusal.why is Why.MALFORMED

    def test_names_in_any_case(self) -> None:
        assert World().begin("plain", f"\0{LOGIN}\0{PASSWORD}".encode()) == Welcome(USER)

    def test_tokens(self) -> None:
        assert World().begin("OAUTHBEARER", b"n,,\1auth=Bearer good\1\1") == Welcome(USER)
        assert World().begin("XOAUTH2", b"user=user@example.org\1auth=Bearer good\1\1") == Welcome(USER)


class TestRefusal:
    def test_unknown_and_wrong_are_one(self) -> None:
        """The same words, the same length of wait; only salt and nonce differ."""
        seen = []
        for login, password in ((LOGIN, "wrong"), ("nobody", "wrong"), ("nobody", PASSWORD)):
            world = World()
            first, last = world.scram("SCRAM-SHA-256", login, password)
            fields = first.data.split(b",")
            seen.append((fields[0], len(fields[1]), fields[2], last, world.waited))
            assert last == Refusal(Why.WRONG)
        assert len(set(seen)) == 1

    def test_the_log_tells_them_apart(self) -> None:
        world = World()
        world.scram("SCRAM-SHA-1", LOGIN, "wrong")
        world.scram("SCRAM-SHA-1", "nobody", "wrong")
        world.begin("CRAM-MD5")
        world.respond(b"nobody " + b"0" * 32)
        assert world.people.refusals == [
            (LOGIN, "192.0.2.1", "wrong password"),
            ("nobody", "192.0.2.1", "unknown user"),
            ("nobody", "192.0.2.1", "unknown user"),
        ]

    def test_each_waits_longer(self) -> None:
        world = World()
        waits = []
        for name in ("SCRAM-SHA-1", "SCRAM-SHA-256", "SCRAM-SHA-1"):
            assert world.scram(name, LOGIN, "wrong")[-1] == Refusal(Why.WRONG)
            waits.append(world.waited)
        assert waits[0] >= 2
        assert waits == sorted(set(waits))

    def test_whatever_is_wrong_wears_the_door(self) -> None:
        world = World()
        world.begin("PLAIN", b"junk")
        world.begin("PLAIN", b"\0user\0wrong")
        world.scram("SCRAM-SHA-1", LOGIN, "wrong")
        world.begin("XOAUTH2", b"user=u\1auth=Bearer bad\1\1")
        assert not world.door.is_worn
        world.of(world.door.password(LOGIN, ""))
        assert world.door.is_worn

    def test_a_token_is_counted_even_if_the_client_breaks_off(self) -> None:
        world = World()
        told = world.begin("OAUTHBEARER", b"n,,\1auth=Bearer bad\1\1")
        assert told == Challenge(b'{"status": "invalid_token"}')
        assert world.waited >= 2
        assert world.door.failures == 1
        assert world.respond(None) == Refusal(Why.CANCELLED)
        assert world.door.failures == 1

    def test_a_token_of_nobody_here(self) -> None:
        world = World()
        told = world.begin("OAUTHBEARER", b"n,,\1auth=Bearer other\1\1")
        assert told == Challenge(b'{"status": "invalid_token"}')
        assert world.respond(b"\1") == Refusal(Why.WRONG)
        assert world.door.failures == 1

    def test_cancelled(self) -> None:
        world = World()
        for name in ALL:
            assert isinstance(world.begin(name), Challenge)
            assert world.respond(None) == Refusal(Why.CANCELLED)
            assert world.respond(b"x") == Refusal(Why.CANCELLED)
        assert world.door.failures == 0

    @pytest.mark.parametrize("name", ALL)
    def test_malformed(self, name: str) -> None:
        world = World()
        world.begin(name)
        outcome = world.respond(b"\xff\xff,,\0") if name != "LOGIN" else world.respond(b"\xff")
        assert isinstance(outcome, Refusal)
        assert outcome.why is Why.MALFORMED
        assert outcome.text
        assert world.door.failures == 1
        assert world.begin("PLAIN", f"\0{LOGIN}\0{PASSWORD}".encode()) == Welcome(USER)

    def test_a_new_exchange_ends_the_old(self) -> None:
        world = World()
        world.begin("SCRAM-SHA-1", ScramClient("SCRAM-SHA-1", LOGIN, PASSWORD).first())
        assert world.begin("PLAIN") == Challenge(b"")
        assert world.respond(f"\0{LOGIN}\0{PASSWORD}".encode()) == Welcome(USER)

    def test_what_cannot_be_checked_now(self) -> None:
        world = World()
        assert world.begin("XOAUTH2", b"user=u\1auth=Bearer down\1\1") == Refusal(Why.UNAVAILABLE)
        world.people.error = Overloaded("full")
        assert world.begin("PLAIN", f"\0{LOGIN}\0{PASSWORD}".encode()) == Refusal(Why.UNAVAILABLE)
        assert world.of(world.door.password(LOGIN, PASSWORD)) == Refusal(Why.UNAVAILABLE)
        assert world.begin("SCRAM-SHA-1", b"n,,n=user,r=abc") == Refusal(Why.UNAVAILABLE)
        assert world.door.failures == 0

    def test_an_error_of_ours_ends_the_exchange(self) -> None:
        world = World()
        world.people.error = ZeroDivisionError()
        failure = world.begin("SCRAM-SHA-1", b"n,,n=user,r=abc")
        assert failure.check(ZeroDivisionError)
        assert world.respond(b"") == Refusal(Why.CANCELLED)
