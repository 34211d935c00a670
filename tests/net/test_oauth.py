"""The OpenID provider: what makes a token good, and how its keys are had, from a real one on loopback."""

from __future__ import annotations

import base64
import hmac
import json
import time
from pathlib import Path
from typing import Any

import jwt
import pytest
from cryptography.hazmat.primitives.serialization import Encoding, PublicFormat
from twisted.internet import reactor as real_reactor
from twisted.internet import ssl
from twisted.internet.defer import Deferred, gatherResults
from twisted.internet.task import Clock
from twisted.trial.unittest import TestCase
from twisted.web.resource import Resource
from twisted.web.server import NOT_DONE_YET, Site

from mailstack.net.oauth import Provider
from mailstack.net.settings import OAuthConfig
from mailstack.net.sign_in import NotVouched, Unavailable, Vouched
from tests.certificates import issue
from tests.directory.inline import now
from tests.provider import AUDIENCE, ISSUER, Signer, key_set, write_key_set

reactor: Any = real_reactor
USER = "alice@example.org"
SIGNERS = {name: Signer(name, name) for name in ("RS256", "ES256", "EdDSA")}
ES256 = SIGNERS["ES256"]


def _part(value: dict[str, Any]) -> str:
    return base64.urlsafe_b64encode(json.dumps(value).encode()).decode().rstrip("=")


class Here:
    """Work that is done at once."""

    async def hash(self, function: Any, *args: Any) -> Any:
        return function(*args)


def provider(folder: Path, *signers: Signer, **settings: Any) -> Provider:
    """One with its keys in a file."""
    usual = {"issuer": ISSUER, "audience": (AUDIENCE,), "keys_file": write_key_set(folder / "keys", *signers)}
    work: Any = Here()
    return Provider(OAuthConfig(**{**usual, **settings}), Clock(), work)


