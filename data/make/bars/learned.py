"""Bars of what learners teach the model: `make run`'s LoRA, DreamBooth of a toy, a word for a heroine; training."""

import contextlib
import functools
import random
import sys
import tempfile
from dataclasses import replace
from pathlib import Path

import numpy as np
from models.classifier import right_answers, scenes_by_lot
from models.common import DATA, found
from models.damaged import people
from sets import heroine
from world import wordings
from world.captions import caption
from world.scenes import ATTRIBUTES, STYLE, UNSEEN_STYLE

from bars.bench import answers, draw_all, drawn, faces, pipeline, pipeline_folder, sheet
from bars.drawn import NEGATIVE
from bars.table import Bar, scaled
from kolors_lab.scoring.faces import intact_of

sys.path.append(str(DATA.parent / "benchmarks"))  # where DreamBooth is measured
DREAMBOOTH = "LoRA, prior"
STEPS = 400  # of the LoRA that `make run` trains: the tiny preset's


@functools.cache
def workplace() -> Path:
    """A folder for what is trained, gone with the process."""
    place = tempfile.TemporaryDirectory()
    workplace.held = place
    return Path(place.name)


@functools.cache
def clean_set() -> str:
    """The embedded set without its dirty pictures."""
    from kolors_lab.dataset.cleaning import CleanConfig, clean

    folder = workplace() / "clean"
    clean(CleanConfig(preset="tiny", out=str(folder)))
    return str(folder)


def trained(name: str, **given) -> Path:
    """The LoRA's file, trained as `make run` does but for what is given."""
    from kolors_lab.training.loop import TrainConfig, train

    settings = {"preset": str(pipeline_folder()), "data": clean_set(), "steps": scaled(STEPS)}
    return train(TrainConfig(**settings | {"out": str(workplace() / name)} | given))


@contextlib.contextmanager
def wearing(file: Path, strength: float = 1.0):
    """The pipeline with the LoRA of a file."""
    from kolors_lab.lora.adapter import load_lora, unload_lora

    load_lora(pipeline(), file, strength)
    try:
        yield
    finally:
        unload_lora(pipeline())


@functools.cache
def styled_scenes() -> list:
    """What the LoRA's style is tried on, of any place and person."""
    scenes = scenes_by_lot(13, scaled(96, 8), 0.0)
    return [replace(scene, style=UNSEEN_STYLE) for scene in scenes]


@functools.cache
def styled_prompts() -> tuple[list[str], list[int]]:
    words = random.Random(12)
    prompts = [caption(scene, words, complete=True) for scene in styled_scenes()]
    return prompts, list(range(len(prompts)))


@functools.cache
def styled() -> np.ndarray:
    """Drawn with the LoRA and the learners' negative prompt."""
    with wearing(trained("lora")):
        shown = draw_all(*styled_prompts(), NEGATIVE)
    sheet(shown, "bars_lora", 12)
    return shown


@functools.cache
def said(with_lora: bool) -> dict[str, np.ndarray]:
    return answers(styled() if with_lora else drawn("lora_base", *styled_prompts(), NEGATIVE))


def called_anime(with_lora: bool) -> float:
    return float((said(with_lora)["style"] == ATTRIBUTES["style"].index(UNSEEN_STYLE)).mean())


def who_and_where() -> float:
    """Both right with the LoRA."""
    right, names = right_answers(styled_scenes()).numpy(), list(ATTRIBUTES)
    return float(np.mean([
        (said(True)["who"] == right[:, names.index("who")]) & (said(True)["place"] == right[:, names.index("place")])
    ]))  # fmt: skip


def lora_faces() -> float:
    """Of pictures that ask for people: all faces there and intact."""
    rows = [(scene, found) for scene, found in zip(styled_scenes(), faces(styled()), strict=True) if people(scene)]
    return float(np.mean([intact_of(found, people(scene)) > 0.5 for scene, found in rows]))


@functools.cache
def dreambooth():
    """benchmarks/dreambooth.py, with as many scenes as this run has time for."""
    import dreambooth as module

    everything = module.scenes()
    module.scenes = lambda: everything[: scaled(len(everything))]
    return module


@functools.cache
def toy_shares() -> dict[str, float]:
    """Shares of pictures with the toy: asked for, by the class word alone, and asked for without a LoRA."""
    from kolors_lab.models.loading import load_pipeline
    from kolors_lab.models.presets import get_preset

    lab, preset = dreambooth(), get_preset(str(pipeline_folder()))
    pipe, toy, way = load_pipeline(preset), lab.IDENTIFIER + lab.CLASS_WORD, lab.ROWS[DREAMBOOTH]
    fewer = {name: scaled(way.settings[name], 2) for name in ("steps", "class_pictures")}
    way = replace(way, settings=way.settings | fewer | {"preset": str(pipeline_folder())})
    without = lab.draw(pipe, toy)
    with lab.taught(pipe, way, 0, workplace() / "toy"):
        asked, plain = lab.draw(pipe, toy), lab.draw(pipe, lab.CLASS_WORD)
    sheet(np.stack([np.asarray(image) for image in (*asked, *plain)]), "bars_toy", 10)
    probe = str(found("figurine-probe"))
    shares = (lab.share(images, probe) for images in (asked, plain, without))
    return dict(zip(("asked", "plain", "without"), shares, strict=True))


