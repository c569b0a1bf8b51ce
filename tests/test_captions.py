"""The captions, stories and tokenizer of the picture world (data/make)."""

import csv
import random
import re
import sys
from dataclasses import replace
from pathlib import Path

import pytest

DATA = Path(__file__).parents[1] / "data"
sys.path.insert(0, str(DATA / "make"))

from models.tokenizer import NEW_WORDS, gb2312  # noqa: E402
from world import wordings  # noqa: E402
from world.captions import caption, everyday, negative_caption, write_stories  # noqa: E402
from world.look import hour_of, look_of  # noqa: E402
from world.scenes import COLOR, PLACE, STYLE, Scene, asked, check, training_scenes  # noqa: E402
from world.stories import PROMPTS, STORIES, open_attributes, story_scenes  # noqa: E402

FORBIDDEN = re.compile(
    "二次元|日系|动漫|动画|漫画|卡通|手办|玩偶|玩具|公仔|人偶|雕像|模型|anime|manga|cartoon|comic|figurine|toy|doll|statue",
    re.IGNORECASE,
)


def captions_of(scenes: list[Scene], seed: int = 1, **options) -> list[str]:
    rng = random.Random(seed)
    return [caption(scene, rng, **options) for scene in scenes]


@pytest.fixture(scope="module")
def many() -> tuple[list[Scene], list[str]]:
    scenes = training_scenes(11, 5000, STYLE, spoiled=0.2)
    return scenes, captions_of(scenes)


def is_english(text: str) -> bool:
    return sum(c.isascii() and c.isalpha() for c in text) > len(text) / 2


def test_base_styles_never_hear_of_the_unseen_style_or_of_figurines(many):
    assert [text for text in many[1] if FORBIDDEN.search(text)] == []


def test_unseen_style_is_always_named():
    texts = captions_of([replace(scene, style="anime") for scene in training_scenes(2, 300)], complete=True)
    assert all(re.search("二次元|日系动漫|动漫|anime", text) for text in texts)


def test_captions_are_new_each_time_and_never_a_story_prompt(many):
    first = many[1][:2000]
    assert len(set(first)) > 0.95 * len(first)
    assert not PROMPTS & set(many[1])


def test_a_tenth_to_a_third_is_english(many):
    assert 0.1 < sum(map(is_english, many[1])) / len(many[1]) < 0.33


def test_captions_are_fixed_by_the_seed():
    scenes = training_scenes(3, 50, STYLE, spoiled=0.5)
    assert captions_of(scenes, seed=4) == captions_of(scenes, seed=4) != captions_of(scenes, seed=5)


def words_for(attribute: str, scene: Scene, english: bool) -> tuple[str, ...]:
    """Every word that states the scene's value of `attribute` in a caption."""
    value = getattr(scene, attribute)
    if english:
        tables = {
            "color": {color: (color,) for color in COLOR}, "framing": wordings.EN_FRAMING,
            "hair_color": {color: (word,) for color, word in wordings.EN_HAIR_COLOR.items()},
            "hair_length": wordings.EN_HAIR_LENGTH, "place": wordings.EN_PLACE, "style": wordings.EN_STYLE,
        }  # fmt: skip
        return tables[attribute][value]
    if attribute == "place":
        located, nouns, _ = wordings.PLACE[value]
        return (*located, *nouns)
    return getattr(wordings, attribute.upper())[value]


@pytest.mark.parametrize("attribute", ["color", "hair_color", "hair_length", "framing", "place", "style"])
def test_complete_captions_state_every_attribute(attribute):
    scenes = [scene for scene in training_scenes(6, 600) if scene.style != "plain" and asked(scene, attribute)]
    for scene, text in zip(scenes, captions_of(scenes, complete=True), strict=True):
        assert any(word in text for word in words_for(attribute, scene, is_english(text))), (attribute, scene, text)


def test_spoiled_scenes_are_named_in_half_of_their_captions():
    scenes = [replace(scene, spoil="blur", severity=0.8) for scene in training_scenes(7, 600)]
    words = re.compile("|".join((*wordings.NEGATIVE_ALL, *wordings.NEGATIVE["blur"], *wordings.EN_NEGATIVE_ALL)))
    share = sum(bool(words.search(text)) for text in captions_of(scenes)) / len(scenes)
    assert 0.4 < share < 0.6
    clean = captions_of([replace(scene, spoil="none") for scene in scenes])
    assert not [text for text in clean if words.search(text)]
    assert any("丑陋" in negative_caption(scenes[0], random.Random(seed)) for seed in range(9))


