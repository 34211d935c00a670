"""The OpenID provider whose tokens let users in: its keys, and what makes a token good (RFC 7519, RFC 7517).

Theory of operation. A token is a JWT that the provider has signed. It is checked here, with the provider's
public keys; nobody is asked at a sign-in. The keys come from a file, from a URL, or from the URL that the
issuer's OpenID configuration names. They are fetched at the first token, again when they are old, and when a
token names a key that we do not know, but then not more often than the settings say: anybody can make up such
tokens. Keys that cannot be fetched again stay in use; with none at all, clients are told to come again.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

from twisted.internet.defer import Deferred
from twisted.logger import Logger
from twisted.python.failure import Failure

from mailstack.directory.names import address_key
from mailstack.mail.address import Address, BadAddress
from mailstack.net.fetch import Fetcher, FetchFailed
from mailstack.net.settings import OAuthConfig
from mailstack.net.sign_in import NotVouched, Unavailable, Vouched
from mailstack.work import Clock, Work

if TYPE_CHECKING:
    from jwt import PyJWK

_log = Logger(namespace="mailstack.oauth")

WELL_KNOWN = "/.well-known/openid-configuration"  # OpenID Connect Discovery section 4

_MOST_OCTETS = 512 * 1024  # of a document from the provider
_MOST_KEYS = 100
# What odd claims and keys may raise on their way.
_ODD = (ValueError, TypeError, OverflowError, RecursionError)
_FAMILIES = {"RS256": "RSA", "ES256": "EC", "EdDSA": "OKP"}  # the key type of each algorithm


class Provider:
    """Says whose a token is.

    Raises ImportError where PyJWT is missing, OSError or ValueError where a file of the settings is unusable.
    """

    def __init__(self, config: OAuthConfig, reactor: Any, work: Work) -> None:
        import jwt  # an extra: whoever has no provider need not install it

        self._jwt = jwt
        self._config = config
        self._work = work
        self._clock: Clock = reactor
        self._keys: dict[str, PyJWK] = {}
        self._next = 0.0  # when the keys are old
        self._floor = 0.0  # not before this, whatever a token says
        self._waiting: list[Deferred[None]] | None = None  # who waits for the fetch that is going on
        self._fetcher: Fetcher | None = None
        if config.keys_file is not None:
            self._keys = self._read(config.keys_file.read_bytes())
        else:
            self._fetcher = Fetcher(reactor, config.timeout, _MOST_OCTETS, config.ca)
        self._told = _told(config)

    async def vouch(self, login: str, token: str) -> Vouched | NotVouched:
        """Whose `token` is; if `login` is given it must be theirs. Raise Unavailable."""
        if not token:
            return NotVouched("no token", self._told)
        try:
            header = self._jwt.get_unverified_header(token)
            key = await self._key(header)
            if key is None:
                return NotVouched("token signed by an unknown key", self._told)
            # RSA takes some hundred microseconds: beside the reactor, like every proof
            claims = await self._work.hash(self._verified, token, key)
        except (self._jwt.InvalidTokenError, *_ODD) as error:
            return NotVouched(f"token refused: {_short(error)}", self._told)
        return self._whose(login, claims)

    def _whose(self, login: str, claims: Mapping[str, Any]) -> Vouched | NotVouched:
        found = claims.get(self._config.claim)
        try:
            address = Address.parse(found) if isinstance(found, str) else None
        except BadAddress:
            address = None
        if address is None:
            return NotVouched(f"token without an address in {self._config.claim!r}", self._told)
        if self._config.claim == "email" and claims.get("email_verified") in (False, "false"):
            return NotVouched("token whose address the provider has not verified", self._told)
        try:
            same = not login or address_key(Address.parse(login)) == address_key(address)
        except BadAddress:
            same = False
        if not same:
            return NotVouched(f"token of another user: {_short(address)}", self._told)
        return Vouched(str(address))

    def _verified(self, token: str, key: PyJWK) -> dict[str, Any]:
        """The claims of a token whose signature, times, audience and issuer are right."""
        config = self._config
        return self._jwt.decode(
            token,
            key,
            algorithms=list(config.algorithms),
            audience=list(config.audience),
            issuer=config.issuer or None,
            leeway=config.leeway,
            options={"require": ["exp", "aud", *(["iss"] if config.issuer else [])]},
        )

    async def _key(self, header: Mapping[str, Any]) -> PyJWK | None:
        """The key that a token's header asks for."""
        algorithm, name = header.get("alg"), header.get("kid")
        if algorithm not in self._config.algorithms:
            return None
        key = self._find(algorithm, name)
        due = self._clock.seconds() >= (self._next if key else self._floor)
        under_way = key is None and self._waiting is not None
        if self._fetcher is not None and (due or under_way):
            await self._refresh()
            key = self._find(algorithm, name)
        if not self._keys:
            raise Unavailable("the provider's keys could not be fetched")
        return key

    def _find(self, algorithm: str, name: object) -> PyJWK | None:
        fitting = [key for key in self._keys.values() if key.key_type == _FAMILIES[algorithm]]
        if isinstance(name, str):
            return next((key for key in fitting if key.key_id == name), None)
        return fitting[0] if len(fitting) == 1 else None  # no name: only where there is no choice

    async def _refresh(self) -> None:
        """Fetch the keys, once for all who want them now."""
        if self._waiting is not None:
            fetched: Deferred[None] = Deferred()
            self._waiting.append(fetched)
            await fetched
            return
        self._waiting = []
        done: Deferred[None] = Deferred()
        self._waiting.append(done)
        # beside whoever asks: a client that vanishes takes back only its own wait
        Deferred.fromCoroutine(self._fetch()).addErrback(self._failed).addBoth(self._wake)
        await done

    def _failed(self, failure: Failure) -> None:
        words = _short(failure.value)
        if not failure.check(FetchFailed, ValueError):
            words = repr(failure.value)[:200]
        _log.error("the provider's keys cannot be fetched: {why}", why=words)

    def _wake(self, _: object) -> None:
        waiting, self._waiting = self._waiting, None
        for one in waiting or ():
            if not one.called:
                one.callback(None)

    async def _fetch(self) -> None:
        now = self._clock.seconds()
        self._next = self._floor = now + self._config.unknown_key_seconds
        assert self._fetcher is not None
        url = self._config.keys_url or await self._discovered(self._fetcher)
        self._keys = self._read(await self._fetcher.get(url))
        self._next = now + self._config.keys_seconds
        _log.info("{count} keys of the provider fetched from {url}", count=len(self._keys), url=url)

    async def _discovered(self, fetcher: Fetcher) -> str:
        """Where the issuer says that its keys are."""
        document = _object(await fetcher.get(self._config.issuer.rstrip("/") + WELL_KNOWN))
        if document.get("issuer") != self._config.issuer:
            raise ValueError(
                f"the OpenID configuration is of another issuer: {document.get('issuer')!r:.100}"
            )
        url = document.get("jwks_uri")
        if not isinstance(url, str):
            raise ValueError("the OpenID configuration names no jwks_uri")
        return url

    def _read(self, data: bytes) -> dict[str, PyJWK]:
        """The keys of a JWKS that can sign tokens for us; raise ValueError where there is none."""
        keys = _object(data).get("keys")
        found: dict[str, PyJWK] = {}
        for number, one in enumerate(keys[:_MOST_KEYS] if isinstance(keys, list) else ()):
            if not isinstance(one, dict) or one.get("use", "sig") != "sig" or "d" in one:
                continue
            family = next((name for name, kind in _FAMILIES.items() if kind == one.get("kty")), None)
            if family not in self._config.algorithms or one.get("alg", family) != family:
                continue
            try:
                found[f"{number}"] = self._jwt.PyJWK(one, family)
            except (self._jwt.PyJWTError, AttributeError, *_ODD):
                continue  # one that we cannot use does not spoil the others
        if not found:
            raise ValueError("no usable key in the provider's key set (JWKS)")
        return found


def _told(config: OAuthConfig) -> dict[str, str]:
    """What a client is told that comes with a token that is not good (RFC 7628 section 3.2.2)."""
    told = {"status": "invalid_token"}
    if config.scope:
        told["scope"] = config.scope
    if config.issuer:
        told["openid-configuration"] = config.issuer.rstrip("/") + WELL_KNOWN
    return told


def _object(data: bytes) -> dict[str, Any]:
    try:
        found = json.loads(data)
    except (ValueError, RecursionError) as error:
        raise ValueError("not JSON") from error
    if not isinstance(found, dict):
        raise ValueError("not a JSON object")
    return found


def _short(what: object) -> str:
    return str(what)[:200]
