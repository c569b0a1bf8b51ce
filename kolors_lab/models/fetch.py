"""Download the model, the scorer, the CLIP or the raw picture set from ModelScope, with ModelScope's own client.

    kolors-lab fetch --preset kolors model

A download that was cut is taken up where it stopped, every file's SHA-256 is checked, and all of it goes to the
client's cache (MODELSCOPE_CACHE, else ~/.cache/modelscope). Where an account is needed, the client takes its token from
MODELSCOPE_API_TOKEN or from `modelscope login`; it never passes through here.
"""

from __future__ import annotations

import contextlib
import errno
import json
import os
import shutil
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from fnmatch import fnmatch
from pathlib import Path, PurePosixPath
from typing import TYPE_CHECKING, Annotated, Any

from kolors_lab.core.errors import FetchError
from kolors_lab.core.fields import OneOf, check_fields
from kolors_lab.core.files import data_dir, replacing
from kolors_lab.core.language import _
from kolors_lab.models.hub import (
    INDEXES,
    blanked,
    cache_dir,
    cached,
    check_names,
    literal,
    quiet_client,
    raw_folder,
)
from kolors_lab.models.presets import get_preset

if TYPE_CHECKING:
    from modelscope_hub import FileInfo

KINDS = ("model", "data", "scorer", "clip")
SMALL = ("*.json", "*.txt", "*.model")
# a repository often holds the same weights several times; of each folder the first of these that is there is enough
WEIGHTS = ("*.fp16*.safetensors", "diffusion_pytorch_model*.safetensors", "model*.safetensors", "*.safetensors")
PICKLES = ("pytorch_model*.bin",)

Say = Callable[[str], None]


@dataclass(frozen=True)
class FetchConfig:
    """Download a part of Kolors: model (17.7 GB), raw pictures (0.7), scorer (1.2), CLIP for prompt fit (0.8)."""

    preset: str = "kolors"
    """whose files: "kolors", or a folder that holds a Kolors pipeline ("tiny" needs none)"""
    what: Annotated[str, OneOf(KINDS)] = "model"
    """model, data, scorer or clip"""

    def __post_init__(self):
        check_fields(self)


def fetch(config: FetchConfig, on_progress: Say | None = None) -> Path:
    """Fetch one of the preset's parts and return its folder; what is there already is only checked.

    `on_progress` is called with lines to show: first of all what will be fetched, how large it is and how much disk is
    free. Raises FetchError (offline, no access, unknown id, damaged file, disk too small); what arrived whole stays.
    """
    # per file, in seconds; the client's own hour is too short for 5 GB at 1 MB/s. Stalls still end after a minute.
    os.environ.setdefault("MODELSCOPE_DOWNLOAD_TOTAL_TIMEOUT", "86400")
    os.environ.setdefault("MODELSCOPE_REPO_TREE_LIST_TIMEOUT_SECONDS", "300")  # the list of files: minutes, not an hour
    preset, tell = get_preset(config.preset), on_progress or (lambda line: None)

    def say(line: str) -> None:
        tell(blanked(line))

    if config.what == "data":
        return _fetch_first((preset.dataset,), _fetch_set, say)
    if config.what in ("scorer", "clip"):
        return _fetch_first((getattr(preset, config.what),), _fetch_model, say)
    folder = _fetch_first((preset.model, *preset.model_fallbacks), _fetch_model, say)
    if preset.vae:
        _fetch_first((preset.vae,), _fetch_model, say)
    return folder


def _snapshot_folder(repo: str) -> Path:
    return cache_dir() / "models" / repo.replace("/", "--") / "snapshots" / "master"


def _fetch_first(repos: tuple[str, ...], fetch_one: Callable[[str, Say], Path], say: Say) -> Path:
    """Fetch the first of these ids that ModelScope knows."""
    from modelscope_hub import NotExistError

    for repo in repos:
        if Path(repo).is_dir():
            shipped = _("nothing to fetch: {name} ships with the package")
            told = shipped if data_dir() in Path(repo).parents else _("nothing to fetch: {name} is a folder here")
            say(told.format(name=Path(repo).name))
            return Path(repo)
        try:
            with _explained(repo, by_hand=raw_folder(repo) if fetch_one is _fetch_set else _snapshot_folder(repo)):
                return fetch_one(repo, say)
        except NotExistError:
            more = _(", trying the next known id") if repo != repos[-1] else ""
            say(_("{repo} is not on ModelScope{more}").format(repo=repo, more=more))
    raise FetchError(
        "ModelScope knows none of {names}: fetch one by hand and give --preset FOLDER", names=", ".join(repos)
    )


