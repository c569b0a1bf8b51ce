"""Captions rewritten, several sets at once, a part held out."""

from __future__ import annotations

import json
import shutil

import pytest

from kolors_lab.core.errors import DataError, SettingError
from kolors_lab.dataset.captions import CaptionConfig, CaptionsConfig, captions, rewrite, shuffled
from kolors_lab.dataset.sets import DataConfig, read_sets


@pytest.mark.parametrize(
    ("settings", "before", "after"),
    [
        ({}, "二次元，，少女 ，", "二次元，，少女 ，"),
        ({"add_trigger": True}, "少女，桃花", "二次元，少女，桃花"),
        ({"add_trigger": True}, "少女，二次元", "少女，二次元"),
        ({"add_trigger": True, "trigger_word": "sks"}, "girl, peach", "sks, girl, peach"),
        ({"trigger_word": "sks", "class_word": "玩偶"}, "书院里", "sks玩偶，书院里"),
        ({"trigger_word": "sks", "class_word": "玩偶"}, "sks玩偶在书院", "sks玩偶在书院"),
        ({"caption_delete": ("水墨画", "国画")}, "水墨画，少女，国画。", "少女"),
        ({"caption_delete": ("水墨画",)}, "一幅水墨画，少女", "一幅，少女"),
        ({"caption_delete": ("高清", "全身")}, "少女、全身、杰作、高清", "少女、杰作"),
        ({"caption_replace": ("女孩=少女", "二次元=")}, "二次元，小女孩", "小少女"),
        ({"caption_delete": ("red",)}, "bored, covered, redhead, red dress, 红", "bored, covered, redhead, dress, 红"),
        ({"caption_replace": ("cat=dog",)}, "cat, catalogue", "dog, catalogue"),
        ({"caption_prefix": "全身", "add_trigger": True}, "少女", "二次元，全身，少女"),
    ],
)
def test_captions_are_rewritten_without_commas_left_over(settings, before, after):
    assert rewrite(before, CaptionConfig(**settings)) == after


def test_shuffling_keeps_the_first_part_and_every_other():
    text = "二次元，少女，白马，夜空，唱歌"
    orders = {shuffled(text, number) for number in range(1, 9)}
    assert len(orders) > 3 and shuffled(text, 1) == shuffled(text, 1)
    for order in orders:
        assert order.startswith("二次元，") and sorted(order.split("，")) == sorted(text.split("，"))


@pytest.mark.parametrize(
    ("field", "value"),
    [
        ("caption_replace", ("女孩",)), ("caption_replace", ("=x",)), ("caption_delete", ("",)),
        ("caption_dropout", 1.5), ("held_out", 1), ("variants", 0), ("rotation", 90),
        ("prior_weight", -1), ("class_pictures", 0),
        ("more_data", ("=0.5",)), ("more_data", ("a=b",)), ("more_data", ("a=-1",)),
    ],
)  # fmt: skip
def test_settings_check_themselves(field, value):
    with pytest.raises(SettingError, match=rf"{field} = .*must") as error:
        DataConfig(**{field: value})
    assert "\n" not in str(error.value)


def test_the_table_of_captions_before_and_after(pictures):
    rows = captions(CaptionsConfig(folder=str(pictures), caption_delete=("二次元",)))
    assert rows == [("0.png", "白马", "白马"), ("1.png", "二次元，少女", "少女"), ("2.png", "二次元，少女", "少女")]


def test_several_sets_each_with_its_trigger_and_weight(pictures, tmp_path):
    other = shutil.copytree(pictures, tmp_path / "a=b")
    examples, held = read_sets(DataConfig(data=str(pictures), more_data=(f"{other}=0.5:王子", f"{pictures}=2")))
    assert [e.text for e in examples[:3]] == ["白马", "二次元，少女", "二次元，少女"]
    assert [e.text for e in examples[3:6]] == ["王子，白马", "王子，二次元，少女", "王子，二次元，少女"]
    assert [e.weight for e in examples] == [1.0] * 3 + [0.5] * 3 + [2.0] * 3 and held == []


def test_the_same_pictures_are_held_out_whatever_their_order(pictures):
    train, held = read_sets(DataConfig(data=str(pictures), held_out=0.3))
    assert len(train) == 2 and len(held) == 1
    lines = (pictures / "metadata.jsonl").read_text(encoding="utf-8").splitlines()
    (pictures / "metadata.jsonl").write_text("\n".join(reversed(lines)), encoding="utf-8")
    assert read_sets(DataConfig(data=str(pictures), held_out=0.3))[1] == held


def test_nothing_left_to_learn_from_or_to_read_is_one_line(pictures, tmp_path):
    with pytest.raises(DataError, match=r"held_out = 0\.9 of 3 pictures leaves none"):
        read_sets(DataConfig(data=str(pictures), held_out=0.9))
    with pytest.raises(DataError, match="no caption"):
        read_sets(DataConfig(data=str(pictures), caption_delete=("白马",)))
    with pytest.raises(DataError, match="does not exist"):
        read_sets(DataConfig(data=str(pictures), more_data=(str(tmp_path / "none"),)))
    (pictures / "metadata.jsonl").write_text(json.dumps({"text": "", "image": "train/0.png"}), encoding="utf-8")
    with pytest.raises(DataError, match="no caption"):
        read_sets(DataConfig(data=str(pictures)))


def test_a_picture_repeated_three_times_is_drawn_three_times_as_often(pipe, pictures, tmp_path, monkeypatch):
    """kohya's 3_toy: in each round its picture comes three times, its loss counts as any other's."""
    import torch

    from kolors_lab.training.latent_cache import encode

    monkeypatch.setenv("KOLORS_LAB_CACHE", str(tmp_path / "cache"))
    for n, place in enumerate(("3_toy", "1_class")):
        (tmp_path / "set" / place).mkdir(parents=True)
        shutil.copy(pictures / "train" / "0.png", tmp_path / "set" / place / f"{n}.png")
        (tmp_path / "set" / place / f"{n}.txt").write_text("白马", encoding="utf-8")
    examples, _ = read_sets(DataConfig(data=str(tmp_path / "set")))
    toy = next(n for n, example in enumerate(examples) if example.image.parent.name == "3_toy")
    data = encode(pipe, examples, 128)
    drawn = torch.cat(data.batches([2] * 20, torch.Generator().manual_seed(0))) % len(data)  # captions dropped or not
    assert (drawn.reshape(-1, 4) == toy).sum(1).tolist() == [3] * 10
    assert data.batch(torch.arange(2), "cpu")["weight"].tolist() == [1, 1]
