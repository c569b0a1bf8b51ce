"""The figures that the embedded models must reach, as lines of `name value bar`; exit code 1 if one falls short.

python data/make/bars.py                    # everything, under half an hour on two cores
python data/make/bars.py --only vae base    # some of: eyes vae base negative lora training figurine
"""

import argparse
import contextlib
import functools
import operator
import random
import sys
import tempfile
from pathlib import Path

import numpy as np
import torch
from models.classifier import groups, right_answers, scenes_by_lot
from models.clip_and_score import spearmanr
from models.common import BUILD, DATA, found, note, rendered, to_tensor
from models.vae import held_out_pictures, psnr
from PIL import Image
from world.captions import caption
from world.scenes import ATTRIBUTES, UNSEEN_STYLE, asked, held_out, random_scene
from world.stories import open_attributes, story_scenes

sys.path.append(str(DATA.parent / "benchmarks"))  # where DreamBooth is measured
NEGATIVE = "丑陋，变形，嘈杂，模糊，低对比度，扭曲的手指，多余的手指"
COUNT, STEPS, CFG, BATCH = 240, 20, 4.0, 16
HELD = ("who", "place", "framing", "style", "color", "hair_color")  # what the bars on generated pictures ask
BAR = {"who": 0.85, "place": 0.85, "framing": 0.85, "style": 0.85, "color": 0.75, "hair_color": 0.75}
fallen = []


def bar(name: str, value: float, relation: str, limit: float) -> None:
    ok = {">=": operator.ge, "<=": operator.le, "<": operator.lt}[relation](value, limit)
    fallen.extend([] if ok else [name])
    print(f"{name:44s} {value:8.3f}   {relation} {limit}{'' if ok else '   FALLS SHORT'}", flush=True)


def figure(name: str, value: float) -> None:
    """A figure without a bar, to read the others by."""
    print(f"  {name:42s} {value:8.3f}", flush=True)


def classifier():
    from transformers import AutoModelForImageClassification

    return AutoModelForImageClassification.from_pretrained(found("tiny-classifier"), dtype=torch.float32).eval()


def pipeline():
    from diffusers import KolorsPipeline

    pipe = KolorsPipeline.from_pretrained(found("tiny-kolors"), torch_dtype=torch.float32)
    pipe.set_progress_bar_config(disable=True)
    return pipe


def generated(pipe, prompts: list[str], negative: str | list[str] = "") -> torch.Tensor:
    """(N, 3, 128, 128) in -1..1; picture i from seed i."""
    negatives = [negative] * len(prompts) if isinstance(negative, str) else negative
    parts = []
    for i in range(0, len(prompts), BATCH):
        noise = [torch.Generator().manual_seed(i + k) for k in range(len(prompts[i : i + BATCH]))]
        images = pipe(
            prompts[i : i + BATCH], negative_prompt=negatives[i : i + BATCH], generator=noise, output_type="pt",
            num_inference_steps=STEPS, guidance_scale=CFG, height=128, width=128,
        ).images  # fmt: skip
        parts.append(images * 2 - 1)
    return torch.cat(parts)


@torch.no_grad()
def answers(judge, pixels: torch.Tensor) -> dict[str, torch.Tensor]:
    """Per attribute the index of the judge's answer for each picture."""
    logits = torch.cat([judge(pixels[i : i + 64]).logits for i in range(0, len(pixels), 64)])
    return {name: group.argmax(1) for name, group in zip(ATTRIBUTES, groups(logits), strict=True)}


def shares(found: dict[str, torch.Tensor], scenes, judged=lambda i, name: True) -> dict[str, float]:
    """Per attribute the share of pictures that show what their prompt says, among those whose prompt says it."""
    right = right_answers(scenes)
    result = {}
    for column, name in enumerate(ATTRIBUTES):
        fixed = torch.tensor([asked(s, name) and judged(i, name) for i, s in enumerate(scenes)])
        result[name] = (found[name] == right[:, column])[fixed].float().mean().item()
    return result


def eyes() -> None:
    judge = classifier()
    held = scenes_by_lot(6, 1000, 0.25)
    pixels = to_tensor(rendered("judged_held", held))
    for name, share in shares(answers(judge, pixels), held).items():
        if name in (*HELD, "spoil"):
            bar(f"classifier, held-out pictures, {name}", share, ">=", 0.95)
    from diffusers import AutoencoderKL

    vae = AutoencoderKL.from_pretrained(found("tiny-kolors/vae"), torch_dtype=torch.float32)
    with torch.no_grad():
        again = torch.cat([vae(pixels[i : i + 32]).sample.clamp(-1, 1) for i in range(0, len(pixels), 32)])
    for name, share in shares(answers(judge, again), held).items():
        figure(f"ceiling, VAE reconstructions, {name}", share)
    practice_score()