def _fetch_model(repo: str, say: Say) -> Path:
    wanted = _needed(files := _listing(repo, "model"))
    if not any(path in INDEXES for path in wanted) or not any(
        path.endswith((".safetensors", ".bin")) for path in wanted
    ):
        raise FetchError(
            "{repo} lists {count} files and no model among them: there is nothing to fetch", repo=repo, count=len(files)
        )
    _check_room(repo, "model", [file for file in files if file.path in wanted], 1, say)
    indexes = [path for path in wanted if path in INDEXES]
    _download(repo, "model", [path for path in wanted if path not in indexes])  # weights at least: never an empty list
    return _download(repo, "model", indexes)


def _fetch_set(repo: str, say: Say) -> Path:
    folder = raw_folder(repo)
    if (folder / "metadata.jsonl").is_file():
        say(_("nothing to fetch: {repo} is in {folder}").format(repo=repo, folder=folder))
        return folder
    if not (files := _listing(repo, "dataset")):
        raise FetchError("{repo} lists no files: there is nothing to fetch", repo=repo)
    _check_room(repo, "dataset", files, 3, say)  # as fetched, as Arrow files, as pictures
    _write_raw(_load_set(repo, _download(repo, "dataset", [file.path for file in files])), folder)
    say(_("{repo}: written to {folder}").format(repo=repo, folder=folder))
    return folder


def _listing(repo: str, kind: str) -> list[FileInfo]:
    """The repository's files, their names checked before the first of them is fetched."""
    from modelscope_hub import HubApi

    endpoint = HubApi().resolve_endpoint_for_read(repo, repo_type=kind)
    try:
        files = [file for file in HubApi(endpoint=endpoint).list_repo_files(repo, kind) if file.type != "tree"]
        check_names(repo, [file.path for file in files])
    except (TypeError, ValueError, AttributeError, KeyError, RecursionError) as error:  # a listing of another shape
        kind = type(error).__name__
        raise FetchError("{repo}: the list of its files cannot be understood ({kind})", repo=repo, kind=kind) from None
    return files


def _needed(files: list[FileInfo]) -> list[str]:
    """The paths that a pipeline or a model is loaded from: one set of weights a folder, and the small files."""
    paths = [file.path for file in files]
    chosen = [path for path in paths if any(fnmatch(path, pattern) for pattern in SMALL)]
    folders = {PurePosixPath(path).parent for path in paths}
    if "model_index.json" in paths:  # its weights are in its folders; beside them lie copies for other programs
        folders.discard(PurePosixPath())
    for folder in folders:
        inside = [path for path in paths if PurePosixPath(path).parent == folder]
        sets = ([p for p in inside if fnmatch(PurePosixPath(p).name, pattern)] for pattern in (*WEIGHTS, *PICKLES))
        chosen += next(filter(None, sets), [])
    return chosen


def _download(repo: str, kind: str, paths: list[str]) -> Path:
    """Fetch just these names: the client asks for the list once more, and the answer may be another one."""
    from modelscope import snapshot_download

    return Path(snapshot_download(repo, repo_type=kind, allow_patterns=[literal(path) for path in paths]))


def _load_set(repo: str, folder: Path) -> Iterable[dict[str, Any]]:
    """Rows of the set's train split, from the files just fetched; an old kind of set must be asked for by its id."""
    from modelscope.msdatasets import MsDataset

    options = {"subset_name": "default", "split": "train", "cache_dir": str(cache_dir() / "datasets")}
    try:
        return MsDataset.load(str(folder), **options)
    except Exception:  # whatever `datasets` raises for files it does not understand
        return MsDataset.load(repo, **options)


