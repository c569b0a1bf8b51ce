"""The web UI's interface, by webuiapi and by plain requests as scripts send them."""

from __future__ import annotations

import base64
import io
import json
import threading
from concurrent.futures import ThreadPoolExecutor
from functools import partial

import numpy as np
import pytest
from helpers import make_lora
from PIL import Image
from serving import serving

from kolors_lab.core.errors import SettingError
from kolors_lab.lora.writing import write_lora
from kolors_lab.sampling.pipeline import generate
from kolors_lab.serve.server import ServeConfig

requests = pytest.importorskip("requests")
FAST = {"steps": 2, "width": 64, "height": 64, "cfg_scale": 4}


@pytest.fixture(scope="module")
def lora_folder(loaded, tmp_path_factory):
    folder = tmp_path_factory.mktemp("loras")
    write_lora(make_lora(loaded.unet, ("to_q", "to_v"), 8), folder / "pastel.safetensors")
    return folder


@pytest.fixture(scope="module")
def port(loaded, pipe_folder, lora_folder):
    with serving(loaded, preset=str(pipe_folder), loras=str(lora_folder), waiting=40, max_mb=4) as found:
        yield found


@pytest.fixture
def client(port):
    webuiapi = pytest.importorskip("webuiapi")
    return webuiapi.WebUIApi(port=port, sampler="Euler a", steps=2)


def post(port, path, **fields):
    return requests.post(f"http://127.0.0.1:{port}/sdapi/v1/{path}", json=fields, timeout=300)


def encoded(image):
    stream = io.BytesIO()
    image.save(stream, "PNG")
    return base64.b64encode(stream.getvalue()).decode()


def opened(data):
    return Image.open(io.BytesIO(base64.b64decode(data)))


def same(one, other):
    return np.array_equal(np.asarray(one.convert("RGB")), np.asarray(other.convert("RGB")))


def test_webuiapi_draws_what_generate_draws(client, loaded):
    sent = {**FAST, "prompt": "白马", "negative_prompt": "夜空"}
    result = client.txt2img(**sent, seed=5, batch_size=2, sampler_name="DPM++ 2M", scheduler="karras")
    assert result.info["all_seeds"] == [5, 6] and result.info["notes"] == []
    for seed, image in zip((5, 6), result.images, strict=True):
        settings = {"steps": 2, "width": 64, "height": 64, "cfg": 4, "sampler_name": "dpmpp_2m", "scheduler": "karras"}
        assert same(image, generate(loaded, "白马", "夜空", seed=seed, **settings))
    read = client.png_info(result.image)
    assert read.info.startswith("白马\nNegative prompt: 夜空\nSteps: 2, Sampler: DPM++ 2M, Schedule type: karras")
    assert read.parameters["seed"] == 5


def test_webuiapi_lists(client):
    assert "DPM++ 2M" in client.util_get_sampler_names()
    assert {"karras", "normal"} <= {one["name"] for one in client.get_schedulers()}
    assert [one["name"] for one in client.get_loras()] == ["pastel"]
    model = client.util_get_current_model()
    assert client.util_get_model_names() == [model]
    client.util_set_model(model)  # what is there may be asked for
    assert "cannot be set here" in client.session.post(f"{client.baseurl}/options", json={"eta": 1}).json()["detail"]
    assert client.get_progress()["state"]["sampling_steps"] == 0


def test_a_lora_acts_by_its_tag(client):
    plain = client.txt2img(**FAST, prompt="白马", seed=1)
    worn = client.txt2img(**FAST, prompt="白马<lora:pastel:1>", seed=1)
    assert not same(plain.image, worn.image)
    assert worn.info["infotexts"][0].startswith("白马 <lora:pastel:1>\n")
    assert same(plain.image, client.txt2img(**FAST, prompt="白马", seed=1).image)


