"""An OpenID provider on loopback that a mail program talks to: authorization code with PKCE, refresh tokens.

Whoever comes to its page is let in at once, as the user whom `login_hint` names.
"""

from __future__ import annotations

import base64
import contextlib
import hashlib
import json
import secrets
import threading
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any
from urllib.parse import parse_qs, urlencode, urlsplit

from tests.provider import Signer

CLIENT, SCOPE = "thunderbird", "openid email offline_access"


class OpenId:
    """The provider; `log` has the grants that it has given, in order."""

    def __init__(self, signer: Signer) -> None:
        self.signer = signer
        self._codes: dict[str, dict[str, str]] = {}
        self._refresh: dict[str, str] = {}
        self.log: list[str] = []
        self.claims: list[dict[str, Any]] = []  # of the next tokens, one after another; then good ones
        self._server = ThreadingHTTPServer(("127.0.0.1", 0), self._handler())
        self._server.daemon_threads = True

    @property
    def url(self) -> str:
        """Where it is."""
        return f"http://127.0.0.1:{self._server.server_port}"

    @contextlib.contextmanager
    def serving(self) -> Iterator[OpenId]:
        """It answers within the with block."""
        thread = threading.Thread(target=self._server.serve_forever, args=(0.05,), daemon=True)
        thread.start()
        try:
            yield self
        finally:
            self._server.shutdown()
            self._server.server_close()
            thread.join()

    def authorize(self, asked: dict[str, str]) -> str:
        """RFC 6749 section 4.1.1: where the browser goes next."""
        assert (asked["client_id"], asked["scope"], asked["response_type"]) == (CLIENT, SCOPE, "code")
        code = secrets.token_urlsafe(16)
        self._codes[code] = asked
        return f"{asked['redirect_uri']}?{urlencode({'code': code, 'state': asked['state']})}"

    def grant(self, asked: dict[str, str]) -> dict[str, Any]:
        """RFC 6749 sections 4.1.3 and 6: tokens for a code or a refresh token."""
        kind = asked["grant_type"]
        if kind == "authorization_code":
            before = self._codes.pop(asked["code"], None)
            if before is None or before["redirect_uri"] != asked["redirect_uri"]:
                return {"error": "invalid_grant"}
            digest = hashlib.sha256(asked["code_verifier"].encode()).digest()  # RFC 7636 section 4.6
            if base64.urlsafe_b64encode(digest).rstrip(b"=").decode() != before["code_challenge"]:
                return {"error": "invalid_grant"}
            address = before["login_hint"]
        elif asked["refresh_token"] in self._refresh:
            address = self._refresh[asked["refresh_token"]]
        else:
            return {"error": "invalid_grant"}
        self.log.append(kind)
        refresh = secrets.token_urlsafe(16)
        self._refresh[refresh] = address
        claims = self.claims.pop(0) if self.claims else {}
        return {
            "access_token": self.signer.token(address, **claims),
            "refresh_token": refresh,
            "token_type": "Bearer",
            "expires_in": 300,
            "scope": SCOPE,
        }

    def _handler(self) -> type[BaseHTTPRequestHandler]:
        provider = self

        class Handler(BaseHTTPRequestHandler):
            def do_GET(self) -> None:
                place = urlsplit(self.path)
                if place.path != "/authorize":
                    self.send_error(404)
                    return
                self.send_response(302)
                self.send_header("Location", provider.authorize(_flat(place.query)))
                self.send_header("Content-Length", "0")
                self.end_headers()

            def do_POST(self) -> None:
                length = int(self.headers["Content-Length"])
                answer = provider.grant(_flat(self.rfile.read(length).decode()))
                body = json.dumps(answer).encode()
                self.send_response(400 if "error" in answer else 200)
                self.send_header("Content-Type", "application/json")
                self.send_header("Content-Length", str(len(body)))
                self.end_headers()
                self.wfile.write(body)

            def log_message(self, *_: Any) -> None:
                pass

        return Handler


def _flat(query: str) -> dict[str, str]:
    return {name: values[0] for name, values in parse_qs(query).items()}
