"""Train the embedded eyes: tiny-clip (which caption fits which picture) and tiny-aesthetics (the practice score).

tiny-clip is a ChineseCLIPModel trained contrastively (Radford et al. 2021) on the world in all styles, and on choosing
the name of what a picture shows among the names of what it might show (zero-shot, as its users ask it). Its picture
tower, copied into an `AestheticsPredictorV2Linear`, then learns one thing more: what a picture is worth. It knows
nothing of taste. The target:

    worth = 6.5 - drop(kind, severity),   drop = least + (most - least) * severity, as DROPS says for each kind

Blur, noise, flatness and deformation begin at nothing. What goes wrong in drawing begins at a step, since a face
is intact or it is not: the least face damage that is shown (severity 0.3) costs 1.3, so that a same scene's pair of
intact and broken still lies 0.7 apart when the predictor has learned half of it. A scene is drawn both ways and both
are in the batch: the loss is that of each score and of the pair's difference. Half of the steps see reconstructions.

    python data/make/build.py models.clip_and_score
"""

import argparse
import json
import shutil

import numpy as np
import torch
from aesthetics_predictor import AestheticsPredictorV2Linear
from scipy.stats import spearmanr
from torch import nn
from transformers import (
    BertTokenizer,
    ChineseCLIPConfig,
    ChineseCLIPModel,
    CLIPVisionConfig,
    CLIPVisionModelWithProjection,
)
from world import wordings
from world.captions import caption
from world.damage import DRAWN, FACE_DAMAGES, MELTED
from world.scenes import ATTRIBUTES

from models.classifier import groups, judged_pictures, right_answers, scenes_by_lot, soften
from models.common import DATA, found, made, note, rendered, to_tensor
from models.damaged import pairs, pictures, through_vae
from models.training import Lots, Run, add_options, fit, run_of

CLIP, AESTHETICS = made("tiny-clip"), made("tiny-aesthetics")
WIDTH = 96
VISION = dict(
    hidden_size=128, intermediate_size=256, num_hidden_layers=4, num_attention_heads=4, image_size=128, patch_size=16,
    projection_dim=WIDTH, hidden_act="quick_gelu",
)  # fmt: skip
TEXT = dict(
    hidden_size=96, num_hidden_layers=2, num_attention_heads=4, intermediate_size=192, max_position_embeddings=128
)
CLEAN, WORST = 6.5, 3.9  # practice scores of spoiling at severity 0 and 1
FULL = CLEAN - WORST
DROPS = {  # points taken off at severity 0 and at severity 1
    "none": (0.0, 0.0), "blur": (0.0, FULL), "noise": (0.0, FULL), "low_contrast": (0.0, FULL), "deform": (0.5, FULL),
    "faceless": (1.0, 2.0), "melted_face": (1.0, 2.2), "doubled_face": (1.0, 2.2), "displaced": (1.0, 2.2),
    "melted_hands": (0.5, 1.2), "fingers": (0.5, 1.2), "doubled_figure": (1.0, 2.0), "mush": (0.7, 2.0),
}  # fmt: skip
DAMAGES = (*DRAWN, *MELTED, *FACE_DAMAGES)  # faces twice as often as the rest
NOUNS = {"hair_color": ("头发", "头发", "发"), "color": ("裙子", "裙子", "衣服", "衣裙")}  # behind a bare colour
NAMED = tuple(name for name in ATTRIBUTES if name != "spoil")
WHO_NAMES = {
    "girl": ("一个少女", "少女", "一个女孩", "女孩", "一位少女"),
    "prince": ("一个王子", "王子", "一位王子", "身穿银甲的王子"),
    "horse": ("一匹白马", "白马", "一匹白色骏马"),
    "rider": ("王子骑着白马", "王子骑马", "骑白马的王子"),
    "couple": ("王子和少女", "女孩和王子", "少女与王子"),
    "couple_rider": ("王子和少女共骑一匹白马", "少女与王子同骑一匹白马", "王子和少女一起骑在白马上"),
}


def new_clip(vocabulary: int) -> ChineseCLIPModel:
    text = dict(TEXT, vocab_size=vocabulary, hidden_dropout_prob=0.0, attention_probs_dropout_prob=0.0)
    return ChineseCLIPModel(ChineseCLIPConfig(text_config=text, vision_config=VISION, projection_dim=WIDTH))


