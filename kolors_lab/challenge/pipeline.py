"""The challenge's whole baseline: juice → train → story without and with the LoRA → score → submit → report.

Every step is skipped while its settings, its inputs and what it made are unchanged, so running again is quick and a
closed session is taken up where it stopped.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import asdict, dataclass, replace
from functools import cached_property
from itertools import count
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

from kolors_lab.challenge.check import read_mark
from kolors_lab.challenge.effect import Effect, count_style
from kolors_lab.challenge.report import mean_loss, read_metrics, write_report
from kolors_lab.challenge.submission import PLACEHOLDER, SubmitConfig, submit
from kolors_lab.comic.panels import StoryConfig, make_pages, read_story, story_file, story_title, tell_story
from kolors_lab.core.errors import SettingError
from kolors_lab.core.fields import Range, check_fields
from kolors_lab.core.files import NUMBER, fingerprint, write_config, write_json
from kolors_lab.core.steps import Steps
from kolors_lab.dataset.cleaning import CleanConfig, clean
from kolors_lab.models.device import pick_device
from kolors_lab.models.identity import model_fingerprint
from kolors_lab.models.loading import load_pipeline
from kolors_lab.models.memory import free_memory, plan
from kolors_lab.models.presets import get_preset, local_path
from kolors_lab.sampling.config import prompts_of
from kolors_lab.sampling.loading import load_for
from kolors_lab.scoring.aesthetics import find_scorer, judge, load_scorer, score_folder
from kolors_lab.training.loop import TrainConfig, train
from kolors_lab.training.origin import is_trained

if TYPE_CHECKING:
    from diffusers import KolorsPipeline

CHECKPOINT_EVERY = 100  # training steps; a session that closes loses no more

OnStep = Callable[[int, int], None]
Progress = Callable[[str], "OnStep | None"]  # called with a stage's name, it gives that stage's on_step


@dataclass(frozen=True)
class BaselineConfig:
    """Do the whole job: clean a set, train a LoRA, tell the story without and with it, score, submit, report."""

    preset: str = "tiny"
    """which model: "tiny" (embedded), "kolors", or a folder that holds a Kolors pipeline"""
    data: str | None = None
    """folder with pictures and captions to learn from; without it the preset's own set"""
    story: str | None = None
    """CSV with the columns scene,prompt,negative_prompt,seed; without it the bundled 偶像少女养成日记"""
    out: str = "runs/baseline"
    """folder for everything this run makes; run again with the same folder to go on where it stopped"""
    steps: int | None = None
    """training steps; without it the preset's"""
    rank: int = 16
    """size of the LoRA: about 16 for a style, about 4 for one subject"""
    seed: int = 0
    """start of the training's random numbers: equal seeds give equal LoRAs"""
    lora_strength: Annotated[float, Range(-10, 10)] = 1.0
    """how strongly the LoRA acts in the story"""
    team: str = PLACEHOLDER
    """your team's name, for the submission"""
    title: str | None = None
    """headline of the page and name of the submission; without it the story's name"""

    def __post_init__(self):
        TrainConfig(steps=self.steps, rank=self.rank, seed=self.seed)  # wrong values are found now, not after juicing
        check_fields(self)


@dataclass(frozen=True)
class BaselineResult:
    """Where things lie and the figures that matter; `seconds` is the time of all steps, done now or before."""

    report: Path
    page: Path
    kept: int
    rejected: int
    loss: float
    effect: Effect
    missing: list[str]
    seconds: float


JUDGED = {"mean": NUMBER, "passed": bool, "files": [str], "scores": [NUMBER]}
RESULTS = {  # what each step gives, as far as the rest relies on it
    "juice": {"kept": int, "rejected": [list], "funnel": [list]},
    "train": {"loss": NUMBER},
    "score": {"base": JUDGED, "lora": JUDGED},
    "submit": {"missing": [str]},
}


