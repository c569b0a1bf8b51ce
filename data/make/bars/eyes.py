"""Bars of what looks at pictures, on renders and reconstructions: classifier, probe, practice score, VAE; sizes."""

import functools

import numpy as np
import torch
from models.classifier import right_answers, scenes_by_lot
from models.common import DATA, found, rendered
from models.damaged import pairs, people, pictures, through_vae
from models.vae import held_out_pictures, psnr, through
from scipy.stats import spearmanr
from world.damage import FACE_DAMAGES
from world.scenes import ATTRIBUTES

from bars.bench import answers, faces, scores
from bars.table import Bar, scaled
from kolors_lab.scoring.faces import intact_of

MB = 1_000_000
MODELS = ("tiny-kolors", "tiny-clip", "tiny-aesthetics", "tiny-classifier", "tiny-face-probe", "figurine-probe")


@functools.cache
def right_on_renders() -> dict[str, float]:
    """Per attribute the classifier's share of right answers on held-out renders that show it."""
    scenes = scenes_by_lot(6, scaled(1000), 0.25)
    said, right = answers(rendered("judged_held", scenes)), right_answers(scenes).numpy()
    return {
        name: float((said[name] == right[:, i])[right[:, i] >= 0].mean()) if (right[:, i] >= 0).any() else float("nan")
        for i, name in enumerate(ATTRIBUTES)
    }


@functools.cache
def pair_pictures(soft: bool) -> tuple[list, np.ndarray]:
    """Held-out scenes, each intact and right after it with a damaged face; as drawn or as the VAE gives them back."""
    items = pairs(41, scaled(400, 16), FACE_DAMAGES)
    shown = pictures("bars_pairs", items)["picture"]
    return items, through_vae("bars_pairs_soft", shown) if soft else shown


@functools.cache
def called_intact(soft: bool) -> tuple[np.ndarray, np.ndarray]:
    """Per picture of `pair_pictures`: its damage, and whether the probe calls its faces intact."""
    items, shown = pair_pictures(soft)
    said = [intact_of(found, people(item.scene)) > 0.5 for found, item in zip(faces(shown), items, strict=True)]
    return np.array([item.damage for item in items]), np.array(said)


def share_intact(damage: str, soft: bool = False) -> float:
    kinds, said = called_intact(soft)
    return float(said[kinds == damage].mean())


@functools.cache
def falls(soft: bool) -> np.ndarray:
    """By how much each scene's practice score falls when its face is broken, (N,)."""
    both = scores(pair_pictures(soft)[1]).reshape(-1, 2)
    return both[:, 0] - both[:, 1]


@functools.cache
def severities() -> tuple[np.ndarray, np.ndarray]:
    """Severity and practice score of held-out pictures, seven tenths of them spoiled."""
    scenes = scenes_by_lot(8, scaled(1200, 40), 0.7)
    return np.array([scene.severity for scene in scenes]), scores(rendered("eyes_held", scenes))


def score_rank() -> float:
    return spearmanr(*severities()).statistic


def score_clean() -> float:
    severity, score = severities()
    return abs(score[severity == 0].mean() - 6.5)


def score_spoiled() -> float:
    severity, score = severities()
    return score[severity > 0.8].mean()


def vae_psnr() -> float:
    from diffusers import AutoencoderKL

    vae = AutoencoderKL.from_pretrained(found("tiny-kolors/vae"), torch_dtype=torch.float32).eval()
    shown = held_out_pictures(scaled(210, 20))
    return float(np.mean(psnr(through(vae, shown), shown)))


def vae_faces() -> float:
    """How many points the probe's share of intact faces lies apart before and after the VAE."""
    return abs(share_intact("none") - share_intact("none", soft=True))


def sizes() -> list[float]:
    """Megabytes of every weights file of the embedded models."""
    return [file.stat().st_size / MB for name in MODELS for file in found_files(name)]


def found_files(name: str):
    """The weights of an embedded model, each trained here if it was, else as shipped."""
    shipped = {file.relative_to(DATA) for file in (DATA / name).rglob("*.safetensors")}
    made = found(name).parent if found(name) != DATA / name else DATA
    own = {file.relative_to(made) for file in found(name).rglob("*.safetensors")}
    return [made / file if (made / file).exists() else DATA / file for file in sorted(shipped | own)]


def renders_right(name: str) -> float:
    return right_on_renders()[name]


BARS = (
    *(
        Bar("eyes", f"classifier on renders: {name}", functools.partial(renders_right, name), ">=", 0.95)
        for name in ATTRIBUTES
        if name != "hair_length"
    ),
    Bar("faces", "face probe: renders called intact", functools.partial(share_intact, "none"), ">=", 0.98),
    *(
        Bar("faces", f"face probe: {damage} called intact", functools.partial(share_intact, damage), "<=", 0.05)
        for damage in FACE_DAMAGES
    ),
    Bar("vae", "PSNR on held-out pictures, toys included, dB", vae_psnr, ">=", 30),
    Bar("vae", "face probe, renders to reconstructions, apart", vae_faces, "<=", 0.02),
    Bar("score", "practice score, Spearman with severity", score_rank, "<=", -0.9),
    Bar("score", "practice score of clean pictures, from 6.5", score_clean, "<=", 0.3),
    Bar("score", "practice score, badly spoiled", score_spoiled, "<=", 5),
    Bar("score", "pairs of renders: apart", lambda: falls(False).mean(), ">=", 0.7),
    Bar("score", "pairs of renders: right way round", lambda: (falls(False) > 0).mean(), ">=", 0.95),
    Bar("score", "pairs of reconstructions: apart", lambda: falls(True).mean(), ">=", 0.7),
    Bar("score", "pairs of reconstructions: right way round", lambda: (falls(True) > 0).mean(), ">=", 0.95),
    Bar("files", "embedded weights, MB", lambda: sum(sizes()), "<=", 60),
    Bar("files", "largest file of weights, MB", lambda: max(sizes()), "<=", 15),
)
