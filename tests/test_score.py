"""Scores: the seeds' arithmetic mean, what is left out, and the gate at 6."""

import csv
import json
import math
import os
from dataclasses import replace

import numpy as np
import pytest
import torch
from helpers import make_scorer
from PIL import Image, ImageOps
from safetensors.torch import load_file

from kolors_lab.core.errors import DataError, FetchError, ModelError
from kolors_lab.core.files import data_dir
from kolors_lab.core.stats import interval
from kolors_lab.models.presets import get_preset
from kolors_lab.pictures.files import save_picture
from kolors_lab.scoring.aesthetics import (
    ScoreResult,
    judge,
    load_scorer,
    passes,
    score_folder,
    score_images,
    score_official,
    write_scores,
)
from kolors_lab.scoring.compare import compare_folders


@pytest.fixture(scope="module")
def preset(tmp_path_factory):
    return replace(get_preset("tiny"), scorer=str(make_scorer(tmp_path_factory.mktemp("scorer"))))


def pictures(folder, count=3):
    folder.mkdir(exist_ok=True)
    for n in range(count):
        Image.linear_gradient("L").rotate(30 * n).resize((64, 48)).save(folder / f"{n}.png")
    return folder


def seeds_function(folder, predictor, processor):
    """`evaluate` of the challenge's seed notebook, word for word but for the device."""

    def get_aesthetics_score(image):
        inputs = processor(images=image, return_tensors="pt")
        inputs = {k: v.to("cpu") for k, v in inputs.items()}
        with torch.no_grad():
            outputs = predictor(**inputs)
        prediction = outputs.logits
        return prediction.tolist()[0][0]

    scores = []
    for file_name in os.listdir(folder):  # noqa: PTH208
        if os.path.isfile(os.path.join(folder, file_name)):  # noqa: PTH113, PTH118
            image = Image.open(os.path.join(folder, file_name))  # noqa: PTH118
            scores.append(get_aesthetics_score(image))
    if len(scores) == 0:
        return 0
    return sum(scores) / len(scores)


def test_official_is_the_seeds_function_to_the_digit_and_batches_are_near(preset, tmp_path):
    from aesthetics_predictor import AestheticsPredictorV2Linear
    from transformers import CLIPImageProcessor

    model = AestheticsPredictorV2Linear.from_pretrained(preset.scorer).eval()
    folder = pictures(tmp_path / "set", 19)
    expected = seeds_function(folder, model, CLIPImageProcessor.from_pretrained(preset.scorer))
    assert score_official(preset, folder).mean == expected
    batched = score_folder(preset, folder)
    assert len(batched.scores) == 19
    assert batched.mean == pytest.approx(expected, abs=1e-5)


def test_official_stops_where_the_seeds_function_would(preset, tmp_path):
    folder = pictures(tmp_path / "set", 2)
    (folder / "Thumbs.db").write_bytes(b"windows")
    with pytest.raises(DataError, match=r"Thumbs\.db: the challenge's own function stops"):
        score_official(preset, folder)
    with pytest.raises(DataError, match="no such folder"):
        score_official(preset, tmp_path / "none")


def test_a_picture_lying_on_its_side_is_turned_as_its_exif_says(preset, tmp_path):
    upright = Image.linear_gradient("L").convert("RGB").resize((64, 48))
    exif = Image.Exif()
    exif[0x0112] = 6  # orientation: turn by a quarter to the right to look at it
    (tmp_path / "set").mkdir()
    upright.save(tmp_path / "set" / "1.png")
    upright.transpose(Image.Transpose.ROTATE_90).save(tmp_path / "set" / "2.png", exif=exif)
    first, second = score_folder(preset, tmp_path / "set").scores
    assert first == pytest.approx(second, abs=1e-6)


def test_files_in_half_precision_are_computed_in_float32(preset, tmp_path):
    scorer = load_scorer(preset)
    scorer.model.half().save_pretrained(tmp_path)
    scorer.processor.save_pretrained(tmp_path)
    again = load_scorer(replace(preset, scorer=str(tmp_path)))
    assert math.isfinite(score_images(again, [Image.linear_gradient("L")])[0])


def test_grey_palette_and_transparent_pictures_have_scores(preset):
    images = [Image.new(mode, (40, 40)) for mode in ("L", "P", "RGBA", "1", "CMYK")]
    assert all(math.isfinite(score) for score in score_images(load_scorer(preset), images))


def test_stray_and_broken_files_are_named_and_left_out(preset, tmp_path):
    folder = pictures(tmp_path / "set", 2)
    clean = score_folder(preset, folder)
    (folder / "notes.txt").write_text("hello")
    (folder / "empty.png").write_bytes(b"")
    (folder / "cut.png").write_bytes((folder / "0.png").read_bytes()[:-200])
    pictures(folder / "deeper")
    result = score_folder(preset, folder)
    assert (result.files, result.scores) == (clean.files, clean.scores)
    assert sorted(name for name, _ in result.left_out) == ["cut.png", "empty.png", "notes.txt"]


