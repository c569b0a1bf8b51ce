"""Uploads: at the client's method boundary what would go, over loopback a refused token and a dead network."""

import json
import threading
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

import pytest

from kolors_lab.challenge import upload as module
from kolors_lab.challenge.upload import UploadConfig, pack, upload
from kolors_lab.core.errors import DataError, SettingError, UploadError
from kolors_lab.core.files import fingerprint, write_json

pytest.importorskip("modelscope_hub")

TOKEN = "ms-0123-secret-token"
REPO = "star/idol"
NAME = "星光[1]-可图Kolors训练-梦"


@pytest.fixture
def folder(tmp_path, monkeypatch):
    """A submission as far as an upload looks at it; what the check finds is another test's matter."""
    monkeypatch.setattr(module, "missing", lambda folder: [])
    folder = tmp_path / "submission"
    (folder / "images").mkdir(parents=True)
    for path in (f"{NAME}.safetensors", "README.md", "images/1.png"):
        (folder / path).write_bytes(path.encode() * 50)
    marks = {path: fingerprint(folder / path) for path in (f"{NAME}.safetensors", "README.md", "images/1.png")}
    write_json(folder / "submission.json", {"name": NAME, "score": {"mean": 6.5, "practice": False}, "files": marks})
    (folder / "diary.txt").write_text("mine")
    (folder / "images" / "Thumbs.db").write_bytes(b"windows")
    return folder


@pytest.fixture(autouse=True)
def client(tmp_path, monkeypatch):
    """The client without a stored login, its cache in `tmp_path`, without waits between its attempts."""
    from modelscope_hub import _legacy_api, _upload, set_default_config

    for name in ("CACHE", "HOME"):
        monkeypatch.setenv(f"MODELSCOPE_{name}", str(tmp_path / name.lower()))
    monkeypatch.setenv("MODELSCOPE_API_TOKEN", TOKEN)
    monkeypatch.setenv("NO_PROXY", "127.0.0.1")
    monkeypatch.setattr(_legacy_api.time, "sleep", lambda seconds: None)
    monkeypatch.setattr(_upload.time, "sleep", lambda seconds: None)
    set_default_config(None)
    yield
    set_default_config(None)


@pytest.fixture
def calls(monkeypatch):
    """What is asked of the client, in turn; the hub knows no model yet."""
    from modelscope_hub import HubApi

    calls = []
    monkeypatch.setattr(HubApi, "repo_exists", lambda self, repo, kind: False)
    monkeypatch.setattr(HubApi, "create_repo", lambda self, repo, kind, **options: calls.append(("create", options)))

    def upload_folder(self, repo, kind, **options):
        calls.append(("upload", options))
        options["progress_callback"]({"committed_files": 4, "total_files": 4})

    monkeypatch.setattr(HubApi, "upload_folder", upload_folder)
    return calls


class Hub(BaseHTTPRequestHandler):
    """A hub that refuses every token, or breaks off in the middle of its answer."""

    status = 401

    def do_GET(self):
        body = json.dumps({"Code": 10010205001, "Message": f"bad token {TOKEN}", "Success": False}).encode()
        self.send_response(self.status)
        self.send_header("Content-Type", "application/json")
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    do_POST = do_PUT = do_GET

    def log_message(self, *args):
        pass


class DyingHub(Hub):
    """It knows the model, and hangs up on everything that is sent."""

    def do_GET(self):
        body = json.dumps({"Code": 200, "Data": {"Path": "star", "Name": "idol"}, "Success": True}).encode()
        self.send_response(200)
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    def do_POST(self):
        self.connection.close()

    do_PUT = do_POST


@pytest.fixture
def serve(monkeypatch):
    servers = []

    def start(handler):
        from modelscope_hub import set_default_config

        server = ThreadingHTTPServer(("127.0.0.1", 0), handler)
        threading.Thread(target=server.serve_forever, args=(0.01,), daemon=True).start()
        servers.append(server)
        monkeypatch.setenv("MODELSCOPE_ENDPOINT", f"http://127.0.0.1:{server.server_port}")
        set_default_config(None)

    yield start
    for server in servers:
        server.shutdown()
        server.server_close()


def test_only_what_submit_wrote_goes(folder, calls):
    import fnmatch

    said = []
    lines = upload(UploadConfig(str(folder), REPO), said.append)
    (_, made), (_, sent) = calls
    assert made["chinese_name"] == NAME and made["visibility"] == "public"
    here = [f.relative_to(folder).as_posix() for f in folder.rglob("*") if f.is_file()]
    goes = {path for path in here if any(fnmatch.fnmatch(path, pattern) for pattern in sent["allow_patterns"])}
    assert goes == {f"{NAME}.safetensors", "README.md", "images/1.png", "submission.json"}
    assert not str(sent["tracker_path"]).startswith(str(folder))
    assert lines[-1].endswith(f"/models/{REPO}") and "4 of 4 files arrived" in said
    assert "stays here: diary.txt (submit did not write it)" in lines


