"""Bars of what tiny-kolors draws: held-out combinations, and the sixteen story prompts with four seeds each."""

import functools
import random
from dataclasses import dataclass, replace

import numpy as np
from models.classifier import right_answers
from models.damaged import people, through_vae
from models.vae import energy
from scipy.stats import spearmanr
from world.captions import caption
from world.scenes import ATTRIBUTES, UNSEEN_STYLE, Scene, asked, held_out, random_scene
from world.stories import STORIES

from bars.bench import answers, by_lot, drawn, embeddings, faces, rendered_now, scores, sheet
from bars.table import Bar, scaled
from kolors_lab.scoring.faces import intact_of

HELD_OUT, SEEDS = 256, 4
NEGATIVE = "丑陋，变形，嘈杂，模糊，低对比度，扭曲的手指，多余的手指"


@dataclass(frozen=True)
class Case:
    """A picture to draw: prompt, seed, and the Scene that it should show; `open` attributes are not judged."""

    prompt: str
    seed: int
    scene: Scene
    open: frozenset[str] = frozenset()


@functools.cache
def held_out_cases() -> list[Case]:
    """Combinations that training never saw, drawn by lot."""
    rng, words, cases = random.Random(10), random.Random(11), []
    while len(cases) < scaled(HELD_OUT, 8):
        scene = random_scene(rng)
        cases += [Case(caption(scene, words, complete=True), len(cases), scene)] if held_out(scene) else []
    return cases


@functools.cache
def story_cases() -> list[Case]:
    """Every story prompt with SEEDS seeds in a row; the base has never seen 二次元, which is not asked of it."""
    panels = [panel for story in STORIES.values() for panel in story]
    panels = panels[:: max(1, round(len(panels) / scaled(len(panels), 2)))]
    return [
        Case(panel.prompt, 1000 + seed, replace(panel.scene, seed=seed), frozenset(panel.open) | unseen(panel.scene))
        for panel in panels
        for seed in range(SEEDS)
    ]


def unseen(scene: Scene) -> set[str]:
    return {"style"} if scene.style == UNSEEN_STYLE else set()


def cases() -> list[Case]:
    return held_out_cases() + story_cases()


@functools.cache
def pictures() -> np.ndarray:
    """(N, 128, 128, 3) of `cases`, without a negative prompt; the sheet of 64 by lot is written beside."""
    shown = drawn("base", [case.prompt for case in cases()], [case.seed for case in cases()])
    sheet(shown[by_lot(64, len(shown))], "bars_sheet")
    return shown


def story_pictures() -> np.ndarray:
    return pictures()[len(held_out_cases()) :]


@functools.cache
def renders() -> np.ndarray:
    """Renders of the held-out cases' scenes."""
    return rendered_now([case.scene for case in held_out_cases()])


@functools.cache
def said() -> dict[str, np.ndarray]:
    """The classifier's answers for `pictures`."""
    return answers(pictures())


def judged(case: Case, name: str) -> bool:
    return asked(case.scene, name) and name not in case.open


def right(name: str) -> float:
    """The share of pictures that show what their prompt says of an attribute."""
    column = right_answers([case.scene for case in cases()])[:, list(ATTRIBUTES).index(name)].numpy()
    wanted = np.array([judged(case, name) for case in cases()])
    return float((said()[name] == column)[wanted].mean())


@functools.cache
def found() -> list[list]:
    """The faces in each of `pictures`."""
    return faces(pictures())


@functools.cache
def intact() -> np.ndarray:
    """Per picture how sure the probe is that all faces are there and intact, (N,); NaN where none is asked for."""
    rows = zip(cases(), found(), strict=True)
    return np.array([intact_of(f, people(c.scene)) if people(c.scene) else np.nan for c, f in rows])


def couples() -> float:
    """The share of couples that are called so and have two faces."""
    which = [i for i, case in enumerate(cases()) if case.scene.who in ("couple", "couple_rider")]
    who = [ATTRIBUTES["who"][i] for i in said()["who"][which]]
    good = [w == cases()[i].scene.who and len(found()[i]) == 2 for i, w in zip(which, who, strict=True)]
    return float(np.mean(good)) if good else float("nan")


