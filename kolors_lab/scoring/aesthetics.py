"""Aesthetic score of pictures: the challenge's predictor, its folder mean and its gate at 6, and what to make of them.

Source: improved-aesthetic-predictor, V2Linear (a linear head on normalised CLIP image embeddings), in the classes of
simple-aesthetics-predictor. The tiny preset's predictor is a practice score (练习分): it knows nothing of taste.

    kolors-lab score runs/baseline/lora/panels
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, replace
from importlib.util import find_spec
from pathlib import Path
from typing import TYPE_CHECKING

from kolors_lab.core.errors import DataError, FetchError, ModelError
from kolors_lab.core.figures import score_histogram
from kolors_lab.core.files import replacing, write_table
from kolors_lab.core.images import open_image
from kolors_lab.core.language import _
from kolors_lab.core.stats import interval
from kolors_lab.models.device import pick_device
from kolors_lab.models.loading import quietly
from kolors_lab.models.memory import Plan, first_that_fits, parameter_count
from kolors_lab.models.presets import get_preset, local_path
from kolors_lab.models.processes import start_processes
from kolors_lab.sampling.metadata import is_original, read_settings
from kolors_lab.scoring.clip import coherence, load_eyes
from kolors_lab.scoring.likeness import Series, heroine_boxes, series

if TYPE_CHECKING:
    import torch
    from PIL import Image

    from kolors_lab.models.presets import Preset

GATE = 6.0  # the challenge: a mean below 6 is invalid
BATCH = 32
STORY = 64  # pictures; more are a set, of which no heroine is asked, and comparing all pairs would take long
NARROWEST = 50  # long side / short side: made as wide as the model sees, a longer picture takes gigabytes


@dataclass(frozen=True)
class ScoreConfig:
    """Score every picture of a folder, and say how far their mean is from the gate at 6 and how sure it is."""

    folder: str
    """folder with the pictures"""
    preset: str = "tiny"
    """whose scorer: "tiny" (a practice score), "kolors" (the challenge's) or a folder"""
    official: bool = False
    """the challenge's own function to the last digit: one picture at a time, and it stops at a file that is none"""
    out: str | None = None
    """folder for the table scores.csv and the histogram scores.png; without it neither is written"""


@dataclass(frozen=True)
class ScoreResult:
    """Scores of a folder's pictures, in the order of their names; `left_out` pairs a file with the reason.

    `judge` adds what the judges weigh beside: `fits`, each picture's cosine with the prompt it carries (None where it
    carries none), `coherence`, the mean likeness of all pairs, and `series`, which splits it, for a
    folder of at most STORY.
    """

    files: list[str]
    scores: list[float]
    left_out: list[tuple[str, str]]
    practice: bool
    fits: list[float | None] | None = None
    coherence: float | None = None
    series: Series | None = None

    @property
    def mean(self) -> float:
        return sum(self.scores) / len(self.scores)

    @property
    def passed(self) -> bool:
        """Whether the mean reaches the gate; of a practice score it says nothing about the challenge."""
        return passes(self.mean)

    @property
    def interval(self) -> tuple[float, float]:
        return interval(self.scores)

    @property
    def fit(self) -> float | None:
        """Mean fit of the pictures that carry a prompt."""
        return mean_fit(self.fits)

    def verdict(self) -> str:
        """Mean, interval and margin in one line. Only the challenge's own score passes or fails."""
        low, high = self.interval
        kind = _("练习分 practice mean") if self.practice else _("mean")
        sure = "" if math.isnan(low) else _(" (95 % interval {low:.2f} to {high:.2f})").format(low=low, high=high)
        figures = _("{kind} {mean:.2f} of {count} pictures").format(kind=kind, mean=self.mean, count=len(self.scores))
        if math.isnan(self.mean):
            told = _("{figures}: not a number, which never passes; a picture or the scorer is damaged")
        elif self.practice:
            told = _("{figures}, {where}; it knows nothing of taste, so it says nothing about the challenge")
        else:
            told = _("{figures}: passes the gate, {where}") if self.passed else _("{figures}: fails the gate, {where}")
        return told.format(figures=figures + sure, where=self._margin())

    def _margin(self) -> str:
        margin = self.mean - GATE
        if not margin:
            return _("exactly {gate:g}").format(gate=GATE)
        told = _("{margin:.2g} above {gate:g}") if margin > 0 else _("{margin:.2g} below {gate:g}")
        return told.format(margin=abs(margin), gate=GATE)

    def lines(self) -> list[str]:
        """The table as text: a line per picture, what was left out, verdict, coherence and fit, and the series."""
        fits = self.fits or [None] * len(self.files)
        mark = _("  fit {fit:.3f}")
        marks = [mark.format(fit=fit) if fit is not None else "" for fit in fits]
        lines = [
            f"{score:6.2f}{mark}  {file}" for file, score, mark in zip(self.files, self.scores, marks, strict=True)
        ]
        left_out = _("left out  {file}: {reason}")
        lines += [left_out.format(file=file, reason=reason) for file, reason in self.left_out]
        beside = {_("coherence"): self.coherence, _("prompt fit"): self.fit}
        told = [f"{name} {value:.3f}" for name, value in beside.items() if value is not None and not math.isnan(value)]
        judges = _("what the judges weigh beside: {figures}").format(figures=", ".join(told))
        split = self.series.lines() if self.series else []
        return [*lines, self.verdict(), *([judges] if told else []), *split]


@dataclass(frozen=True)
class Scorer:
    """A loaded predictor with its own processor (another CLIP's gives other scores)."""

    model: torch.nn.Module
    processor: Callable
    device: torch.device


def mean_fit(fits: Sequence[float | None] | None) -> float | None:
    """The mean of what is known; None where nothing is."""
    known = [fit for fit in fits or () if fit is not None]
    return sum(known) / len(known) if known else None


def passes(mean: float) -> bool:
    """Whether a mean score is valid for the challenge: 6.0 is, 5.99 and NaN are not."""
    return not math.isnan(mean) and mean >= GATE


def find_scorer(preset: Preset) -> Path:
    """The folder of the preset's scorer. FetchError if it is not here, ModelError if its package is not installed."""
    if not find_spec("aesthetics_predictor"):
        raise ModelError("the scorer's package is missing: pip install --no-deps simple-aesthetics-predictor==0.1.2")
    return local_path(preset.scorer, "scorer")


def scoring_plan(preset: Preset) -> Plan:
    """What the scorer takes of main memory, in fp32. ModelError where that is not free, FetchError if it is not here.

    Older folders hold a pickle, without a header to count parameters in: it was saved in fp32, so its size is taken.
    """
    import torch

    folder = find_scorer(preset)
    weights = 4 * parameter_count(folder.parent, folder.name) or sum(f.stat().st_size for f in folder.glob("*.bin"))
    plan = Plan(torch.float32, None, False, {"scorer": weights})
    return first_that_fits([plan], _("the scorer {folder}").format(folder=folder), lambda *_: "")


def load_scorer(preset: Preset, device: torch.device | None = None) -> Scorer:
    """The preset's `AestheticsPredictorV2Linear` in fp32. ModelError if the folder holds no such model, or it does not
    fit into memory."""
    folder, device = find_scorer(preset), device or pick_device()
    scoring_plan(preset)
    from safetensors import SafetensorError

    try:
        with quietly():
            from aesthetics_predictor import AestheticsPredictorV2Linear
            from transformers import CLIPImageProcessor  # it warns

            model = AestheticsPredictorV2Linear.from_pretrained(folder).float().to(device).eval()
            processor = CLIPImageProcessor.from_pretrained(folder)
    except (OSError, ValueError, RuntimeError, SafetensorError) as error:
        raise ModelError(
            "{folder}: no aesthetics predictor can be loaded from it: {reason}", folder=folder, reason=str(error)[:200]
        ) from error
    return Scorer(model, processor, device)


def score_images(scorer: Scorer, images: Sequence[Image.Image]) -> list[float]:
    """One score per PIL picture of any size and mode; about 1..10, LAION calls 5 nice and 6 rare."""
    scores: list[float] = []
    for start in range(0, len(images), BATCH):
        scores += _forward(scorer, [_prepare(scorer, image) for image in images[start : start + BATCH]])
    return scores


def _prepare(scorer: Scorer, image: Image.Image) -> torch.Tensor:
    """(1, 3, side, side): resized, cropped and normalised as the predictor was trained. DataError if too narrow."""
    check_shape(image)
    return scorer.processor(images=image.convert("RGB"), return_tensors="pt")["pixel_values"]


def check_shape(image: Image.Image) -> None:
    """Raise DataError for a picture so narrow that its short side cannot be brought to the model's in memory."""
    if max(image.size) > NARROWEST * min(image.size):
        raise DataError(
            "a picture of {width} x {height} px is too narrow to be scored", width=image.width, height=image.height
        )


def _forward(scorer: Scorer, pixels: Sequence[torch.Tensor]) -> list[float]:
    import torch

    with torch.no_grad():
        inputs = torch.cat(list(pixels)).to(scorer.device)
        return scorer.model(pixel_values=inputs, return_dict=True).logits[:, 0].tolist()


def score_folder(
    preset: Preset,
    folder: str | Path,
    scorer: Scorer | None = None,
    on_step: Callable[[int, int], None] | None = None,
) -> ScoreResult:
    """Score every picture of a folder (not of its subfolders); files that are no pictures are left out and named.

    So is what a picture was before its repair: N.before.png beside N.png, as `repair` keeps it.

    The pictures of a batch are read in as many threads as torch computes in, then go through the model together;
    reading the next batch meanwhile was slower on two cores. In memory are one batch, at the model's own small size,
    and a full picture for each thread. Several processes share the batches out. DataError if the folder is missing or
    holds no picture.
    """
    import torch
    from accelerate.utils import gather_object

    here, processes = sorted(_files(folder)), start_processes()
    everything = [file for file in here if not is_original(file)]
    originals = [(file.name, _("the original before its repair")) for file in here if is_original(file)]
    batches = [everything[start : start + BATCH] for start in range(0, len(everything), BATCH)]
    scored, left_out = [], []
    scorer = scorer or (load_scorer(preset) if everything else None)

    def read(file: Path) -> torch.Tensor | DataError:
        try:
            return _prepare(scorer, open_image(file))
        except DataError as error:
            return error

    with ThreadPoolExecutor(torch.get_num_threads()) as readers, processes.split_between_processes(batches) as mine:
        for batch in mine:
            found = list(zip(batch, readers.map(read, batch), strict=True))
            good = {file.name: pixels for file, pixels in found if not isinstance(pixels, DataError)}
            left_out += [(file.name, str(error)) for file, error in found if isinstance(error, DataError)]
            scored += zip(good, _forward(scorer, list(good.values())) if good else [], strict=True)
            if on_step:
                on_step(len(scored) + len(left_out), len(everything))
    scored, left_out = gather_object(scored), [*gather_object(left_out), *originals]
    if not scored:
        found = _("empty")
        for name, why in left_out[:1]:
            found = _("{count} other files, e.g. {name}: {why}").format(count=len(left_out), name=name, why=why)
        raise DataError(
            "{folder}: no picture in it to score ({found}); is it the right folder?", folder=folder, found=found
        )
    files, scores = zip(*scored, strict=True)
    return ScoreResult(list(files), list(scores), left_out, preset.practice)


def _files(folder: str | Path) -> list[Path]:
    """The folder's files in the order in which the system lists them. DataError if there is no such folder."""
    if not Path(folder).is_dir():
        raise DataError("{folder}: no such folder; give the folder that holds the pictures to score", folder=folder)
    return [file for file in Path(folder).iterdir() if file.is_file()]


def score_official(preset: Preset, folder: str | Path, scorer: Scorer | None = None) -> ScoreResult:
    """The challenge's own function: one picture at a time as Pillow opens it, in the order the system lists them.

    Equal to it in the last digit of the mean. Where it would crash, at a file that is no picture, this is a DataError.
    """
    import torch
    from PIL import Image

    files, scores = _files(folder), []
    if not files:
        raise DataError("{folder}: no picture in it to score; is it the right folder?", folder=folder)
    scorer = scorer or load_scorer(preset)
    for file in files:
        try:
            image = Image.open(file)
            check_shape(image)  # before the processor makes it as tall as the model sees
            inputs = scorer.processor(images=image, return_tensors="pt")
        except DataError as error:
            raise DataError("{file}: {error}", file=file, error=error) from error
        except (OSError, ValueError, Image.DecompressionBombError) as error:
            raise DataError(
                "{file}: the challenge's own function stops at this file; take it out", file=file
            ) from error
        with torch.no_grad():
            scores.append(scorer.model(**inputs.to(scorer.device)).logits.tolist()[0][0])
    return ScoreResult([file.name for file in files], scores, [], preset.practice)


def judge(preset: Preset, folder: str | Path, result: ScoreResult) -> ScoreResult:
    """The result with its pictures' `fits`, `coherence` and `series`; as it was where the preset's CLIP is not here."""
    import torch

    try:
        eyes, seen, fits = load_eyes(preset), [], []
    except FetchError:
        return result
    for start in range(0, len(result.files), BATCH):
        files = [Path(folder) / name for name in result.files[start : start + BATCH]]
        seen.append(eyes.see([open_image(file) for file in files]))
        prompts = [carried(file).get("prompt") for file in files]
        cosines = (seen[-1] * eyes.read([prompt or "" for prompt in prompts])).sum(-1).tolist()
        fits += [cosine if prompt else None for cosine, prompt in zip(cosines, prompts, strict=True)]
    found = replace(result, fits=fits, coherence=coherence(torch.cat(seen)))
    if not 1 < len(result.files) <= STORY:
        return found
    panels = [open_image(Path(folder) / name) for name in result.files]
    return replace(found, series=series(panels, eyes, heroine_boxes(panels, preset)))


def carried(file: Path) -> dict:
    """The settings inside the picture; none for a picture that was not made here."""
    try:
        return read_settings(file)
    except DataError:
        return {}


def write_scores(result: ScoreResult, folder: str | Path) -> Path:
    """Write scores.csv (picture, score, fit, why left out) and the histogram scores.png; the folder."""
    fits = result.fits or [None] * len(result.files)
    judged = [(*row, None) for row in zip(result.files, result.scores, fits, strict=True)]
    left_out = [(name, None, None, reason) for name, reason in result.left_out]
    write_table(Path(folder) / "scores.csv", ("image", "score", "fit", "left_out"), judged + left_out)
    with replacing(Path(folder) / "scores.png") as part:
        score_histogram(result.scores).savefig(part, format="png", dpi=150)
    return Path(folder)


def score(config: ScoreConfig, on_step: Callable[[int, int], None] | None = None) -> ScoreResult:
    """Scores for the command line's settings, with coherence and fit where the preset's CLIP is on this machine."""
    preset = get_preset(config.preset)
    if config.official:
        result = score_official(preset, config.folder)
    else:
        result = judge(preset, config.folder, score_folder(preset, config.folder, on_step=on_step))
    if config.out:
        write_scores(result, config.out)
    return result