def name_by_lot(attribute: str, value: str, rng) -> str:
    """What people may call what a picture shows of an attribute: 黑色头发, 书院, 一个少女."""
    known = WHO_NAMES[value] if attribute == "who" else getattr(wordings, attribute.upper())[value]
    if attribute == "place":  # with a preposition, or bare
        known = rng.choice(known[:2])
    return rng.choice(known) + rng.choice(NOUNS.get(attribute, ("",)))


class Lesson(nn.Module):
    """The CLIP model and, to learn faster, the classifier's questions and the worth asked of its picture embedding."""

    def __init__(self, clip: ChineseCLIPModel):
        super().__init__()
        self.clip = clip
        self.questions = nn.Linear(WIDTH, sum(len(a) for a in ATTRIBUTES.values()))
        self.worth = nn.Linear(WIDTH, 1)

    def forward(self, tokens, names, pixels, answers, worths):
        """`names` are the tokens of a name for every value of NAMED's attributes, in their order."""
        out = self.clip(**tokens, pixel_values=pixels, return_loss=True)
        seen = out.image_embeds * WIDTH**0.5
        asked = self.right(self.questions(seen), answers, ATTRIBUTES)
        read = self.clip.text_projection(self.clip.text_model(**names).last_hidden_state[:, 0])
        likeness = self.clip.logit_scale.exp() * out.image_embeds @ nn.functional.normalize(read, dim=-1).T
        named = self.right(likeness, answers, NAMED)
        return (
            out.loss + 0.3 * asked + 0.3 * named + nn.functional.smooth_l1_loss(self.worth(seen)[:, 0], worths - CLEAN)
        )

    @staticmethod
    def right(logits: torch.Tensor, answers: torch.Tensor, attributes) -> torch.Tensor:
        """The sum of each attribute's cross entropy, for logits (B, values of all attributes)."""
        parts = zip(groups(logits, attributes), map(list(ATTRIBUTES).index, attributes), strict=True)
        return sum(nn.functional.cross_entropy(part, answers[:, at]) for part, at in parts)


def write_processor(folder, **extra) -> None:
    """What CLIPImageProcessor and its Chinese sister read: 128 px, pixels to -1..1."""
    settings = dict(
        do_resize=True, size={"shortest_edge": 128}, resample=3,
        do_center_crop=True, crop_size={"height": 128, "width": 128}, do_rescale=True, rescale_factor=1 / 255,
        do_normalize=True, image_mean=[0.5] * 3, image_std=[0.5] * 3, do_convert_rgb=True,
    )  # fmt: skip
    (folder / "preprocessor_config.json").write_text(json.dumps(settings | extra, indent=1) + "\n")


