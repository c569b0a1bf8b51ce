"""Encoding once, into the cache; versions and buckets of pictures; batches read from the cache."""

from __future__ import annotations

import gc
import itertools
import random
from dataclasses import replace

import numpy as np
import pytest
import torch
from PIL import Image

from kolors_lab.core.errors import DataError, SettingError
from kolors_lab.core.images import open_image
from kolors_lab.dataset.augment import bucket, crop, vary
from kolors_lab.dataset.folder import Example, read_examples
from kolors_lab.dataset.sets import DataConfig
from kolors_lab.sampling.text import PromptCut
from kolors_lab.training import cache_files as encoding
from kolors_lab.training.latent_cache import Encoded, encode


@pytest.fixture
def fresh_cache(tmp_path, monkeypatch):
    monkeypatch.setenv("KOLORS_LAB_CACHE", str(tmp_path / "cache"))
    return tmp_path / "cache"


def everything(data):
    return data.batch(torch.arange(len(data)), "cpu")


# What of a picture is encoded -----------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("size", "corner"),
    [((128, 128), (0, 0)), ((200, 150), (0, 21)), ((201, 150), (0, 21)), ((64, 256), (192, 0)),
     ((1, 9999), (639872, 0))],
)  # fmt: skip
def test_crop_is_the_centre_square_and_says_where_it_was(size, corner):
    square, found = crop(Image.new("RGB", size), 128, 128)
    assert (square.size, found) == ((128, 128), corner)


def test_crop_keeps_the_middle():
    image = Image.new("RGB", (300, 100), "black")
    image.paste("white", (100, 0, 200, 100))
    assert np.asarray(crop(image, 50, 50)[0])[:, 5:-5].min() == 255


def coordinates(width, height):
    """A picture whose red is x and whose green is y, so that a part of it says where it is from."""
    x, y = np.meshgrid(np.arange(width), np.arange(height))
    return Image.fromarray(np.stack([x, y, np.full_like(x, 255)], -1).astype(np.uint8))


@pytest.mark.parametrize("size", [(240, 160), (100, 250), (250, 250)])
def test_a_version_shows_the_place_its_time_ids_name(size):
    config = DataConfig(variants=2, flip=False, random_crop=0.3, rotation=0, color_jitter=0)
    for seed in range(5):
        part, (top, left) = vary(coordinates(*size), 96, 64, config, random.Random(seed))
        red, green, _ = np.asarray(part)[0, 0].astype(int)
        wide = np.asarray(part)[0, -1].astype(int)[0] - red
        scale = 95 / wide  # px of the part per px of the picture
        assert abs(red * scale - left) < 3 and abs(green * scale - top) < 3
        assert (wide + 1) / min(size[0], size[1] * 1.5) >= 0.69  # at most 0.3 is cut off


def test_a_turned_version_has_no_corners_from_outside_the_picture():
    config = DataConfig(variants=2, rotation=30, random_crop=0.3, color_jitter=0)
    for seed in range(8):
        part, corner = vary(Image.new("RGB", (150, 100), "white"), 64, 96, config, random.Random(seed))
        assert part.size == (64, 96) and min(corner) >= 0
        assert np.asarray(part).min() > 250


def test_versions_are_mirrored_and_recoloured_now_and_then():
    image = coordinates(128, 128)
    config = DataConfig(variants=2, random_crop=0, rotation=0, color_jitter=0)
    parts = [vary(image, 128, 128, config, random.Random(seed))[0] for seed in range(12)]
    mirrored = [part.getpixel((0, 0))[0] == 127 for part in parts]
    assert 0 < sum(mirrored) < 12
    config = DataConfig(variants=2, random_crop=0, rotation=0, flip=False)
    assert vary(image, 128, 128, config, random.Random(0))[0].tobytes() != image.tobytes()


