"""ComfyUI's interface, by comfy-cli, comfy-api-simplified and a plain websocket."""

from __future__ import annotations

import io
import json
import subprocess
import sys

import numpy as np
import pytest
from PIL import Image
from serving import serving

from kolors_lab.comfy.writer import workflow_api
from kolors_lab.sampling.pipeline import generate

requests = pytest.importorskip("requests")
pytest.importorskip("fastapi")
from kolors_lab.serve.comfyui import REMEMBERED, REMEMBERED_BYTES, History  # noqa: E402

SETTINGS = {
    "prompt": "白马", "negative_prompt": "夜空", "prompt_syntax": "plain", "seed": 5, "steps": 2, "cfg": 4.0,
    "width": 64, "height": 64, "batch": 1, "sampler_name": "euler", "scheduler": "karras",
}  # fmt: skip


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    return tmp_path_factory.mktemp("comfyui")


@pytest.fixture(scope="module")
def port(loaded, pipe_folder, folder):
    places = {"images": str(folder / "input"), "out": str(folder / "output")}
    with serving(loaded, api="comfyui", preset=str(pipe_folder), waiting=2, **places) as found:
        yield found


def workflow(**settings):
    graph = workflow_api(SETTINGS | settings)
    for node in graph.values():
        node["_meta"] = {"title": node["class_type"]}
    return graph


def address(port, path):
    return f"http://127.0.0.1:{port}{path}"


def get(port, path, **params):
    return requests.get(address(port, path), params=params, timeout=300)


def post(port, path, **fields):
    return requests.post(address(port, path), json=fields, timeout=300)


def opened(data):
    return Image.open(io.BytesIO(data))


def same(one, other):
    return np.array_equal(np.asarray(one.convert("RGB")), np.asarray(other.convert("RGB")))


def key_of(graph, class_type):
    return next(key for key, node in graph.items() if node["class_type"] == class_type)


def listen(port, client="me"):
    return pytest.importorskip("websockets.sync.client").connect(f"ws://127.0.0.1:{port}/ws?clientId={client}")


def heard(socket, key):
    """All messages until the run of that id has ended; bytes as they are."""
    messages = []
    while True:
        message = socket.recv(timeout=300)
        messages.append(message if isinstance(message, bytes) else json.loads(message))
        if isinstance(message, str) and messages[-1]["type"] == "executing":
            data = messages[-1]["data"]
            if data["node"] is None and data["prompt_id"] == key:
                return messages


def test_comfy_api_simplified_gets_its_pictures(port, loaded, tmp_path):
    simplified = pytest.importorskip("comfy_api_simplified")
    client = simplified.ComfyApiWrapper(address(port, ""))
    graph = simplified.ComfyWorkflowWrapper(workflow())
    graph.set_node_param("KSampler", "seed", 7)
    pictures = client.queue_and_wait_images(graph, "SaveImage")
    (data,) = pictures.values()
    wanted = {name: SETTINGS[name] for name in ("steps", "cfg", "width", "height", "sampler_name", "scheduler")}
    assert same(opened(data), generate(loaded, "白马", "夜空", seed=7, **wanted, prompt_syntax="plain"))
    assert "prompt" in opened(data).text  # which ComfyUI opens again
    (seen,) = client.get_object_info("KSampler").values()
    assert seen["input"]["required"]["steps"][0] == "INT" and seen["output"] == ["LATENT"]
    assert client.get_system_stats()["devices"][0]["type"] == "cpu"
    assert client.get_queue() == {"queue_running": [], "queue_pending": []}

    Image.effect_noise((64, 64), 80).convert("RGB").save(tmp_path / "start.png")
    stored = client.upload_image(tmp_path / "start.png", "mine")
    assert stored == {"name": "start.png", "subfolder": "mine", "type": "input"}
    graph = workflow(image="start.png", denoise=0.5, seed=9)
    graph[key_of(graph, "LoadImage")]["inputs"]["image"] = "mine/start.png"
    (data,) = client.queue_and_wait_images(simplified.ComfyWorkflowWrapper(graph), "SaveImage").values()
    over = {"image": tmp_path / "start.png", "denoise": 0.5, "seed": 9}
    assert same(opened(data), generate(loaded, "白马", "夜空", **over, **wanted, prompt_syntax="plain"))
    graph[key_of(graph, "SaveImage")]["inputs"]["images"] = [key_of(graph, "LoadImage"), 0]  # no sampler on the way
    (data,) = client.queue_and_wait_images(simplified.ComfyWorkflowWrapper(graph), "SaveImage").values()
    assert same(opened(data), Image.open(tmp_path / "start.png"))


