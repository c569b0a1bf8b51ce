"""The folder to hand in: LoRA, model card, panels, prompts and page, and the list of what is still missing.

The challenge asks for a LoRA on ModelScope named 队伍名称-可图Kolors训练-xxxxxx with its description, at least eight
pictures with their prompts, and a page of eight; a mean aesthetic score below 6 is invalid.
"""

from __future__ import annotations

import contextlib
import csv
import json
import re
import shutil
from collections.abc import Callable
from dataclasses import asdict, dataclass, replace
from pathlib import Path

from .errors import DataError, KolorsLabError, SettingError
from .files import writing
from .generate import read_settings
from .lora import read_lora
from .models import get_preset
from .page import make_page
from .score import GATE, ScoreResult, passes, score_folder
from .steps import fingerprint, write_json

PLACEHOLDER = "队伍名称"
NAME = re.compile(r"^(?P<team>.+?)-可图Kolors训练-(?P<title>.+)$")
PANELS = 8  # the challenge wants at least so many
MARK = "submission.json"  # a folder that holds it is ours to replace


@dataclass(frozen=True)
class SubmitConfig:
    """Put together the folder to hand in, and say what is still missing in it."""

    run: str = "runs/baseline"
    """folder of a run: its LoRA, its panels and its page"""
    out: str | None = None
    """folder to write; without it RUN/submission"""
    team: str | None = None
    """your team's name, the first part of the model's name on ModelScope; without it the run's"""
    title: str | None = None
    """the story's title, the last part of the model's name; without it the headline of the run's page"""
    preset: str | None = None
    """whose scorer; without it that of the preset which drew the panels"""

    def __post_init__(self):
        for field in ("team", "title"):
            value = getattr(self, field)
            if value is None:
                continue
            if not value.strip() or set(value) & set('/\\:*?"<>|\n'):
                raise SettingError(f'{field}={value!r}: it becomes part of a file name; leave out / \\ : * ? " < > |')

    @property
    def name(self) -> str:
        return f"{self.team}-可图Kolors训练-{self.title}"

    @property
    def folder(self) -> Path:
        return Path(self.out) if self.out else Path(self.run) / "submission"


def submit(config: SubmitConfig, on_step: Callable[[int, int], None] | None = None) -> list[str]:
    """Write the folder to hand in, whole or not at all, and return what is `missing` in it.

    DataError if the run holds no LoRA or no panels, or if the folder in the way is not an earlier submission.
    """
    config = from_run(config)
    lora = _find(config.run, ("train/lora.safetensors", "lora.safetensors"), "a LoRA; train one first")
    panels = _panels(_find(config.run, ("lora/panels", "panels"), "panels; tell a story first"))
    _check_ours(config.folder)
    settings = [read_settings(panel) for panel in panels]
    part = config.folder.with_name(f".{config.folder.name}.part")
    shutil.rmtree(part, ignore_errors=True)
    try:
        with writing(config.folder):
            _images(part / "images", panels)
            preset = get_preset(config.preset or settings[0]["model"])
            result = score_folder(preset, part / "images", on_step=on_step)
            _fill(part, config, lora, panels, settings, result)
            if config.folder.exists():
                shutil.rmtree(config.folder)
            part.rename(config.folder)
    finally:
        shutil.rmtree(part, ignore_errors=True)
    return missing(config.folder)


def from_run(config: SubmitConfig) -> SubmitConfig:
    """The config with what it leaves open taken from the run: its config.json and its page's headline."""
    run, known, title = Path(config.run), {}, None
    with contextlib.suppress(OSError, ValueError):
        known = json.loads((run / "config.json").read_text(encoding="utf-8"))
    for page in (run / "lora/page.png", run / "page.png"):
        with contextlib.suppress(DataError):
            title = title or read_settings(page)["page"]
    return replace(
        config,
        team=config.team or known.get("team") or PLACEHOLDER,
        title=config.title or title or run.resolve().name,
        preset=config.preset or known.get("preset"),
    )


def missing(folder: str | Path) -> list[str]:
    """What a folder still needs before it can be handed in, one sentence each; nothing for a complete one."""
    folder = Path(folder)
    try:
        mark = json.loads((folder / MARK).read_text(encoding="utf-8"))
    except (OSError, ValueError):
        return [f"{folder}: no submission here; make one with: kolors-lab submit --run FOLDER --out {folder}"]
    return [*_missing_name(mark["name"]), *_missing_files(folder), *_missing_score(folder, mark)]


def _missing_name(name: str) -> list[str]:
    match = NAME.match(name)
    if not match:
        return [f"name {name!r}: it must read 队伍名称-可图Kolors训练-xxxxxx; set --team and --title"]
    if match["team"] == PLACEHOLDER:
        return [f"team: {PLACEHOLDER} is only a placeholder; give your team's name with --team"]
    return []


def _missing_files(folder: Path) -> list[str]:
    wants = []
    loras = sorted(folder.glob("*.safetensors"))
    try:
        read_lora(loras[0])
    except IndexError:
        wants.append("LoRA: no .safetensors file; train one with kolors-lab train")
    except KolorsLabError as error:
        wants.append(f"LoRA: {error}")
    for name, what in (("README.md", "model card"), ("page.png", "page"), ("prompts.csv", "table of prompts")):
        if not (folder / name).is_file():
            wants.append(f"{name}: the {what} is missing; run kolors-lab submit again")
    panels = len(list((folder / "images").glob("*.png")))
    if panels < PANELS:
        wants.append(f"images: {panels} pictures, at least {PANELS} are needed; add scenes to the story")
    return wants