@pytest.mark.parametrize(
    ("picture", "size", "found"),
    [
        ((1000, 1000), 1024, (1024, 1024)), ((832, 1216), 1024, (832, 1216)), ((1920, 1080), 1024, (1344, 768)),
        ((100, 900), 1024, (768, 1344)), ((160, 96), 128, (160, 96)), ((130, 128), 128, (128, 128)),
        ((300, 300), 136, (136, 136)),
    ],
)  # fmt: skip
def test_the_bucket_is_the_nearest_in_ratio(picture, size, found):
    assert bucket(*picture, size) == found


# Encoding ------------------------------------------------------------------------------------------------------------


def test_encode_gives_what_pipeline_and_vae_give(pipe, pictures, fresh_cache):
    examples = read_examples(pictures)
    data = encode(pipe, examples, 128)
    embeds, _, pooled, _ = pipe.encode_prompt(examples[2].text, "cpu", do_classifier_free_guidance=False)
    batch = data.batch(torch.tensor([2]), "cpu")
    torch.testing.assert_close(batch["prompt_embeds"], embeds)
    torch.testing.assert_close(batch["pooled"], pooled)
    square = np.asarray(crop(open_image(examples[2].image), 128, 128)[0], dtype=np.float32) / 127.5 - 1
    with torch.no_grad():
        mean = pipe.vae.encode(torch.from_numpy(square).permute(2, 0, 1)[None]).latent_dist.mean
    torch.testing.assert_close(batch["latents"], mean * pipe.vae.config.scaling_factor)
    assert batch["weight"].tolist() == [1.0]


def test_time_ids_are_original_size_crop_and_target(pipe, pictures, fresh_cache):
    examples = read_examples(pictures)
    assert everything(encode(pipe, examples, 128))["time_ids"].tolist() == [
        [128, 128, 0, 0, 128, 128], [150, 200, 0, 21, 128, 128], [256, 128, 64, 0, 128, 128]
    ]  # fmt: skip
    tall = encode(pipe, examples, 128, config=DataConfig(buckets=True)).batch(torch.tensor([2]), "cpu")
    assert tall["latents"].shape[-2:] == (20, 12)
    assert tall["time_ids"].tolist() == [[256, 128, 16, 0, 160, 96]]  # scaled to 192 x 96, 32 of them cut off


def test_each_caption_is_encoded_once_and_nothing_twice(pipe, pictures, fresh_cache, monkeypatch):
    calls = []
    forward, vae_encode = pipe.encode_prompt, pipe.vae.encode
    monkeypatch.setattr(pipe, "encode_prompt", lambda *a, **k: calls.append("text") or forward(*a, **k))
    monkeypatch.setattr(pipe.vae, "encode", lambda *a, **k: calls.append("picture") or vae_encode(*a, **k))
    steps = []
    first = everything(encode(pipe, read_examples(pictures), 128, on_step=lambda *step: steps.append(step)))
    assert sorted(calls) == ["picture"] * 3 + ["text"] * 3  # two captions and the empty one, for those dropped
    assert steps == [(n, 6) for n in range(1, 7)]
    calls.clear()
    again = everything(encode(pipe, read_examples(pictures), 128))
    assert calls == []
    assert all(torch.equal(first[name], again[name]) for name in first)


def test_another_picture_size_or_model_is_encoded_anew(pipe, pictures, fresh_cache):
    examples = read_examples(pictures)
    before = everything(encode(pipe, examples, 128))
    Image.new("RGB", (128, 128), "yellow").save(examples[0].image)
    assert not torch.equal(everything(encode(pipe, examples, 128))["latents"], before["latents"])
    assert everything(encode(pipe, examples, 64))["latents"].shape[-1] == 8
    for part in (pipe.vae, pipe.text_encoder):
        for parameter in part.parameters():
            parameter.data += 0.01
    after = everything(encode(pipe, examples[1:], 128))
    assert not torch.equal(after["latents"], before["latents"][1:])
    assert not torch.equal(after["prompt_embeds"][0], before["prompt_embeds"][1])


