"""Prompt fit and likeness: the trusted model's own numbers, and on tiny the right prompt wins."""

import math
from dataclasses import replace

import numpy as np
import pytest
import torch
from PIL import Image

from kolors_lab.core.errors import DataError, FetchError, ModelError, SettingError
from kolors_lab.core.files import data_dir
from kolors_lab.models.presets import get_preset
from kolors_lab.scoring.clip import classify, load_eyes

PROMPTS = ["二次元，紫色短发小女孩，坐在客厅的沙发上", "一匹白马，站在桃花小路上，全身", "王子，在山野里"]


@pytest.fixture(scope="module")
def eyes():
    return load_eyes(get_preset("tiny"), torch.device("cpu"))


@pytest.fixture(scope="module")
def images():
    sizes = ((128, 128), (160, 128), (300, 200))
    return [Image.radial_gradient("L").rotate(40 * n).resize(size) for n, size in enumerate(sizes)]


def test_fit_is_that_of_the_models_own_forward(eyes, images):
    """transformers' ChineseCLIPModel, one picture and one text at a time: no padding, no batch."""
    for image, prompt, ours in zip(images, PROMPTS, eyes.fit(images, PROMPTS), strict=True):
        pixels = eyes.processor(images=image.convert("RGB"), return_tensors="pt")
        with torch.no_grad():
            out = eyes.model(**eyes.tokenizer(prompt, return_tensors="pt"), **pixels)
        theirs = torch.cosine_similarity(out.image_embeds, out.text_embeds).item()
        assert ours == pytest.approx(theirs, abs=1e-5)


def test_coherence_is_the_mean_over_pairs(eyes, images):
    likeness = eyes.likeness(images)
    pairs = likeness[np.triu_indices(3, 1)]
    assert eyes.coherence(images) == pytest.approx(pairs.mean(), abs=1e-5)
    assert np.allclose(np.diag(likeness), 1, atol=1e-5)
    assert eyes.coherence([images[0]] * 4) == pytest.approx(1, abs=1e-5)
    assert math.isnan(eyes.coherence(images[:1]))


def test_a_text_that_is_too_long_is_read_as_far_as_it_goes(eyes, images):
    assert all(math.isfinite(x) for x in eyes.fit(images[:1], ["二次元，少女。" * 100]))


def test_every_picture_needs_its_text(eyes, images):
    with pytest.raises(DataError, match="3 pictures and 1 texts"):
        eyes.fit(images, ["少女"])


def test_eyes_missing_or_of_another_kind(tmp_path):
    tiny = get_preset("tiny")
    with pytest.raises(FetchError):
        load_eyes(replace(tiny, clip=str(tmp_path / "none")))
    with pytest.raises(ModelError, match="Chinese-CLIP"):
        load_eyes(replace(tiny, clip=str(data_dir() / "tiny-kolors")))


def test_classify_takes_the_likeliest_of_each_attribute(tmp_path):
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
    answers = classify(images, replace(get_preset("tiny"), classifier=str(tmp_path)))
    assert answers == [{"who": "horse", "style": "anime"}] * 2
    with pytest.raises(SettingError, match="classifier"):
        classify(images, replace(get_preset("tiny"), classifier=None))
