"""The checks of the exercises: what they say to wrong answers, and that the folded solutions satisfy them."""

import json
import math
import re
from dataclasses import replace
from itertools import pairwise
from pathlib import Path

import pytest
from helpers import make_lora, make_set
from PIL import Image
from test_workflow import kijai

from kolors_course.exercises import (
    check_consistency,
    check_lora,
    check_placed,
    check_post,
    check_script,
    check_seen,
    check_set,
    check_story,
    check_subject,
    check_tags,
    check_wired,
)
from kolors_course.formulas import (
    check_better,
    check_f1,
    check_guided,
    check_merged,
    check_sampler,
    check_shares,
    check_step,
    check_stopping,
    check_units,
)
from kolors_course.questions import QUESTIONS, check_prediction
from kolors_lab.comfy.reader import normalise
from kolors_lab.core.errors import SettingError
from kolors_lab.core.files import data_dir
from kolors_lab.core.images import open_image
from kolors_lab.dataset.folder import read_examples
from kolors_lab.lora.arithmetic import mix
from kolors_lab.lora.writing import write_lora
from kolors_lab.models.presets import get_preset
from kolors_lab.sampling.control import canny
from kolors_lab.scoring.clip import classify
from kolors_lab.scoring.likeness import Series
from kolors_lab.scoring.tagging import Tagged
from kolors_lab.training.config import TrainConfig
from kolors_lab.training.validation import Watcher

NOTEBOOKS = Path(__file__).parents[1] / "notebooks"


def cells(name: str, kind: str) -> list[str]:
    notebook = json.loads(next(NOTEBOOKS.glob(f"{name}*.ipynb")).read_text(encoding="utf-8"))
    return ["".join(cell["source"]) for cell in notebook["cells"] if cell["cell_type"] == kind]


def solution(name: str, word: str = "") -> str:
    """The code of the first folded solution of a notebook that has `word` in it."""
    found = re.findall(r"<details>.*?```python\n(.*?)```", "\n".join(cells(name, "markdown")), re.DOTALL)
    return next(code for code in found if word in code)


@pytest.mark.parametrize("question", QUESTIONS)
def test_every_wrong_answer_is_told_what_it_would_mean_and_the_folded_one_is_right(question):
    asked = QUESTIONS[question]
    assert repr(check_prediction(question, asked.right)) == "做对了！ Well done."
    for answer, meaning in asked.wrong.items():
        said = check_prediction(question, answer)
        assert meaning in said and "Not yet" in said
    assert all(answer in check_prediction(question, "?") for answer in (asked.right, *asked.wrong))
    [cell] = [code for code in cells(question[:2], "code") if f'check_prediction("{question}"' in code]
    variable = cell.splitlines()[-1].split(", ")[1].rstrip(")")
    assert solution(question[:2], f"{variable} = ").strip() == f'{variable} = "{asked.right}"'


def test_a_number_is_an_answer_without_its_quotes():
    question, asked = next((name, one) for name, one in QUESTIONS.items() if one.right.isdigit())
    assert repr(check_prediction(question, int(asked.right))) == "做对了！ Well done."


def test_a_question_that_the_course_does_not_have_is_an_error():
    with pytest.raises(SettingError, match="00 again"):
        check_prediction("99", "a")


def test_a_picture_is_judged_by_what_it_shows(tmp_path):
    preset = get_preset("tiny")
    horse = next(e for e in read_examples(data_dir() / "anime_raw") if "白马" in e.text)
    [seen] = classify([open_image(horse.image)], preset)
    assert "Well done" in check_seen(horse.image, preset, who=seen["who"], place=seen["place"])
    said = check_seen(horse.image, preset, who="nobody", place="nowhere")
    assert "not nobody" in said and "not nowhere" in said and "another seed" in said
    (tmp_path / "a.png").write_bytes(b"")
    assert "cannot be opened" in check_seen(tmp_path / "a.png", preset, who="horse", place="night")
    assert "look yourself" in check_seen(horse.image, replace(preset, classifier=None), who="horse", place="night")


def test_guidance_that_goes_the_wrong_way_is_told_so():
    names = {}
    exec(solution("09", "def guided"), names)
    assert "Well done" in check_guided(names["guided"])
    assert "wrong way" in check_guided(lambda negative, positive, cfg: negative + cfg * (negative - positive))
    assert "point of departure" in check_guided(lambda negative, positive, cfg: cfg * (positive - negative))
    assert "too far" in check_guided(lambda negative, positive, cfg: positive + cfg * (positive - negative))
    assert "no negative prompt acts" in check_guided(lambda negative, positive, cfg: cfg * positive)
    assert "ZeroDivisionError" in check_guided(lambda negative, positive, cfg: 1 / 0)


def test_pictures_of_one_training_are_one_unit():
    names = {}
    exec(solution("09", "def units"), names)
    assert "Well done" in check_units(names["units"])
    assert "too narrow" in check_units(lambda given: [one for values in given.values() for one in values])
    assert "3" in check_units(lambda given: [0.1])
    assert "mean" in check_units(lambda given: [sum(values) for values in given.values()])
    assert "a list of numbers" in check_units(lambda given: 0.1)


