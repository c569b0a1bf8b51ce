"""ModelScope's client: where it keeps what it has downloaded, and what of the hub's answers is never trusted.

The cache is MODELSCOPE_CACHE, else ~/.cache/modelscope.
"""

from __future__ import annotations

import contextlib
import logging
import re
from collections.abc import Iterable, Iterator
from pathlib import Path

from kolors_lab.core.errors import FetchError

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


# The client joins names to its folder as they come: an absolute one, or one that climbs, would land anywhere.
WRONG_NAME = re.compile(r"[\x00-\x1f\x7f\\]|^[A-Za-z]:|^/|^~|/$|^$")


def leads_out(path: str) -> bool:
    """Whether a relative path of somebody else's would lie outside the folder it is joined to, on any system."""
    return bool(WRONG_NAME.search(path)) or bool({".", "..", ""} & set(path.split("/"))) or len(path) > 1000


def check_names(repo: str, paths: Iterable[str]) -> None:
    """FetchError if a listed name leads out of the folder it is to lie in."""
    for path in paths:
        if leads_out(path):
            raise FetchError(
                "{repo} lists a file {path!r}, which leads out of its folder: nothing is fetched",
                repo=repo,
                path=path[:200],
            )


def literal(path: str) -> str:
    """A pattern that matches just this path: [, ] and the like in a name are no wildcards."""
    return re.sub(r"([*?[])", r"[\1]", path)


def blanked(text: object) -> str:
    """The text without the token, which a hub may send back."""
    from modelscope_hub import HubConfig

    token = HubConfig().token
    return str(text).replace(token, "***") if token else str(text)


@contextlib.contextmanager
def quiet_client() -> Iterator[None]:
    """Without the client's own lines in the log: what it says there is said in one line here, and holds no token."""
    log = logging.getLogger("modelscope_hub")
    level = log.level
    log.setLevel(logging.CRITICAL)
    try:
        yield
    finally:
        log.setLevel(level)
