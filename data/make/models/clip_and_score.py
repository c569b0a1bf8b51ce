"""Train the embedded eyes: tiny-clip (which caption fits which picture) and tiny-aesthetics (the practice score).

tiny-clip is a ChineseCLIPModel trained contrastively (Radford et al. 2021) on the world in all styles. Its picture
tower, copied into an `AestheticsPredictorV2Linear`, then learns one thing more: that a picture is worth 6.5 when clean
and less the more it is spoiled. It knows nothing of taste.

    python data/make/build.py models.clip_and_score
"""

import json

import numpy as np
import torch
from aesthetics_predictor import AestheticsPredictorV2Linear
from diffusers import AutoencoderKL
from scipy.stats import spearmanr
from torch import nn
from transformers import (
    BertTokenizer,
    ChineseCLIPConfig,
    ChineseCLIPModel,
    CLIPVisionConfig,
    CLIPVisionModelWithProjection,
)
from world.captions import caption
from world.scenes import ATTRIBUTES

from models.classifier import groups, judged_pictures, right_answers, scenes_by_lot, soften
from models.common import found, made, note, rendered, stored, to_tensor
from models.training import Lots, Run, fit
from models.vae import encoder_key

CLIP, AESTHETICS = made("tiny-clip"), made("tiny-aesthetics")
WIDTH = 96
VISION = dict(
    hidden_size=128, intermediate_size=256, num_hidden_layers=4, num_attention_heads=4, image_size=128, patch_size=16,
    projection_dim=WIDTH, hidden_act="quick_gelu",
)  # fmt: skip
TEXT = dict(
    hidden_size=96, num_hidden_layers=2, num_attention_heads=4, intermediate_size=192, max_position_embeddings=128
)
CLEAN, WORST = 6.5, 3.9  # practice scores of severity 0 and 1


def new_clip(vocabulary: int) -> ChineseCLIPModel:
    text = dict(TEXT, vocab_size=vocabulary, hidden_dropout_prob=0.0, attention_probs_dropout_prob=0.0)
    return ChineseCLIPModel(ChineseCLIPConfig(text_config=text, vision_config=VISION, projection_dim=WIDTH))


class Lesson(nn.Module):
    """The CLIP model and, to learn faster, the classifier's questions and the worth asked of its picture embedding."""

    def __init__(self, clip: ChineseCLIPModel):
        super().__init__()
        self.clip = clip
        self.questions = nn.Linear(WIDTH, sum(len(a) for a in ATTRIBUTES.values()))
        self.worth = nn.Linear(WIDTH, 1)

    def forward(self, tokens, pixels, answers, worths):
        out = self.clip(**tokens, pixel_values=pixels, return_loss=True)
        seen = out.image_embeds * WIDTH**0.5
        asked = sum(nn.functional.cross_entropy(g, answers[:, i]) for i, g in enumerate(groups(self.questions(seen))))
        return out.loss + 0.3 * asked + nn.functional.smooth_l1_loss(self.worth(seen)[:, 0], worths - CLEAN)


def write_processor(folder, **extra) -> None:
    """What CLIPImageProcessor and its Chinese sister read: 128 px, pixels to -1..1."""
    settings = dict(
        do_resize=True, size={"shortest_edge": 128}, resample=3,
        do_center_crop=True, crop_size={"height": 128, "width": 128}, do_rescale=True, rescale_factor=1 / 255,
        do_normalize=True, image_mean=[0.5] * 3, image_std=[0.5] * 3, do_convert_rgb=True,
    )  # fmt: skip
    (folder / "preprocessor_config.json").write_text(json.dumps(settings | extra, indent=1) + "\n")


