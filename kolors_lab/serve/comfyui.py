"""ComfyUI's interface: workflows in its API form are checked, queued, run, remembered; /ws tells how far they are."""

from __future__ import annotations

import json
import sys
import time
import uuid
from collections import OrderedDict
from pathlib import Path
from typing import TYPE_CHECKING, Any

from fastapi import APIRouter, FastAPI, Request, WebSocket  # this room is loaded only when it serves
from fastapi.responses import FileResponse, JSONResponse
from starlette.concurrency import run_in_threadpool

from kolors_lab.comfy.executor import Job as Workflow
from kolors_lab.comfy.executor import Workbench, fingerprints
from kolors_lab.comfy.graph import ends, escapes, faults_by_node, node_of
from kolors_lab.comfy.prepare import fit, save_pictures
from kolors_lab.comfy.reader import normalise
from kolors_lab.core.errors import DataError, KolorsLabError, SettingError, check_name, one_line
from kolors_lab.core.files import replacing
from kolors_lab.core.images import SUFFIXES, open_image
from kolors_lab.core.language import _
from kolors_lab.models.device import device_of
from kolors_lab.models.presets import get_preset
from kolors_lab.sampling.pipeline import Stopped
from kolors_lab.serve.messages import Hub, preview_bytes
from kolors_lab.serve.nodes import object_info
from kolors_lab.serve.server import read_json

if TYPE_CHECKING:
    from diffusers import KolorsPipeline

    from kolors_lab.serve.line import Job, Line
    from kolors_lab.serve.server import ServeConfig

WRONG, FULL = 400, 429  # HTTP status of a request that cannot be done, and of one too many
REMEMBERED, REMEMBERED_BYTES = 200, 16 << 20  # runs in the history at the most, and their bytes together
NO_PREVIEW = ("none", "default")
USED = {"prompt", "client_id", "prompt_id", "extra_data", "partial_execution_targets"}


def answer(status: int, reason: str, nodes: dict[str, Any] | None = None) -> JSONResponse:
    """An error as ComfyUI gives it."""
    kind = "prompt_outputs_failed_validation" if nodes else "invalid_prompt" if status == WRONG else "refused"
    error = {"type": kind, "message": reason, "details": reason, "extra_info": {}}
    return JSONResponse({"error": error, "node_errors": nodes or {}}, status)


def add_routes(app: FastAPI, config: ServeConfig, pipe: KolorsPipeline, line: Line) -> None:
    """All that clients ask for, on the application, each with and without `/api` before it."""
    desk, routes = Desk(config, pipe, line), APIRouter()
    _queue_routes(routes, desk, line)
    _history_routes(routes, desk.history)
    _picture_routes(routes, config)
    routes.add_api_route("/object_info", lambda: object_info(config))
    routes.add_api_route("/object_info/{name}", lambda name: object_info(config, name))
    routes.add_api_route("/system_stats", lambda: JSONResponse(_stats(pipe)))
    for name, found in {"/embeddings": [], "/extensions": [], "/features": {}}.items():
        routes.add_api_route(name, lambda found=found: JSONResponse(found))
    routes.add_api_websocket_route("/ws", desk.listen)
    app.include_router(routes)
    app.include_router(routes, prefix="/api")


def _queue_routes(routes: APIRouter, desk: Desk, line: Line) -> None:
    """Workflows come into the line, are looked at there, dropped, and stopped at work."""

    @routes.post("/prompt")
    async def prompt(request: Request) -> Any:
        asked = await read_json(request)
        return await run_in_threadpool(desk.queue, asked)

    @routes.get("/prompt")
    def remaining() -> dict:
        return {"exec_info": {"queue_remaining": len(line.jobs)}}

    @routes.get("/queue")
    def queue() -> dict:
        running = line.running
        return {"queue_running": [running.about] if running else [], "queue_pending": [j.about for j in line.waiting]}

    @routes.post("/queue")
    async def change_queue(request: Request) -> None:
        for key in _keys(await read_json(request), [job.key for job in line.waiting]):
            line.drop(key)

    @routes.post("/interrupt")
    async def interrupt(request: Request) -> None:
        line.interrupt((await read_json(request)).get("prompt_id"))