def test_a_damaged_cache_file_is_made_again(pipe, pictures, fresh_cache):
    before = everything(encode(pipe, read_examples(pictures), 128))
    files = list(fresh_cache.rglob("*.safetensors"))
    assert len(files) == 6 == len([file for file in fresh_cache.rglob("*") if file.is_file()])
    for file in files:
        file.write_bytes(file.read_bytes()[:-40])
    after = everything(encode(pipe, read_examples(pictures), 128))
    assert torch.equal(before["latents"], after["latents"]) and torch.equal(before["pooled"], after["pooled"])


def test_a_cache_that_was_emptied_meanwhile_is_one_line(pipe, pictures, fresh_cache):
    data = encode(pipe, read_examples(pictures), 128)
    for file in fresh_cache.rglob("*.safetensors"):
        file.unlink()
    with pytest.raises(DataError, match=r"gone from the cache.*run the same command again"):
        everything(data)


def test_a_cache_that_cannot_be_written_is_named(pipe, pictures, tmp_path, monkeypatch):
    (tmp_path / "file").touch()
    monkeypatch.setenv("KOLORS_LAB_CACHE", str(tmp_path / "file" / "cache"))
    with pytest.raises(DataError, match=r"cannot write .*file"):
        encode(pipe, read_examples(pictures), 128)


def test_the_vae_works_in_float32_and_gets_its_type_back(pipe, pictures, fresh_cache):
    pipe.to(torch.bfloat16)
    batch = everything(encode(pipe, read_examples(pictures), 128))
    assert (batch["latents"].dtype, batch["prompt_embeds"].dtype) == (torch.float32, torch.bfloat16)
    assert {pipe.vae.dtype, pipe.text_encoder.dtype} == {torch.bfloat16}


def test_the_cache_lies_in_the_users_cache_folder(monkeypatch, tmp_path):
    monkeypatch.delenv("KOLORS_LAB_CACHE")
    monkeypatch.setattr("sys.platform", "linux")
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    assert encoding.cache_dir() == tmp_path / "kolors_lab"


