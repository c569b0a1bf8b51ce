"""Captions for pictures that have none, and what makes a series one."""

from __future__ import annotations

import re

import numpy as np
import pytest
from PIL import Image

from kolors_lab.cli import main
from kolors_lab.core.errors import DataError, ModelError, SettingError
from kolors_lab.dataset.folder import read_examples
from kolors_lab.models.presets import get_preset
from kolors_lab.scoring.clip import load_eyes
from kolors_lab.scoring.likeness import Series, copies, crop_of, gain, series, style_likeness
from kolors_lab.scoring.tagging import Tagged, TaggingConfig, choose_tags, tag_folder, word_groups, writer


@pytest.fixture(scope="module")
def eyes():
    return load_eyes(get_preset("tiny"))


@pytest.fixture
def folder(tmp_path):
    for n, color in enumerate(("red", "green")):
        Image.new("RGB", (64, 64), color).save(tmp_path / f"{n}.png")
    return tmp_path


GROUPS = [["长发", "短发"], ["微笑", "-没有表情"], ["白天", "夜晚"]]


def test_of_each_group_the_likeliest_word_becomes_a_tag():
    assert choose_tags([[0.9, 0.1], [0.6, 0.4], [0.2, 0.8]], GROUPS, 0.4) == ["长发，微笑，夜晚"]


def test_a_word_that_says_nothing_and_an_unsure_one_become_no_tag():
    assert choose_tags([[0.9, 0.1], [0.3, 0.7], [0.51, 0.49]], GROUPS, 0.6) == ["长发"]
    assert choose_tags([[0.5, 0.5]] * 3, GROUPS, 0.9) == [""]


def test_further_captions_differ_where_the_model_is_least_sure():
    first, second = choose_tags([[0.9, 0.1], [0.99, 0.01], [0.45, 0.55]], GROUPS, 0.4, each=2)
    assert (first, second) == ("长发，微笑，夜晚", "长发，微笑，白天")


def test_a_folder_gets_a_table_that_training_reads_once_it_is_renamed(folder):
    (folder / "words.txt").write_text("红色、绿色\n白天，夜晚\n", encoding="utf-8")
    config = TaggingConfig(folder=str(folder), tag=True, words=str(folder / "words.txt"), sure=0.0, add_trigger=True,
                           trigger_word="色块")  # fmt: skip
    tagged = tag_folder(config)
    assert tagged.file == folder / "captions.csv" and [name for name, _ in tagged.rows] == ["0.png", "1.png"]
    assert all(text.startswith("色块，") and len(text.split("，")) == 3 for _, text in tagged.rows)
    tagged.file.rename(folder / "metadata.csv")
    assert [(e.image.name, e.text) for e in read_examples(folder)] == tagged.rows


def test_several_captions_are_several_lines(folder):
    config = TaggingConfig(folder=str(folder), tag=True, sure=0.0, each=3, accept=True)
    tagged = tag_folder(config)
    assert len(tagged.rows) == 6 and len(read_examples(folder)) == 6


def test_a_table_is_pruned_and_counted(tmp_path):
    tagged = Tagged([("a.png", "长发，微笑"), ("b.png", "长发，夜晚")])
    assert tagged.counts()[0] == ("长发", 2)
    assert tagged.pruned(["长发"]).rows == [("a.png", "微笑"), ("b.png", "夜晚")]
    assert tagged.pruned(["长发"]).write(tmp_path / "metadata.csv").file.exists()


def test_captions_are_reviewed_in_a_form(folder):
    """Tags are left out and the trigger word put in front as one sees, beside the pictures; what the form wrote it
    writes again, but nothing over captions of somebody else."""
    from kolors_lab.notebook.tag_review import TagReview

    tagged = Tagged([("0.png", "长发，微笑"), ("1.png", "长发，<夜晚>")]).write(folder / "captions.csv")
    form = TagReview(tagged)
    form.dropped.value, form.trigger.value = ("长发",), "色块"
    assert "<td>色块，微笑</td>" in form.table.value and "<td>色块，&lt;夜晚&gt;</td>" in form.table.value
    assert form.table.value.count('<img src="data:image/jpeg;base64,') == 2
    for word in ("色块", "另一个"):
        form.trigger.value = word
        form.write.click()
        assert [e.text for e in read_examples(folder)] == [f"{word}，微笑", f"{word}，<夜晚>"]
    (folder / "metadata.csv").write_text("file_name,text\n0.png,我的\n", encoding="utf-8")
    form.write.click()
    assert form.wrong and "is there already" in form.status.value
    assert [e.text for e in read_examples(folder)] == ["我的"]


def test_captions_that_are_there_are_never_replaced(folder):
    (folder / "0.txt").write_text("我的", encoding="utf-8")
    with pytest.raises(DataError, match=r"0\.txt: the pictures have captions already"):
        tag_folder(TaggingConfig(folder=str(folder), tag=True))
    (folder / "0.txt").unlink()
    (folder / "captions.csv").write_text("mine")
    with pytest.raises(DataError, match=r"captions\.csv is there already"):
        tag_folder(TaggingConfig(folder=str(folder), tag=True))
    assert (folder / "captions.csv").read_text() == "mine"