class TestTokens:
    @pytest.mark.parametrize("algorithm", SIGNERS)
    def test_good(self, algorithm: str, tmp_path: Path) -> None:
        made = provider(tmp_path, *SIGNERS.values())
        token = SIGNERS[algorithm].token(USER)
        for login in ("", USER, "ALICE@Example.ORG"):
            assert now(made.vouch(login, token)) == Vouched(USER)

    @pytest.mark.parametrize(
        ("claims", "reason"),
        [
            ({"exp": int(time.time()) - 3600}, "expired"),
            ({"exp": None}, "missing"),
            ({"exp": "soon"}, "exp"),
            ({"nbf": int(time.time()) + 3600}, "not yet valid"),
            ({"iat": int(time.time()) + 3600}, "not yet valid"),
            ({"aud": "another"}, "Audience"),
            ({"aud": None}, "missing"),
            ({"iss": "https://evil.example"}, "issuer"),
            ({"iss": None}, "missing"),
            ({"email": None}, "without an address"),
            ({"email": "alice"}, "without an address"),
            ({"email": "\ud800@example.org"}, "without an address"),
            ({"email": "alice@\udfff.org"}, "without an address"),
            ({"email": ["alice@example.org"]}, "without an address"),
            ({"email_verified": False}, "not verified"),
            ({"email_verified": "false"}, "not verified"),
            ({"email": "bob@example.org"}, "another user"),
        ],
    )
    def test_claims_that_are_not(self, claims: dict[str, Any], reason: str, tmp_path: Path) -> None:
        answer = now(provider(tmp_path, ES256).vouch(USER, ES256.token(USER, **claims)))
        assert isinstance(answer, NotVouched)
        assert reason.lower() in answer.reason.lower()
        assert answer.told["status"] == "invalid_token"

    def test_a_little_late(self, tmp_path: Path) -> None:
        token = ES256.token(USER, exp=int(time.time()) - 30)
        assert now(provider(tmp_path, ES256).vouch(USER, token)) == Vouched(USER)
        assert isinstance(now(provider(tmp_path, ES256, leeway=0.0).vouch(USER, token)), NotVouched)

    def test_one_of_many_audiences(self, tmp_path: Path) -> None:
        token = ES256.token(USER, aud=["x", AUDIENCE])
        assert now(provider(tmp_path, ES256, audience=("y", AUDIENCE)).vouch(USER, token)) == Vouched(USER)

    def test_another_claim_names_the_user(self, tmp_path: Path) -> None:
        token = ES256.token("x", preferred_username=USER, email_verified=False)
        assert now(provider(tmp_path, ES256, claim="preferred_username").vouch("", token)) == Vouched(USER)

    def test_signed_by_somebody_else(self, tmp_path: Path) -> None:
        stranger = Signer("ES256")
        answer = now(provider(tmp_path, ES256).vouch(USER, stranger.token(USER)))
        assert isinstance(answer, NotVouched)
        assert "ignature" in answer.reason

    def test_algorithms_that_are_not_ours(self, tmp_path: Path) -> None:
        made = provider(tmp_path, SIGNERS["RS256"])
        claims = {"iss": ISSUER, "aud": AUDIENCE, "exp": int(time.time()) + 60, "email": USER}
        none = jwt.encode(claims, None, "none")
        public = (
            SIGNERS["RS256"].key.public_key().public_bytes(Encoding.PEM, PublicFormat.SubjectPublicKeyInfo)
        )
        signed = ".".join(_part({"alg": "HS256", "kid": "RS256"} if not i else claims) for i in range(2))
        mac = hmac.digest(public, signed.encode(), "sha256")  # the public key as a secret
        shared = f"{signed}.{base64.urlsafe_b64encode(mac).decode().rstrip('=')}"
        for token in (none, shared, ES256.token(USER)):
            answer = now(made.vouch(USER, token))
            assert isinstance(answer, NotVouched)
            assert "unknown key" in answer.reason

    def test_an_algorithm_that_the_settings_exclude(self, tmp_path: Path) -> None:
        made = provider(tmp_path, *SIGNERS.values(), algorithms=("RS256",))
        assert isinstance(now(made.vouch(USER, ES256.token(USER))), NotVouched)
        assert now(made.vouch(USER, SIGNERS["RS256"].token(USER))) == Vouched(USER)

    def test_a_key_without_a_name(self, tmp_path: Path) -> None:
        token = ES256.token(USER, named=False)
        assert now(provider(tmp_path, *SIGNERS.values()).vouch(USER, token)) == Vouched(USER)
        assert isinstance(now(provider(tmp_path, ES256, Signer("b")).vouch(USER, token)), NotVouched)

    @pytest.mark.parametrize(
        "token", ["", "x", "a.b.c", "e30.e30.", "....", "x" * 9000, "eyJhbGciOiJFUzI1NiJ9.e30.x"]
    )
    def test_no_token_at_all(self, token: str, tmp_path: Path) -> None:
        assert isinstance(now(provider(tmp_path, ES256).vouch(USER, token)), NotVouched)

    def test_odd_ones(self, tmp_path: Path) -> None:
        deep = base64.urlsafe_b64encode(b'{"alg": ' + b"[" * 6000).decode().rstrip("=")
        for token in (f"{deep}.e30.x", ES256.token(USER, exp=float("inf")), ES256.token(USER, exp=[1])):
            assert isinstance(now(provider(tmp_path, ES256).vouch(USER, token)), NotVouched)

    def test_what_the_client_is_told(self, tmp_path: Path) -> None:
        answer = now(provider(tmp_path, ES256, scope="mail").vouch("", ""))
        assert isinstance(answer, NotVouched)
        assert answer.told == {
            "status": "invalid_token",
            "scope": "mail",
            "openid-configuration": f"{ISSUER}/.well-known/openid-configuration",
        }