def test_what_a_picture_was_before_its_repair_is_named_and_not_counted(preset, tmp_path):
    one, other = pictures(tmp_path / "one", 2), pictures(tmp_path / "other", 2)
    for name in ("0.before.png", "alone.before.png"):
        (one / name).write_bytes((one / "0.png").read_bytes())
    result = score_folder(preset, one)
    assert sorted(result.files) == ["0.png", "1.png", "alone.before.png"]
    assert "left out  0.before.png: the original before its repair" in result.lines()
    (one / "alone.before.png").unlink()
    lines = compare_folders(preset, one, other).lines()
    assert len(lines) == 4 and "0.before.png: the original before its repair" in lines[2]


def test_a_picture_too_narrow_to_be_scored_is_left_out(preset, tmp_path):
    folder = pictures(tmp_path / "set", 2)
    Image.new("1", (65_500, 1)).save(folder / "line.png")  # 272 bytes; made 32 px tall, it would take 200 MB
    result = score_folder(preset, folder)
    assert result.left_out == [("line.png", "a picture of 65500 x 1 px is too narrow to be scored")]
    assert len(result.scores) == 2
    with pytest.raises(DataError, match=r"\w\.png: .*too narrow"):
        score_official(preset, folder)


@pytest.mark.parametrize("content", ["missing", "empty", "stray"])
def test_a_folder_without_pictures_is_an_error_not_a_zero(preset, tmp_path, content):
    folder = tmp_path / "set"
    if content != "missing":
        folder.mkdir()
    if content == "stray":
        (folder / "notes.txt").write_text("hello")
    with pytest.raises(DataError, match="notes.txt" if content == "stray" else "set"):
        score_folder(preset, folder)


@pytest.mark.parametrize(
    ("mean", "passed", "words"),
    [
        (5.99, False, "fails the gate, 0.01 below 6"),
        (5.99996, False, "fails the gate, 4e-05 below 6"),
        (6.0, True, "passes the gate, exactly 6"),
        (6.25, True, "passes the gate, 0.25 above 6"),
        (math.nan, False, "never passes"),
    ],
)
def test_gate_and_its_margin(mean, passed, words):
    assert passes(mean) is passed
    result = ScoreResult(["1.png", "2.png"], [mean, mean], [], False)
    assert result.passed is passed and words in result.verdict()
    assert passed or "passes the gate" not in result.verdict()
    practice = ScoreResult(["1.png"], [mean], [], True).verdict()
    assert "练习分" in practice and "passes the" not in practice and "fails" not in practice


def test_the_interval_holds_the_mean_and_narrows_with_more_pictures():
    few, many = interval([5.0, 6.0, 7.0, 6.5]), interval([5.0, 6.0, 7.0, 6.5] * 25)
    assert few[0] < 6.125 < few[1]
    assert many[0] < 6.125 < many[1] and many[1] - many[0] < few[1] - few[0]
    assert interval([6.0] * 8) == (6.0, 6.0)
    assert all(math.isnan(bound) for values in ([6.0], [6.0, math.nan]) for bound in interval(values))


def test_what_the_judges_weigh_beside(preset, tmp_path):
    folder = pictures(tmp_path / "set", 3)
    save_picture(Image.new("RGB", (64, 64), "navy"), folder / "4.png", {"prompt": "夜空下的少女"})
    result = judge(preset, folder, score_folder(preset, folder))
    assert [fit is None for fit in result.fits] == [True, True, True, False]
    assert result.fit == result.fits[3] and -1 <= result.coherence <= 1
    assert "fit" in result.lines()[3] and any("coherence" in line for line in result.lines()[4:])
    absent = replace(preset, clip=str(tmp_path / "none"))
    assert judge(absent, folder, result) is result


def test_table_and_histogram_are_written(preset, tmp_path):
    folder = pictures(tmp_path / "set", 3)
    (folder / "Thumbs.db").write_bytes(b"windows")
    write_scores(score_folder(preset, folder), tmp_path / "out")
    rows = list(csv.DictReader((tmp_path / "out" / "scores.csv").open(encoding="utf-8-sig")))
    assert [row["image"] for row in rows] == ["0.png", "1.png", "2.png", "Thumbs.db"]
    assert float(rows[0]["score"]) and "no picture" in rows[3]["left_out"]
    assert Image.open(tmp_path / "out" / "scores.png").width > 600


