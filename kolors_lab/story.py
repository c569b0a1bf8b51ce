"""A story: scenes of a script → panels with their settings inside each PNG → a comic page with captions."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from .errors import DataError
from .generate import GenerateConfig, check_sampling, generate, picture_settings, read_settings, save_picture
from .lora import load_lora, unload_lora
from .models import data_dir, get_preset, load_pipeline, pipeline_path
from .page import make_page
from .script import StoryScene, read_story
from .steps import fingerprint

if TYPE_CHECKING:
    from diffusers import KolorsPipeline

    from .models import Preset

DEFAULT_STORY, DEFAULT_TITLE = "idol.csv", "偶像少女养成日记"


@dataclass(frozen=True)
class StoryConfig:
    """Tell a story in pictures: one panel for each line of a CSV, and a page that holds them all."""

    preset: str = "tiny"
    """which model: "tiny" (embedded), "kolors", or a folder that holds a Kolors pipeline"""
    story: str | None = None
    """CSV with the columns scene,prompt,negative_prompt,seed; without it the bundled 偶像少女养成日记"""
    lora: str | None = None
    """.safetensors file of a LoRA to draw with; without it the base model draws"""
    lora_strength: float = 1.0
    """how strongly the LoRA acts: 0 not at all, 1 as it was trained"""
    steps: int | None = None
    """denoising steps of a panel; without it the preset's"""
    cfg: float | None = None
    """how strictly a panel follows its prompt, 1 to about 10; without it the preset's"""
    title: str | None = None
    """headline of the page; without it the story's name"""
    out: str = "runs/story"
    """folder for panels/1.png, panels/2.png, … and page.png"""

    def __post_init__(self):
        check_sampling(0, self.steps, self.cfg, None, None, self.lora_strength)


def story_file(story: str | None) -> Path:
    """The given CSV, or the bundled story."""
    return Path(story) if story else data_dir() / "stories" / DEFAULT_STORY


def story_title(story: str | None) -> str:
    return Path(story).stem.replace("_", " ") if story else DEFAULT_TITLE


def tell(
    pipe: KolorsPipeline | Callable[[], KolorsPipeline],
    scenes: Sequence[StoryScene],
    out: str | Path,
    preset: Preset,
    lora: str | Path | None = None,
    lora_strength: float = 1.0,
    steps: int | None = None,
    cfg: float | None = None,
    on_step: Callable[[int, int], None] | None = None,
) -> list[Path]:
    """Draw one panel per scene as `out/panels/N.png`; panels already there with equal settings are kept.

    `pipe` may be a function that loads the pipeline: it is called only if something is to be drawn. `on_step(done,
    total)` counts the panels. ModelError if the LoRA is of another model, DataError if a file in the way is not ours.
    """
    folder = Path(out) / "panels"
    model = {"model_hash": fingerprint(pipeline_path(preset))}  # tells a model from another of the same name
    common = {"lora": lora and str(lora), "lora_strength": lora_strength, "steps": steps, "cfg": cfg}
    wanted = {
        folder / f"{n}.png": asdict(scene) | picture_settings(_config(scene, **common), preset) | model
        for n, scene in enumerate(scenes, 1)
    }
    stale, page = _stale(folder, wanted), folder.parent / "page.png"
    if page.exists() and _settings(page) is None:
        raise DataError(f"{page}: it is not a page of ours, so it stays; choose another folder with --out")
    missing = [file for file in wanted if file in stale or not file.exists()]
    with _drawing(pipe if missing else None, lora, lora_strength) as artist:
        for file in stale:  # only now, when model and LoRA are known to be good
            file.unlink()
        if missing or stale:
            page.unlink(missing_ok=True)
        for done, file in enumerate(wanted, 1):
            if file in missing:
                _draw(artist, wanted[file], file)
            if on_step:
                on_step(done, len(wanted))
    return list(wanted)


def _config(scene: StoryScene, **common: Any) -> GenerateConfig:
    return GenerateConfig(prompt=scene.prompt, negative_prompt=scene.negative_prompt, seed=scene.seed, **common)


def _stale(folder: Path, wanted: dict[Path, dict]) -> list[Path]:
    """Panels of an earlier story or of other settings: left there they would look current."""
    stale = []
    for file in (f for f in folder.glob("*.png") if f.stem.isdigit()):
        settings = _settings(file)
        if settings is None:
            raise DataError(f"{file}: it is not a panel of ours, so it stays; choose another folder with --out")
        if settings != wanted.get(file):
            stale.append(file)
    return stale


@contextmanager
def _drawing(
    pipe: KolorsPipeline | Callable[[], KolorsPipeline] | None, lora: str | Path | None, strength: float
) -> Iterator[KolorsPipeline | None]:
    """The pipeline, loaded if need be, with the LoRA on it for as long as the block lasts; None for None."""
    pipe = pipe if pipe is None or hasattr(pipe, "unet") else pipe()
    if pipe is None or not lora:
        yield pipe
        return
    load_lora(pipe, lora, strength)
    try:
        yield pipe
    finally:
        unload_lora(pipe)


def _settings(file: Path) -> dict | None:
    try:
        return read_settings(file)
    except DataError:
        return None


def _draw(pipe: KolorsPipeline, settings: dict, file: Path) -> None:
    keys = ("seed", "steps", "cfg", "width", "height")
    image = generate(pipe, settings["prompt"], settings["negative_prompt"], **{k: settings[k] for k in keys})
    file.parent.mkdir(parents=True, exist_ok=True)
    save_picture(image, file, settings)


def story(config: StoryConfig, on_step: Callable[[int, int], None] | None = None) -> Path:
    """Panels and page for the settings of the command line; the page's path."""
    preset, scenes = get_preset(config.preset), read_story(story_file(config.story))
    panels = tell(
        lambda: load_pipeline(preset), scenes, config.out, preset,
        config.lora, config.lora_strength, config.steps, config.cfg, on_step,
    )  # fmt: skip
    title = config.title or story_title(config.story)
    return make_page(panels, [s.scene for s in scenes], Path(config.out) / "page.png", title)