@pytest.mark.parametrize(
    ("content", "said"), [("长发\n", "line 1: '长发' has nothing to choose from"), ("\n", "is empty")]
)
def test_word_lists_that_cannot_be_are_named_by_their_line(tmp_path, content, said):
    (tmp_path / "words.txt").write_text(content, encoding="utf-8")
    with pytest.raises(DataError, match=said):
        word_groups(TaggingConfig(tag=True, words=str(tmp_path / "words.txt")))


def test_a_word_list_of_another_encoding_says_which_it_seems_to_be(tmp_path):
    (tmp_path / "words.txt").write_bytes("红色、绿色".encode("gbk"))
    with pytest.raises(DataError, match="in GBK it begins “红色、绿色”"):
        word_groups(TaggingConfig(tag=True, words=str(tmp_path / "words.txt")))


@pytest.mark.parametrize(
    "settings", [{"words": "a.txt"}, {"accept": True}, {"tag": True, "words": "a", "tagger": "b"}, {"sure": 2.0}]
)
def test_settings_that_go_nowhere_are_refused(settings):
    with pytest.raises(SettingError):
        TaggingConfig(**settings)


def test_each_preset_has_a_list_in_words_that_it_knows(pipe_folder):
    tiny, other = (word_groups(TaggingConfig(tag=True, preset=preset)) for preset in ("tiny", "kolors"))
    assert all(len(group) > 1 for group in (*tiny, *other))
    assert ["全身", "上半身"] in tiny and "一只猫" not in tiny[0] and "一只猫" in other[0]


def test_the_command_names_the_table(folder, capsys):
    assert main(["captions", str(folder), "--tag", "--sure", "0"]) == 0
    assert "2 captions for 2 pictures" in capsys.readouterr().out
    assert main(["captions", str(folder / "nothing"), "--tag"]) == 2


def test_pictures_that_cannot_be_read_are_named_and_cost_only_themselves(folder, capsys):
    (folder / "broken.png").write_bytes((folder / "0.png").read_bytes()[:60])
    (folder / "page.jpg").write_bytes(b"<html>404 Not Found</html>")
    assert main(["captions", str(folder), "--tag", "--sure", "0"]) == 0
    printed = capsys.readouterr()
    assert "2 captions for 2 pictures" in printed.out and "left out: 2 pictures" in printed.out
    assert all(re.search(rf"left out: .*{name} cannot be read", printed.err) for name in ("broken.png", "page.jpg"))
    for name in ("0.png", "1.png", "captions.csv"):
        (folder / name).unlink()
    assert main(["captions", str(folder), "--tag"]) == 2 and not (folder / "captions.csv").exists()
    assert "none of 2 pictures can be read; the first: " in capsys.readouterr().err


def test_pictures_in_folders_within_are_tagged_and_count_as_often_as_their_folder_says(folder):
    for place in ("dog", "10_cat"):
        (folder / place).mkdir()
        Image.new("RGB", (64, 64), "blue").save(folder / place / "1.png")
    tagged = tag_folder(TaggingConfig(folder=str(folder), tag=True, sure=0.0))
    assert [name for name, _ in tagged.rows] == ["0.png", "1.png", "10_cat/1.png", "dog/1.png"]
    tagged.file.rename(folder / "metadata.csv")
    assert [(e.image, e.repeats) for e in read_examples(folder)] == [
        (folder / "0.png", 1), (folder / "1.png", 1), (folder / "10_cat/1.png", 10), (folder / "dog/1.png", 1),
    ]  # fmt: skip


def test_captions_in_a_folder_within_are_captions_too(folder):
    (folder / "dog").mkdir()
    Image.new("RGB", (64, 64), "blue").save(folder / "dog/1.png")
    (folder / "dog/1.txt").write_text("小狗", encoding="utf-8")
    with pytest.raises(DataError, match=r"dog/1\.txt: the pictures have captions already"):
        tag_folder(TaggingConfig(folder=str(folder), tag=True))


def test_a_set_as_juice_leaves_it_has_its_draft_beside_the_pictures(folder):
    """The table above train/ stays what training reads, as README's own line on data/figurine has it."""
    (folder / "train").mkdir()
    for name in ("0.png", "1.png"):
        (folder / name).rename(folder / "train" / name)
    (folder / "metadata.csv").write_text("file_name,text\ntrain/0.png,红\ntrain/1.png,绿\n", encoding="utf-8")
    tagged = tag_folder(TaggingConfig(folder=str(folder), tag=True, sure=0.0))
    assert tagged.file == folder / "train/captions.csv" and [name for name, _ in tagged.rows] == ["0.png", "1.png"]
    assert [example.text for example in read_examples(folder)] == ["红", "绿"]


