"""The checks of the exercises: what they say to wrong answers, and that the folded solutions satisfy them."""

import json
import math
import re
from pathlib import Path

import pytest
from helpers import make_lora, make_set
from PIL import Image
from test_workflow import kijai

from kolors_course.exercises import (
    check_better,
    check_lora,
    check_negative,
    check_picture,
    check_script,
    check_set,
    check_stopping,
    check_story,
    check_subject,
    check_workflow,
)  # fmt: skip
from kolors_lab.comfy.reader import normalise
from kolors_lab.core.files import data_dir
from kolors_lab.lora.arithmetic import mix
from kolors_lab.lora.formats import write_lora
from kolors_lab.pictures.files import save_picture
from kolors_lab.training.config import TrainConfig
from kolors_lab.training.validation import Watcher

NOTEBOOKS = Path(__file__).parents[1] / "notebooks"


def solution(name: str) -> str:
    """The code of the first folded solution of a notebook."""
    notebook = json.loads(next(NOTEBOOKS.glob(f"{name}*.ipynb")).read_text(encoding="utf-8"))
    text = "".join(line for cell in notebook["cells"] if cell["cell_type"] == "markdown" for line in cell["source"])
    return re.search(r"<details>.*?```python\n(.*?)```", text, re.DOTALL)[1]


def test_picture_that_is_right(tmp_path):
    file = save_picture(Image.new("RGB", (8, 8)), tmp_path / "a.png", {"prompt": "夜空下的白马", "seed": 7})
    assert repr(check_picture(file, ("白马", "夜空"), 7)) == "做对了！ Well done."


def test_picture_with_two_faults(tmp_path):
    file = save_picture(Image.new("RGB", (8, 8)), tmp_path / "a.png", {"prompt": "白马", "seed": 0})
    said = check_picture(file, ("白马", "夜空"), 7)
    assert "1. 提示词里没有“夜空”" in said
    assert "2. 种子是 0，要用 7" in said


def test_picture_that_is_not_there(tmp_path):
    assert "does not exist" in check_picture(tmp_path / "a.png", ("白马",), 7)


def test_solution_of_notebook_00_asks_for_what_the_check_wants(tmp_path):
    from kolors_lab.models.presets import get_preset
    from kolors_lab.sampling.pipeline import GenerateConfig, picture_settings

    names = {"GenerateConfig": GenerateConfig, "PRESET": "tiny", "OUT": tmp_path}
    exec(solution("00"), names)
    settings = picture_settings(names["attempt"], get_preset("tiny"))
    file = save_picture(Image.new("RGB", (8, 8)), names["attempt"].out, settings)
    assert "Well done" in check_picture(file, ("白马", "夜空"), 7)


def test_a_wrong_lora_is_called_in_the_negative_prompt_only(tmp_path):
    def said(**settings):
        file = save_picture(Image.new("RGB", (8, 8)), tmp_path / "a.png", {"prompt": "白马", "seed": 3} | settings)
        return check_negative(file, "wrong", ("模糊",), 3)

    assert "Well done" in said(lora="wrong.safetensors:0", negative_prompt="wrong，模糊")
    assert "1. 没有挂 LoRA" in said(negative_prompt="wrong，模糊")
    faults = said(lora="wrong.safetensors:0", prompt="wrong，白马", negative_prompt="模糊", seed=4)
    assert all(words in faults for words in ("1. 提示词里有“wrong”", "2. 反向提示词里没有“wrong”", "3. 种子是 4"))
    assert "does not exist" in check_negative(tmp_path / "b.png", "wrong", (), 3)


def test_solution_of_notebook_09_asks_for_what_the_check_wants(tmp_path):
    from kolors_lab.models.presets import get_preset
    from kolors_lab.sampling.pipeline import GenerateConfig, picture_settings

    (tmp_path / "lora.safetensors").touch()
    names = {"GenerateConfig": GenerateConfig, "PRESET": "tiny", "OUT": tmp_path, "both": tmp_path / "lora.safetensors"}
    exec(solution("09"), names)
    settings = picture_settings(names["attempt"], get_preset("tiny"))
    file = save_picture(Image.new("RGB", (8, 8)), names["attempt"].out, settings)
    assert "Well done" in check_negative(file, "wrong", ("模糊", "变形"), 3)


@pytest.fixture
def story(tmp_path):
    """Write a story, here with one change, and check it."""
    right = solution("01").split('"""')[1]

    def check(old: str = "", new: str = "") -> str:
        assert old in right
        (tmp_path / "story.csv").write_text(right.replace(old, new, 1), encoding="utf-8")
        return check_story(tmp_path / "story.csv")

    return check


def test_solution_of_notebook_01_is_a_story(story):
    assert "Well done" in story()


@pytest.mark.parametrize(
    ("old", "new", "said"),
    [
        ("困了,", ",", "scene 2 has no caption"),
        ("困了,二次元，", "困了,", "scene 2 lacks the trigger word 二次元"),
        ("遇见白马,二次元，一匹白马，站在桃花小路上，全身,模糊，低对比度,3\n", "", "7 scenes, at least 8"),
        ("模糊，低对比度,4", ",4", "scene 5 has no negative prompt"),
        ("scene,prompt", "scene,words", "cannot be read"),
    ],
)
def test_story_with_a_fault(story, old, new, said):
    assert said in story(old, new)
    assert story(old, new).count("\n") == 1


def test_story_without_a_hero(tmp_path):
    rows = [f"{n},二次元，少女{n}，舞台{n},模糊,{n}" for n in range(8)]
    (tmp_path / "s.csv").write_text("\n".join(["scene,prompt,negative_prompt,seed", *rows]), encoding="utf-8")
    assert "hero" in check_story(tmp_path / "s.csv")