def train_clip(scenes, pictures, steps: int = 2000, batch: int = 64) -> ChineseCLIPModel:
    lots, tokenizer = Lots(1), BertTokenizer.from_pretrained(found("tiny-clip"))
    rng = lots.rng
    answers, worths = right_answers(scenes), worth(scenes)

    def loss_of(_):
        chosen = sorted(rng.sample(range(len(scenes)), batch))
        texts = [caption(scenes[i], rng, complete=True) for i in chosen]
        tokens = tokenizer(texts, padding=True, truncation=True, max_length=96, return_tensors="pt")
        return lesson(tokens, soften(to_tensor(pictures[chosen]), rng), answers[chosen], worths[chosen])

    lesson = Lesson(new_clip(len(tokenizer)))
    clip = fit(lesson, loss_of, Run("clip", steps, 1.5e-3, steps // 3, decay=0.99), lots).clip
    clip.half().save_pretrained(CLIP)
    whole = {"size": {"height": 128, "width": 128}, "do_center_crop": False}  # as Chinese-CLIP's own: nothing cut off
    write_processor(CLIP, image_processor_type="ChineseCLIPImageProcessor", **whole)
    return clip.float()


@torch.no_grad()
def through_vae(pictures, batch: int = 32) -> np.ndarray:
    """Pictures as the VAE gives them back: every generated picture is that soft, and not spoiled for it."""
    vae = AutoencoderKL.from_pretrained(found("tiny-kolors/vae"), torch_dtype=torch.float32)
    again = lambda at: vae(to_tensor(pictures[at.start : at.stop])).sample.clamp(-1, 1)  # noqa: E731
    return stored("eyes_soft", len(pictures), np.float16, (3, 128, 128), again, encoder_key(vae), batch)


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


def worth(scenes) -> torch.Tensor:
    return torch.tensor([CLEAN - (CLEAN - WORST) * s.severity for s in scenes])


def noised(pixels: torch.Tensor, worths: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
    """The batch with fresh noise of any severity, as finish.spoil adds it, on two fifths of its clean pictures: noise
    that stays the same is learned by heart."""
    chosen = (worths == CLEAN) & (torch.rand(len(worths)) < 0.4)
    severity = torch.where(chosen, 0.3 + 0.7 * torch.rand(len(worths)), 0.0)
    strength = 2 * torch.where(chosen, 0.06 + 0.14 * severity, 0.0)
    spoiled = (pixels + strength[:, None, None, None] * torch.randn_like(pixels)).clamp(-1, 1)
    return spoiled, worths - (CLEAN - WORST) * severity


def train_aesthetics(clip, scenes, pictures, steps: int = 8700, batch: int = 48) -> None:
    lots, target = Lots(2), worth(scenes)
    rng, soft = lots.rng, through_vae(pictures[:2000])
    telling = [i for i in range(len(soft)) if scenes[i].spoil != "noise"]  # noise does not get through the VAE

    def loss_of(step):
        if step % 2:
            chosen = sorted(rng.sample(telling, batch))
            pixels = torch.from_numpy(soft[chosen]).float()
        else:  # moved only: softening would take the noise away as well
            chosen = sorted(rng.sample(range(len(scenes)), batch))
            pixels = torch.roll(to_tensor(pictures[chosen]), (rng.randint(-6, 6), rng.randint(-6, 6)), (2, 3))
        pixels, worths = noised(pixels, target[chosen])
        return nn.functional.smooth_l1_loss(score(predictor, pixels), worths, beta=0.3)

    predictor = new_predictor(clip)
    trained = fit(predictor, loss_of, Run("aesthetics", steps, 5e-4, steps // 3, decay=0.99), lots)
    held = scenes_by_lot(8, 1200, 0.7)
    shown = rendered("eyes_held", held)
    with torch.no_grad():
        scores = torch.cat(
            [trained(pixel_values=to_tensor(shown[i : i + 64])).logits[:, 0] for i in range(0, len(shown), 64)]
        )
    severity = torch.tensor([s.severity for s in held])
    figures = dict(
        spearman=round(float(spearmanr(severity, scores).statistic), 3),
        clean=round(scores[severity == 0].mean().item(), 2),
        badly_spoiled=round(scores[severity > 0.8].mean().item(), 2),
    )  # fmt: skip
    print(figures)
    note("practice score on 1,200 held-out pictures", **figures)
    trained.half().save_pretrained(AESTHETICS)
    write_processor(AESTHETICS, image_processor_type="CLIPImageProcessor")


def main() -> None:
    torch.manual_seed(0)
    scenes, pictures = judged_pictures()
    train_aesthetics(train_clip(scenes, pictures), scenes, pictures)


if __name__ == "__main__":
    main()