def test_f1_falls_with_either_precision_or_recall():
    names = {}
    exec(solution("12", "def my_f1"), names)
    assert "Well done" in check_f1(names["my_f1"])
    half = check_f1(lambda drawn, wanted: (drawn & wanted).sum() / drawn.sum())
    assert "one right pixel and nothing else: 1.00" in half and "lines all over" not in half.split("nothing else")[0]
    assert "nothing drawn" in half, "0 / 0 is no figure"
    assert "must return a number" in check_f1(lambda drawn, wanted: None)


def test_a_placed_picture_is_wanted_at_its_lines_and_in_its_place():
    image = open_image(data_dir() / "anime_raw/train/0.jpg")
    lines, preset, [seen] = canny(image), get_preset("tiny"), classify([image], get_preset("tiny"))
    assert "Well done" in check_placed(image, lines, preset, seen["place"], least=0.5)
    assert "change the prompt" in check_placed(image, lines, preset, "nowhere", least=0.5)
    assert "more strength" in check_placed(image, canny(image.rotate(90)), preset, seen["place"], least=0.5)
    unseen = check_placed(image, lines, replace(preset, classifier=None), "night", least=0.5)
    assert "look yourself" in unseen


def test_only_broken_faces_are_healed_and_only_whole_ones_harmed():
    names = {}
    exec(solution("13", "def shares"), names)
    assert "Well done" in check_shares(names["shares"])
    assert "divided by all 6" in check_shares(lambda before, after: (1 / 6, 1 / 6))
    assert "should be 0.25" in check_shares(lambda before, after: (0.5, 0.75))
    assert "two shares" in check_shares(lambda before, after: 0.5)


def test_consistency_is_chosen_by_likeness_among_those_that_cost_nothing():
    told = {
        0: Series(0.6, 8, 0.8, 0),
        0.5: Series(0.7, 8, 0.8, 0),
        0.8: Series(0.8, 8, 0.9, 0),
        1: Series(0.9, 8, 0.9, 1),
    }
    fits = {0: 0.40, 0.5: 0.40, 0.8: 0.38, 1: 0.40}
    assert "Well done" in check_consistency(told, fits, 0.5)
    assert "copy alarm" in check_consistency(told, fits, 1)
    assert "over 2 %" in check_consistency(told, fits, 0.8)
    assert "another is more alike" in check_consistency(told, fits, 0)
    assert "choose one of" in check_consistency(told, fits, None)


def test_a_merged_weight_lacks_neither_alpha_nor_rank_and_leaves_w_alone():
    names = {}
    exec(solution("06", "def merged"), names)
    assert "Well done" in check_merged(names["merged"])
    assert "alpha / rank is missing" in check_merged(lambda W, A, B, alpha: W + B @ A)
    assert "not divided by the rank" in check_merged(lambda W, A, B, alpha: W + alpha * B @ A)
    assert "W itself" in check_merged(lambda W, A, B, alpha: W.add_(alpha / 2 * B @ A))
    assert "the shape of W" in check_merged(lambda W, A, B, alpha: B @ A @ W)
    assert "W is missing" in check_merged(lambda W, A, B, alpha: alpha / len(A) * B @ A)
    assert "it is B @ A" in check_merged(lambda W, A, B, alpha: W + A @ B)


def test_a_training_step_that_is_wrong_is_told_where():
    names = {}
    exec(solution("06", "def step_loss"), names)
    assert "Well done" in check_step(names["step_loss"])
    [cell] = [code for code in cells("06", "code") if "def step_loss" in code]
    exec(cell, names)
    assert "not x_t" in check_step(names["step_loss"])

    def noisy(z, t, noise, abar):
        return abar[t].sqrt() * z + (1 - abar[t]).sqrt() * noise

    assert "roots are missing" in check_step(
        lambda unet, z, c, t, e, abar: (unet(abar[t] * z + (1 - abar[t]) * e, t, c) - e).square().mean()
    )
    assert "with the picture" in check_step(
        lambda unet, z, c, t, e, abar: (unet(noisy(z, t, e, abar), t, c) - z).square().mean()
    )
    assert "the noisy picture" in check_step(
        lambda unet, z, c, t, e, abar: (unet(x := noisy(z, t, e, abar), t, c) - x).square().mean()
    )
    assert "the sum" in check_step(lambda unet, z, c, t, e, abar: (unet(noisy(z, t, e, abar), t, c) - e).square().sum())
    assert "not squared" in check_step(
        lambda unet, z, c, t, e, abar: (unet(noisy(z, t, e, abar), t, c) - e).abs().mean()
    )
    assert "one number" in check_step(lambda unet, z, c, t, e, abar: unet(noisy(z, t, e, abar), t, c) - e)
    assert "never asked" in check_step(lambda unet, z, c, t, e, abar: e.square().mean())