def _missing_score(folder: Path, mark: dict) -> list[str]:
    score = mark["score"]
    if sorted(score["files"]) != sorted(f.name for f in (folder / "images").glob("*")):
        return ["score: it belongs to other pictures; run kolors-lab submit again"]
    if not passes(score["mean"]):
        return [
            f"score: the mean {score['mean']:.2f} is below the gate of {GATE:.0f}; better data or training lifts it"
        ]
    if score["practice"]:
        return ["score: 练习分, a practice score of the small model; the challenge scores pictures of Kolors itself"]
    return []


def _find(run: str, places: tuple[str, ...], what: str) -> Path:
    for place in places:
        if (Path(run) / place).exists():
            return Path(run) / place
    raise DataError(f"{run}: no {places[0]} in this run, so there is not {what}")


def _panels(folder: Path) -> list[Path]:
    panels = sorted((f for f in folder.glob("*.png") if f.stem.isdigit()), key=lambda f: int(f.stem))
    if not panels:
        raise DataError(f"{folder}: no panels 1.png, 2.png, … in it; tell a story first")
    return panels


def _check_ours(folder: Path) -> None:
    """DataError unless the folder is free, empty, or an earlier submission that nobody changed by hand."""
    if not folder.exists() or (folder.is_dir() and not any(folder.iterdir())):
        return
    try:
        files = json.loads((folder / MARK).read_text(encoding="utf-8"))["files"]
    except (OSError, ValueError, KeyError, TypeError):
        raise DataError(f"{folder}: it holds other files, which stay; move it away or choose another folder") from None
    for name, mark in _marks(folder).items():
        if files.get(name) != mark:
            raise DataError(f"{folder}: {name} was changed by hand, so it stays; move the folder away to make it anew")


def _marks(folder: Path) -> dict[str, str]:
    """Fingerprints of the files of a submission, to know later whether they are still as we wrote them."""
    files = (f for f in sorted(folder.rglob("*")) if f.is_file() and f.name != MARK)
    return {f.relative_to(folder).as_posix(): fingerprint(f) for f in files}


def _images(folder: Path, panels: list[Path]) -> None:
    folder.mkdir(parents=True)
    for panel in panels:
        shutil.copyfile(panel, folder / panel.name)


def _fill(
    part: Path, config: SubmitConfig, lora: Path, panels: list[Path], settings: list[dict], result: ScoreResult
) -> None:
    shutil.copyfile(lora, part / f"{config.name}.safetensors")
    make_page(panels, [s.get("scene", "") for s in settings], part / "page.png", config.title)
    _prompts(part / "prompts.csv", panels, settings)
    _, header = read_lora(lora)
    (part / "README.md").write_text(card(config, panels, settings, header, result), encoding="utf-8")
    mark = {"name": config.name, "score": asdict(result) | {"mean": result.mean}, "files": _marks(part)}
    write_json(part / MARK, mark)


def _prompts(file: Path, panels: list[Path], settings: list[dict]) -> None:
    columns = ("scene", "prompt", "negative_prompt", "seed", "steps", "cfg", "lora_strength")
    with file.open("w", encoding="utf-8-sig", newline="") as stream:
        table = csv.writer(stream)
        table.writerow(("image", *columns))
        for panel, s in zip(panels, settings, strict=True):
            table.writerow((f"images/{panel.name}", *(s.get(column, "") for column in columns)))


def card(
    config: SubmitConfig, panels: list[Path], settings: list[dict], header: dict[str, str], result: ScoreResult
) -> str:
    """The model card in ModelScope's form: front matter, then what it is, how to use it, how it was made."""
    kind = (
        "练习分 practice score（与审美无关 it knows nothing of taste）" if result.practice else "美学分 aesthetic score"
    )
    trigger = header.get("trigger_word") or "—"
    trained = {"rank": header.get("rank"), "alpha": header.get("alpha"), "pictures": header.get("examples")}
    trained |= json.loads(header.get("settings", "{}"))
    rows = "\n".join(
        f"| {panel.stem} | ![{panel.stem}](images/{panel.name}) "
        f"| {_cell(s['prompt'])} | {_cell(s['negative_prompt'])} | {s['seed']} |"
        for panel, s in zip(panels, settings, strict=True)
    )
    first = settings[0]
    training = "\n".join(f"| {key} | {_cell(value)} |" for key, value in trained.items() if value is not None)
    return f"""---
frameworks:
- Pytorch
license: apache-2.0
tasks:
- text-to-image-synthesis
base_model:
- Kwai-Kolors/Kolors
base_model_relation: adapter
language:
- zh
tags:
- LoRA
- text-to-image
- Kolors
trigger_words:
- {trigger}
---
# {config.name}

![{config.title}](page.png)

《{config.title}》：用可图 Kolors 的 LoRA 讲的一个八格故事。图片由 AI 生成。
A story in {len(settings)} pictures, told with a LoRA on Kolors. The pictures are AI-generated.

## 用法 · Use

触发词 trigger word：**{trigger}**（写在提示词开头 at the beginning of the prompt）

```python
pipe.load_lora_weights(".", weight_name="{config.name}.safetensors")
image = pipe("{trigger}，…", guidance_scale={first["cfg"]}, num_inference_steps={first["steps"]}).images[0]
```

## 分数 · Score

{kind}: **{result.mean:.2f}** ({len(result.scores)} pictures; the gate is {GATE:.0f})

## 图片与提示词 · Pictures and prompts

{first["steps"]} steps, cfg {first["cfg"]}, {first["width"]} × {first["height"]}, LoRA strength \
{first.get("lora_strength", 1.0)}

| | picture | prompt | negative prompt | seed |
|---|---|---|---|---|
{rows}

## 训练 · Training

| setting | value |
|---|---|
{training}
"""


def _cell(text: str) -> str:
    return str(text).replace("|", "\\|").replace("\n", " ")
