"""`kolors-lab serve`: the library behind the HTTP interface of the Stable Diffusion web UI, or of ComfyUI.

kolors-lab serve --api webui --preset tiny            # for webuiapi, and scripts that post to /sdapi/v1/txt2img
kolors-lab serve --api comfyui --preset tiny          # for comfy-cli, and clients of /prompt and /ws
"""

from __future__ import annotations

import contextlib
import ipaddress
import json
import socket
from collections.abc import Callable
from dataclasses import dataclass
from importlib import import_module
from typing import TYPE_CHECKING, Annotated, Any

from kolors_lab.core.errors import KolorsLabError, SettingError, one_line
from kolors_lab.core.fields import OneOf, Range, check_fields
from kolors_lab.core.language import _
from kolors_lab.models.loading import load_pipeline
from kolors_lab.models.presets import get_preset
from kolors_lab.serve.guard import Guard
from kolors_lab.serve.line import Full, Line

if TYPE_CHECKING:
    from diffusers import KolorsPipeline
    from fastapi import FastAPI

PORTS = {"webui": 7860, "comfyui": 8188}  # where each API's clients look
SHORTEST_KEY = 12  # characters


@dataclass(frozen=True)
class ServeConfig:
    """Draw for programs that speak to the Stable Diffusion web UI or to ComfyUI; Ctrl+C ends it.

    Args:
        api: whose interface: webui (/sdapi/v1/txt2img …) or comfyui (/prompt, /ws …)
        preset: tiny, kolors, or a folder that holds a KolorsPipeline
        host: the address to listen at; 127.0.0.1 is this machine only, any other needs a key
        port: the port; none: 7860 for webui, 8188 for comfyui; 0: any that is free
        key: what clients must give as Bearer token or as password, 12 characters or more
        loras: the folder of the LoRA files that requests name
        control_net: folder of the ControlNet that webui's controlnet units act by
        images: the folder that uploads go to and LoadImage takes from
        out: the folder for the pictures; none there is replaced
        waiting: how many drawings may wait; further ones are refused
        max_mb: the largest request, in MB
        previews: send ComfyUI's clients a rough view after each step, unless they say themselves what they want
    """

    api: Annotated[str, OneOf(PORTS)] = "webui"
    preset: str = "tiny"
    host: str = "127.0.0.1"
    port: Annotated[int | None, Range(0, 65535)] = None
    key: str | None = None
    loras: str | None = None
    control_net: str | None = None
    images: str = "runs/serve/input"
    out: str = "runs/serve/output"
    waiting: Annotated[int, Range(0, 1000)] = 32
    max_mb: Annotated[int, Range(1, 1000)] = 32
    previews: bool = False

    def __post_init__(self):
        check_fields(self)
        check_door(self.host, self.key)
        if self.control_net and self.api != "webui":
            raise SettingError("control_net: for webui only; in ComfyUI a node loads it")


def is_loopback(host: str) -> bool:
    """Whether an address is this machine's own, which no other machine reaches."""
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return host == "localhost"


def check_door(host: str, key: str | None) -> None:
    """Raises SettingError for an address that others reach without a key, and for a key that is soon guessed."""
    if key is None and not is_loopback(host):
        raise SettingError("host = {host}: others could draw here; give a --key, or take 127.0.0.1", host=host)
    if key is not None and len(key) < SHORTEST_KEY:
        raise SettingError("key has {count} characters: must have {least} at least", count=len(key), least=SHORTEST_KEY)


def serve(config: ServeConfig, say: Callable[[str], None] = print, pipe: KolorsPipeline | None = None) -> list[str]:
    """Load the preset's model and answer until Ctrl+C. Raises KolorsLabError where it cannot begin."""
    uvicorn = need("uvicorn", "serve")
    need("fastapi", "serve")
    port = PORTS[config.api] if config.port is None else config.port
    try:
        listening = socket.create_server(
            (config.host, port), family=socket.AF_INET6 if ":" in config.host else socket.AF_INET
        )
    except OSError as error:
        address, why = f"{config.host}:{port}", error.strerror or error
        raise SettingError("{address}: {why}; choose another --port", address=address, why=why) from error
    with listening:
        app = make_app(config, pipe or load_pipeline(get_preset(config.preset)))
        host = f"[{config.host}]" if ":" in config.host else config.host
        address = f"http://{host}:{listening.getsockname()[1]}"
        say(_("{api}: {address}; Ctrl+C ends it").format(api=config.api, address=address))
        # Without permessage-deflate: previews are JPEGs. The close of a server does not wait for idle clients.
        settings = uvicorn.Config(
            app, log_level="error", ws_per_message_deflate=False, ws_max_size=2**20, timeout_graceful_shutdown=3,
            server_header=False,
        )  # fmt: skip
        uvicorn.Server(settings).run(sockets=[listening])
    return []


def need(name: str, extra: str) -> Any:
    """A package that an extra brings, imported. Raises KolorsLabError where it is not installed."""
    try:
        return import_module(name)
    except ImportError as error:
        raise KolorsLabError("{name} is missing: pip install 'kolors-lab[{extra}]'", name=name, extra=extra) from error


def make_app(config: ServeConfig, pipe: KolorsPipeline) -> FastAPI:
    """The ASGI application of a config's API. Its lifespan ends the drawing at work when the server ends."""
    from fastapi import FastAPI
    from starlette.exceptions import HTTPException
    from starlette.middleware.trustedhost import TrustedHostMiddleware

    api, line = import_module(f"kolors_lab.serve.{config.api}"), Line(config.waiting)

    @contextlib.asynccontextmanager
    async def lifespan(app: FastAPI) -> Any:
        yield
        line.close()

    app = FastAPI(openapi_url=None, lifespan=lifespan)
    api.add_routes(app, config, pipe, line)
    app.add_exception_handler(Full, lambda _request, error: api.answer(api.FULL, str(error)))
    app.add_exception_handler(KolorsLabError, lambda _request, error: api.answer(api.WRONG, str(error)))
    app.add_exception_handler(
        HTTPException, lambda _request, error: api.answer(error.status_code, one_line(error.detail))
    )
    app.add_exception_handler(
        Exception, lambda _request, error: api.answer(500, one_line(f"{type(error).__name__}: {error}"))
    )
    app.add_middleware(Guard, key=config.key, max_bytes=config.max_mb << 20, answer=api.answer)
    # A name that another site's owner points at this machine (DNS rebinding) is no name of ours; with a key it gets
    # nowhere, and a machine may have many names.
    names = ["*"] if not is_loopback(config.host) else ["127.0.0.1", "localhost", "::1", "[::1]", config.host]
    app.add_middleware(TrustedHostMiddleware, allowed_hosts=names, www_redirect=False)
    return app


async def read_json(request: Any) -> dict:
    """A request's body as a JSON object, whatever its Content-Type says; {} for none. Raises SettingError."""
    body = await request.body()
    try:
        found = json.loads(body or b"{}")
    except (ValueError, RecursionError) as error:
        raise SettingError("the request is no JSON ({error})", error=error) from error
    if not isinstance(found, dict):
        raise SettingError("the request must be a JSON object, {form}", form="{…}")
    return found