def test_only_the_mask_is_drawn_anew(client):
    picture = Image.effect_noise((64, 64), 80).convert("RGB")
    mask = Image.new("L", (64, 64))
    mask.paste(255, (32, 0, 64, 64))
    result = client.img2img(
        images=[picture], mask_image=mask, prompt="白马", seed=1, denoising_strength=1, inpainting_fill=1, **FAST
    )
    drawn = result.image
    assert same(drawn.crop((0, 0, 32, 64)), picture.crop((0, 0, 32, 64)))
    assert not same(drawn.crop((40, 0, 64, 64)), picture.crop((40, 0, 64, 64)))
    notes = ["mask_blur = 4 is not used", "inpaint_full_res = True is not used"]  # webuiapi asks for both by default
    assert result.info["notes"] == notes
    inverted = client.img2img(
        images=[picture], mask_image=mask, prompt="白马", seed=1, inpainting_mask_invert=1, inpainting_fill=1, **FAST
    )
    assert same(inverted.image.crop((32, 0, 64, 64)), picture.crop((32, 0, 64, 64)))


def test_what_is_not_done_is_named(client):
    result = client.txt2img(**FAST, prompt="白马", seed=1, tiling=True, styles=["anime"], s_churn=0.5)
    assert result.info["notes"] == [
        "styles = \"['anime']\" is not used",
        "tiling = True is not used",
        "s_churn = 0.5 is not used",
    ]


@pytest.mark.parametrize(
    ("fields", "words"),
    [
        ({"sampler_name": "DPM fast"}, "DPM fast"),
        ({"script_name": "X/Y/Z plot"}, "there are no scripts here"),
        ({"alwayson_scripts": {"ADetailer": {"args": [{}]}}}, "only controlnet"),
        ({"alwayson_scripts": {"controlnet": {"args": [{"image": "x"}]}}}, "--control_net"),
        ({"prompt": "<lora:nobody:1>"}, "<lora:nobody>"),
        ({"prompt": ["白马"]}, "prompt"),
        ({"seed": -2}, "seed = -2"),
        ({"steps": 10**9}, "steps"),
        ({"width": 4000, "height": 70}, "multiple of 8"),
        ({"batch_size": 1000}, "batch_size"),
        ({"enable_hr": True, "hr_scale": 100}, "hr_scale"),
    ],
)
def test_what_cannot_be_drawn_is_refused_in_one_line(port, fields, words):
    response = post(port, "txt2img", **{**FAST, "prompt": "白马"} | fields)
    assert response.status_code == 422
    assert words in response.json()["detail"] and "\n" not in response.json()["detail"]


@pytest.mark.parametrize("data", ["", "no base64!", "aGVsbG8=", "http://127.0.0.1/a.png", 7])
def test_no_picture_is_refused(port, data):
    assert post(port, "img2img", init_images=[data], **FAST).status_code == 422
    assert post(port, "png-info", image=data).status_code == 422


def test_a_batch_script_with_controlnet(loaded, pipe_folder, tmp_path):
    """Fields as such scripts send them; the answer's picture is opened as they open it."""
    cv2 = pytest.importorskip("cv2")
    from test_control import make_net

    net = make_net(loaded.unet, tmp_path / "circles")
    circle = cv2.circle(np.zeros((128, 128, 3), np.uint8), (64, 64), 30, (255, 255, 255), 3)
    source = base64.b64encode(cv2.imencode(".png", circle)[1].tobytes()).decode("utf-8")
    unit = {"enabled": True, "model": "your model", "control_net_no_detectmap": True, "input_image": source}
    params = {
        "prompt": "pale golden rod circle", "seed": 2023, "negative_prompt": "blurry", "batch_size": 1, "steps": 2,
        "cfg_scale": 7, "alwayson_scripts": {"controlnet": {"args": [unit]}},
    }  # fmt: skip
    with serving(loaded, preset=str(pipe_folder), control_net=str(net)) as port:
        response = post(port, "txt2img", **params).json()
        image = opened(response["images"][0])
        assert image.size == (128, 128)  # the model's own
        (note,) = json.loads(response["info"])["notes"]
        assert "your model" in note and "circles" in note
        unit["enabled"] = False
        assert not same(image, opened(post(port, "txt2img", **params).json()["images"][0]))
        unit |= {"enabled": True, "module": "openpose"}
        assert "openpose" in post(port, "txt2img", **params).json()["detail"]


