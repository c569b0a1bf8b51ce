"""Downloads: ModelScope's real client against a small server on loopback that speaks the endpoints it uses."""

import errno
import hashlib
import io
import json
import re
import shutil
import threading
from collections import namedtuple
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from types import SimpleNamespace
from urllib.parse import parse_qs, urlsplit

import pytest
from PIL import Image

from kolors_lab.core.errors import FetchError, SettingError
from kolors_lab.models.fetch import FetchConfig, fetch
from kolors_lab.models.hub import find

pytest.importorskip("modelscope")

MODEL, FALLBACK, VAE, SCORER, SET = "lab/kolors", "lab/kolors-copy", "lab/vae", "lab/scorer", "lab/anime"
TOKEN = "ms-0123-secret-token"
WEIGHTS = bytes(range(256)) * 4096  # 1 MiB: more than a socket buffers, so that a cut is felt in the middle
PIPELINE = {
    "model_index.json": b'{"_class_name": "KolorsPipeline"}',
    "README.md": b"about",
    "kolors.safetensors": b"the same again, for another program",
    "assets/picture.png": b"png",
    "tokenizer/tokenizer.model": b"pieces",
    "unet/config.json": b"{}",
    "unet/diffusion_pytorch_model.fp16.safetensors": WEIGHTS,
    "unet/diffusion_pytorch_model.safetensors": WEIGHTS * 2,
    "unet/diffusion_pytorch_model.bin": WEIGHTS * 2,
    "vae/config.json": b"{}",
    "vae/diffusion_pytorch_model.safetensors": b"vae",
}
UNET = "unet/diffusion_pytorch_model.fp16.safetensors"


