"""Send a submission to ModelScope with ModelScope's own client; nothing else of the folder or the machine goes with it.

    kolors-lab submit upload runs/baseline/submission --repo USER/NAME --dry_run
    kolors-lab submit upload runs/baseline/submission --repo USER/NAME

The client takes the token from MODELSCOPE_API_TOKEN or from `modelscope login`; it never passes through here.
"""

from __future__ import annotations

import contextlib
import io
import re
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path

from kolors_lab.challenge.check import MARK, missing, read_mark
from kolors_lab.core.errors import DataError, SettingError, UploadError
from kolors_lab.core.language import _
from kolors_lab.models.hub import blanked, cache_dir, literal, quiet_client

WELL_FORMED = re.compile(r"[\w.-]+/[\w.-]+", re.ASCII)


@dataclass(frozen=True)
class UploadConfig:
    """Send a submission to ModelScope as a model; the token comes from MODELSCOPE_API_TOKEN or `modelscope login`."""

    folder: str = "runs/baseline/submission"
    """folder that `kolors-lab submit` wrote"""
    repo: str | None = None
    """USER/NAME of the model on ModelScope, made if there is none; NAME in Latin letters (it shows the Chinese name)"""
    dry_run: bool = False
    """say what would go, and send nothing"""
    incomplete: bool = False
    """send it although `kolors-lab submit check` finds something missing"""
    private: bool = False
    """a new model is seen by you only; the challenge wants it public"""

    def __post_init__(self):
        if self.repo is not None and not WELL_FORMED.fullmatch(self.repo):
            raise SettingError(
                "repo = {repo!r}: must be USER/NAME in Latin letters, digits and . _ -, as in xiaoming/kolors-idol",
                repo=self.repo,
            )


@dataclass(frozen=True)
class Parcel:
    """What an upload takes along, as (path in the folder, bytes); `stays` are files in the folder that `submit` did
    not write, `missing` is what the check finds."""

    name: str
    files: list[tuple[str, int]]
    stays: list[str]
    missing: list[str]

    def lines(self, repo: str | None) -> list[str]:
        total = sum(size for _, size in self.files)
        lines = [f"{_size(size):>9}  {path}" for path, size in self.files]
        lines += [_("stays here: {path} (submit did not write it)").format(path=path) for path in self.stays]
        lines += [_("still missing: {line}").format(line=line) for line in self.missing]
        whole = _("{count} files, {size}, as {name} to {repo} on ModelScope")
        nowhere = _("{count} files, {size}, as {name} to ModelScope; no --repo yet, it says to which model")
        told = whole if repo else nowhere
        return [*lines, told.format(count=len(self.files), size=_size(total), name=self.name, repo=repo)]


def pack(folder: str | Path) -> Parcel:
    """What would go. DataError if the folder is no submission or a file of it is gone or a link."""
    folder = Path(folder)
    mark = read_mark(folder)
    ours = sorted({*mark["files"], MARK})
    for path in ours:
        if not (folder / path).is_file() or not (folder / path).resolve().is_relative_to(folder.resolve()):
            raise DataError("{file} is gone or a link to elsewhere; run kolors-lab submit again", file=folder / path)
    here = {f.relative_to(folder).as_posix() for f in folder.rglob("*") if f.is_file()}
    files = [(path, (folder / path).stat().st_size) for path in ours]
    return Parcel(mark["name"], files, sorted(here - set(ours)), missing(folder))


def upload(config: UploadConfig, on_progress: Callable[[str], None] | None = None) -> list[str]:
    """Send the submission and return lines to show, the model's address last; a dry run sends nothing.

    What has arrived counts when the same call is made again. Raises DataError for what is no submission or incomplete,
    SettingError without a repository's name, UploadError where there is no token, or the hub or the network refuses.
    """
    parcel, say = pack(config.folder), on_progress or (lambda line: None)
    if config.dry_run:
        return [*parcel.lines(config.repo), _("dry run: nothing was sent")]
    if parcel.missing and not config.incomplete:
        count = len(parcel.missing) - 1
        raise DataError(
            "not sent, something is missing: {first}{more}; --incomplete sends it anyway",
            first=parcel.missing[0],
            more=_(" (and {count} more)").format(count=count) if count else "",
        )
    if not config.repo:
        raise SettingError("repo: say where to send it, --repo USER/NAME with your user name on ModelScope")
    with _explained(config.repo):
        return [*parcel.lines(config.repo), _send(config, parcel, config.repo, say)]


def _send(config: UploadConfig, parcel: Parcel, repo: str, say: Callable[[str], None]) -> str:
    """Make the model where there is none, send the files, and return its address."""
    from modelscope_hub import HubApi, HubConfig

    settings = HubConfig()
    if not settings.token:
        raise UploadError("no token for ModelScope: {way}", way=_sign_in())
    api = HubApi()
    if not api.repo_exists(repo, "model"):
        say(_("making the model {repo}").format(repo=repo))
        visibility = "private" if config.private else "public"
        api.create_repo(repo, "model", visibility=visibility, license="apache-2.0", chinese_name=parcel.name)

    def tell(event: dict) -> None:
        say(_("{committed_files} of {total_files} files arrived").format_map(event))

    tracker = cache_dir() / "kolors_lab" / "uploads" / f"{repo.replace('/', '--')}.json"
    tracker.parent.mkdir(parents=True, exist_ok=True)
    with contextlib.redirect_stdout(io.StringIO()):  # the client prints a report of its own
        api.upload_folder(
            repo,
            "model",
            folder_path=config.folder,
            commit_message=parcel.name,
            allow_patterns=[literal(path) for path, _ in parcel.files],
            use_cache=True,
            tracker_path=tracker,  # beside the client's other caches: nothing is written into the submission
            disable_tqdm=True,
            progress_callback=tell,
        )
    return f"{settings.endpoint}/models/{repo}"


def _sign_in() -> str:
    return _(
        "set MODELSCOPE_API_TOKEN to an access token of your account, or run `modelscope login`, then upload again"
    )


def _on() -> str:
    return _("upload again: nothing is lost, and what has arrived is not sent twice")


def _size(count: int) -> str:
    return f"{count / 1e6:.1f} MB" if count >= 1e5 else f"{count / 1e3:.1f} kB"


@contextlib.contextmanager
def _explained(repo: str) -> Iterator[None]:
    """Turn what the client raises into one line that says what to do and holds no token."""
    from modelscope_hub import AuthenticationError, HubError, PermissionDeniedError

    try:
        with quiet_client():
            yield
    except (AuthenticationError, PermissionDeniedError):
        raise UploadError("ModelScope refuses your token for {repo}: {way}", repo=repo, way=_sign_in()) from None
    except OSError as error:  # requests' and the client's network errors are such
        if error.filename:  # a file of this machine
            raise
        raise UploadError(
            "the connection to ModelScope broke at {repo}; check the network and {way}", repo=repo, way=_on()
        ) from None
    except HubError as error:
        said = blanked((str(error).splitlines() or [_("no reason given")])[0])
        raise UploadError("ModelScope did not take {repo} ({said}); {way}", repo=repo, said=said, way=_on()) from None