def test_a_dry_run_shows_all_and_asks_the_hub_nothing(folder, calls, monkeypatch):
    monkeypatch.delenv("MODELSCOPE_API_TOKEN")
    lines = upload(UploadConfig(str(folder), dry_run=True))
    assert calls == [] and lines[-1] == "dry run: nothing was sent"
    assert sum(path in line for line in lines for path in ("README.md", "images/1.png")) == 2
    assert any("4 files" in line and NAME in line and "no --repo yet" in line for line in lines)
    assert f"to {REPO} on ModelScope" in upload(UploadConfig(str(folder), REPO, dry_run=True))[-2]
    with pytest.raises(SettingError, match="in Latin letters"):  # as the hub would say, only now
        UploadConfig(str(folder), "短发队/我的故事", dry_run=True)


def test_nothing_goes_that_is_incomplete_or_has_no_address(folder, calls, monkeypatch):
    with pytest.raises(SettingError, match="--repo USER/NAME"):
        upload(UploadConfig(str(folder)))
    with pytest.raises(SettingError, match="USER/NAME"):
        UploadConfig(str(folder), "idol")
    monkeypatch.setattr(module, "missing", lambda folder: ["page.png: it is missing", "team: a placeholder"])
    with pytest.raises(DataError, match=r"page\.png: it is missing \(and 1 more\)"):
        upload(UploadConfig(str(folder), REPO))
    (folder / "README.md").unlink()
    with pytest.raises(DataError, match=r"README\.md is gone"):
        upload(UploadConfig(str(folder), REPO, incomplete=True))
    assert calls == []


def test_a_link_to_elsewhere_is_no_part_of_it(folder, tmp_path):
    (tmp_path / "secret").write_text(TOKEN)
    (folder / "README.md").unlink()
    (folder / "README.md").symlink_to(tmp_path / "secret")
    with pytest.raises(DataError, match="link to elsewhere"):
        pack(folder)


def test_without_a_token_it_says_where_to_put_one(folder, calls, monkeypatch):
    monkeypatch.delenv("MODELSCOPE_API_TOKEN")
    with pytest.raises(UploadError, match=r"MODELSCOPE_API_TOKEN.*modelscope login"):
        upload(UploadConfig(str(folder), REPO))
    assert calls == []


def leaks(folder, capfd, error) -> bool:
    out, err = capfd.readouterr()
    assert out == ""
    files = [f for f in folder.parent.rglob("*") if f.is_file()]
    return TOKEN in f"{error.value}{out}{err}" or any(TOKEN.encode() in f.read_bytes() for f in files)


def test_a_refused_token_is_said_and_shown_nowhere(folder, serve, capfd):
    serve(Hub)
    with pytest.raises(UploadError, match=f"refuses your token for {REPO}.*MODELSCOPE_API_TOKEN") as error:
        upload(UploadConfig(str(folder), REPO))
    assert not leaks(folder, capfd, error)


@pytest.mark.parametrize("status", [400, 409, 500])
def test_a_token_that_the_hub_sends_back_is_blanked(folder, serve, capfd, status, monkeypatch):
    import traceback

    monkeypatch.setattr(Hub, "status", status)
    serve(Hub)
    with pytest.raises(UploadError) as error:
        upload(UploadConfig(str(folder), REPO))
    assert TOKEN not in "".join(traceback.format_exception(error.value)) and not leaks(folder, capfd, error)


def test_a_network_that_dies_in_the_middle_loses_nothing(folder, serve, capfd):
    before = {f: f.read_bytes() for f in folder.rglob("*") if f.is_file()}
    serve(DyingHub)
    with pytest.raises(UploadError, match="upload again: nothing is lost") as error:
        upload(UploadConfig(str(folder), REPO))
    assert "\n" not in str(error.value) and not leaks(folder, capfd, error)
    assert {f: f.read_bytes() for f in folder.rglob("*") if f.is_file()} == before


def test_a_dead_network_is_said(folder, monkeypatch):
    from modelscope_hub import set_default_config

    monkeypatch.setenv("MODELSCOPE_ENDPOINT", "http://127.0.0.1:9")  # the discard port: nobody answers
    set_default_config(None)
    with pytest.raises(UploadError, match="check the network"):
        upload(UploadConfig(str(folder), REPO))