def heroine_prompts(word: str) -> list[str]:
    """The word in places and ways of painting, 24 of them by lot; nothing of her looks."""
    rng = random.Random(14)
    places = [text for place in wordings.PLACE for text in heroine.places(place)]
    return [
        f"{word}，{rng.choice(places)}，{wordings.FRAMING[rng.choice(('full', 'half'))][0]}，"
        f"{wordings.STYLE[rng.choice(STYLE)][0]}"
        for _ in range(scaled(24))
    ]


@functools.cache
def heroine_pictures(learned: bool) -> np.ndarray:
    """Drawn by the new word alone; without having learned it, by the class word."""
    from kolors_lab.sampling.vocabulary import load_word, remove_words
    from kolors_lab.training.inversion import InversionConfig, invert

    if not learned:
        prompts = heroine_prompts(heroine.CLASS_WORD)
        return drawn("heroine_base", prompts, list(range(len(prompts))), NEGATIVE)
    config = InversionConfig(
        preset=str(pipeline_folder()), data=str(heroine.make(workplace() / "heroine")), out=str(workplace() / "word"),
        trigger_word=heroine.NAME, word="<mei>", initial_word=heroine.CLASS_WORD, steps=scaled(300),
    )  # fmt: skip
    file = invert(config, pipeline())
    try:
        prompts = heroine_prompts(load_word(pipeline(), file))
        shown = draw_all(prompts, list(range(len(prompts))), NEGATIVE)
    finally:
        remove_words(pipeline())
    sheet(shown, "bars_heroine", 8)
    return shown


def heroine_right(learned: bool) -> float:
    """A girl with hair colour, length and dress colour all right."""
    said = answers(heroine_pictures(learned))
    wanted = {"who": "girl", **{name: value for name, value in heroine.LOOKS.items() if name in ATTRIBUTES}}
    return float(np.mean(np.all([said[n] == ATTRIBUTES[n].index(value) for n, value in wanted.items()], axis=0)))


@functools.cache
def overfit(patience: int = 2) -> dict[str, float]:
    """Early stopping on a run made to overfit, by few pictures and a high rank."""
    from kolors_lab.training.callbacks import Rows
    from kolors_lab.training.checkpoint import checkpoint_file
    from kolors_lab.training.loop import TrainConfig, train

    dozen = dreambooth().first_pictures(12, workplace() / "dozen")
    few = {"data": str(dozen), "held_out": 0.5, "rank": 64, "alpha": 64, "lr_scheduler": "constant"}
    every = {"validate_every": 10, "checkpoint_every": 10, "patience": patience, "steps": scaled(400, 20)}
    config, rows = TrainConfig(preset=str(pipeline_folder()), out=str(workplace() / "overfit"), **every, **few), []
    kept = train(config, callbacks=[Rows(rows.append)])
    looks = [(row["validation_loss"], row["step"]) for row in rows if "validation_loss" in row]
    best = min(looks)[1]
    then = checkpoint_file(kept.parent, best, ".safetensors")
    return {"best": best, "after": sum(step > best for _, step in looks), "kept": tensors(kept) == tensors(then)}


def resumed() -> float:
    """Whether a run cut short and gone on with ends in the same bytes as one that was not."""
    from kolors_lab.training.loop import TrainConfig, train

    def cut(step: int, *_) -> None:
        if step == 6:
            raise InterruptedError

    short = {"preset": str(pipeline_folder()), "data": clean_set(), "steps": 8}
    whole = train(TrainConfig(out=str(workplace() / "whole"), **short))
    broken = TrainConfig(out=str(workplace() / "broken"), checkpoint_every=4, **short)
    with contextlib.suppress(InterruptedError):
        train(broken, on_step=cut)
    return float(tensors(train(broken)) == tensors(whole))


def tensors(file: Path) -> bytes:
    """What a safetensors file holds after its header, which tells the settings."""
    content = file.read_bytes()
    return content[8 + int.from_bytes(content[:8], "little") :]


BARS = (
    Bar("lora", "called 二次元, without the LoRA", functools.partial(called_anime, False), "<=", 0.10),
    Bar("lora", "called 二次元, with it", functools.partial(called_anime, True), ">=", 0.90),
    Bar("lora", "with it, who and where right", who_and_where, ">=", 0.95),
    Bar("lora", "with it, faces intact", lora_faces, ">=", 0.90),
    Bar("figurine", "toy asked for, cfg 4, strength 1", lambda: toy_shares()["asked"], ">=", 0.85),
    Bar("figurine", "toy by the class word, with prior", lambda: toy_shares()["plain"], "<=", 0.10),
    Bar("figurine", "toy without a LoRA", lambda: toy_shares()["without"], "<=", 0.02),
    Bar("heroine", "all attributes right by the class word alone", functools.partial(heroine_right, False)),
    Bar("heroine", "all attributes right by one new word", functools.partial(heroine_right, True), ">=", 0.70),
    Bar("training", "overfit, steps until the best look", lambda: overfit()["best"]),
    Bar("training", "overfit, looks after the best one", lambda: overfit()["after"], "<=", 3),
    Bar("training", "overfit, the best look's weights are kept", lambda: overfit()["kept"], ">=", 1),
    Bar("training", "resumed equals never stopped, every byte", resumed, ">=", 1),
)
