"""What ComfyUI's server says over /ws while it works: JSON by kind, and previews in bytes."""

from __future__ import annotations

import asyncio
import contextlib
import io
import struct
import uuid
from typing import TYPE_CHECKING, Any

from starlette.websockets import WebSocketDisconnect

from kolors_lab.core.language import _

if TYPE_CHECKING:
    from fastapi import WebSocket
    from PIL import Image

LISTENERS, UNREAD = 64, 1000  # at most; who reads too slowly is let go
PREVIEW, JPEG = 1, 1  # ComfyUI's numbers for the kind of a message and of its picture


class Hub:
    """The sockets of all clients by client id; `send` may be called in any thread."""

    def __init__(self):
        self.boxes: dict[str, asyncio.Queue] = {}
        self.loop: asyncio.AbstractEventLoop | None = None

    def send(self, message: dict | bytes, client: str | None = None) -> None:
        """Send to one client, which may have gone, or to all."""
        if self.loop is not None:
            with contextlib.suppress(RuntimeError):  # the loop is closed: the server has ended
                self.loop.call_soon_threadsafe(self._put, message, client)

    def _put(self, message: dict | bytes, client: str | None) -> None:
        for key in [client] if client else list(self.boxes):
            box = self.boxes.get(key)
            if box is not None and box.qsize() < UNREAD:
                box.put_nowait(message)
            elif box is not None:
                self.boxes.pop(key).put_nowait(None)

    async def listen(self, socket: WebSocket, status: Any) -> None:
        """Serve one socket until its client goes; `status()` is the first message."""
        if len(self.boxes) >= LISTENERS:
            await socket.close(1013, _("{count} clients listen already").format(count=LISTENERS))
            return
        self.loop = asyncio.get_running_loop()
        client = socket.query_params.get("clientId") or uuid.uuid4().hex
        await socket.accept()
        box = self.boxes[client] = asyncio.Queue()  # one who comes again takes the place of the socket before
        box.put_nowait(status(client))
        tasks = [asyncio.create_task(_write(socket, box)), asyncio.create_task(_read(socket))]
        try:
            await asyncio.wait(tasks, return_when=asyncio.FIRST_COMPLETED)
        finally:
            for task in tasks:
                task.cancel()
            await asyncio.gather(*tasks, return_exceptions=True)
            if self.boxes.get(client) is box:
                del self.boxes[client]


async def _write(socket: WebSocket, box: asyncio.Queue) -> None:
    while (message := await box.get()) is not None:
        await (socket.send_bytes(message) if isinstance(message, bytes) else socket.send_json(message))
    await socket.close(1013, _("messages were not read"))


async def _read(socket: WebSocket) -> None:
    """What clients say (which features they have) changes nothing here; the end of it is their going."""
    with contextlib.suppress(WebSocketDisconnect):
        while (await socket.receive())["type"] != "websocket.disconnect":
            pass


def preview_bytes(picture: Image.Image) -> bytes:
    """A rough view as ComfyUI sends it: two numbers of 4 bytes, then a JPEG."""
    stream = io.BytesIO()
    picture.save(stream, "JPEG", quality=80)
    return struct.pack(">II", PREVIEW, JPEG) + stream.getvalue()
