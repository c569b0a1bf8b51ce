"""Scores: the seeds' arithmetic mean, what is left out, and the gate at 6."""

import math

import pytest
from helpers import make_scorer
from PIL import Image

from kolors_lab.errors import DataError, FetchError, ModelError, SettingError
from kolors_lab.models import get_preset
from kolors_lab.score import ScoreResult, classify, load_scorer, passes, score_folder, score_images


@pytest.fixture(scope="module")
def preset(tmp_path_factory):
    from dataclasses import replace

    return replace(get_preset("tiny"), scorer=str(make_scorer(tmp_path_factory.mktemp("scorer"))))


def pictures(folder, count=3):
    folder.mkdir(exist_ok=True)
    for n in range(count):
        Image.linear_gradient("L").rotate(30 * n).resize((64, 48)).save(folder / f"{n}.png")
    return folder


def test_mean_is_that_of_the_seeds_function(preset, tmp_path):
    """One picture at a time through processor and predictor, then the mean: the challenge's own code."""
    import torch
    from aesthetics_predictor import AestheticsPredictorV2Linear
    from transformers import CLIPImageProcessor

    model = AestheticsPredictorV2Linear.from_pretrained(preset.scorer)
    processor = CLIPImageProcessor.from_pretrained(preset.scorer)
    folder, expected = pictures(tmp_path / "set", 9), []
    for file in folder.iterdir():
        inputs = processor(images=Image.open(file).convert("RGB"), return_tensors="pt")
        with torch.no_grad():
            expected.append(model(**inputs).logits.tolist()[0][0])
    result = score_folder(preset, folder)
    assert len(result.scores) == 9
    assert result.mean == pytest.approx(sum(expected) / 9, abs=1e-5)


def test_files_in_half_precision_are_computed_in_float32(preset, tmp_path):
    from dataclasses import replace

    scorer = load_scorer(preset)
    scorer.model.half().save_pretrained(tmp_path)
    scorer.processor.save_pretrained(tmp_path)
    again = load_scorer(replace(preset, scorer=str(tmp_path)))
    assert math.isfinite(score_images(again, [Image.linear_gradient("L")])[0])


def test_grey_palette_and_transparent_pictures_have_scores(preset):
    images = [Image.new(mode, (40, 40)) for mode in ("L", "P", "RGBA", "1", "CMYK")]
    assert all(math.isfinite(score) for score in score_images(load_scorer(preset), images, batch_size=2))


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


@pytest.mark.parametrize("content", ["missing", "empty", "stray"])
def test_a_folder_without_pictures_is_an_error_not_a_zero(preset, tmp_path, content):
    folder = tmp_path / "set"
    if content != "missing":
        folder.mkdir()
    if content == "stray":
        (folder / "notes.txt").write_text("hello")
    with pytest.raises(DataError, match="set"):
        score_folder(preset, folder)


@pytest.mark.parametrize(("mean", "passed"), [(5.99, False), (6.0, True), (6.01, True), (math.nan, False)])
def test_gate(mean, passed):
    assert passes(mean) is passed
    assert ScoreResult(["1.png"], [mean], [], True).passed is passed


def test_scorer_missing_or_of_another_kind(preset, pipe_folder):
    from dataclasses import replace

    with pytest.raises(FetchError):
        load_scorer(replace(preset, scorer="/no/such/folder"))
    with pytest.raises(ModelError, match="predictor"):
        load_scorer(replace(preset, scorer=str(pipe_folder)))


def test_classify_takes_the_likeliest_of_each_attribute(preset, tmp_path):
    from dataclasses import replace

    import torch
    from transformers import ResNetConfig, ResNetForImageClassification

    labels = ["who=girl", "who=horse", "style=plain", "style=anime", "style=ink"]
    config = ResNetConfig(
        embedding_size=8, hidden_sizes=[8], depths=[1], layer_type="basic", id2label=dict(enumerate(labels)),
        label2id={label: n for n, label in enumerate(labels)},
    )  # fmt: skip
    model = ResNetForImageClassification(config)
    head = model.classifier[-1]
    torch.nn.init.zeros_(head.weight)
    head.bias.data = torch.tensor([0.0, 1.0, 3.0, 5.0, 4.0])
    model.save_pretrained(tmp_path)
    images = [Image.new("RGB", (128, 128)), Image.new("L", (50, 60))]
    answers = classify(images, replace(preset, classifier=str(tmp_path)))
    assert answers == [{"who": "horse", "style": "anime"}] * 2
    with pytest.raises(SettingError, match="classifier"):
        classify(images, replace(preset, classifier=None))
