"""Who may come in: a page of another site may not, and where keys are set, nobody without one.

Browsers send along what they are told to by any page that is open in them. So a request that names another origin is
refused (CORS stays off), and on a loopback address so is one that names another host: a site that lets its own name
lead to 127.0.0.1 (DNS rebinding) would share its origin with us.
A key comes as `Authorization: Bearer KEY`, or, from a browser that asks its user, as the password of `Basic`.
Read next: serve/turns.py
"""

from __future__ import annotations

import base64
import binascii
import hmac
from collections.abc import Iterable
from ipaddress import ip_address
from urllib.parse import urlsplit

from cutaway.serve.asgi import ASGIApp, Receive, Scope, Send
from cutaway.serve.faults import Fault, told

OPEN = {"/health"}  # answers everybody: whoever starts and restarts servers has no key


class Gate:
    """`keys`: any of them opens; none: no key is asked for. `hosts`: names that a request may give to this server; None
    allows any."""

    def __init__(self, app: ASGIApp, *, keys: Iterable[str] = (), hosts: Iterable[str] | None = None):
        self.app = app
        self.keys = tuple(key.encode() for key in keys)
        self.hosts = None if hosts is None else frozenset(host.lower() for host in hosts)

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] not in ("http", "websocket"):
            await self.app(scope, receive, send)
            return
        fault = self.refused(scope)
        if fault is None:
            await self.app(scope, receive, send)
        elif scope["type"] == "http":
            await told(fault)(scope, receive, send)
        else:
            await send({"type": "websocket.close", "code": 1008, "reason": fault.message})

    def refused(self, scope: Scope) -> Fault | None:
        """Why this request may not come in, or None."""
        headers = {name: value.decode("latin-1") for name, value in scope["headers"]}
        host, origin = headers.get(b"host", ""), headers.get(b"origin")
        if self.hosts is not None and _name(host) not in self.hosts:
            return Fault(403, f"this server does not go by the name {_name(host)!r:.100}", code="wrong_host")
        if origin is not None and _place(origin) != host.lower():
            return Fault(403, "pages of other sites may not use this server", code="wrong_origin")
        if self.keys and scope["path"] not in OPEN and not self._opens(headers.get(b"authorization", "")):
            challenge = "Bearer" if scope["path"].startswith("/v1/") else 'Basic realm="cutaway", charset="UTF-8"'
            headers = {"www-authenticate": challenge}
            return Fault(401, "no API key, or a wrong one", code="invalid_api_key", headers=headers)
        return None

    def _opens(self, authorization: str) -> bool:
        kind, _, told = authorization.partition(" ")
        given = told.strip().encode("latin-1", "replace")
        if kind.lower() == "basic":
            try:
                given = base64.b64decode(given, validate=True).partition(b":")[2]
            except (binascii.Error, ValueError):
                return False
        elif kind.lower() != "bearer":
            return False
        # All of them are compared, each in a time that tells nothing of where the first difference is.
        return sum(hmac.compare_digest(given, key) for key in self.keys) > 0


def names(address: str) -> frozenset[str] | None:
    """The names that a server on a loopback address goes by; None, which is any, for a server that others reach."""
    try:
        loopback = address == "localhost" or ip_address(address).is_loopback
    except ValueError:
        loopback = False
    return frozenset({"localhost", "127.0.0.1", "::1", address.lower()}) if loopback else None


def _place(origin: str) -> str:
    """Host and port of an origin; nothing of what is none ("null")."""
    try:
        return urlsplit(origin).netloc.lower()
    except ValueError:
        return ""


def _name(host: str) -> str:
    """A Host header without its port: "[::1]:8000" is ::1."""
    if host.startswith("["):
        return host[1:].partition("]")[0].lower()
    return host.rpartition(":")[0].lower() if ":" in host else host.lower()