class Run:
    """One run in its folder: each method is a step that reads and writes there and returns its figures as JSON."""

    def __init__(self, config: BaselineConfig, progress: Progress | None = None):
        self.config, self.progress = config, progress or (lambda stage: None)
        self.preset, self.out = get_preset(config.preset), Path(config.out)
        if self.out.exists() and not self.out.is_dir():
            raise SettingError("out={out}: there is a file of this name; give a folder", out=config.out)
        self.story = story_file(config.story)
        self.scenes = read_story(self.story)  # a bad story is found before an hour of training, not after
        self.title = config.title or story_title(config.story)
        self.scorer = find_scorer(self.preset)  # likewise
        self.data = config.data or str(local_path(self.preset.dataset, "data"))
        self.submission = SubmitConfig(config.out, team=config.team, title=self.title, preset=config.preset)

    @cached_property
    def pipe(self) -> KolorsPipeline | None:
        """The pipeline for all steps where main memory holds it whole and as much again, for what is done with it; else
        None, and each step loads what it needs."""
        way = plan(self.preset, pick_device())
        whole = 2 * replace(way, in_turn=False).peak <= free_memory(way.mapped)
        return load_pipeline(self.preset, dtype=way.dtype, text_encoder_bits=way.bits) if whole else None

    @property
    def lora_file(self) -> Path:
        return self.out / "train" / "lora.safetensors"

    def work(self, steps: Steps) -> dict[str, dict]:
        """Every step in turn, each with all that its outcome depends on: settings, and inputs by their fingerprint."""
        c, out, do, results = self.config, self.out, steps.do, {}
        preset = {"preset": asdict(self.preset)}
        model = {"model": model_fingerprint(self.preset), **preset}
        story = {"story": fingerprint(self.story), "title": self.title, **model}
        results["juice"] = do("juice", {"data": fingerprint(self.data), **preset}, ["clean"], self.clean, True)
        lora = {"clean": fingerprint(out / "clean"), "steps": c.steps, "rank": c.rank, "seed": c.seed, **model}
        results["train"] = do("train", lora, ["train/lora.safetensors", "train/metrics.jsonl"], self.train, True)
        results["base"] = do("base", story, ["base"], lambda: self.tell_story("base"))
        drawn = {"lora": fingerprint(self.lora_file), "strength": c.lora_strength, **story}
        results["lora"] = do("lora", drawn, ["lora"], lambda: self.tell_story("lora"))
        panels = {name: fingerprint(out / name) for name in ("base", "lora")}
        judged = {"scorer": fingerprint(self.scorer), **panels, **preset}
        results["score"] = do("score", judged, ["scores.json"], self.score)
        handed = {"team": c.team, "title": self.title, **drawn, **judged}
        results["submit"] = do("submit", handed, ["submission"], self.submit, True)
        return results

    def clean(self) -> dict:
        config = CleanConfig(preset=self.config.preset, data=self.data, out=str(self.out / "clean"))
        done = clean(config, on_step=self.progress("juice"))
        return {"kept": done.kept, "rejected": done.rejected, "funnel": done.funnel}

    def train(self) -> dict:
        c, folder = self.config, self.out / "train"
        config = TrainConfig(
            preset=c.preset, data=str(self.out / "clean"), out=str(folder), steps=c.steps, seed=c.seed, rank=c.rank,
            checkpoint_every=CHECKPOINT_EVERY,
        )  # fmt: skip
        if not is_trained(config):  # it is where the run was cut off before it took note
            if self.lora_file.exists():  # of other settings; hours of training are not thrown away
                spare = (folder / f"lora.previous-{n}.safetensors" for n in count(1))
                self.lora_file.replace(next(file for file in spare if not file.exists()))
            train(config, self.pipe, on_encode=self.progress("encode"), on_step=self.progress("train"))
        return {"loss": mean_loss(read_metrics(folder / "metrics.jsonl"))}

    def tell_story(self, name: str) -> dict:
        panels = tell_story(
            lambda: self.pipe or load_for(self.preset, prompts_of(self.scenes)), self.scenes, self.out / name,
            self.preset, lora=self.lora_file if name == "lora" else None, lora_strength=self.config.lora_strength,
            on_step=self.progress(name),
        )  # fmt: skip
        config = StoryConfig(title=self.title, out=str(self.out / name))
        make_pages(config, panels, [s.scene for s in self.scenes])
        return {"panels": [p.name for p in panels]}

    def score(self) -> dict:
        scorer, scores, on_step = load_scorer(self.preset), {}, self.progress("score")
        for name in ("base", "lora"):
            panels = self.out / name / "panels"
            result = judge(self.preset, panels, score_folder(self.preset, panels, scorer, on_step))
            scores[name] = asdict(result) | {"mean": result.mean, "passed": result.passed}
        learned = sorted((self.out / "clean" / "train").glob("*.jpg"))
        drawn = {name: [self.out / name / "panels" / file for file in side["files"]] for name, side in scores.items()}
        for name, styled in count_style(self.preset, learned, drawn).items():
            scores[name]["styled"] = styled
        write_json(self.out / "scores.json", scores)
        return scores

    def submit(self) -> dict:
        return {"missing": submit(self.submission, on_step=self.progress("submit"))}


def baseline(config: BaselineConfig, progress: Progress | None = None) -> BaselineResult:
    """Do every step that is not done yet. Errors of the steps pass through; what was finished before stays."""
    run = Run(config, progress)
    steps = Steps(run.out, RESULTS)
    write_config(run.out / "config.json", config)
    results = run.work(steps)
    trigger = read_mark(run.submission.folder)["trigger"] or {"word": ""}
    effect = Effect(**results["score"], word=trigger["word"], practice=run.preset.practice)
    report = write_report(run.out, run.preset, run.title, run.scenes, steps.record, effect)
    return BaselineResult(
        report=report,
        page=run.out / "lora" / "page.png",
        kept=results["juice"]["kept"],
        rejected=len(results["juice"]["rejected"]),
        loss=results["train"]["loss"],
        effect=effect,
        missing=results["submit"]["missing"],
        seconds=sum(step["seconds"] for step in steps.record.values()),
    )
