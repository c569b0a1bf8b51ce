"""What no request may do, whichever API it speaks to: send too much, come from another site's page, come without the
key."""

from __future__ import annotations

import base64
import binascii
import hmac
from collections.abc import Awaitable, Callable
from typing import Any
from urllib.parse import urlsplit

from kolors_lab.core.language import _

Answer = Callable[[int, str], Any]  # a status and a line → a response in the API's own form


class TooLarge(Exception):
    """More came than may come."""


class Guard:
    """ASGI middleware. A page of another site can make a browser send requests here, but not hide its Origin."""

    def __init__(self, app: Any, key: str | None, max_bytes: int, answer: Answer):
        self.app, self.key, self.max_bytes, self.answer = app, key, max_bytes, answer

    async def __call__(self, scope: dict, receive: Callable[[], Awaitable[dict]], send: Any) -> None:
        if scope["type"] not in ("http", "websocket"):
            return await self.app(scope, receive, send)
        headers = {name.decode("latin-1"): value.decode("latin-1") for name, value in scope["headers"]}
        if fault := self.fault(headers):
            return await self.refuse(scope, receive, send, *fault)
        if scope["type"] == "websocket":
            return await self.app(scope, receive, send)
        try:
            return await self.app(scope, self.counted(receive), send)
        except TooLarge:
            return await self.refuse(scope, receive, send, *self.too_large())

    def fault(self, headers: dict[str, str]) -> tuple[int, str] | None:
        """Status and reason, or None."""
        if "origin" in headers and urlsplit(headers["origin"]).netloc != headers.get("host"):
            return 403, _("requests from pages of {origin} are not answered").format(origin=headers["origin"][:80])
        if self.key and not hmac.compare_digest(given_key(headers).encode(), self.key.encode()):
            return 401, _("the key is needed: as Bearer token, or as password of HTTP basic authentication")
        length = headers.get("content-length", "")
        return self.too_large() if length.isdigit() and int(length) > self.max_bytes else None

    def too_large(self) -> tuple[int, str]:
        return 413, _("a request may have {most} MB at most").format(most=self.max_bytes >> 20)

    def counted(self, receive: Callable[[], Awaitable[dict]]) -> Callable[[], Awaitable[dict]]:
        """`receive` that raises TooLarge where a body that did not say its length becomes too long."""
        total = 0

        async def count() -> dict:
            nonlocal total
            message = await receive()
            total += len(message.get("body", b""))
            if total > self.max_bytes:
                raise TooLarge
            return message

        return count

    async def refuse(self, scope: dict, receive: Any, send: Any, status: int, reason: str) -> None:
        if scope["type"] == "websocket":
            await send({"type": "websocket.close", "code": 1008, "reason": reason})
            return
        response = self.answer(status, reason)
        if status == 401:
            response.headers["WWW-Authenticate"] = 'Basic realm="kolors-lab"'
        await response(scope, receive, send)


def given_key(headers: dict[str, str]) -> str:
    """The key that a request brings, or an empty text."""
    kind, _space, value = headers.get("authorization", "").partition(" ")
    if kind.lower() == "bearer":
        return value.strip()
    if kind.lower() == "basic":
        try:
            return base64.b64decode(value, validate=True).decode().partition(":")[2]
        except (binascii.Error, UnicodeDecodeError):
            return ""
    return ""