def _history_routes(routes: APIRouter, history: History) -> None:
    """What was run, and how it went."""

    @routes.get("/history")
    def runs(max_items: int = REMEMBERED) -> dict:
        return history.last(max_items)

    @routes.get("/history/{key}")
    def run(key: str) -> dict:
        return history.one(key)

    @routes.post("/history")
    async def forget(request: Request) -> None:
        for key in _keys(await read_json(request), list(history.entries)):
            history.entries.pop(key, None)


def _picture_routes(routes: APIRouter, config: ServeConfig) -> None:
    """Pictures go out of the server's folders and come into that for uploads."""
    folders = {"output": Path(config.out), "temp": Path(config.out), "input": Path(config.images)}

    @routes.get("/view")
    def view(request: Request) -> FileResponse:
        return FileResponse(_found(folders, **request.query_params), headers={"X-Content-Type-Options": "nosniff"})

    @routes.post("/upload/image")
    async def upload(request: Request) -> dict:
        async with request.form(max_files=1, max_fields=8) as form:
            if not hasattr(form.get("image"), "filename"):
                raise SettingError("image: must be a file of the form")
            data, name = await form["image"].read(), form["image"].filename or ""
            fields = {key: str(value) for key, value in form.items() if key != "image"}
        return await run_in_threadpool(_store, Path(config.images), name, data, **fields)


class History:
    """The last runs, as JSON: so they take a few kB each, and what they take together is known and bounded.

    A client may send megabytes with a workflow; however much it was, the newest run is remembered.
    """

    def __init__(self):
        self.entries: OrderedDict[str, bytes] = OrderedDict()

    def add(self, key: str, entry: dict) -> None:
        self.entries[key] = json.dumps(entry, ensure_ascii=False).encode("utf-8", "surrogatepass")
        while len(self.entries) > 1 and (len(self.entries) > REMEMBERED or self.size() > REMEMBERED_BYTES):
            self.entries.popitem(last=False)

    def size(self) -> int:
        """Bytes of all that is remembered."""
        return sum(map(len, list(self.entries.values())))

    def one(self, key: str) -> dict:
        """The entry of that key by it; {} for none."""
        found = self.entries.get(key)
        return {} if found is None else {key: json.loads(found.decode("utf-8", "surrogatepass"))}

    def last(self, count: int) -> dict:
        """The last `count` entries by their keys, oldest first."""
        keys = list(self.entries)[-count:] if count > 0 else []
        return {name: entry for key in keys for name, entry in self.one(key).items()}


