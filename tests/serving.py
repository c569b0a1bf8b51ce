"""A server of `kolors-lab serve` in a thread, at a free port of this machine, for clients that others wrote."""

from __future__ import annotations

import socket
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import pytest


@contextmanager
def serving(pipe: Any, **settings: Any) -> Iterator[int]:
    """The port of a server with these ServeConfig settings. Skips where the extra serve is not installed.

    It listens before it has begun to answer: a client's first request waits, no test has to.
    """
    uvicorn = pytest.importorskip("uvicorn")
    pytest.importorskip("fastapi")
    from kolors_lab.serve.server import ServeConfig, make_app

    with socket.create_server(("127.0.0.1", 0)) as listening:
        app = make_app(ServeConfig(**settings), pipe)
        server = uvicorn.Server(uvicorn.Config(app, log_level="error", timeout_graceful_shutdown=3))
        thread = threading.Thread(target=server.run, args=([listening],), daemon=True)
        thread.start()
        try:
            yield listening.getsockname()[1]
        finally:
            server.should_exit = True
            thread.join(60)
