"""A story: scenes of a script → panels with their settings inside each PNG → a comic page with captions."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import contextmanager, nullcontext
from dataclasses import dataclass, fields, replace
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

from kolors_lab.comic.look import ALIKE, Look, LookConfig, with_anchor
from kolors_lab.comic.page import LAYOUTS, MADE_BY, make_html, make_page
from kolors_lab.comic.script import StoryScene, read_story
from kolors_lab.core.errors import DataError
from kolors_lab.core.fields import OneOf, Range
from kolors_lab.core.files import data_dir, fingerprint, read_table, writing
from kolors_lab.core.fonts import legible
from kolors_lab.core.images import open_image
from kolors_lab.lora.adapter import wearing
from kolors_lab.models.identity import model_fingerprint
from kolors_lab.models.presets import get_preset
from kolors_lab.models.processes import start_processes
from kolors_lab.pictures.files import save_picture
from kolors_lab.sampling.config import GenerateConfig, picture_settings, prompts_of
from kolors_lab.sampling.ksampler import KSampler
from kolors_lab.sampling.loading import load_for
from kolors_lab.sampling.metadata import read_settings
from kolors_lab.sampling.pipeline import generate_batch
from kolors_lab.scoring.aesthetics import carried

if TYPE_CHECKING:
    from diffusers import KolorsPipeline
    from PIL.Image import Image

    from kolors_lab.models.presets import Preset

    Pipe = KolorsPipeline | Callable[[], KolorsPipeline]  # or what loads it, called only if something is to be drawn
    OnStep = Callable[[int, int], None]

CAST = "cast.csv"  # beside the panels: which seed plays which scene; casting.py writes it, people may change it
# equal in a batch
TOGETHER = ("steps", "width", "height", "sampler_name", "scheduler", "denoise", "prompt_syntax", *ALIKE)
DEFAULT_STORY, DEFAULT_TITLE = "idol.csv", "偶像少女养成日记"


@dataclass(frozen=True)
class StoryConfig(LookConfig):
    """Tell a story in pictures: one panel for each scene, and a page that holds them all.

    Args:
        preset: which model: tiny (embedded), kolors, or a folder that holds a Kolors pipeline
        story: table of scenes (CSV, Markdown, JSON, YAML or a numbered list); without it the bundled 偶像少女养成日记
        count: how many scenes there must be; without it any number will do
        lora: .safetensors file of a LoRA to draw with; without it the base model draws
        lora_strength: how strongly the LoRA acts: 0 not at all, 1 as it was trained
        steps: denoising steps of a panel; without it the preset's
        cfg: how strictly a panel follows its prompt, 1 to about 10; without it the preset's
        together: panels drawn at once; without it 8 small ones, and one alone at 1024 px, which few GPUs have room for
        title: headline of the page; without it the story's name
        layout: grid (rows of four) or strip (one below the other, for phones)
        for_print: page.png at 300 dpi, A4 in the layout grid, instead of for a screen
        out: folder for panels/1.png, panels/2.png, …, page.png and page.html; a cast.csv there overrules the seeds
    """

    preset: str = "tiny"
    story: str | None = None
    count: Annotated[int | None, Range(1, 64)] = None
    lora: str | None = None
    lora_strength: Annotated[float, Range(-10, 10)] = 1.0
    steps: int | None = None
    cfg: float | None = None
    together: Annotated[int | None, Range(1, 64)] = None
    title: str | None = None
    layout: Annotated[str, OneOf(LAYOUTS)] = "grid"
    for_print: bool = False
    out: str = "runs/story"

    def __post_init__(self):
        super().__post_init__()
        KSampler(steps=self.steps, cfg=self.cfg)

    def drawing(self) -> dict[str, Any]:
        """How all panels are drawn, unless a scene says otherwise, as `tell_story` and `panel_settings` take it."""
        return {name: getattr(self, name) for name in ("lora", "lora_strength", "steps", "cfg")}


def story_file(story: str | None) -> Path:
    """The given CSV, or the bundled story."""
    return Path(story) if story else data_dir() / "stories" / DEFAULT_STORY


def story_title(story: str | None) -> str:
    return Path(story).stem.replace("_", " ") if story else DEFAULT_TITLE


def chosen(out: str | Path, scenes: Sequence[StoryScene]) -> list[StoryScene]:
    """The scenes with the seeds of `out/cast.csv`, as far as it speaks of these scenes. DataError names a bad line."""
    seeds = {int(row["panel"]): int(row["seed"]) for row in read_cast(out) if speaks_of(row, scenes)}
    return [replace(scene, seed=seeds.get(n, scene.seed)) for n, scene in enumerate(scenes, 1)]


def read_cast(out: str | Path) -> list[dict[str, str]]:
    """The lines of `out/cast.csv`: panel, scene, seed, best (first in rank); none where there is no such file."""
    file = Path(out) / CAST
    if not file.exists():
        return []
    rows = read_table(file)
    for line, row in enumerate(rows, 2):
        for column in ("panel", "seed"):
            number = (row.get(column) or "").strip()
            if not (number.isascii() and number.isdigit() and len(number) < 20):
                raise DataError(
                    "{file}: line {line}: {column} {number!r} is no whole number; mend or remove it",
                    file=file,
                    line=line,
                    column=column,
                    number=number[:20],
                )
    return rows


def speaks_of(row: dict[str, str], scenes: Sequence[StoryScene]) -> bool:
    """Whether a line of cast.csv is about one of these scenes: another story may have been told in the same folder."""
    n = int(row["panel"])
    return 1 <= n <= len(scenes) and scenes[n - 1].scene == (row.get("scene") or "").strip()


def tell_story(
    pipe: Pipe,
    scenes: Sequence[StoryScene],
    out: str | Path,
    preset: Preset,
    lora: str | Path | None = None,
    lora_strength: float = 1.0,
    steps: int | None = None,
    cfg: float | None = None,
    on_step: OnStep | None = None,
    together: int | None = None,
    look: Look | None = None,
) -> list[Path]:
    """Draw one panel per scene as `out/panels/N.png`; panels already there with equal settings are kept.

    Those of other settings go to `out/earlier`. `pipe` may be a function that loads the pipeline: it is called only if
    something is to be drawn. `on_step(done, total)` counts the panels; `look` is what they have in common. ModelError
    if the LoRA is of another model, DataError if a file in the way is not ours.
    """
    folder = Path(out) / "panels"
    look = look or Look()
    settings = panel_settings(scenes, preset, lora, look, lora_strength=lora_strength, steps=steps, cfg=cfg)
    wanted = {folder / f"{n}.png": one for n, one in enumerate(settings, 1)}
    stale = _stale(folder, wanted)
    pages = _pages(folder.parent)
    missing = {file: settings for file, settings in wanted.items() if file in stale or not file.exists()}
    processes = start_processes()
    with artist(pipe if missing else None, lora, lora_strength) as drawing:
        if processes.is_main_process:  # only now, when model and LoRA are known to be good
            for file in stale:
                _set_aside(file)
            for page in pages if missing or stale else ():
                page.unlink(missing_ok=True)
            for file in wanted.keys() - missing.keys():
                _caption(file, wanted[file])
        processes.wait_for_everyone()
        draw_files(drawing, missing, together, on_step, len(wanted), look)
    return list(wanted)


def _set_aside(panel: Path) -> None:
    """Move a panel that no longer fits to `earlier/` beside the panels: drawing it may have taken an hour."""
    earlier = panel.parents[1] / "earlier" / f"{panel.stem}-{fingerprint(panel)}.png"
    with writing(earlier):
        earlier.parent.mkdir(exist_ok=True)
        panel.replace(earlier)


def panel_settings(
    scenes: Sequence[StoryScene],
    preset: Preset,
    lora: str | Path | None = None,
    look: Look | None = None,
    panels: Sequence[int] = (),
    **common: Any,
) -> list[dict]:
    """All that decides each panel; `panels` are their numbers, if not 1, 2, 3, …; `common`: lora_strength, steps, cfg
    where a scene has none of its own.

    DataError for a caption that the page's font cannot show: that is found before the drawing.
    """
    for scene in scenes:
        legible(scene.scene)
    look = look or Look()
    model = {"model_hash": model_fingerprint(preset)}  # tells a model from another of the same name
    common["lora"] = lora and str(lora)
    texts = [{key: getattr(s, key) for key in ("prompt", "negative_prompt", "seed")} for s in scenes]
    configs = [
        GenerateConfig(**common | text | s.settings() | look.controls(n))
        for n, s, text in zip(panels or range(1, len(scenes) + 1), scenes, texts, strict=True)
    ]
    return [
        {"scene": s.scene} | picture_settings(config, preset) | look.shared() | model
        for s, config in zip(scenes, configs, strict=True)
    ]


def draw_files(
    pipe: KolorsPipeline,
    files: dict[Path, dict],
    together: int | None,
    on_step: OnStep | None,
    total: int,
    look: Look | None = None,
) -> None:
    """Draw each file from its settings, several at once, and write it with the size of its batch among them.

    Several processes share the batches out; each returns when all are drawn. `on_step` counts this one's pictures.
    DataError if a file of that name is not ours.
    """
    for file in files:
        if file.exists() and not carried(file):
            raise DataError(
                "{file}: it is not a picture of ours, so it stays; choose another folder with --out", file=file
            )
    done, processes = total - len(files), start_processes()
    batches = _batches(files.items(), lambda settings: together or at_once(settings))
    with processes.split_between_processes(batches) as mine:
        for batch in mine:
            group = [settings | {"batch": len(batch)} for _, settings in batch]
            tell = on_step and (lambda k, n: on_step(done + len(group) * k // n, total))  # noqa: B023
            images = draw(pipe, group, tell, look)
            for (file, _), image, settings in zip(batch, images, group, strict=True):
                file.parent.mkdir(parents=True, exist_ok=True)
                save_picture(image, file, settings)
            done += len(batch)
    processes.wait_for_everyone()
    if on_step:
        on_step(total, total)


def at_once(settings: dict) -> int:
    """How many such pictures are drawn in one batch: eight up to 256 px, one from 1024 px on."""
    return max(1, min(8, 8 * 256 * 256 // (settings["width"] * settings["height"])))


def _batches(items: Iterable[tuple[Any, dict]], size: Callable[[dict], int]) -> list[list[tuple[Any, dict]]]:
    """(name, settings) pairs in groups that can be drawn together, of at most `size(settings)`, in their order."""
    groups: dict[tuple, list[list]] = {}
    for name, settings in items:
        alike = groups.setdefault((size(settings), *(repr(settings.get(key)) for key in TOGETHER)), [[]])
        if len(alike[-1]) == size(settings):
            alike.append([])
        alike[-1].append((name, settings))
    return [batch for alike in groups.values() for batch in alike]


def draw(
    pipe: KolorsPipeline, group: Sequence[dict], on_step: OnStep | None = None, look: Look | None = None
) -> list[Image]:
    """The pictures that these settings describe, drawn in one batch, each from the noise of its own seed.

    The anchor, if they have one, is drawn with them and left out. DataError for a control that `look` does not know.
    """
    group, wanted = with_anchor(group), len(group)
    names = {field.name for field in fields(KSampler)} - {"batch"}
    samplers = [KSampler(**{name: value for name, value in one.items() if name in names}) for one in group]
    prompts, negatives = ([one[key] for one in group] for key in ("prompt", "negative_prompt"))
    syntax = {"prompt_syntax": group[0]["prompt_syntax"]} if "prompt_syntax" in group[0] else {}
    options = (look or Look()).options(pipe, group)
    return generate_batch(pipe, prompts, negatives, samplers, on_step=on_step, **syntax, **options)[-wanted:]


def redraw(pipe: KolorsPipeline, pictures: Sequence[dict]) -> list[Image]:
    """Panels drawn again from the settings they carry, in batches of the size they had: identical on a CPU."""
    images: dict[int, Image] = {}
    for batch in _batches(enumerate(pictures), lambda settings: settings.get("batch", 1)):
        group = [settings for _, settings in batch]
        group += group[-1:] * (group[0].get("batch", 1) - len(group))  # the others of the batch are gone: size matters
        images |= dict(zip((n for n, _ in batch), draw(pipe, group), strict=False))
    return [images[n] for n in range(len(pictures))]


def same_picture(one: dict | None, other: dict | None) -> bool:
    """Whether two pictures' settings say the same but for the caption, the size of the batch and later repairs."""
    bare = [s and {k: v for k, v in s.items() if k not in ("scene", "batch", "repaired")} for s in (one, other)]
    return bool(bare[0]) and bare[0] == bare[1]