def practice_score() -> None:
    from aesthetics_predictor import AestheticsPredictorV2Linear

    held = scenes_by_lot(8, 1200, 0.7)
    severity = torch.tensor([s.severity for s in held])
    scores = scored(AestheticsPredictorV2Linear.from_pretrained(found("tiny-aesthetics")).float().eval(),
                    to_tensor(rendered("eyes_held", held)))  # fmt: skip
    bar("practice score, Spearman with severity", float(spearmanr(severity, scores).statistic), "<=", -0.9)
    bar("practice score, clean, distance from 6.5", abs(scores[severity == 0].mean().item() - 6.5), "<=", 0.3)
    bar("practice score, badly spoiled", scores[severity > 0.8].mean().item(), "<", 5)


@torch.no_grad()
def scored(predictor, pixels: torch.Tensor) -> torch.Tensor:
    parts = [
        predictor(pixel_values=pixels[i : i + 64], return_dict=True).logits[:, 0] for i in range(0, len(pixels), 64)
    ]
    return torch.cat(parts)


def vae() -> None:
    from diffusers import AutoencoderKL

    held = held_out_pictures()
    values = psnr(AutoencoderKL.from_pretrained(found("tiny-kolors/vae"), torch_dtype=torch.float32), held)
    bar("VAE, PSNR in dB over 210 pictures", sum(values) / len(values), ">=", 28)


def held_out_scenes(count: int):
    """Scenes of combinations that training never saw."""
    rng, found = random.Random(10), []
    while len(found) < count:
        scene = random_scene(rng)
        found += [scene] if held_out(scene) else []
    return found


def held_out_prompts():
    rng = random.Random(11)
    scenes = held_out_scenes(COUNT)
    return scenes, [caption(scene, rng, complete=True) for scene in scenes]


def base() -> None:
    pipe, judge = pipeline(), classifier()
    scenes, prompts = held_out_prompts()
    story = [row for rows in story_scenes().values() for row in rows]
    prompts += [row[0] for row in story]
    pictures = generated(pipe, prompts)
    sheet(pictures, "base")

    def judged(i: int, name: str) -> bool:
        if i < COUNT:
            return True
        scene, fixed = story[i - COUNT][3], name not in open_attributes(prompts[i])
        return fixed and not (name == "style" and scene.style == UNSEEN_STYLE)

    found = shares(answers(judge, pictures), scenes + [row[3] for row in story], judged)
    for name in HELD:
        bar(f"base, {len(prompts)} pictures, {name}", found[name], ">=", BAR[name])
    note("base", **{name: round(found[name], 3) for name in HELD})


def negative() -> None:
    """The same prompts and seeds without and with the learners' negative prompt."""
    pipe, judge = pipeline(), classifier()
    _, prompts = held_out_prompts()
    clean = ATTRIBUTES["spoil"].index("none")
    share = {}
    for word in ("", NEGATIVE):
        pictures = generated(pipe, prompts, word)
        share[word] = (answers(judge, pictures)["spoil"] != clean).float().mean().item()
        sheet(pictures, "negative" if word else "no_negative")
    figure("spoiled without a negative prompt", share[""])
    figure("spoiled with the negative prompt", share[NEGATIVE])
    bar("spoiled, with : without", share[NEGATIVE] / max(share[""], 1e-9), "<=", 0.4)


def lora(count: int = 48) -> None:
    """The LoRA that `make run` trains, on prompts with 二次元 and the seeds the base gets too."""
    from kolors_lab.lora.adapter import load_lora
    from kolors_lab.models.presets import get_preset
    from kolors_lab.scoring.aesthetics import load_scorer, score_images

    file = trained_lora()
    pipe, judge, rng = pipeline(), classifier(), random.Random(12)
    scenes = scenes_by_lot(13, count, 0.0)
    prompts = [caption(scene, rng, complete=True) for scene in (anime(s) for s in scenes)]
    plain = generated(pipe, prompts, NEGATIVE)
    load_lora(pipe, file)
    styled = generated(pipe, prompts, NEGATIVE)
    load_lora(pipe, trained_lora(steps=200))
    half = generated(pipe, prompts, NEGATIVE)
    sheet(plain, "lora_without"), sheet(styled, "lora_with"), sheet(half, "lora_half")
    called = {name: answers(judge, pictures)["style"] == ATTRIBUTES["style"].index(UNSEEN_STYLE)
              for name, pictures in (("plain", plain), ("styled", styled), ("half", half))}  # fmt: skip
    bar("base called 二次元", called["plain"].float().mean().item(), "<=", 0.15)
    bar("LoRA called 二次元", called["styled"].float().mean().item(), ">=", 0.80)
    bar("LoRA of half the steps called 二次元", called["half"].float().mean().item(), ">=", 0.80)
    found = answers(judge, styled)
    right = right_answers(scenes)
    both = (found["who"] == right[:, 0]) & (found["place"] == right[:, list(ATTRIBUTES).index("place")])
    bar("LoRA, who and where right", both[called["styled"]].float().mean().item(), ">=", 0.75)
    images = [Image.fromarray(((x.permute(1, 2, 0) + 1) * 127.5).round().byte().numpy()) for x in styled]
    scores = score_images(load_scorer(get_preset("tiny")), images)
    bar("LoRA, mean practice score", sum(scores) / len(scores), ">=", 6)