class TestSettings:
    def test_off(self) -> None:
        assert not OAuthConfig().is_on

    @pytest.mark.parametrize(
        "settings",
        [
            {"issuer": ISSUER},
            {"issuer": "http://id.example.test", "audience": ("x",)},
            {"keys_url": "id.example.test", "audience": ("x",)},
            {"algorithms": ()},
            {"claim": ""},
            {"leeway": 601.0},
            {"timeout": 0.0},
        ],
    )
    def test_no_sense(self, settings: Any) -> None:
        with pytest.raises(ValueError, match=r"oauth\."):
            OAuthConfig(**settings)

    @pytest.mark.parametrize(
        "text", ["", "[]", "{}", '{"keys": []}', '{"keys": [{"kty": "oct", "k": "x"}]}', "[" * 100_000]
    )
    def test_a_file_without_keys(self, text: str, tmp_path: Path) -> None:
        path = tmp_path / "keys"
        path.write_text(text)
        work: Any = Here()
        with pytest.raises(ValueError, match=r"JSON|JWKS"):
            Provider(OAuthConfig(keys_file=path, audience=("x",)), Clock(), work)

    def test_keys_that_cannot_be_used_do_not_spoil_the_others(self, tmp_path: Path) -> None:
        keys = [
            {},
            1,
            {"kty": "RSA", "n": "x"},
            {"kty": "RSA", "n": "AQAB", "e": "AAAA"},
            {"kty": "RSA", "n": "AQ" * 9000, "e": "AQ"},
            {"kty": "RSA", "n": 5, "e": None},
            {"kty": "EC", "crv": "P-256", "x": "A" * 43, "y": "A" * 43},  # not on the curve
            {"kty": "EC", "crv": ["P-256"], "x": {}, "y": 1},
            {"kty": "OKP", "crv": "Ed25519", "x": "AA"},
            {**ES256.public, "use": "enc"},
            {**ES256.public, "alg": "ES512"},
        ]
        path = tmp_path / "keys"
        path.write_text(json.dumps({"keys": [*keys, ES256.public]}))
        work: Any = Here()
        made = Provider(OAuthConfig(issuer=ISSUER, keys_file=path, audience=(AUDIENCE,)), Clock(), work)
        assert now(made.vouch(USER, ES256.token(USER))) == Vouched(USER)


class Pages(Resource):
    """The provider's web site."""

    isLeaf = True

    def __init__(self) -> None:
        super().__init__()
        self.asked: list[str] = []
        self.pages: dict[str, bytes] = {}
        self.status = 200
        self.stalls = False

    def render_GET(self, request: Any) -> Any:
        path = request.path.decode()
        self.asked.append(path)
        if self.stalls:
            return NOT_DONE_YET
        request.setResponseCode(self.status if path in self.pages else 404)
        if 300 <= self.status < 400:
            request.setHeader("Location", self.pages["location"])
        return self.pages.get(path, b"")


class Hands:
    """The reactor, but with a clock that a test moves."""

    def __init__(self) -> None:
        self.now = 1_000_000.0

    def seconds(self) -> float:
        return self.now

    def __getattr__(self, name: str) -> Any:
        return getattr(reactor, name)