def faces_intact(framing: str) -> float:
    """Of pictures asked to have this framing; where the prompt leaves it open, of those that came out so."""
    came = [ATTRIBUTES["framing"][i] for i in said()["framing"]]
    asked_for = [c if "framing" in case.open else case.scene.framing for case, c in zip(cases(), came, strict=True)]
    values = intact()[(np.array(asked_for) == framing) & ~np.isnan(intact())]
    return float((values > 0.5).mean())


def sharpness() -> float:
    """Gradient energy, drawn : rendered, of the same held-out scenes."""
    return energy(pictures()[: len(renders())]) / energy(renders())


def frechet(one: np.ndarray, other: np.ndarray) -> float:
    """The Fréchet distance of two clouds (N, D), each taken for a normal one (Heusel et al. 2017)."""
    a, b = np.cov(one, rowvar=False), np.cov(other, rowvar=False)
    shared = np.sqrt(np.linalg.eigvals(a @ b).real.clip(0)).sum()
    return float(((one.mean(0) - other.mean(0)) ** 2).sum() + np.trace(a) + np.trace(b) - 2 * shared)


def distance() -> float:
    """Drawn to rendered against reconstructed to rendered; what is reconstructed are the same scenes with other seeds,
    so that neither side has pictures that pair off with the renders."""
    others = rendered_now([replace(case.scene, seed=case.scene.seed ^ 1) for case in held_out_cases()])
    real, again = embeddings(renders()), embeddings(through_vae("bars_again", others))
    return frechet(embeddings(pictures()[: len(real)]), real) / frechet(again, real)


def spread(shown: np.ndarray) -> float:
    """The mean distance (1 - cosine) of the pictures of a prompt, for SEEDS in a row."""
    seen = embeddings(shown).reshape(-1, SEEDS, embeddings(shown[:1]).shape[1])
    cosines = np.einsum("pid,pjd->pij", seen, seen)
    return float(1 - cosines[:, ~np.eye(SEEDS, dtype=bool)].mean())


def seeds_differ() -> float:
    """Four seeds of a story prompt, drawn : rendered."""
    return spread(story_pictures()) / spread(rendered_now([case.scene for case in story_cases()]))


def story_deviation() -> float:
    return float(scores(story_pictures()).std())


def story_rank() -> float:
    """Spearman's correlation of the practice score with how intact faces are, over the story pictures with people."""
    sure = intact()[len(held_out_cases()) :]
    return float(spearmanr(scores(story_pictures())[~np.isnan(sure)], sure[~np.isnan(sure)]).statistic)


@functools.cache
def spoiled(negative: str) -> float:
    """The share of pictures that the classifier calls spoiled."""
    shown = pictures()
    if negative:
        shown = drawn("negative", [case.prompt for case in cases()], [case.seed for case in cases()], negative)
    return float((answers(shown)["spoil"] != ATTRIBUTES["spoil"].index("none")).mean())


def negative_helps() -> float:
    return spoiled(NEGATIVE) / max(spoiled(""), 1e-9)


def bars_of_attributes():
    for names, limit in ((("who", "place", "framing", "style"), 0.97), (("color", "hair_color"), 0.95)):
        yield from (Bar("drawn", f"drawn: {name}", functools.partial(right, name), ">=", limit) for name in names)


BARS = (
    *bars_of_attributes(),
    Bar("drawn", "drawn: what she does", functools.partial(right, "action"), ">=", 0.85),
    Bar("drawn", "couples, both right", couples, ">=", 0.92),
    Bar("drawn", "faces intact, full figures", functools.partial(faces_intact, "full"), ">=", 0.95),
    Bar("drawn", "faces intact, half figures", functools.partial(faces_intact, "half"), ">=", 0.97),
    Bar("drawn", "gradient energy, drawn : rendered", sharpness, ">=", 0.85),
    Bar("drawn", "Fréchet distance, drawn : reconstructed", distance, "<=", 1.5),
    Bar("drawn", "four seeds of a prompt, drawn : rendered", seeds_differ, ">=", 0.8),
    Bar("drawn", "story pictures, practice score's deviation", story_deviation, ">=", 0.2),
    Bar("drawn", "story pictures, score and face probe, Spearman", story_rank, ">=", 0.5),
    Bar("negative", "spoiled without a negative prompt", functools.partial(spoiled, ""), ">=", 0.1),
    Bar("negative", "spoiled, with the learners' negative : without", negative_helps, "<=", 0.4),
)