def test_a_sampler_that_is_still_eulers_is_told_so():
    names = {"pairwise": pairwise}
    exec(solution("04", "def my_heun"), names)
    heun = names["my_heun"]
    assert "Well done" in check_sampler(heun, "heun")
    [cell] = [code for code in cells("04", "code") if "def my_heun" in code]
    exec(cell, names)
    assert "still Euler" in check_sampler(names["my_heun"], "heun")
    assert "0.1" in check_sampler(lambda *given: heun(*given) + 0.1, "heun")
    assert "NaN" in check_sampler(lambda denoiser, x, sigmas: x * math.nan, "heun")
    lines = solution("04", "def my_heun")
    for right, wrong, said in (
        ("(slope + (ahead", "(0 * slope + 2 * (ahead", "the second slope alone"),
        ("/ next_sigma) / 2", "/ sigma) / 2", "divided by the next"),
        ("        x = x + slope", "        x = (ahead if next_sigma > 0 else x) + slope", "the point ahead"),
    ):
        assert right in lines
        exec(lines.replace(right, wrong), names)
        assert said in check_sampler(names["my_heun"], "heun")


@pytest.fixture
def story(tmp_path):
    """Write a story, here with one change, and check it."""
    right = solution("01", "STORY").split('"""')[1]

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
    assert "different people" in check_story(tmp_path / "s.csv")


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


def tagged(*captions):
    return Tagged([(f"{n}.png", text) for n, text in enumerate(captions)])


def test_tags_of_which_styles_go_and_all_else_stays():
    drafted = tagged("一个少女，黑色头发，全身，水墨画", "一匹白马，山野，二次元")
    said = check_tags(drafted.pruned(["全身"]).triggered("画风"), drafted, "画风")
    for words in ("触发词应该是“二次元”", "还留着画风的词", "水墨画", "不写出来的内容会被记到触发词头上", "全身"):
        assert words in said
    assert "触发词不在最前面" in check_tags(drafted, drafted, "二次元")
    assert "Well done" in check_tags(drafted.pruned(["水墨画", "二次元"]).triggered("二次元"), drafted, "二次元")


def test_set_that_is_not_there(tmp_path):
    assert "does not exist" in check_set(tmp_path / "set", 128, 0.5, 2)


def test_solution_of_notebook_03_and_what_may_be_wrong_with_it():
    right = solution("03", "SCRIPT").split('"""')[1]
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
    exec(solution("10", "def better"), names)
    assert "Well done" in check_better(names["better"])
    said = check_better(lambda first, second: "second" if sum(second) > sum(first) else "first")
    assert "NaN" in said and "up and down" in said and "0.1 higher" not in said
    said = check_better(lambda first, second: "second" if sum(second) > sum(first) + 0.4 else "cannot tell")
    assert "a little higher" in said and "far apart" in said, "a threshold on the mean is no comparison in pairs"
    assert "ZeroDivisionError" in check_better(lambda first, second: 1 / 0)


def test_solution_of_notebook_07_stops_where_a_training_does():
    names = {}
    exec(solution("07", "def stop"), names)
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


def test_a_lora_that_is_wired_past_the_sampler_is_found_and_the_folded_line_mends_it():
    answer = normalise(kijai())
    assert "LoadKolorsLoRA" in check_wired(answer)
    answer["8"] = {
        "class_type": "LoadKolorsLoRA",
        "inputs": {"kolors_model": ["1", 0], "lora_path": "a.safetensors", "lora_alpha": 16.0},
    }
    assert "past the LoRA (node 8)" in check_wired(answer)
    exec(solution("05", "kolors_model"), {"answer": answer})
    assert repr(check_wired(answer)) == "做对了！ Well done."
    answer["4"]["class_type"] = "KSampler"
    assert "跑不起来" in check_wired(answer)


def test_a_post_names_team_model_trigger_ai_and_source():
    names = {}
    exec(solution("14", "POST"), names)
    post = names["POST"]
    assert "Well done" in check_post(post, team="星光", trigger="二次元")
    for part, said in (
        ("星光", "team's name"),
        ("https://modelscope.cn/models/", "no link to the model"),
        ("二次元", "trigger word"),
        ("AI", "AI-generated"),
        ("训练图", "where training pictures come from"),
    ):
        verdict = check_post(post.replace(part, ""), team="星光", trigger="二次元")
        assert said in verdict and verdict.count("\n") == 1


def test_captions_of_a_subject_before_and_after_the_folded_solution():
    own = ("黄毛", "红项圈")
    wrong = check_subject(
        ["aawxbc小狗，黄毛，在沙发上", "小狗在草地上", "aawxbc，在雪地里"], TrainConfig(trigger_word="aawxbc"), own
    )
    assert all(
        part in wrong for part in ("prior preservation is off", "subject's own: 黄毛", "“小狗在草地上”：没有“aawxbc")
    )
    names = {"TrainConfig": TrainConfig}
    exec(solution("08", "CAPTIONS"), names)
    assert "Well done" in check_subject(names["CAPTIONS"], names["mine"], own)
    assert "没说在哪里" in check_subject([*names["CAPTIONS"], "aawxbc小狗"], names["mine"], own)
    no_prior = TrainConfig(trigger_word="aawxbc", class_word="小狗", prior_weight=0)
    assert "prior preservation is off" in check_subject(names["CAPTIONS"], no_prior, own)
