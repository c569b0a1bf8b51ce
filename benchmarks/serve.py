"""Load on `kolors-lab serve`: requests from several clients at once, none lost, memory flat.

    python benchmarks/serve.py                       # 200 requests from 8 clients, tiny, web UI
    python benchmarks/serve.py --api comfyui

The server is a process of its own, started by the command line; its memory is read after each tenth of the requests.
The first tenth warms up: what counts is the growth after it.
"""

from __future__ import annotations

import argparse
import subprocess
import sys
import tempfile
import threading
import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import psutil
import requests

from kolors_lab.comfy.writer import workflow_api

MB = 1 << 20
SETTINGS = {"prompt": "白马", "negative_prompt": "", "steps": 1, "width": 64, "height": 64}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--api", choices=("webui", "comfyui"), default="webui")
    parser.add_argument("--preset", default="tiny")
    parser.add_argument("--requests", type=int, default=200)
    parser.add_argument("--clients", type=int, default=8)
    options = parser.parse_args()
    ask = {"webui": ask_webui, "comfyui": ask_comfyui}[options.api]
    with tempfile.TemporaryDirectory() as folder:
        command = [sys.executable, "-u", "-m", "kolors_lab", "serve", "--api", options.api, "--preset", options.preset]
        command += ["--port", "0", "--waiting", "64", "--out", f"{folder}/out", "--images", f"{folder}/in"]
        server = subprocess.Popen(command, stdout=subprocess.PIPE, text=True, cwd=Path(__file__).parents[1])
        try:
            address = server.stdout.readline().split()[1].rstrip(";")
            run(ask, address, psutil.Process(server.pid), options)
        finally:
            server.terminate()
            server.wait(60)


def run(ask, address: str, server: psutil.Process, options: argparse.Namespace) -> None:
    begin, sizes, done, lock = time.perf_counter(), [], [], threading.Lock()

    def one(seed: int) -> None:
        found = ask(address, seed)
        with lock:
            done.append(found)
            if len(done) % max(options.requests // 10, 1) == 0:
                sizes.append(server.memory_info().rss / MB)
                print(f"{len(done):4} answered, {sizes[-1]:7.1f} MB", flush=True)

    with ThreadPoolExecutor(options.clients) as pool:
        list(pool.map(one, range(options.requests)))
    lost = set(range(options.requests)) - set(done)
    seconds = time.perf_counter() - begin
    print(f"{options.api}: {len(done)} of {options.requests} answered, {len(lost)} lost, {options.clients} clients")
    print(f"{options.requests / seconds:.1f} requests/s; memory {sizes[-1] - sizes[0]:+.1f} MB after the first tenth")


def ask_webui(address: str, seed: int) -> int:
    """Draw one picture; the seed it was drawn with."""
    response = requests.post(f"{address}/sdapi/v1/txt2img", json=SETTINGS | {"seed": seed}, timeout=600)
    response.raise_for_status()
    assert len(response.json()["images"]) == 1
    return int(response.json()["info"].split('"all_seeds": [')[1].split("]")[0])


def ask_comfyui(address: str, seed: int) -> int:
    """Queue a workflow, wait for its history, load its picture; the seed of the graph that the history has."""
    settings = SETTINGS | {"seed": seed, "cfg": 4.0, "batch": 1, "sampler_name": "euler", "scheduler": "karras"}
    response = requests.post(f"{address}/prompt", json={"prompt": workflow_api(settings)}, timeout=600)
    response.raise_for_status()
    key = response.json()["prompt_id"]
    while not (run := requests.get(f"{address}/history/{key}", timeout=600).json()):
        time.sleep(0.05)
    (image,) = next(iter(run[key]["outputs"].values()))["images"]
    requests.get(f"{address}/view", params=image, timeout=600).raise_for_status()
    return next(n["inputs"]["seed"] for n in run[key]["prompt"][2].values() if n["class_type"] == "KSampler")


if __name__ == "__main__":
    main()