def train_clip(scenes, shown, steps: int, batch: int = 64) -> ChineseCLIPModel:
    """`shown` (N, 128, 128, 3) are the scenes' pictures."""
    lots, tokenizer = Lots(1), BertTokenizer.from_pretrained(DATA / "tiny-clip")
    rng = lots.rng
    answers, worths = right_answers(scenes), worth(scenes)

    def loss_of(_):
        chosen = sorted(rng.sample(range(len(scenes)), batch))
        texts = [caption(scenes[i], rng, complete=True) for i in chosen]
        called = [name_by_lot(attribute, value, rng) for attribute in NAMED for value in ATTRIBUTES[attribute]]
        tokens, called = (
            tokenizer(some, padding=True, truncation=True, max_length=96, return_tensors="pt")
            for some in (texts, called)
        )
        return lesson(tokens, called, soften(to_tensor(shown[chosen]), rng), answers[chosen], worths[chosen])

    lesson = Lesson(new_clip(len(tokenizer)))
    clip = fit(lesson, loss_of, Run("clip", steps, 1.5e-3, steps // 3, decay=0.99), lots).clip
    clip.half().save_pretrained(CLIP)
    shutil.copy(DATA / "tiny-clip" / "vocab.txt", CLIP)
    whole = {"size": {"height": 128, "width": 128}, "do_center_crop": False}  # as Chinese-CLIP's own: nothing cut off
    write_processor(CLIP, image_processor_type="ChineseCLIPImageProcessor", **whole)
    return clip.float()


def new_predictor(clip: ChineseCLIPModel) -> AestheticsPredictorV2Linear:
    """The real predictor's class on tiny-clip's picture tower; the two towers name their weights alike."""
    predictor = AestheticsPredictorV2Linear(CLIPVisionConfig(**VISION))
    tower = {f"vision_model.{k}": v for k, v in clip.vision_model.state_dict().items()}
    tower |= {"visual_projection.weight": clip.visual_projection.weight}
    missing = predictor.load_state_dict(tower, strict=False)
    if missing.unexpected_keys or any(not key.startswith("layers") for key in missing.missing_keys):
        raise RuntimeError(f"the towers differ: {missing}")
    for layer in predictor.layers:
        if isinstance(layer, nn.Linear):  # the usual start would pass on a twentieth of the embedding's differences
            nn.init.orthogonal_(layer.weight, gain=2)
            nn.init.zeros_(layer.bias)
        elif isinstance(layer, nn.Dropout):  # noise on a figure that is to be exact
            layer.p = 0.0
    nn.init.constant_(predictor.layers[-1].bias, CLEAN)
    return predictor


def score(predictor, pixels: torch.Tensor) -> torch.Tensor:
    """The predictor's own forward, (B,), but for its in-place division, which autograd refuses."""
    embeds = CLIPVisionModelWithProjection.forward(predictor, pixel_values=pixels).image_embeds
    return predictor.layers(embeds / embeds.norm(dim=-1, keepdim=True))[:, 0]


def drop(kind: str, severity: float) -> float:
    """The points that a damage takes off."""
    least, most = DROPS[kind]
    return least + (most - least) * severity


def worth(scenes) -> torch.Tensor:
    """(N,): what pictures of scenes, spoiled or not, are worth."""
    return torch.tensor([CLEAN - drop(s.spoil, s.severity) for s in scenes])


def noised(pixels: torch.Tensor, worths: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
    """The batch with fresh noise of any severity, as finish.spoil adds it, on two fifths of its clean pictures: noise
    that stays the same is learned by heart."""
    chosen = (worths == CLEAN) & (torch.rand(len(worths)) < 0.4)
    severity = torch.where(chosen, 0.3 + 0.7 * torch.rand(len(worths)), 0.0)
    strength = 2 * torch.where(chosen, 0.06 + 0.14 * severity, 0.0)
    spoiled = (pixels + strength[:, None, None, None] * torch.randn_like(pixels)).clamp(-1, 1)
    return spoiled, worths - FULL * severity


def shifted(shown: np.ndarray, rng) -> torch.Tensor:
    """float (N, 3, 128, 128), moved only: softening would take the noise away as well."""
    return torch.roll(to_tensor(shown), (rng.randint(-6, 6), rng.randint(-6, 6)), (2, 3))


class Spoiled:
    """Pictures by lot of scenes clean or spoiled, as drawn or as the VAE gives them back."""

    def __init__(self, scenes, shown: np.ndarray, soft: int):
        self.worths, self.sets = worth(scenes), (shown, through_vae("eyes_soft", shown[:soft]))
        telling = [i for i in range(len(self.sets[1])) if scenes[i].spoil != "noise"]  # the VAE lets no noise through
        self.known = range(len(shown)), telling

    def batch(self, count: int, soft: bool, rng) -> tuple[torch.Tensor, torch.Tensor]:
        """Pixels (count, 3, 128, 128) and worths (count,)."""
        chosen = sorted(rng.sample(self.known[soft], count))
        return noised(shifted(self.sets[soft][chosen], rng), self.worths[chosen])


class Paired:
    """Scenes by lot, each as it should be and with something gone wrong in drawing it."""

    def __init__(self, count: int, soft: int):
        items = pairs(31, count, DAMAGES)
        shown = pictures("eyes_pairs", items)["picture"]
        self.sets = shown, through_vae("eyes_pairs_soft", shown[: 2 * soft])
        self.worths = torch.tensor([CLEAN - drop(item.damage, item.severity) for item in items])

    def batch(self, count: int, soft: bool, rng) -> tuple[torch.Tensor, torch.Tensor]:
        """Pixels (2 * count, 3, 128, 128), intact and broken by turns, and worths (2 * count,)."""
        shown = self.sets[soft]
        chosen = [2 * i + k for i in sorted(rng.sample(range(len(shown) // 2), count)) for k in (0, 1)]
        return shifted(shown[chosen], rng), self.worths[chosen]


def last_predictor() -> AestheticsPredictorV2Linear:
    """The one trained last or shipped, to go on with: for pictures that another VAE gives back."""
    return AestheticsPredictorV2Linear.from_pretrained(found("tiny-aesthetics"), dtype=torch.float32)


def train_aesthetics(predictor, scenes, shown, options: argparse.Namespace, batch: int = 48) -> None:
    lots, spoiled, paired = Lots(2), Spoiled(scenes, shown, options.soft), Paired(options.pairs, options.soft)
    near = lambda a, b: nn.functional.smooth_l1_loss(a, b, beta=0.3)  # noqa: E731

    def loss_of(step):
        parts = (data.batch(n, bool(step % 2), lots.rng) for data, n in ((spoiled, batch // 2), (paired, batch // 4)))
        pixels, worths = (torch.cat(part) for part in zip(*parts, strict=True))
        scores = score(predictor, pixels)
        intact, broken = scores[batch // 2 :: 2], scores[batch // 2 + 1 :: 2]
        apart = worths[batch // 2 :: 2] - worths[batch // 2 + 1 :: 2]
        return near(scores, worths) + near(intact - broken, apart)

    trained = fit(predictor, loss_of, run_of("aesthetics", options, decay=0.99), lots)
    figures = {**on_spoiled(trained, options.held), **on_pairs(trained, options.held // 4)}
    print(figures)
    note("practice score on held-out pictures", **figures)
    trained.half().save_pretrained(AESTHETICS)
    write_processor(AESTHETICS, image_processor_type="CLIPImageProcessor")


@torch.no_grad()
def scored(predictor, shown: np.ndarray) -> torch.Tensor:
    """(N,) practice scores of pictures uint8 (N, 128, 128, 3)."""
    return torch.cat([score(predictor, to_tensor(shown[i : i + 64])) for i in range(0, len(shown), 64)])


def on_spoiled(predictor, count: int = 1200) -> dict[str, float]:
    """Rank correlation with severity, and mean scores of clean and of badly spoiled pictures."""
    held = scenes_by_lot(8, count, 0.7)
    scores = scored(predictor, rendered("eyes_held", held))
    severity = torch.tensor([s.severity for s in held])
    figures = dict(
        spearman=spearmanr(severity, scores).statistic,
        clean=scores[severity == 0].mean(),
        badly_spoiled=scores[severity > 0.8].mean(),
    )
    return {name: round(float(value), 3) for name, value in figures.items()}


def on_pairs(predictor, count: int = 300) -> dict[str, float]:
    """Per damage the mean of how far a scene's score falls, as drawn; of face damages also the share that falls."""
    items = pairs(33, count, DAMAGES)
    falls = -scored(predictor, pictures("eyes_pairs_held", items)["picture"]).view(-1, 2).diff(dim=1)[:, 0]
    kinds = np.array([item.damage for item in items[1::2]])
    figures = {kind: falls[torch.from_numpy(kinds == kind)].mean() for kind in sorted(set(kinds.tolist()))}
    face = falls[torch.from_numpy(np.isin(kinds, FACE_DAMAGES))]
    figures |= {"faces": face.mean(), "faces_right_way": (face > 0).float().mean()}
    return {name: round(float(value), 3) for name, value in figures.items()}


def main(options: argparse.Namespace) -> None:
    torch.manual_seed(0)
    scenes, shown = judged_pictures(options.count)
    new = options.start == "nothing"
    predictor = new_predictor(train_clip(scenes, shown, options.clip_steps)) if new else last_predictor()
    train_aesthetics(predictor, scenes, shown, options)


if __name__ == "__main__":
    parser = add_options(argparse.ArgumentParser(description=__doc__), steps=8700, cooldown=2900, lr=5e-4)
    start = "the last predictor goes on, tiny-clip stays as it is (%(default)s)"
    parser.add_argument("--start", choices=("last", "nothing"), default="nothing", help=start)
    parser.add_argument("--clip-steps", type=int, default=3400, help="of tiny-clip (%(default)s)")
    parser.add_argument("--count", type=int, default=20_000, help="pictures clean or spoiled (%(default)s)")
    parser.add_argument("--pairs", type=int, default=8000, help="scenes drawn right and wrong (%(default)s)")
    parser.add_argument("--soft", type=int, default=3000, help="how many of both go through the VAE (%(default)s)")
    parser.add_argument("--held", type=int, default=1200, help="held-out pictures (%(default)s)")
    main(parser.parse_args())
