"""The interface of the Stable Diffusion web UI, /sdapi/v1/, as far as pictures are drawn and settings read."""

from __future__ import annotations

import asyncio
import base64
import io
import json
import time
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import TYPE_CHECKING, Any

from fastapi import FastAPI, Request  # this room is loaded only when it serves
from fastapi.responses import JSONResponse
from starlette.concurrency import run_in_threadpool

from kolors_lab.comfy.infotext import SCHEDULES
from kolors_lab.core.carriers import picture_texts
from kolors_lab.core.errors import DataError, SettingError
from kolors_lab.core.language import _
from kolors_lab.lora.tags import lora_files
from kolors_lab.models.presets import get_preset
from kolors_lab.pictures.files import generate_file
from kolors_lab.sampling.config import prompts_of, settle_tags
from kolors_lab.sampling.metadata import SAMPLER_LABELS, infotext, read_settings
from kolors_lab.sampling.pipeline import Stopped
from kolors_lab.serve.asked import KINDS, configs_of, decode
from kolors_lab.serve.server import read_json

if TYPE_CHECKING:
    from diffusers import KolorsPipeline
    from PIL import Image

    from kolors_lab.sampling.config import GenerateConfig
    from kolors_lab.serve.line import Job, Line
    from kolors_lab.serve.server import ServeConfig

WRONG, FULL = 422, 503  # HTTP status of a request that cannot be done, and of one too many


def answer(status: int, reason: str) -> JSONResponse:
    """An error as the web UI gives it."""
    return JSONResponse({"error": "HTTPException", "detail": reason, "body": "", "errors": reason}, status)


def add_routes(app: FastAPI, config: ServeConfig, pipe: KolorsPipeline, line: Line) -> None:
    """All that clients ask for, on the application."""
    _drawing_routes(app, config, pipe, line)
    title = f"{get_preset(config.preset).name}.safetensors"
    _option_routes(app, title)
    _list_routes(app, config, title)

    @app.post("/sdapi/v1/png-info")
    async def png_info(request: Request) -> dict:
        return await run_in_threadpool(_png_info, (await read_json(request)).get("image"))


def _drawing_routes(app: FastAPI, config: ServeConfig, pipe: KolorsPipeline, line: Line) -> None:
    """Pictures are drawn; how far that is; and it is stopped."""
    preset = get_preset(config.preset)

    async def draw(request: Request, of_image: bool) -> dict:
        asked = await read_json(request)
        with TemporaryDirectory() as folder:
            configs, notes = await run_in_threadpool(configs_of, asked, config, preset, Path(folder), of_image)
            prompts_of(map(settle_tags, configs))  # refused now, not after the others
            job = line.put(lambda job: _draw(job, configs, pipe))
            try:
                files, stopped = await asyncio.wrap_future(job.future)
            except asyncio.CancelledError:  # the server ends
                job.stop.set()
                raise
            return await run_in_threadpool(_result, asked, files, notes + stopped)

    @app.post("/sdapi/v1/txt2img")
    async def txt2img(request: Request) -> dict:
        return await draw(request, of_image=False)

    @app.post("/sdapi/v1/img2img")
    async def img2img(request: Request) -> dict:
        return await draw(request, of_image=True)

    @app.get("/sdapi/v1/progress")
    def progress(skip_current_image: bool = False) -> dict:
        return _progress(line, skip_current_image)

    @app.post("/sdapi/v1/interrupt")
    def interrupt() -> dict:
        line.interrupt()
        return {}


def _option_routes(app: FastAPI, title: str) -> None:
    """Settings of the server itself: they can be asked for, and set to what they are."""

    @app.get("/sdapi/v1/options")
    def options() -> dict:
        return {"sd_model_checkpoint": title, "samples_format": "png", "send_seed": True}

    @app.post("/sdapi/v1/options")
    async def set_options(request: Request) -> None:
        here = options()
        for name, value in (await read_json(request)).items():
            if here.get(name) != value:
                raise SettingError(
                    "{name} = {value!r:.80}: cannot be set here; the server is started with its model",
                    name=name,
                    value=value,
                )