class Desk:
    """Takes workflows in, runs them on one workbench, which keeps what the last one's nodes gave, and remembers them.

    An entry of `history` has ComfyUI's own form: what was asked for, the pictures of each node, and the messages.
    """

    def __init__(self, config: ServeConfig, pipe: KolorsPipeline, line: Line):
        self.config, self.line, self.preset = config, line, get_preset(config.preset)
        self.bench, self.hub, self.history = Workbench(pipe), Hub(), History()
        line.on_change = lambda: self.hub.send(self.status())

    def status(self, client: str | None = None) -> dict:
        data: dict[str, Any] = {"status": {"exec_info": {"queue_remaining": len(self.line.jobs)}}}
        return {"type": "status", "data": data | ({"sid": client} if client else {})}

    async def listen(self, socket: WebSocket) -> None:
        await self.hub.listen(socket, self.status)

    def queue(self, asked: dict) -> Any:
        """The answer to POST /prompt; what does not run of the workflow, or was changed, stands in its `notes`."""
        graph = asked.get("prompt")
        if not isinstance(graph, dict) or "nodes" in graph:
            raise DataError("prompt: must be a workflow in the API form, {form}", form="{id: {class_type, inputs}}")
        extra, key, client = asked.get("extra_data") or {}, asked.get("prompt_id"), asked.get("client_id")
        if not isinstance(extra, dict) or not isinstance(key or "", str) or not isinstance(client or "", str):
            raise DataError("extra_data must be an object, prompt_id and client_id texts")
        graph = normalise(graph)
        try:
            workflow = fit(graph, self.preset, self.config.loras, images=self.config.images)
        except KolorsLabError as error:
            return answer(WRONG, str(error), node_errors(graph, error))
        key = key or str(uuid.uuid4())
        about = [0, key, graph, extra | ({"client_id": client} if client else {}), ends(graph)]
        job = self.line.put(lambda job: self.run(job, workflow, client), about, key)
        about[0] = job.number
        notes = [*workflow.notes, *(_("{name} is not used").format(name=name) for name in asked if name not in USED)]
        notes += [_("partial_execution_targets: all is run")] if asked.get("partial_execution_targets") else []
        return {"prompt_id": key, "number": job.number, "node_errors": {}, "notes": notes}

    def run(self, job: Job, workflow: Workflow, client: str | None) -> None:
        """Run a workflow, telling its client, and remember how it went; it never raises."""
        told, outputs, at = [], {}, {"node": None}

        def tell(kind: str, **data: Any) -> None:
            data |= {"prompt_id": job.key}
            if kind.startswith("execution"):
                told.append([kind, data | {"timestamp": int(time.time() * 1000)}])
            self.hub.send({"type": kind, "data": data}, client or "?")

        try:
            tell("execution_start")
            tell(
                "execution_cached",
                nodes=[k for k, mark in fingerprints(workflow).items() if mark in self.bench.results],
            )
            for key, images in self._pictures(job, workflow, client, tell, at).items():
                outputs[key] = {"images": self._save(workflow, key, images)}
                tell("executed", node=key, display_node=key, output=outputs[key])
            tell("execution_success")
        except Stopped:
            tell("execution_interrupted", node_id=at["node"], node_type=_type(workflow, at["node"]), executed=[])
        except Exception as error:  # whatever it is, its client must hear of it, and the next job is to run
            tell("execution_error", node_id=at["node"], node_type=_type(workflow, at["node"]), executed=list(outputs),
                 exception_message=one_line(error), exception_type=type(error).__name__, traceback=[],
                 current_inputs={}, current_outputs=[])  # fmt: skip
        done = told[-1][0] == "execution_success"
        status = {"status_str": "success" if done else "error", "completed": done, "messages": told}
        status |= {"notes": list(workflow.notes)}
        self.history.add(job.key, {"prompt": job.about, "outputs": outputs, "status": status, "meta": {}})
        tell("executing", node=None)

    def _pictures(self, job: Job, workflow: Workflow, client: str | None, tell: Any, at: dict) -> dict[str, list]:
        method = str(job.about[3].get("preview_method") or ("auto" if self.config.previews else "none"))

        def on_node(key: str) -> None:
            at["node"] = key
            tell("executing", node=key, display_node=key)

        def on_step(step: int, total: int) -> None:
            job.on_step(step, total)
            tell("progress", value=step, max=total, node=at["node"])

        def on_preview(picture: Any) -> None:
            self.hub.send(preview_bytes(picture), client or "?")

        return self.bench.run(workflow, on_step, on_node, None if method in NO_PREVIEW else on_preview, job.stop)

    def _save(self, workflow: Workflow, key: str, images: list) -> list[dict]:
        files = save_pictures(workflow, {key: images}, self.config.out, self.preset.name)
        within = [file.relative_to(self.config.out) for file in files]
        return [
            {"filename": file.name, "subfolder": str(file.parent).removeprefix("."), "type": "output"}
            for file in within
        ]