def test_a_home_that_is_not_there_or_cannot_be_written_is_a_line_that_names_the_variable(
    pipe, pictures, monkeypatch, tmp_path
):
    (tmp_path / "file").touch()
    monkeypatch.setenv("KOLORS_LAB_CACHE", str(tmp_path / "file" / "cache"))
    with pytest.raises(DataError, match=r"cannot write .*set the environment variable KOLORS_LAB_CACHE"):
        encode(pipe, read_examples(pictures), 128)
    for name in ("KOLORS_LAB_CACHE", "XDG_CACHE_HOME", "HOME"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setattr("os.path.expanduser", lambda path: path)  # what it does without an entry in the system's list
    with pytest.raises(DataError, match=r"no home folder .*KOLORS_LAB_CACHE"):
        encoding.cache_dir()


def test_a_caption_over_the_encoders_limit_is_named_with_its_picture(pipe, pictures, fresh_cache):
    example = replace(read_examples(pictures)[0], text="王子，" * 200)
    with pytest.warns(PromptCut, match=rf"the caption of .*{example.image.name}: only 256 tokens fit"):
        encode(pipe, [example], 128)


def test_no_tensor_stays_in_memory(pipe, pictures, fresh_cache):
    def count():
        gc.collect()
        return sum(issubclass(type(thing), torch.Tensor) for thing in gc.get_objects())

    before = count()
    data = encode(pipe, read_examples(pictures), 128, config=DataConfig(variants=3))
    assert len(data) == 9 and count() == before


def test_versions_are_kept_like_any_picture_and_shared_between_runs(pipe, pictures, fresh_cache, monkeypatch):
    examples = read_examples(pictures)
    plain = everything(encode(pipe, examples, 128))
    data = encode(pipe, examples, 128, config=DataConfig(variants=3))
    versions = everything(data)["latents"]
    assert torch.equal(versions[::3], plain["latents"])
    assert len({latent.numpy().tobytes() for latent in versions}) == 9
    monkeypatch.setattr(pipe.vae, "encode", None)
    fewer = everything(encode(pipe, examples[:1], 128, config=DataConfig(variants=2)))["latents"]
    assert torch.equal(fewer, versions[:2])


def test_each_versions_caption_has_its_parts_in_another_order(pipe, pictures, fresh_cache):
    example = Example(read_examples(pictures)[0].image, "二次元，少女，白马，夜空，唱歌")
    data = encode(pipe, [example], 128, config=DataConfig(variants=4, caption_shuffle=True))
    assert len(set(data.captions)) > 2
    plain = encode(pipe, [example], 128)
    assert data.captions[0] == plain.captions[0]
    with pytest.raises(SettingError, match="caption_shuffle: needs variants"):
        DataConfig(caption_shuffle=True)


# Batches -------------------------------------------------------------------------------------------------------------


def entries(count, shapes=((16, 16),), **options):
    """A set of so many pictures that lies nowhere."""
    each = [shapes[number % len(shapes)] for number in range(count)]
    variants = options.get("variants", 1)
    return Encoded([None] * count * variants, [None] * count * variants, each, [1.0] * count, **options)


def drawn(data, sizes, seed=0):
    return [index.tolist() for index in data.batches(sizes, torch.Generator().manual_seed(seed))]


def flat(lists):
    return list(itertools.chain.from_iterable(lists))


@pytest.mark.parametrize(("count", "size", "steps"), [(3, 2, 5), (5, 1, 3), (1, 4, 2), (7, 7, 2)])
def test_every_picture_comes_once_before_any_comes_again(count, size, steps):
    found = drawn(entries(count), [size] * steps)
    assert [len(index) for index in found] == [size] * steps
    order = flat(found)
    for start in range(0, len(order), count):
        part = order[start : start + count]
        assert len(set(part)) == len(part)


def test_the_plain_order_is_one_shuffle_after_another_and_nothing_else_is_drawn():
    generator, other = torch.Generator().manual_seed(3), torch.Generator().manual_seed(3)
    found = torch.cat(entries(5).batches([2, 2, 4], generator))
    assert found.tolist() == torch.cat([torch.randperm(5, generator=other) for _ in range(2)])[:8].tolist()
    assert torch.equal(generator.get_state(), other.get_state())


def test_a_batch_never_mixes_shapes_and_all_pictures_come():
    data = entries(10, shapes=((16, 16), (16, 16), (12, 20)))
    found = drawn(data, [3] * 40)
    for index in found:
        assert len({data.shapes[picture] for picture in index}) == 1
    assert set(flat(found)) == set(range(10))


def test_versions_come_by_lot():
    data = entries(4, variants=3)
    found = drawn(data, [4] * 30)
    assert set(flat(found)) == set(range(12))
    assert all(sorted(entry // 3 for entry in index) == [0, 1, 2, 3] for index in found)


def test_captions_are_dropped_as_often_as_asked(pipe, pictures, fresh_cache):
    found = flat(drawn(entries(10, dropout=0.2), [10] * 100))
    assert 0.15 < np.mean([entry >= 10 for entry in found]) < 0.25
    data = encode(pipe, read_examples(pictures), 128, config=DataConfig(caption_dropout=0.5))
    with_words, without = (data.batch(torch.tensor([entry]), "cpu") for entry in (1, 1 + len(data)))
    assert torch.equal(with_words["latents"], without["latents"])
    empty = pipe.encode_prompt("", "cpu", do_classifier_free_guidance=False)[0]
    torch.testing.assert_close(without["prompt_embeds"], empty)
    assert not torch.equal(with_words["prompt_embeds"], empty)