def _list_routes(app: FastAPI, config: ServeConfig, title: str) -> None:
    """What there is to choose from."""
    lists: dict[str, Any] = {
        "samplers": [{"name": label, "aliases": [name], "options": {}} for name, label in SAMPLER_LABELS.items()],
        "schedulers": [{"name": ours, "label": label, "aliases": []} for label, ours in SCHEDULES.items()],
        "sd-models": [{"title": title, "model_name": Path(title).stem, "hash": None, "sha256": None, "filename": title,
                       "config": None}],
        "scripts": {"txt2img": ["controlnet"], "img2img": ["controlnet"]},
        "cmd-flags": {}, "sd-vae": [], "upscalers": [], "embeddings": {"loaded": {}, "skipped": {}},
        "prompt-styles": [], "hypernetworks": [],
    }  # fmt: skip
    for place, found in lists.items():
        app.add_api_route(f"/sdapi/v1/{place}", lambda found=found: JSONResponse(found))

    @app.get("/sdapi/v1/loras")
    def loras() -> list:
        files = lora_files(config.loras) if config.loras else []
        return [{"name": file.stem, "alias": file.stem, "path": file.name, "metadata": {}} for file in files]

    net = [Path(config.control_net).name] if config.control_net else []
    app.add_api_route("/controlnet/version", lambda: JSONResponse({"version": 2}))
    app.add_api_route("/controlnet/model_list", lambda: JSONResponse({"model_list": net}))
    app.add_api_route("/controlnet/module_list", lambda: JSONResponse({"module_list": list(KINDS)}))


def _draw(job: Job, configs: list[GenerateConfig], pipe: KolorsPipeline) -> tuple[list[Path], list[str]]:
    """The files of a request's pictures, and a note if it was interrupted: then only those that were done."""
    files: list[Path] = []
    for n, one in enumerate(configs):
        tell = lambda step, total: job.on_step(n * total + step, len(configs) * total)  # noqa: B023, E731
        try:
            files.append(generate_file(one, pipe, tell, job.on_preview, job.stop))
        except Stopped as error:
            told = _("interrupted: {error}; {count} of {all} pictures are done")
            return files, [told.format(error=error, count=len(files), all=len(configs))]
    return files, []


def _result(asked: dict, files: list[Path], notes: list[str]) -> dict:
    """Pictures in base64 and what they were made with; `notes` in `info` says what the request asked for in vain."""
    made = [read_settings(file) for file in files]
    first = made[0] if made else {}
    names = {"cfg_scale": "cfg", "sampler_name": "sampler_name", "denoising_strength": "denoise"}
    names |= {name: name for name in ("prompt", "negative_prompt", "seed", "width", "height", "steps")}
    info = {theirs: first.get(ours) for theirs, ours in names.items()}
    info |= {f"all_{name}s": [one[name] for one in made] for name in ("prompt", "negative_prompt", "seed")}
    info |= {"batch_size": len(made), "infotexts": [infotext(one) for one in made], "sd_model_name": first.get("model")}
    info |= {"index_of_first_image": 0, "job_timestamp": time.strftime("%Y%m%d%H%M%S"), "notes": notes}
    images = [base64.b64encode(file.read_bytes()).decode() for file in files]
    sent = {name: value for name, value in asked.items() if name not in ("init_images", "mask", "alwayson_scripts")}
    return {"images": images, "parameters": sent, "info": json.dumps(info, ensure_ascii=False)}


def _png_info(data: Any) -> dict:
    """What a picture's texts say, the web UI's `parameters` first; empty where it carries none."""
    with TemporaryDirectory() as folder:
        file = Path(folder, "picture")
        decode(data, file, "image")
        texts = picture_texts(file, ("parameters", "kolors_lab", "prompt", "workflow")) or {}
    try:
        parameters = json.loads(texts.get("kolors_lab", "{}"))
    except ValueError as error:
        raise DataError("the picture's settings are damaged ({error})", error=error) from error
    return {"info": texts.get("parameters", ""), "items": texts, "parameters": parameters}


def _progress(line: Line, without_picture: bool) -> dict:
    job = line.running
    step, total = (job.step, job.total) if job else (0, 0)
    state = {"skipped": False, "interrupted": bool(job and job.stop.is_set()), "stopping_generation": False,
             "job": job.key if job else "", "job_count": len(line.jobs), "job_timestamp": "0", "job_no": 0,
             "sampling_step": step, "sampling_steps": total}  # fmt: skip
    picture = job.preview if job and not without_picture else None
    return {"progress": step / total if total else 0.0, "eta_relative": 0.0, "state": state,
            "current_image": picture and _base64(picture), "textinfo": None}  # fmt: skip


def _base64(picture: Image.Image) -> str:
    stream = io.BytesIO()
    picture.save(stream, "PNG")
    return base64.b64encode(stream.getvalue()).decode()