class Hub:
    """The few answers of ModelScope that the client asks for, and the faults a test wants."""

    def __init__(self):
        self.repos = {MODEL: dict(PIPELINE), VAE: {"config.json": b"{}", "diffusion_pytorch_model.safetensors": b"v"}}
        self.cut, self.damaged, self.status = [], [], {}
        self.downloads = []  # (repository, file, Range header)
        self.stall, self.released = (
            [],
            threading.Event(),
        )  # files and lists that stop in the middle, until the test's end

    def answer(self, url: str, headers) -> tuple[int, dict, bytes]:
        parts = urlsplit(url)
        query = {key: value[0] for key, value in parse_qs(parts.query).items()}
        match = re.fullmatch(r"/api/v1/(models|datasets)/([^/]+/[^/]+)(/repo(?:/files|/tree)?)", parts.path)
        repo = match and match[2]
        if repo in self.status:
            return self._json({"Message": "refused", "Token": TOKEN}, self.status[repo])
        if repo not in self.repos:
            return self._json({"Message": "there is nothing here"}, 404)
        if "FilePath" not in query:
            return self._json({"Code": 200, "Data": {"Files": self._files(repo, query.get("Root", ""))}})
        return self._file(repo, query["FilePath"], headers.get("Range"))

    def _files(self, repo, root):
        return [
            {"Path": path, "Name": path, "Type": "blob", "Size": len(data), "Sha256": hashlib.sha256(data).hexdigest()}
            for path, data in self.repos[repo].items()
            if path.startswith(root)
        ]

    def _file(self, repo, path, wanted):
        self.downloads.append((repo, path, wanted))
        data = self.repos[repo][path]
        if path in self.damaged:
            data = bytes(len(data))
        start = int(wanted.removeprefix("bytes=").rstrip("-")) if wanted else 0
        headers = {"Content-Length": str(len(data) - start)}
        if wanted:
            headers["Content-Range"] = f"bytes {start}-{len(data) - 1}/{len(data)}"
        body = data[start:]
        if path in self.cut:
            self.cut.remove(path)
            body = body[: len(body) // 2]
        return (206 if wanted else 200), headers, body

    @staticmethod
    def _json(content, status=200):
        body = json.dumps(content).encode()
        return status, {"Content-Type": "application/json", "Content-Length": str(len(body))}, body


@pytest.fixture
def hub():
    hub = Hub()

    class Handler(BaseHTTPRequestHandler):
        def do_GET(self):
            status, headers, body = hub.answer(self.path, self.headers)
            self.send_response(status)
            for header in headers.items():
                self.send_header(*header)
            self.end_headers()
            if any(part in self.path for part in hub.stall):
                self.wfile.write(body[: len(body) // 2])
                self.wfile.flush()
                hub.released.wait(30)
                return
            self.wfile.write(body)

        def log_message(self, *args):
            pass

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    threading.Thread(target=server.serve_forever, args=(0.01,), daemon=True).start()
    hub.url = f"http://127.0.0.1:{server.server_port}"
    yield hub
    hub.released.set()
    server.shutdown()
    server.server_close()


@pytest.fixture(autouse=True)
def client(hub, tmp_path, monkeypatch):
    """The client with its cache in `tmp_path`, asking the loopback server, without waits between its retries."""
    from modelscope_hub import _download, _download_control, _legacy_api, set_default_config

    monkeypatch.setenv("MODELSCOPE_ENDPOINT", hub.url)
    monkeypatch.setenv("MODELSCOPE_CACHE", str(tmp_path / "cache"))
    monkeypatch.setenv("MODELSCOPE_HOME", str(tmp_path / "home"))
    monkeypatch.setenv("NO_PROXY", "127.0.0.1")
    monkeypatch.delenv("MODELSCOPE_API_TOKEN", raising=False)
    monkeypatch.setattr(_download_control._DownloadControl, "sleep", lambda self, seconds: None)
    monkeypatch.setattr(_legacy_api.time, "sleep", lambda seconds: None)
    monkeypatch.setattr(_download, "DOWNLOAD_RETRY_TIMES", 0)  # one call, one attempt: a test makes the next itself
    set_default_config(None)
    yield
    set_default_config(None)


@pytest.fixture(autouse=True)
def preset(monkeypatch):
    preset = SimpleNamespace(model=MODEL, model_fallbacks=(FALLBACK,), vae=VAE, scorer=SCORER, dataset=SET)
    monkeypatch.setattr("kolors_lab.models.fetch.get_preset", lambda name: preset)
    return preset


def names(folder):
    return {str(file.relative_to(folder)) for file in folder.rglob("*") if file.is_file()}


def test_model_arrives_whole_and_without_copies(hub):
    said = []
    folder = fetch(FetchConfig(), said.append)
    assert names(folder) == set(PIPELINE) - {
        "README.md",
        "kolors.safetensors",
        "assets/picture.png",
        "unet/diffusion_pytorch_model.safetensors",
        "unet/diffusion_pytorch_model.bin",
    }
    assert (folder / UNET).read_bytes() == WEIGHTS
    assert [d[1] for d in hub.downloads if d[0] == MODEL][-1] == "model_index.json"  # what makes it look whole is last
    assert find(MODEL) == folder and find(VAE).is_dir()
    assert said[0].startswith(f"{MODEL}: 1.0 MB in 6 files, 1.0 MB still to come; ") and "free in" in said[0]
    before = len(hub.downloads)
    assert fetch(FetchConfig(), said.append) == folder
    assert len(hub.downloads) == before and "0.0 MB still to come" in said[-2]


def test_cut_download_goes_on_where_it_stopped(hub):
    hub.cut = [UNET]
    with pytest.raises(FetchError, match="goes on where it stopped"):
        fetch(FetchConfig())
    assert find(MODEL) is None
    said = []
    folder = fetch(FetchConfig(), said.append)
    assert [d for d in hub.downloads if d[1] == UNET] == [
        (MODEL, UNET, None),
        (MODEL, UNET, f"bytes={len(WEIGHTS) // 2}-"),
    ]
    assert (folder / UNET).read_bytes() == WEIGHTS and find(MODEL) == folder
    assert "0.5 MB still to come" in said[0]


def test_unknown_id_falls_back_to_the_next(hub):
    hub.repos[FALLBACK] = hub.repos.pop(MODEL)
    said = []
    assert fetch(FetchConfig(), said.append) == find(FALLBACK)
    assert f"{MODEL} is not on ModelScope, trying the next known id" in said
    del hub.repos[FALLBACK]
    with pytest.raises(FetchError, match=f"knows none of {MODEL}, {FALLBACK}"):
        fetch(FetchConfig())


def test_damaged_file_is_refused_and_removed(hub, tmp_path):
    hub.damaged = [UNET]
    with pytest.raises(FetchError, match=rf"{UNET} of {MODEL} arrives damaged .*SHA-256") as error:
        fetch(FetchConfig())
    assert "\n" not in str(error.value)
    assert find(MODEL) is None
    assert not list(tmp_path.rglob("*fp16*")) and not list(tmp_path.rglob("model_index.json"))


@pytest.mark.parametrize("status", [401, 403])
def test_refused_access_asks_for_a_token_and_shows_none(hub, status, monkeypatch, capfd):
    monkeypatch.setenv("MODELSCOPE_API_TOKEN", TOKEN)
    hub.status = {MODEL: status}
    with pytest.raises(FetchError, match="refuses lab/kolors: set MODELSCOPE_API_TOKEN") as error:
        fetch(FetchConfig())
    output = capfd.readouterr()
    assert "\n" not in str(error.value) and TOKEN not in f"{error.value}{output.out}{output.err}"


@pytest.mark.parametrize(
    ("what", "repo", "file"), [("model", MODEL, "model_index.json"), ("data", SET, "metadata.jsonl")]
)
def test_offline_says_in_one_line_what_to_do_and_that_helps(monkeypatch, capfd, what, repo, file):
    monkeypatch.setenv("MODELSCOPE_ENDPOINT", "http://127.0.0.1:9")
    with pytest.raises(FetchError, match=f"check the network .* copy the folder of {repo} to ") as error:
        fetch(FetchConfig(what=what))
    assert "\n" not in str(error.value) and not capfd.readouterr().err
    place = Path(str(error.value).split()[-1])
    assert find(repo) is None
    place.mkdir(parents=True)
    (place / file).write_text("{}")
    assert find(repo) == place


def test_too_small_disk_is_refused_before_anything_is_fetched(hub, monkeypatch):
    usage = namedtuple("usage", "total used free")
    monkeypatch.setattr(shutil, "disk_usage", lambda path: usage(10**9, 10**9 - 10**6, 10**6))
    said = []
    with pytest.raises(FetchError, match=r"lab/kolors needs 1\.0 MB .* 1\.0 MB are free: make room"):
        fetch(FetchConfig(), said.append)
    assert not [d for d in hub.downloads if d[0] == MODEL]
    assert "1.0 MB free" in said[-1]


def test_a_disk_that_fills_meanwhile_is_one_line_and_what_arrived_is_gone_on_with(hub, monkeypatch):
    """There was room when it began; another program took it."""
    from modelscope_hub import _download

    class Full(io.FileIO):
        def write(self, chunk):
            if self.tell() + len(chunk) > len(WEIGHTS) // 2:
                raise OSError(errno.ENOSPC, "No space left on device", self.name)
            return super().write(chunk)

    def opened(file, mode="r", *rest, **options):
        return (Full if "a" in mode or "w" in mode else open)(file, mode, *rest, **options)

    hub.repos[MODEL][UNET] = WEIGHTS * 9  # in many pieces
    monkeypatch.setattr(_download, "open", opened, raising=False)
    with pytest.raises(FetchError, match=r"the disk of .*cache is full: make room or set MODELSCOPE_CACHE") as caught:
        fetch(FetchConfig())
    assert "\n" not in str(caught.value) and find(MODEL) is None
    monkeypatch.setattr(_download, "open", open)
    assert (fetch(FetchConfig()) / UNET).read_bytes() == WEIGHTS * 9
    assert [wanted for _, file, wanted in hub.downloads if file == UNET][-1]  # a range: not from its beginning


def test_scorer_without_safetensors(hub):
    hub.repos[SCORER] = {"config.json": b"{}", "pytorch_model.bin": b"w", "preprocessor_config.json": b"{}"}
    assert names(fetch(FetchConfig(what="scorer"))) == set(hub.repos[SCORER])


def parquet(count: int) -> bytes:
    from datasets import Dataset, Features, Value
    from datasets import Image as Picture

    def jpeg(number):
        Image.new("RGB", (40, 30), (number * 40, 0, 0)).save(file := io.BytesIO(), "PNG")
        return {"bytes": file.getvalue(), "path": None}

    rows = {"image": [jpeg(n) for n in range(count)], "text": [f"图{n}" for n in range(count)]}
    Dataset.from_dict(rows, Features({"image": Picture(), "text": Value("string")})).to_parquet(file := io.BytesIO())
    return file.getvalue()


def test_set_becomes_the_raw_layout(hub):
    hub.repos[SET] = {"README.md": b"about", "data/train-00000-of-00001.parquet": parquet(3)}
    folder = fetch(FetchConfig(what="data"))
    assert names(folder) == {"metadata.jsonl", "train/0.jpg", "train/1.jpg", "train/2.jpg"}
    lines = (folder / "metadata.jsonl").read_text(encoding="utf-8").splitlines()
    assert json.loads(lines[2]) == {"text": "图2", "image": ["train/2.jpg"]}
    with Image.open(folder / "train/2.jpg") as picture:
        assert picture.format == "JPEG" and picture.size == (40, 30)
    assert find(SET) == folder
    before = len(hub.downloads)
    assert fetch(FetchConfig(what="data")) == folder and len(hub.downloads) == before


def test_broken_off_set_is_finished_by_the_next_fetch(hub, monkeypatch):
    hub.repos[SET] = {"data/train.parquet": b"x"}
    red = {"image": Image.new("RGB", (8, 8), "red")}

    def breaks():
        yield red
        raise KeyboardInterrupt

    monkeypatch.setattr("modelscope.msdatasets.MsDataset.load", lambda *args, **options: breaks())
    with pytest.raises(KeyboardInterrupt):
        fetch(FetchConfig(what="data"))
    assert find(SET) is None
    monkeypatch.setattr("modelscope.msdatasets.MsDataset.load", lambda *args, **options: [red, red])
    folder = fetch(FetchConfig(what="data"))
    lines = (folder / "metadata.jsonl").read_text(encoding="utf-8").splitlines()
    assert [json.loads(line)["text"] for line in lines] == ["二次元", "二次元"]


def test_folder_needs_no_download(hub, preset, tmp_path):
    preset.model, preset.vae = str(tmp_path), None
    said = []
    assert fetch(FetchConfig(), said.append) == tmp_path
    assert said[0].startswith("nothing to fetch") and not hub.downloads


def test_unknown_part_is_a_setting_error():
    with pytest.raises(SettingError, match=r"what = 'lora': there is none of that name, .*; model, data, scorer"):
        FetchConfig(what="lora")


BAD = ("/tmp/evil.json", "../evil.json", "unet/../../evil.json", "C:/evil.json", "C:evil.json", "unet\\evil.json")
BAD += ("unet/a\0.json", "./config.json", "unet//evil.json", "~/evil.json", "x" * 2000)


@pytest.mark.parametrize("name", BAD)
@pytest.mark.parametrize("what", ["model", "data"])
def test_a_listed_name_that_leads_out_is_refused_before_anything_is_fetched(hub, what, name, tmp_path):
    hub.repos[SET] = {"data/train.parquet": b"x"}
    hub.repos[MODEL if what == "model" else SET][name] = b"evil"
    with pytest.raises(FetchError, match="leads out of its folder: nothing is fetched") as error:
        fetch(FetchConfig(what=what))
    assert "\n" not in str(error.value) and len(str(error.value)) < 400
    assert not hub.downloads and not list(tmp_path.rglob("*.json"))


def test_a_list_that_changes_when_it_is_asked_for_again_brings_no_other_files(hub, monkeypatch):
    """The client asks by itself once more; a name with wildcards must not open the door to others."""
    hub.repos[MODEL] |= {"tokenizer/[a-z]*.json": b"{}", "tokenizer/evil.json": b"evil"}
    asked, listed = [], hub._files

    def files(repo, root):
        asked.append(repo)
        return [file for file in listed(repo, root) if asked.count(MODEL) > 1 or "evil" not in file["Path"]]

    monkeypatch.setattr(hub, "_files", files)
    assert names(fetch(FetchConfig()) / "tokenizer") == {"[a-z]*.json", "tokenizer.model"}


@pytest.mark.parametrize("files", [{}, {"README.md": b"about"}, {"config.json": b"{}"}])
def test_a_list_without_a_model_is_no_success(hub, files):
    hub.repos[MODEL] = files
    with pytest.raises(FetchError, match="no model among them"):
        fetch(FetchConfig())
    hub.repos[SET] = {}
    with pytest.raises(FetchError, match="lists no files"):
        fetch(FetchConfig(what="data"))
    assert not hub.downloads and find(MODEL) is None


@pytest.mark.parametrize("where", ["FilePath=unet", "repo/files"])
def test_a_stall_ends_in_one_line_and_what_arrived_is_gone_on_with(hub, monkeypatch, where):
    from modelscope_hub import _legacy_api

    for name in ("DOWNLOAD_TIMEOUT", "REPO_TREE_PAGE_TIMEOUT_SECONDS"):  # 60 and 15 seconds elsewhere
        monkeypatch.setattr(_legacy_api, name, 1)
    hub.stall = [where]
    with pytest.raises(FetchError, match="ModelScope") as error:
        fetch(FetchConfig())
    assert "\n" not in str(error.value) and find(MODEL) is None
    hub.stall = []
    assert (fetch(FetchConfig()) / UNET).read_bytes() == WEIGHTS


@pytest.mark.parametrize("status", [400, 403, 409, 500])
def test_a_token_that_the_hub_sends_back_is_shown_nowhere(hub, status, monkeypatch, capfd):
    import traceback

    monkeypatch.setenv("MODELSCOPE_API_TOKEN", TOKEN)
    hub._json, hub.status = (
        lambda content, code=200: Hub._json({"Message": f"no {TOKEN}", "Code": code}, code),
        {MODEL: status},
    )
    with pytest.raises(FetchError) as error:
        fetch(FetchConfig())
    output = capfd.readouterr()
    assert TOKEN not in "".join(traceback.format_exception(error.value)) + output.out + output.err


def test_what_a_stranger_writes_gives_no_orders_to_the_terminal(hub):
    hub.repos[MODEL]["../\x1b]0;owned\x07\x1b[2J.json"] = b"evil"
    with pytest.raises(FetchError) as error:
        fetch(FetchConfig())
    assert "\x1b" not in str(error.value) and "\x07" not in str(error.value)
    assert (
        "\x1b" not in str(FetchError("a \x1b[31mred\x9b line"))
        and str(FetchError("桃花 \u202eabc")) == "桃花 \\u202eabc"
    )