def test_progress_interrupt_and_a_full_line(loaded, pipe_folder):
    with serving(loaded, preset=str(pipe_folder), waiting=0) as port, ThreadPoolExecutor(1) as pool:
        get = partial(requests.get, f"http://127.0.0.1:{port}/sdapi/v1/progress", timeout=60)
        long = pool.submit(post, port, "txt2img", **{**FAST, "steps": 1000}, prompt="白马")
        while not (now := get().json())["current_image"]:
            assert not long.done()
        assert now["state"]["sampling_steps"] == 1000 and 0 < now["progress"] < 1
        assert opened(now["current_image"]).width > 0
        full = post(port, "txt2img", **FAST)
        assert full.status_code == 503 and "wait already" in full.json()["detail"]
        post(port, "interrupt")
        answer = long.result().json()
        assert answer["images"] == [] and "interrupted" in json.loads(answer["info"])["notes"][0]
        assert len(post(port, "txt2img", **FAST).json()["images"]) == 1  # and it goes on


def test_none_of_many_is_lost(port):
    def one(seed):
        return json.loads(post(port, "txt2img", **{**FAST, "steps": 1}, seed=seed, prompt="白马").json()["info"])[
            "seed"
        ]

    with ThreadPoolExecutor(8) as pool:
        assert list(pool.map(one, range(24))) == list(range(24))


# What no request may do -----------------------------------------------------------------------------------------------


def test_other_sites_pages_get_nothing(port):
    address = f"http://127.0.0.1:{port}/sdapi/v1/options"
    rebound = requests.get(address, headers={"Host": "evil.example"}, timeout=60)
    assert rebound.status_code == 400 and "sd_model" not in rebound.text
    crossed = requests.post(address, headers={"Origin": "http://evil.example"}, json={}, timeout=60)
    assert crossed.status_code == 403
    preflight = requests.options(address, headers={"Origin": f"http://127.0.0.1:{port}"}, timeout=60)
    assert not any("access-control" in name.lower() for name in preflight.headers)


def test_large_requests_are_not_read(port):
    address = f"http://127.0.0.1:{port}/sdapi/v1/png-info"
    said = requests.post(address, data=b"x" * (5 << 20), timeout=60)
    unsaid = requests.post(address, data=(b"x" * (1 << 20) for _ in range(5)), timeout=60)  # chunked, no length
    assert said.status_code == unsaid.status_code == 413
    assert "4 MB at most" in unsaid.json()["detail"]
    assert requests.post(address, data=b"[" * 100_000, timeout=60).status_code == 422


def test_a_key(loaded, pipe_folder):
    key = "a long enough key"
    with serving(loaded, preset=str(pipe_folder), host="0.0.0.0", key=key) as port:
        get = partial(requests.get, f"http://127.0.0.1:{port}/sdapi/v1/options", timeout=60)
        assert get().status_code == 401 and get(auth=("me", "wrong")).status_code == 401
        assert get(auth=("me", key)).ok and get(headers={"Authorization": f"Bearer {key}"}).ok
        webuiapi = pytest.importorskip("webuiapi")
        client = webuiapi.WebUIApi(port=port, username="me", password=key, sampler="Euler")
        assert client.txt2img(**FAST, prompt="白马").image.size == (64, 64)


@pytest.mark.parametrize(
    ("settings", "word"),
    [
        ({"host": "0.0.0.0"}, "--key"),
        ({"host": "192.168.1.5"}, "--key"),
        ({"host": "example.org"}, "--key"),
        ({"host": "0.0.0.0", "key": "short"}, "key"),
        ({"api": "a1111"}, "api"),
        ({"port": 70000}, "port"),
        ({"waiting": -1}, "waiting"),
    ],
)
def test_settings_that_are_not_allowed(settings, word):
    with pytest.raises(SettingError, match=word):
        ServeConfig(**settings)


def test_a_taken_port_is_said(port, loaded):
    from kolors_lab.serve.server import serve

    with pytest.raises(SettingError, match="--port"):
        serve(ServeConfig(port=port), pipe=loaded)


def test_it_ends_while_one_draws(loaded, pipe_folder):
    """A server that ends stops the drawing at work; its client hears that nobody answers any more."""
    with serving(loaded, preset=str(pipe_folder)) as port:
        ended = []

        def ask():
            try:
                ended.append(post(port, "txt2img", **{**FAST, "steps": 1000}, prompt="白马").status_code)
            except requests.RequestException as error:
                ended.append(error)

        thread = threading.Thread(target=ask)
        thread.start()
        while not requests.get(f"http://127.0.0.1:{port}/sdapi/v1/progress", timeout=60).json()["progress"]:
            assert thread.is_alive()
    thread.join(60)
    assert not thread.is_alive() and ended