def test_comfy_cli_runs_a_workflow(port, tmp_path):
    pytest.importorskip("comfy_cli")
    file = tmp_path / "workflow.json"
    file.write_text(json.dumps(workflow(seed=11)))
    command = [
        sys.executable, "-m", "comfy_cli", "--json", "--skip-prompt", "run", "--workflow", str(file),
        "--wait", "--host", "127.0.0.1", "--port", str(port), "--timeout", "300",
    ]  # fmt: skip
    done = subprocess.run(command, capture_output=True, text=True, timeout=300, stdin=subprocess.DEVNULL)
    assert done.returncode == 0, done.stdout + done.stderr
    assert f"http://127.0.0.1:{port}/view?filename=" in done.stdout


def test_the_socket_tells_it_all(port):
    with listen(port) as socket:
        first = json.loads(socket.recv(timeout=60))
        assert first["data"] == {"status": {"exec_info": {"queue_remaining": 0}}, "sid": "me"}
        graph = workflow(seed=21)
        asked = {"prompt": graph, "client_id": "me", "extra_data": {"preview_method": "auto"}}
        answer = post(port, "/api/prompt", **asked).json()
        assert any(note.startswith("weights:") for note in answer["notes"])
        messages = heard(socket, answer["prompt_id"])
    kinds = [message["type"] for message in messages if not isinstance(message, bytes)]
    wanted = ("execution_start", "execution_cached", "executing", "progress", "executed", "execution_success")
    assert [kinds.index(kind) for kind in wanted] == sorted(kinds.index(kind) for kind in wanted)
    steps = [m["data"]["value"] for m in messages if not isinstance(m, bytes) and m["type"] == "progress"]
    assert steps == [1, 2]
    previews = [message for message in messages if isinstance(message, bytes)]
    assert len(previews) == 2 and previews[0][:8] == bytes([0, 0, 0, 1, 0, 0, 0, 1])
    assert opened(previews[0][8:]).format == "JPEG"

    (run,) = get(port, f"/history/{answer['prompt_id']}").json().values()
    assert run["status"]["completed"] and run["status"]["notes"] == answer["notes"]
    (image,) = run["outputs"][key_of(graph, "SaveImage")]["images"]
    assert opened(get(port, "/view", **image).content).size == (64, 64)
    assert post(port, "/history", delete=[answer["prompt_id"]]).ok
    assert get(port, f"/history/{answer['prompt_id']}").json() == {}


def test_faults_are_told_by_node(port):
    graph = workflow()
    sampler = key_of(graph, "KSampler")
    graph[sampler]["inputs"] |= {"steps": "many", "sampler_name": "oops"}
    response = post(port, "/prompt", prompt=graph)
    body = response.json()
    assert response.status_code == 400 and body["error"]["type"] == "prompt_outputs_failed_validation"
    assert body["node_errors"][sampler]["class_type"] == "KSampler"
    assert len(body["node_errors"][sampler]["errors"]) == 2

    graph = workflow()
    graph[sampler]["class_type"] = "NoSuchNode"
    assert list(post(port, "/prompt", prompt=graph).json()["node_errors"]) == [sampler]
    for bad in (None, [], {}, {"nodes": []}, {"1": 7}):
        body = post(port, "/prompt", prompt=bad).json()
        assert body["error"]["message"] and "\n" not in body["error"]["message"]


def test_interrupt_and_the_line(port):
    with listen(port, "line") as socket:
        keys = [post(port, "/prompt", prompt=workflow(seed=n, steps=900), client_id="line").json()["prompt_id"]
                for n in range(3)]  # fmt: skip
        full = post(port, "/prompt", prompt=workflow(seed=99))
        assert full.status_code == 429 and "wait already" in full.json()["error"]["message"]
        queue = get(port, "/queue").json()
        assert {one[1] for one in queue["queue_running"] + queue["queue_pending"]} == set(keys)
        assert post(port, "/queue", delete=[keys[1]]).ok
        assert post(port, "/queue", clear=True).ok
        assert get(port, "/prompt").json() == {"exec_info": {"queue_remaining": 1}}
        while json.loads(socket.recv(timeout=300))["type"] != "progress":
            pass
        post(port, "/interrupt", prompt_id="another")
        post(port, "/interrupt", prompt_id=keys[0])
        messages = heard(socket, keys[0])
    assert "execution_interrupted" in [message["type"] for message in messages]
    status = get(port, f"/history/{keys[0]}").json()[keys[0]]["status"]
    assert status["status_str"] == "error" and not status["completed"]