def _write_raw(rows: Iterable[dict[str, Any]], folder: Path) -> None:
    """Write the raw layout of the baseline; pictures that are there stay, metadata.jsonl comes last."""
    with replacing(folder / "metadata.jsonl") as temporary, temporary.open("w", encoding="utf-8") as lines:
        for number, row in enumerate(rows):
            picture = f"train/{number}.jpg"
            if not (folder / picture).is_file():
                with replacing(folder / picture) as file:
                    row["image"].convert("RGB").save(file, "JPEG", quality=95)
            text = row.get("text") or "二次元"  # the caption the baseline gives to all of lowres_anime
            lines.write(json.dumps({"text": text, "image": [picture]}, ensure_ascii=False) + "\n")


def _check_room(repo: str, kind: str, files: list[FileInfo], copies: int, say: Say) -> None:
    """Say size and free disk; refuse if `copies` times what is still to come does not fit."""
    total, cache, here = sum(file.size for file in files), cache_dir(), cached(repo, kind)
    left = total - sum(_arrived(here / file.path) for file in files) if here else total
    free = shutil.disk_usage(next(path for path in (cache, *cache.parents) if path.is_dir())).free
    told = _("{repo}: {total} in {count} files, {left} still to come; {free} free in {cache}")
    say(told.format(repo=repo, total=_gb(total), count=len(files), left=_gb(left), free=_gb(free), cache=cache))
    if left * copies > free:
        raise FetchError(
            "{repo} needs {need} on the disk of {cache} and {free} are free: "
            "make room or set MODELSCOPE_CACHE to a folder on a larger disk",
            repo=repo,
            need=_gb(left * copies),
            cache=cache,
            free=_gb(free),
        )


def _arrived(file: Path) -> int:
    return sum(f.stat().st_size for f in (file, file.with_name(file.name + ".incomplete")) if f.is_file())


def _gb(size: int) -> str:
    return f"{size / 1e9:.1f} GB" if size >= 5e7 else f"{size / 1e6:.1f} MB"


@contextlib.contextmanager
def _explained(repo: str, by_hand: Path) -> Iterator[None]:
    """Turn what the client raises into one line that says what to do; an unknown id (NotExistError) passes through."""
    from modelscope_hub import HubError, NotExistError

    try:
        with quiet_client():
            yield
    except NotExistError:
        raise
    except (HubError, OSError) as error:  # requests' errors are OSErrors
        raise FetchError(blanked(_reason(repo, error, by_hand))) from None  # its cause may hold the token


def _reason(repo: str, error: Exception, by_hand: Path) -> str:
    from modelscope_hub import AuthenticationError, FileIntegrityError, PermissionDeniedError

    name, cause = next(iter(getattr(error, "failed_files", {}).items()), (repo, error))
    if isinstance(cause, (AuthenticationError, PermissionDeniedError)):
        told = _(
            "ModelScope refuses {repo}: set MODELSCOPE_API_TOKEN to the access token of an account that may read it, "
            "or run `modelscope login`, then fetch again"
        )
        return told.format(repo=repo)
    if isinstance(cause, FileIntegrityError):
        told = _("{name} of {repo} arrives damaged (size or SHA-256 is wrong) and was removed: fetch again later")
        return told.format(name=name, repo=repo)
    if getattr(cause, "errno", None) == errno.ENOSPC:
        told = _("the disk of {cache} is full: make room or set MODELSCOPE_CACHE, then fetch again to go on")
        return told.format(cache=cache_dir())
    if isinstance(cause, OSError) and cause.filename:
        told = _("{file} cannot be written ({reason}): set MODELSCOPE_CACHE to a folder of yours")
        return told.format(file=cause.filename, reason=cause.strerror)
    if isinstance(cause, OSError):
        told = _(
            "no connection to ModelScope for {name}: check the network and fetch again, it goes on where it stopped; "
            "without a network copy the folder of {repo} to {folder}"
        )
        return told.format(name=name, repo=repo, folder=by_hand)
    reason = (str(cause).splitlines() or [type(cause).__name__])[0]
    return _("cannot get {name} from ModelScope: {reason}").format(name=name, reason=reason)