def node_errors(graph: dict, error: KolorsLabError) -> dict[str, Any]:
    """All that is wrong with a workflow, by node, as ComfyUI says it."""
    found: dict[str, Any] = {}
    for key, why in faults_by_node(graph) or [node_of(graph, error)]:
        if key is not None:
            about = {"errors": [], "dependent_outputs": [], "class_type": graph[key]["class_type"]}
            told = {"type": "value_not_valid", "message": why, "details": "", "extra_info": {}}
            found.setdefault(key, about)["errors"].append(told)
    return found


def _type(workflow: Workflow, key: str | None) -> str | None:
    return workflow.graph[key]["class_type"] if key in workflow.graph else None


def _keys(asked: dict, there: list[str]) -> list[str]:
    """Which entries a request takes out of a list: all of them (`clear`), or those it names (`delete`)."""
    if more := set(asked) - {"clear", "delete"}:
        raise SettingError("{names}: must be clear or delete", names=", ".join(sorted(more))[:80])
    named = asked.get("delete") or []
    if not isinstance(named, list):
        raise SettingError("delete: must be a list of ids")
    return there if asked.get("clear") else [key for key in named if key in there]


def _place(folder: Path, subfolder: str, name: str) -> Path:
    """A file in a folder and nowhere else. Raises SettingError."""
    file = folder / subfolder / name
    if escapes(name) or escapes(subfolder) or not file.resolve().is_relative_to(folder.resolve()):
        raise SettingError("filename and subfolder must stay within the folder")
    if Path(name).name != name.strip() or file.suffix.lower() not in SUFFIXES:
        raise SettingError(
            "filename = {name!r}: must be the plain name of a picture, {endings}",
            name=name[:80],
            endings=" ".join(SUFFIXES),
        )
    return file


def _found(
    folders: dict[str, Path], /, filename: str = "", subfolder: str = "", type: str = "output", **more: str
) -> Path:
    """The picture that /view asks for. `rand`, with which browsers are told to ask again, is nothing to do."""
    check_name("type", type, folders)
    if more.keys() - {"rand"}:
        raise SettingError("{names}: pictures are given as they are", names=", ".join(sorted(more))[:80])
    file = _place(folders[type], subfolder, filename)
    if not file.is_file():
        raise SettingError("{file}: there is no such picture", file=filename[:80])
    return file


def _store(
    folder: Path, name: str, data: bytes, /, subfolder: str = "", type: str = "input", overwrite: str = "", **more: str
) -> dict:
    """Put an uploaded picture into the folder, under a new name where another one of that name lies there."""
    if type != "input" or more:
        given = ", ".join(more)[:80] or f"type = {type[:40]!r}"
        raise SettingError("{given}: only pictures for LoadImage are taken", given=given)
    file = first = _place(folder, subfolder, name)
    count = 0
    while overwrite not in ("true", "1") and file.exists() and file.read_bytes() != data:
        count += 1
        file = first.with_name(f"{first.stem} ({count}){first.suffix}")
    with replacing(file) as part:
        part.write_bytes(data)
        open_image(part)  # refuses what is none
    return {"name": file.name, "subfolder": subfolder, "type": type}


def _stats(pipe: KolorsPipeline) -> dict:
    import psutil
    import torch

    memory, device = psutil.virtual_memory(), device_of(pipe)
    free, total = torch.cuda.mem_get_info(device) if device.type == "cuda" else (memory.available, memory.total)
    system = {"os": sys.platform, "ram_total": memory.total, "ram_free": memory.available, "embedded_python": False}
    system |= {"comfyui_version": "kolors_lab", "python_version": sys.version, "pytorch_version": torch.__version__}
    sizes = {"vram_total": total, "vram_free": free, "torch_vram_total": total, "torch_vram_free": free}
    place = {"name": str(device), "type": device.type, "index": device.index or 0}
    return {"system": system | {"argv": []}, "devices": [place | sizes]}