def test_the_words_of_tinys_world_are_said_to_be_none_for_photographs(folder, capsys):
    warning = "photographs need one of --words, --tagger, --preset kolors"
    assert main(["captions", str(folder), "--tag", "--sure", "0"]) == 0
    assert warning in capsys.readouterr().out
    (folder / "captions.csv").unlink()
    (folder / "words.list").write_text("红色、绿色\n", encoding="utf-8")
    assert main(["captions", str(folder), "--tag", "--words", str(folder / "words.list")]) == 0
    assert warning not in capsys.readouterr().out


def test_sentences_come_from_any_image_to_text_model(tmp_path):
    from transformers import (
        BertTokenizer,
        BlipConfig,
        BlipForConditionalGeneration,
        BlipImageProcessor,
        BlipProcessor,
    )  # fmt: skip

    small = {"hidden_size": 16, "intermediate_size": 16, "num_hidden_layers": 1, "num_attention_heads": 2}
    words = ["[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]", "a", "red", "square"]
    (tmp_path / "vocab.txt").write_text("\n".join(words))
    config = BlipConfig(
        vision_config=small | {"image_size": 32, "patch_size": 16},
        text_config=small | {"vocab_size": len(words), "bos_token_id": 2, "eos_token_id": 3, "sep_token_id": 3,
                             "pad_token_id": 0, "encoder_hidden_size": 16, "max_position_embeddings": 80},
        projection_dim=8,
    )  # fmt: skip
    BlipForConditionalGeneration(config).save_pretrained(tmp_path)
    processor = BlipImageProcessor(size={"height": 32, "width": 32})
    BlipProcessor(processor, BertTokenizer(str(tmp_path / "vocab.txt"))).save_pretrained(tmp_path)
    texts = writer(str(tmp_path), each=2)(Image.new("RGB", (40, 30), "red"))
    assert texts and all(isinstance(text, str) for text in texts)


def test_a_folder_that_holds_no_such_model_is_refused(tmp_path):
    with pytest.raises(ModelError, match="no image-to-text model"):
        writer(str(tmp_path))


# Likeness ------------------------------------------------------------------------------------------------------------


def pictures(count, seed=0):
    rng = np.random.default_rng(seed)
    return [
        Image.fromarray(rng.integers(0, 255, (8, 8, 3), dtype=np.uint8)).resize((128, 128), Image.Resampling.BICUBIC)
        for _ in range(count)
    ]


def test_eight_nearly_equal_pictures_raise_the_alarm(eyes):
    one = pictures(1)[0]
    same = [one.point(lambda value, n=n: min(255, value + n)) for n in range(8)]
    boxes = [(32, 32, 64, 64)] * 8
    assert copies(same) == 1 and series(same, eyes, boxes).alarm
    assert copies(pictures(8)) < 0.1 and not series(pictures(8), eyes, boxes).alarm
    assert "no story" in series(same, eyes, boxes).lines()[-1]


def test_a_folders_scores_split_its_coherence(tmp_path):
    from kolors_lab.models.presets import get_preset
    from kolors_lab.pictures.files import save_picture
    from kolors_lab.scoring.aesthetics import ScoreResult, judge

    preset, names = get_preset("tiny"), [f"{n}.png" for n in range(3)]
    for name in names:
        save_picture(pictures(1)[0], tmp_path / name, {"prompt": "白马"})
    found = judge(preset, tmp_path, ScoreResult(names, [6.0] * 3, [], True))
    assert found.series.copies == 1 and found.series.style == pytest.approx(1, abs=1e-4)
    assert "no story" in found.lines()[-1] and "style likeness 1.000" in found.lines()[-3]


def test_the_heroine_is_compared_on_crops(eyes):
    """Two panels that share nothing but a part: the crops are alike, whatever stands around."""
    images, face = pictures(2), pictures(1, 7)[0].resize((48, 48))
    for image in images:
        image.paste(face, (40, 40))
    box = (44, 44, 40, 40)
    with_crops = series(images, eyes, [box, box])
    assert with_crops.heroine > eyes.coherence(images) + 0.01 and with_crops.seen == 2
    assert np.isnan(series(images, eyes, [box, None]).heroine)


def test_style_is_what_strokes_and_colours_share(eyes):
    soft = pictures(3)
    grey = [image.convert("L").convert("RGB") for image in pictures(3, 1)]
    assert style_likeness(soft, eyes) > style_likeness([soft[0], grey[1]], eyes)


def test_a_gain_is_paired():
    before, after = ([Series(h, 8, 0.5, 0.0) for h in figures] for figures in ((0.5, 0.6, 0.7), (0.6, 0.7, 0.8)))
    mean, low, high = gain(before, after)
    assert mean == pytest.approx(0.1) and low == pytest.approx(0.1) and high == pytest.approx(0.1)


def test_a_crop_stays_in_the_picture():
    assert crop_of(Image.new("RGB", (64, 64)), (50, 0, 14, 14)).size[0] <= 21