class FetchTests(TestCase):
    def setUp(self) -> None:
        folder = Path(self.mktemp())
        files = issue(folder, "id.example.test")
        self.ca = files.ca
        self.site = Pages()
        context = ssl.DefaultOpenSSLContextFactory(str(files.key), str(files.certificate))
        factory = Site(self.site)
        factory.noisy = False
        self.port = reactor.listenSSL(0, factory, context, interface="127.0.0.1")
        self.addCleanup(self.port.stopListening)
        self.issuer = f"https://localhost:{self.port.getHost().port}"
        self.site.pages["/.well-known/openid-configuration"] = json.dumps(
            {"issuer": self.issuer, "jwks_uri": f"{self.issuer}/keys"}
        ).encode()
        self.site.pages["/keys"] = key_set(ES256)
        self.hands = Hands()

    def provider(self, **settings: Any) -> Provider:
        usual: dict[str, Any] = {
            "issuer": self.issuer,
            "audience": (AUDIENCE,),
            "ca": self.ca,
            "timeout": 5.0,
        }
        work: Any = Here()
        return Provider(OAuthConfig(**{**usual, **settings}), self.hands, work)

    def token(self, signer: Signer = ES256) -> str:
        return signer.token(USER, iss=self.issuer)

    async def test_discovered(self) -> None:
        made = self.provider()
        for _ in range(3):
            self.assertEqual(await made.vouch(USER, self.token()), Vouched(USER))
        self.assertEqual(self.site.asked, ["/.well-known/openid-configuration", "/keys"])

    async def test_many_at_once_fetch_once(self) -> None:
        made = self.provider()
        asked = [Deferred.fromCoroutine(made.vouch(USER, self.token())) for _ in range(5)]
        self.assertEqual(await gatherResults(asked), [Vouched(USER)] * 5)
        self.assertEqual(len(self.site.asked), 2)

    async def test_one_who_leaves_takes_nobody_along(self) -> None:
        made = self.provider()
        first, second = (Deferred.fromCoroutine(made.vouch(USER, self.token())) for _ in range(2))
        first.addErrback(lambda _: None)
        first.cancel()
        self.assertEqual(await second, Vouched(USER))

    async def test_from_a_url(self) -> None:
        made = self.provider(keys_url=f"{self.issuer}/keys")
        self.assertEqual(await made.vouch(USER, self.token()), Vouched(USER))
        self.assertEqual(self.site.asked, ["/keys"])

    async def test_an_unknown_key_is_asked_for_but_not_often(self) -> None:
        made, new = self.provider(keys_url=f"{self.issuer}/keys"), Signer("new")
        await made.vouch(USER, self.token())
        for _ in range(5):
            self.assertIsInstance(await made.vouch(USER, self.token(new)), NotVouched)
        self.assertEqual(len(self.site.asked), 1)
        self.hands.now += 61
        self.site.pages["/keys"] = key_set(new)
        self.assertEqual(await made.vouch(USER, self.token(new)), Vouched(USER))
        self.assertEqual(len(self.site.asked), 2)
        self.assertIsInstance(await made.vouch(USER, self.token()), NotVouched)  # withdrawn

    async def test_old_keys_are_fetched_again(self) -> None:
        made = self.provider(keys_url=f"{self.issuer}/keys")
        await made.vouch(USER, self.token())
        self.hands.now += 3601
        self.assertEqual(await made.vouch(USER, self.token()), Vouched(USER))
        self.assertEqual(len(self.site.asked), 2)

    async def test_old_keys_outlive_a_failure(self) -> None:
        made = self.provider(keys_url=f"{self.issuer}/keys")
        await made.vouch(USER, self.token())
        self.hands.now += 3601
        self.site.status = 500
        for _ in range(3):
            self.assertEqual(await made.vouch(USER, self.token()), Vouched(USER))
        self.assertEqual(len(self.site.asked), 2)

    async def test_what_cannot_be_had(self) -> None:
        """Nobody is let in, and nobody is told that the token is bad."""
        good = dict(self.site.pages)
        cases: list[dict[str, bytes]] = [
            {"/keys": b"x" * (512 * 1024 + 1)},
            {"/keys": b"not JSON"},
            {"/keys": b'{"keys": []}'},
            {"/.well-known/openid-configuration": b"{}"},
            {
                "/.well-known/openid-configuration": json.dumps(
                    {"issuer": "https://evil.example", "jwks_uri": f"{self.issuer}/keys"}
                ).encode()
            },
            {"/.well-known/openid-configuration": json.dumps({"issuer": self.issuer}).encode()},
            {
                "/.well-known/openid-configuration": json.dumps(
                    {"issuer": self.issuer, "jwks_uri": f"http://localhost:{self.port.getHost().port}/keys"}
                ).encode()
            },
        ]
        for pages in cases:
            self.site.pages = {**good, **pages}
            made = self.provider()
            for _ in range(2):
                with self.assertRaises(Unavailable):
                    await made.vouch(USER, self.token())
            self.site.pages = good
            self.hands.now += 61
            self.assertEqual(await made.vouch(USER, self.token()), Vouched(USER))

    async def test_a_redirect_is_not_followed(self) -> None:
        self.site.pages["location"] = f"{self.issuer}/elsewhere".encode()
        self.site.status = 302
        with self.assertRaises(Unavailable):
            await self.provider(keys_url=f"{self.issuer}/keys").vouch(USER, self.token())
        self.assertEqual(self.site.asked, ["/keys"])

    async def test_a_certificate_that_nobody_vouches_for(self) -> None:
        other = issue(Path(self.mktemp()), "id.example.test")
        with self.assertRaises(Unavailable):
            await self.provider(ca=other.ca).vouch(USER, self.token())
        self.assertEqual(self.site.asked, [])

    async def test_a_certificate_of_another_name(self) -> None:
        url = f"https://127.0.0.2:{self.port.getHost().port}/keys"
        with self.assertRaises(Unavailable):
            await self.provider(keys_url=url).vouch(USER, self.token())

    async def test_one_that_does_not_answer(self) -> None:
        self.site.stalls = True
        with self.assertRaises(Unavailable):
            await self.provider(timeout=0.2).vouch(USER, self.token())

    async def test_nobody_there(self) -> None:
        await self.port.stopListening()
        with self.assertRaises(Unavailable):
            await self.provider().vouch(USER, self.token())