@pytest.mark.parametrize(
    "params",
    [
        {"filename": "../secret.png"}, {"filename": "secret.png", "subfolder": ".."}, {"filename": "/etc/passwd"},
        {"filename": "link.png"}, {"filename": "secret.txt"}, {"filename": "a.png", "type": "home"}, {},
        {"folders": "x"}, {"filename": "ComfyUI_00001_.png", "preview": "webp;90"},
    ],
)  # fmt: skip
def test_no_file_outside_the_folders_is_shown(port, folder, params):
    (folder / "output").mkdir(exist_ok=True)
    Image.new("RGB", (8, 8)).save(folder / "secret.png")
    (folder / "output/secret.txt").write_text("secret")
    if not (folder / "output/link.png").is_symlink():
        (folder / "output/link.png").symlink_to(folder / "secret.png")
    response = get(port, "/view", **params)
    assert response.status_code == 400 and response.json()["error"]["message"]


def test_uploads_stay_in_their_folder(port, folder):
    def send(name, data, **fields):
        return requests.post(address(port, "/upload/image"), files={"image": (name, data)}, data=fields, timeout=60)

    stream = io.BytesIO()
    Image.new("RGB", (8, 8), "red").save(stream, "PNG")
    red = stream.getvalue()
    assert send("red.png", red).json()["name"] == send("red.png", red).json()["name"] == "red.png"
    stream = io.BytesIO()
    Image.new("RGB", (8, 8), "blue").save(stream, "PNG")
    assert send("red.png", stream.getvalue()).json()["name"] == "red (1).png"
    assert opened((folder / "input/red.png").read_bytes()).getpixel((0, 0)) == (255, 0, 0)
    assert send("red.png", stream.getvalue(), overwrite="true").json()["name"] == "red.png"
    before = sorted(folder.rglob("*"))
    for name, data, fields in (
        ("../up.png", red, {}), ("up.png", red, {"subfolder": "../.."}), ("up.png", b"no picture", {}),
        ("up.exe", red, {}), ("up.png", red, {"type": "output"}), ("up.png", red, {"original_ref": "x"}),
    ):  # fmt: skip
        assert send(name, data, **fields).status_code == 400
    assert sorted(folder.rglob("*")) == before


def test_other_sites_pages_may_not_listen(port):
    client = pytest.importorskip("websockets.sync.client")
    with pytest.raises(Exception, match="403"):
        client.connect(f"ws://127.0.0.1:{port}/ws", additional_headers={"Origin": "http://evil.example"})
    response = requests.post(address(port, "/prompt"), json={}, headers={"Origin": "http://evil.example"}, timeout=60)
    assert response.status_code == 403


def test_many_workflows_and_none_lost(port):
    with listen(port, "many") as socket:
        for seed in range(12):
            graph = workflow(seed=seed, steps=1)
            while (answer := post(port, "/prompt", prompt=graph, client_id="many")).status_code == 429:
                socket.recv(timeout=300)  # something happens: try again
            key = answer.json()["prompt_id"]
        heard(socket, key)
    runs = [run for run in get(port, "/history").json().values() if run["prompt"][3].get("client_id") == "many"]
    assert len(runs) == 12 and all(run["status"]["completed"] for run in runs)


def test_however_much_clients_send_what_is_remembered_stays_small_and_the_newest_is_there():
    history, megabyte = History(), "白" * (1 << 20)
    for n in range(40):
        history.add(f"large {n}", {"prompt": [n, {"workflow": megabyte}]})
    assert history.size() <= REMEMBERED_BYTES and list(history.last(1)) == ["large 39"]
    history.add("vast", {"prompt": [40, megabyte * 9]})
    assert list(history.last(200)) == ["vast"] and history.one("vast")["vast"]["prompt"][0] == 40
    for n in range(REMEMBERED + 5):
        history.add(f"{n}", {"prompt": [n, "半个字 \ud800"]})
    assert len(history.last(1000)) == REMEMBERED and history.one("4") == {} and history.last(0) == {}
    assert history.one("5") == {"5": {"prompt": [5, "半个字 \ud800"]}}
