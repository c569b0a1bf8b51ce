"""Where ModelScope's client keeps what it has downloaded: MODELSCOPE_CACHE, else ~/.cache/modelscope."""

from __future__ import annotations

import contextlib
from pathlib import Path

INDEXES = ("model_index.json", "config.json")  # the file that makes a folder a model: it is fetched last


def find(repo: str) -> Path | None:
    """The folder to which a ModelScope id was fetched, if all of it arrived; a raw picture set counts as well."""
    if (raw_folder(repo) / "metadata.jsonl").is_file():
        return raw_folder(repo)
    folder = cached(repo, "model")
    return folder if folder and any((folder / index).is_file() for index in INDEXES) else None


def raw_folder(repo: str) -> Path:
    """Where the raw layout of a data set is written: `train/N.jpg` and metadata.jsonl (`text`, `image`: [path])."""
    return cache_dir() / "kolors_lab" / repo.replace("/", "--")


def cached(repo: str, kind: str) -> Path | None:
    """The client's own folder of a repository (kind: model or dataset), whole or not; None if there is none."""
    from modelscope import snapshot_download
    from modelscope_hub import HubError

    with contextlib.suppress(HubError, ValueError, OSError):
        return Path(snapshot_download(repo, repo_type=kind, local_files_only=True))
    return None


def cache_dir() -> Path:
    """The client's cache folder, which need not exist yet."""
    from modelscope_hub import HubConfig

    return HubConfig().cache_dir