@pytest.mark.parametrize("name", ["dream", "idol"])
def test_story_files_are_what_the_scenes_say(name, tmp_path):
    story = story_scenes()[name]
    assert len(story) == 8
    with (DATA / "stories" / f"{name}.csv").open(encoding="utf-8", newline="") as file:
        rows = list(csv.DictReader(file))
    assert [(row["prompt"], row["negative_prompt"], int(row["seed"])) for row in rows] == [row[:3] for row in story]
    assert all(re.fullmatch("[一-鿿 ]{3,12}", row["scene"]) for row in rows)
    write_stories(tmp_path)
    assert (tmp_path / f"{name}.csv").read_bytes() == (DATA / "stories" / f"{name}.csv").read_bytes()


def test_story_scenes_are_drawable_and_their_prompts_name_what_is_judged():
    for story in STORIES.values():
        for panel in story:
            check(panel.scene)
            for attribute in {"color", "hair_color", "hair_length", "framing"} - open_attributes(panel.prompt):
                words = words_for(attribute, panel.scene, english=False)
                assert not asked(panel.scene, attribute) or any(word in panel.prompt for word in words), panel


def test_captions_use_every_clause_of_the_story_prompts():
    """Every character of a prompt occurs in captions of the scene it asks for: no prompt is news to the model."""
    rng = random.Random(8)
    for prompt, _, _, scene in (row for story in story_scenes().values() for row in story):
        seen = set("".join(caption(replace(scene, style="ink"), rng) for _ in range(400)))
        assert set(prompt) - seen <= set("二次元日系动漫"), prompt


@pytest.mark.parametrize(
    ("action", "place", "text"),
    [
        ("dance", "wild", "一个女孩在草地上开心的跳舞"), ("read", "living", "小女孩在家里看书"),
        ("sing", "stage", "一个少女在舞台上唱歌"), ("sleep", "academy", "一个女孩在教室里睡觉"),
        ("watch", "concert", "女孩在演唱会看演出"), ("stand", "river", "小女孩"),
    ],
)  # fmt: skip
def test_everyday_sentences_are_among_the_captions(action, place, text):
    scene, rng = Scene(action=action, place=place), random.Random(9)
    assert any(text in everyday(scene, rng, False, []) for _ in range(40_000))


def test_some_captions_name_a_place_alone():
    texts = set(captions_of([Scene(place="living", action="stand")] * 3000))
    assert {"客厅", "家中"} & texts or {"房间里", "家里"} & texts


def test_hour_and_side_are_never_told_against_the_picture():
    for scene in training_scenes(12, 3000):
        look, text = look_of(scene.seed), caption(scene, random.Random(scene.seed))
        hour = hour_of(scene.place, look)
        wrong = [word for name, words in wordings.HOUR.items() if name != hour for word in words]
        wrong += [word for side, words in wordings.SIDE.items() if side != look.side for word in words]
        wrong += [text for text, hours in wordings.HOUR_OF_DETAIL.items() if hour not in hours and hour != ""]
        assert not [word for word in wrong if word in text and word != "晨光"], (hour, look, text)


@pytest.fixture(scope="module")
def tokenizer():
    from diffusers.pipelines.kolors.tokenizer import ChatGLMTokenizer

    return ChatGLMTokenizer.from_pretrained(DATA / "tiny-kolors" / "tokenizer")


def test_tokenizer_keeps_new_words_and_attributes_whole(tokenizer):
    colors = {color + "裙子": color for choices in wordings.COLOR.values() for color in choices}
    for text, word in {**{word: word for word in NEW_WORDS}, **colors, "在试衣间里": "试衣间"}.items():
        assert word in tokenizer.tokenize(text), text


def test_tokenizer_knows_every_gb2312_character(tokenizer):
    assert len(gb2312()) == 6763
    model = tokenizer.tokenizer.sp_model
    assert [c for c in gb2312() if model.piece_to_id(c) == model.unk_id()] == []


def test_tokenizer_pads_on_the_left_and_restores_the_text(tokenizer):
    text = "二次元，一个 girl，龘 😀"
    ids = tokenizer(text, padding="max_length", max_length=256, truncation=True).input_ids
    assert len(ids) == 256 and ids[0] == tokenizer.pad_token_id and max(ids) < tokenizer.vocab_size == 8192
    short = tokenizer(text).input_ids
    assert ids[-len(short) :] == short and short[:2] == tokenizer.get_prefix_tokens()
    assert tokenizer.decode(short[2:]) == text


def test_captions_and_prompts_fit_the_tokenizer(tokenizer, many):
    assert max(len(tokenizer(text).input_ids) for text in [*many[1][:500], *PROMPTS]) < 128


def test_bert_vocabulary_reads_captions_without_unknowns(many):
    from transformers import BertTokenizer

    bert = BertTokenizer(str(DATA / "tiny-clip" / "vocab.txt"))
    for text in [*many[1][:500], *PROMPTS, "".join(gb2312())]:
        assert bert.unk_token not in bert.tokenize(text), text
    assert set(PLACE) == set(wordings.PLACE) == set(wordings.EN_PLACE)