def test_the_bundled_story_in_one_style_passes_but_for_the_word_of_another():
    assert "Well done" not in check_story(data_dir() / "stories" / "dream.csv")


def test_set_that_is_right(tmp_path):
    folder = make_set(tmp_path / "set", count=20)
    assert repr(check_set(folder, 128, 0.5, 2)) == "做对了！ Well done."


def test_set_with_every_fault(tmp_path):
    folder = make_set(tmp_path / "set", count=5, side=160)
    pictures = folder / "train"
    Image.open(pictures / "0.png").save(pictures / "1.png")
    Image.new("RGB", (160, 160), "white").save(pictures / "2.png")
    Image.open(pictures / "3.png").resize((300, 150)).save(pictures / "3.png")
    said = check_set(folder, 155, 0.5, 1.5, trigger="水墨")
    for words in (
        "1 张有一边不到 155 像素 have a side under 155 px: 3.png",
        "1 张宽高比不在 0.5 到 1.5 之间",
        "1 张是糊的 are blurred: 2.png",
        "1 张和前面的某一张几乎一样 are nearly the same as an earlier one: 1.png",
        "5 张的描述里没有“水墨”",
        "只有 5 张，至少要 20 张",
    ):
        assert words in said


def test_set_that_is_not_there(tmp_path):
    assert "does not exist" in check_set(tmp_path / "set", 128, 0.5, 2)


def test_solution_of_notebook_03_and_what_may_be_wrong_with_it():
    right = solution("03").split('"""')[1]
    assert "Well done" in check_script(right)
    for old, new, said in (
        ("全身", "", "第 1 格没写景别"),
        ("{衣服}", "白色长裙", "又写了一遍"),
        ("8、", "也许：", "也许"),
        ("{画风}", "{风格}", "cannot be read"),
    ):
        assert old in right
        assert said in check_script(right.replace(old, new, 1))


def test_solution_of_notebook_10_tells_only_what_the_pairs_show():
    from kolors_lab.core.stats import interval

    names = {"interval": interval}
    exec(solution("10"), names)
    assert "Well done" in check_better(names["better"])
    said = check_better(lambda first, second: "second" if sum(second) > sum(first) else "first")
    assert "NaN" in said and "up and down" in said and "0.1 higher" not in said
    assert "ZeroDivisionError" in check_better(lambda first, second: 1 / 0)


def test_solution_of_notebook_07_stops_where_a_training_does():
    names = {}
    exec(solution("07"), names)
    assert repr(check_stopping(names["stop"])) == "做对了！ Well done."
    losses = [0.3, math.nan, 0.2, 0.25, 0.2, 0.19, 0.2, 0.21, 0.22, 0.1]
    for patience in (1, 2, 3, 4):
        watcher, look = Watcher(loss=None), 0
        while look < len(losses) and not (look and watcher.waited >= patience):
            look += 1
            watcher.judge(losses[look - 1], look, [])
        assert names["stop"](losses, patience) == (look, watcher.best_step)
    assert "should be (6, 3)" in check_stopping(lambda losses, patience: (len(losses), len(losses)))


def test_a_lora_of_the_wrong_format_rank_or_effect_is_told_what_is_missing(pipe, tmp_path):
    one, other = (make_lora(pipe.unet, ("to_q",), 4.0, rank=4, seed=seed) for seed in (1, 2))
    files = [write_lora(lora, tmp_path / f"{n}.safetensors") for n, lora in enumerate((one, other))]
    parts = [(files[0], 1.5), (files[1], -0.5)]
    wrong = write_lora(mix([(one, 1.0), (other, 0.5)]), tmp_path / "wrong.safetensors")
    said = str(check_lora(wrong, parts, rank=4))
    assert all(word in said for word in ("format of diffusers", "rank is 8", "weights and signs"))
    right = write_lora(mix([(one, 1.5), (other, -0.5)], rank=4), tmp_path / "right.safetensors", "comfyui")
    assert "Well done" in check_lora(right, parts, rank=4)
    assert "cannot be read" in check_lora(tmp_path / "gone.safetensors", parts, rank=4)


def test_workflow_before_and_after_the_folded_solution():
    answer = normalise(kijai())
    verdict = check_workflow(answer, pictures=3, steps=12, seed=8)
    assert all(part in verdict for part in ("1. 要有 3 条", "2. steps 是 25", "3. seed 是 7"))
    exec(solution("05"), {"answer": answer})
    assert repr(check_workflow(answer, pictures=3, steps=12, seed=7)) == "做对了！ Well done."
    answer["4"]["class_type"] = "KSampler"
    assert "跑不起来" in check_workflow(answer, pictures=3, steps=12, seed=7)


def test_captions_of_a_subject_before_and_after_the_folded_solution():
    own = ("黄毛", "红项圈")
    wrong = check_subject(
        ["zwx小狗，黄毛，在沙发上", "小狗在草地上", "zwx，在雪地里"], TrainConfig(trigger_word="zwx"), own
    )
    assert all(
        part in wrong for part in ("prior preservation is off", "subject's own: 黄毛", "“小狗在草地上”里没有“zwx”")
    )
    names = {"TrainConfig": TrainConfig}
    exec(solution("08"), names)
    assert "Well done" in check_subject(names["CAPTIONS"], names["mine"], own)
    assert "没说在哪里" in check_subject([*names["CAPTIONS"], "zwx小狗"], names["mine"], own)
    no_prior = TrainConfig(trigger_word="zwx", class_word="小狗", prior_weight=0)
    assert "prior preservation is off" in check_subject(names["CAPTIONS"], no_prior, own)