def _stale(folder: Path, wanted: dict[Path, dict]) -> list[Path]:
    """Panels of an earlier story or of other settings: left there they would look current."""
    stale = []
    for file in (f for f in folder.glob("*.png") if f.stem.isdigit()):
        settings = carried(file)
        if not settings:
            raise DataError(
                "{file}: it is not a panel of ours, so it stays; choose another folder with --out", file=file
            )
        if not same_picture(settings, wanted.get(file)):
            stale.append(file)
    return stale


def _pages(out: Path) -> list[Path]:
    """The pages there, to be made anew with the panels. DataError if one is the user's own."""
    png, html = out / "page.png", out / "page.html"
    ours = {png: bool(carried(png)), html: html.exists() and MADE_BY in html.read_text("utf-8", "replace")}
    for page, mine in ours.items():
        if page.exists() and not mine:
            raise DataError(
                "{page}: it is not a page of ours, so it stays; choose another folder with --out", page=page
            )
    return list(ours)


def _caption(file: Path, settings: dict) -> None:
    """Give a kept panel its new caption, if it has one; not a pixel changes."""
    there = read_settings(file)
    if there.get("scene") != settings["scene"]:
        save_picture(open_image(file), file, there | {"scene": settings["scene"]})


@contextmanager
def artist(pipe: Pipe | None, lora: str | Path | None, strength: float) -> Iterator[KolorsPipeline | None]:
    """The pipeline, loaded if need be, with the LoRA on it for as long as the block lasts; None for None."""
    with start_processes().main_process_first():  # one after the other: main memory holds one text encoder
        pipe = pipe if pipe is None or hasattr(pipe, "unet") else pipe()
    with wearing(pipe, [(lora, strength)] if lora else []) if pipe else nullcontext():
        yield pipe


def story(config: StoryConfig, on_step: OnStep | None = None, pipe: KolorsPipeline | None = None) -> Path:
    """Panels and page, as PNG and HTML, for the settings of the command line; the PNG's path."""
    preset = get_preset(config.preset)
    script = read_story(story_file(config.story), count=config.count)
    scenes, look = chosen(config.out, script), Look.of(config, script)
    load, options = pipe or (lambda: load_for(preset, prompts_of([*scenes, *script[:1]]))), config.drawing()
    panels = tell_story(
        load, scenes, config.out, preset, **options, on_step=on_step, together=config.together, look=look
    )
    return make_pages(config, panels, [scene.scene for scene in scenes])


def make_pages(config: StoryConfig, panels: Sequence[Path], captions: Sequence[str]) -> Path:
    """page.html and page.png in the layout of the config; the PNG's path."""
    title, out = config.title or story_title(config.story), Path(config.out)
    make_html(panels, captions, out / "page.html", title, layout=config.layout)
    return make_page(panels, captions, out / "page.png", title, layout=config.layout, for_print=config.for_print)