def anime(scene):
    from dataclasses import replace

    return replace(scene, style=UNSEEN_STYLE)


def trained_lora(steps: int | None = None) -> Path:
    """The LoRA of runs/baseline if `make run` has been there, else one trained now with its defaults, or `steps`."""
    from kolors_lab.training.loop import TrainConfig, train

    known = DATA.parent / "runs/baseline/train/lora.safetensors"
    if known.exists() and not steps:
        return known
    return train(TrainConfig(data=clean_set(), out=tempfile.mkdtemp(), steps=steps))


@functools.cache
def clean_set() -> str:
    """The embedded set without its dirty pictures."""
    from kolors_lab.dataset.cleaning import CleanConfig, clean

    folder = Path(tempfile.mkdtemp()) / "clean"
    clean(CleanConfig(preset="tiny", out=str(folder)))
    return str(folder)


def training(patience: int = 2) -> None:
    """Early stopping on a run made to overfit, by few pictures and a high rank; a run cut short and gone on with."""
    from dreambooth import first_pictures

    from kolors_lab.training.checkpoint import checkpoint_file
    from kolors_lab.training.loop import TrainConfig, train

    dozen = first_pictures(12, Path(tempfile.mkdtemp()))
    few = {"data": str(dozen), "held_out": 0.5, "rank": 64, "alpha": 64, "lr_scheduler": "constant"}
    rows = []
    every = {"validate_every": 10, "checkpoint_every": 10}
    kept = train(
        TrainConfig(out=tempfile.mkdtemp(), steps=400, patience=patience, **every, **few), on_metrics=rows.append
    )
    looks = [(row["validation_loss"], row["step"]) for row in rows if "validation_loss" in row]
    best = min(looks)[1]
    figure("overfit, steps until the best look", best)
    bar("overfit, looks after the best one", sum(step > best for _, step in looks), "<=", patience + 1)
    then = checkpoint_file(kept.parent, best, ".safetensors")
    bar("overfit, the best look's weights are kept", tensors(kept) == tensors(then), ">=", 1)

    def cut(step: int, *_) -> None:
        if step == 6:
            raise InterruptedError

    short = {"data": clean_set(), "steps": 8}
    whole = train(TrainConfig(out=tempfile.mkdtemp(), **short))
    broken = TrainConfig(out=tempfile.mkdtemp(), checkpoint_every=4, **short)
    with contextlib.suppress(InterruptedError):
        train(broken, on_step=cut)
    bar("resumed equals never stopped, every byte", tensors(train(broken)) == tensors(whole), ">=", 1)


def tensors(file: Path) -> bytes:
    """What a safetensors file holds after its header, which tells the settings."""
    content = file.read_bytes()
    return content[8 + int.from_bytes(content[:8], "little") :]


def figurine() -> None:
    """DreamBooth of 25 pictures with prior preservation: the toy where it is asked for, and nowhere else."""
    from dreambooth import CLASS_WORD, IDENTIFIER, draw, share, taught

    from kolors_lab.models.loading import load_pipeline
    from kolors_lab.models.presets import get_preset

    pipe, toy = load_pipeline(get_preset("tiny")), IDENTIFIER + CLASS_WORD
    bar("toy, without a LoRA", share(draw(pipe, toy)), "<=", 0.05)
    with taught(pipe, "25 pictures, prior", 0, Path(tempfile.mkdtemp())):
        asked, plain = draw(pipe, toy), draw(pipe, CLASS_WORD)
    sheet(to_tensor(np.stack([np.asarray(image) for image in (*asked, *plain)])), "figurine", columns=10)
    bar("toy, 25 pictures and prior", share(asked), ">=", 0.80)
    bar("class word alone, prior: no toy", 1 - share(plain), ">=", 0.80)


def sheet(pictures: torch.Tensor, name: str, columns: int = 16) -> None:
    """A contact sheet in build/, to look at."""
    rows = -(-len(pictures) // columns)
    page = torch.ones(3, rows * 128, columns * 128)
    for i, picture in enumerate(pictures):
        y, x = 128 * (i // columns), 128 * (i % columns)
        page[:, y : y + 128, x : x + 128] = picture
    BUILD.mkdir(exist_ok=True)
    Image.fromarray(((page.permute(1, 2, 0) + 1) * 127.5).round().byte().numpy()).save(BUILD / f"{name}.png")


PARTS = {"eyes": eyes, "vae": vae, "base": base, "negative": negative, "lora": lora, "training": training,
         "figurine": figurine}  # fmt: skip

if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--only", nargs="+", choices=PARTS, default=list(PARTS))
    torch.manual_seed(0)
    for part in parser.parse_args().only:
        PARTS[part]()
    if fallen:
        sys.exit(f"{len(fallen)} fall short: {'; '.join(fallen)}")
