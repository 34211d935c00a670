"""The places: who is let in, and that nobody takes all places."""

from __future__ import annotations

from ipaddress import ip_network

import pytest
from twisted.internet.task import Clock

from mailstack.net.places import FEW, PlaceLimits, Places, network_of


def many(places: Places, count: int, host: str) -> int:
    return sum(places.enter(host) is None for _ in range(count))


def test_one_address_gets_its_share_and_gives_it_back() -> None:
    places = Places(PlaceLimits(1000, 20), Clock())
    assert many(places, 1000, "192.0.2.1") == 20
    assert many(places, 5, "192.0.2.2") == 5
    assert places.enter("192.0.2.1") == "too many connections from this address"
    places.leave("192.0.2.1")
    assert places.enter("192.0.2.1") is None
    assert places.enter("192.0.2.1") == "too many connections from this address"
    assert places.open == 25


def test_a_network_gets_its_share() -> None:
    places = Places(PlaceLimits(1000, 20, per_network=50), Clock())
    assert sum(many(places, 20, f"192.0.2.{number}") for number in range(10)) == 50
    assert places.enter("192.0.2.200") == "too many connections from 192.0.2.0/24"
    assert places.enter("192.0.3.1") is None


def test_an_ipv6_customer_is_one_address_and_a_site_one_network() -> None:
    places = Places(PlaceLimits(1000, 2, per_network=5), Clock())
    assert sum(many(places, 1, f"2001:db8:0:1::{number}") for number in range(10)) == 2
    assert sum(many(places, 9, f"2001:db8:0:{number}::1") for number in range(2, 10)) == 3
    assert places.enter("2001:db8:1::1") is None


def test_new_ones_are_counted_by_the_minute() -> None:
    clock = Clock()
    places = Places(PlaceLimits(1000, 1000, new_per_address=3, new_per_network=5), clock)
    for _ in range(3):
        assert places.enter("192.0.2.1") is None
        places.leave("192.0.2.1")
    assert places.enter("192.0.2.1") == "too many new connections from this address"
    assert many(places, 3, "192.0.2.2") == 2
    assert places.enter("192.0.2.3") == "too many new connections from 192.0.2.0/24"
    assert places.enter("198.51.100.1") is None
    clock.advance(60)
    assert places.enter("192.0.2.1") is None


def test_unlimited_networks_are_only_counted_in_all() -> None:
    limits = PlaceLimits(100, 2, 2, 2, 2, (ip_network("127.0.0.0/8"),))
    places = Places(limits, Clock())
    assert many(places, 50, "127.0.0.1") == 50
    assert many(places, 50, "192.0.2.1") == 2
    assert many(places, 100, "127.0.0.1") == 38  # then only the last tenth is left
    assert many(places, 100, "127.0.0.2") == 10


def test_the_last_places_are_for_those_who_hold_few() -> None:
    places = Places(PlaceLimits(1000, 1000), Clock())
    assert many(places, 2000, "192.0.2.1") == 900
    assert many(places, 2000, "192.0.2.2") == FEW
    for number in range(9):
        assert many(places, 2000, f"198.51.100.{number}") == FEW
    assert places.open == 1000
    assert places.enter("203.0.113.1") == "too many connections"


def test_the_log_names_an_origin_once_a_minute() -> None:
    clock = Clock()
    places = Places(PlaceLimits(1, 1), clock)
    places.enter("192.0.2.1")
    assert [places.first_refusal("192.0.2.1") for _ in range(3)] == [True, False, False]
    clock.advance(60)
    places.enter("192.0.2.1")
    assert places.first_refusal("192.0.2.1")


@pytest.mark.parametrize(
    ("host", "network"),
    [
        ("192.0.2.77", "192.0.2.0/24"),
        ("2001:db8:1:2::3", "2001:db8:1::/48"),
        ("fe80::1%eth0", "fe80::/48"),
        ("", "/network"),
    ],
)
def test_networks(host: str, network: str) -> None:
    assert network_of(host) == network