def test_pairs_of_the_same_seeds_are_compared(preset, tmp_path):
    one, two = tmp_path / "one", tmp_path / "two"
    for n in range(6):
        image = Image.linear_gradient("L").rotate(30 * n).resize((64, 64)).convert("RGB")
        save_picture(image, one / f"{n}.png", {"seed": n})
        save_picture(ImageOps.invert(image), two / f"{n}.png", {"seed": n})
    done = compare_folders(preset, one, two)
    assert done.mean == pytest.approx(score_folder(preset, two).mean - score_folder(preset, one).mean, abs=1e-6)
    assert done.interval[0] <= done.mean <= done.interval[1]
    same = compare_folders(preset, one, one)
    assert same.mean == 0 and "no difference is shown" in same.verdict()
    save_picture(image, two / "5.png", {"seed": 7})
    with pytest.raises(DataError, match=r"5\.png: seed 5 in .*, 7 in"):
        compare_folders(preset, one, two)
    (two / "5.png").unlink()
    with pytest.raises(DataError, match=r"5\.png is in only one"):
        compare_folders(preset, one, two)


def test_scorer_missing_or_of_another_kind(preset, pipe_folder):
    with pytest.raises(FetchError):
        load_scorer(replace(preset, scorer="/no/such/folder"))
    with pytest.raises(ModelError, match="predictor"):
        load_scorer(replace(preset, scorer=str(pipe_folder)))


def plain_score(folder, pixels):
    """A picture's score by the published arithmetic and nothing but torch: CLIP's vision transformer, its projection,
    normalised, five linear layers. `pixels`: (3, H, W), normalised as CLIP's are."""
    weights = {name: weight.float() for name, weight in load_file(folder / "model.safetensors").items()}
    config = json.loads((folder / "config.json").read_text())
    width, heads, patch = config["hidden_size"], config["num_attention_heads"], config["patch_size"]

    def linear(x, name):
        return x @ weights[f"{name}.weight"].T + weights.get(f"{name}.bias", 0)

    def norm(x, name):
        x = (x - x.mean(-1, keepdim=True)) / (x.var(-1, unbiased=False, keepdim=True) + 1e-5).sqrt()
        return x * weights[f"{name}.weight"] + weights[f"{name}.bias"]

    part = "vision_model.embeddings"
    tiles = pixels.unfold(1, patch, patch).unfold(2, patch, patch)  # (3, h, w, patch, patch)
    tiles = tiles.permute(1, 2, 0, 3, 4).flatten(2).flatten(0, 1)
    x = tiles @ weights[f"{part}.patch_embedding.weight"].flatten(1).T
    x = torch.cat([weights[f"{part}.class_embedding"][None], x]) + weights[f"{part}.position_embedding.weight"]
    x = norm(x, "vision_model.pre_layrnorm")
    for n in range(config["num_hidden_layers"]):
        layer = f"vision_model.encoder.layers.{n}"
        y = norm(x, f"{layer}.layer_norm1")
        q, k, v = (linear(y, f"{layer}.self_attn.{p}_proj").reshape(len(x), heads, -1).transpose(0, 1) for p in "qkv")
        mixed = (q @ k.transpose(1, 2) / (width // heads) ** 0.5).softmax(-1) @ v
        x = x + linear(mixed.transpose(0, 1).flatten(1), f"{layer}.self_attn.out_proj")
        y = linear(norm(x, f"{layer}.layer_norm2"), f"{layer}.mlp.fc1")
        x = x + linear(y * (1.702 * y).sigmoid(), f"{layer}.mlp.fc2")  # quick_gelu
    x = linear(norm(x[0], "vision_model.post_layernorm"), "visual_projection")
    x = x / x.norm()
    for n in sorted({int(key.split(".")[1]) for key in weights if key.startswith("layers.")}):
        x = linear(x, f"layers.{n}")
    return x.item()


def test_the_score_is_what_plain_torch_computes_from_the_weights(tmp_path):
    """Neither CLIP's classes nor the scorer's own code have a part in it."""
    folder = data_dir() / "tiny-aesthetics"
    settings = json.loads((folder / "preprocessor_config.json").read_text())
    side = settings["crop_size"]["height"]
    (tmp_path / "pictures").mkdir()
    found = []
    for seed in range(3):  # of the model's own size, so that nothing is cut or made smaller
        pixels = np.random.default_rng(seed).integers(0, 256, (side, side, 3), np.uint8)
        Image.fromarray(pixels).save(tmp_path / "pictures" / f"{seed}.png")
        mean, std = (torch.tensor(settings[name])[:, None, None] for name in ("image_mean", "image_std"))
        found.append(plain_score(folder, (torch.from_numpy(pixels).permute(2, 0, 1) / 255 - mean) / std))
    result = score_folder(replace(get_preset("tiny"), scorer=str(folder)), tmp_path / "pictures")
    assert result.files == ["0.png", "1.png", "2.png"]
    assert result.scores == pytest.approx(found, abs=1e-4)
    assert len({round(score, 4) for score in found}) == 3
