"""Scripts: what people write and chat models answer is read alike; fixed parts; the brief; a line for what is wrong."""

import json

import pandas
import pytest

from kolors_lab.comic.brief import BriefConfig, brief, story_brief
from kolors_lab.comic.script import StoryScene, read_script, read_story, write_script
from kolors_lab.core.errors import DataError, SettingError
from kolors_lab.core.files import data_dir

HEADER = "scene,prompt,negative_prompt,seed\n"
TWO = [StoryScene("上课", "古风，少女，坐着", "模糊", 0), StoryScene("梦醒", "古风，(少女:1.2)，醒来", "模糊", 1)]

ANSWERS = {  # one story in the shapes in which chat models give it
    "table": """好的，以下是两个场景：

| 序号 | 场景描述 | 正向提示词 | 反向提示词 |
|:---:|---|---|---|
| 1 | **上课** | 古风，少女，坐着 | 模糊 |
| 2 | **梦醒** | `古风，(少女:1.2)，醒来` | 模糊 |

希望对你有帮助！""",
    "list of fields": """当然可以！

1. **上课**
   - **正向提示词**：古风，少女，坐着
   - **反向提示词**：模糊

2. **梦醒**
   - **正向提示词：** 古风，(少女:1.2)，醒来
   - **反向提示词：** 模糊

希望对你有帮助：祝好！""",
    "headings": """2个场景如下：

### 场景一：上课
提示词：古风，少女，坐着
反向提示词：模糊

---
### 场景二：梦醒
提示词：古风，(少女:1.2)，醒来
反向提示词：模糊""",
    "labels": """1、场景：上课
提示词：
古风，少女，坐着
负向提示词：模糊
2、场景：梦醒
提示词：
古风，(少女:1.2)，醒来
负向提示词：模糊""",
    "json": """```json
[{"scene": "上课", "prompt": "古风，少女，坐着", "negative_prompt": "模糊"},
 {"scene": "梦醒", "prompt": "古风，(少女:1.2)，醒来", "negative_prompt": "模糊"}]
```""",
    "json by number": """{"场景1": {"标题": "上课", "正向提示词": "古风，少女，坐着", "反向提示词": "模糊"},
"场景2": {"标题": "梦醒", "正向提示词": "古风，(少女:1.2)，醒来", "反向提示词": "模糊"}}""",
    "a story in an object": """{"story": {"title": "梦", "characters": [{"name": "少女"}], "反向提示词": "模糊",
"scenes": [{"scene": "上课", "prompt": "古风，少女，坐着"},
{"scene": "梦醒", "剧情": "她醒了", "prompt": "古风，(少女:1.2)，醒来"}]}}""",
    "a fence for each": """<think>
1. 先写上课
2. 再写梦醒
</think>
第1个场景：上课

**提示词：**

```text
古风，少女，坐着
```
第2个场景：梦醒

**提示词：**

```text
古风，(少女:1.2)，醒来
```

反向提示词（所有场景通用）：`模糊`""",
    "two tables of full-width bars": """｜场景｜剧情｜
｜---｜---｜
｜上课｜她睡着了｜

通用负面提示词：模糊

｜场景（标题）｜提示词（Prompt）｜
｜---｜---｜
｜上课｜古风，少女，坐着｜
｜梦醒｜古风，(少女:1.2)，醒来｜""",
    "short labels": "1. 场景：上课\n正面词：古风，少女，坐着\n负面：模糊\n\n"
    "2. 梦醒\n\n古风，(少女:1.2)，醒来\n\n负面：模糊",
    "tabs": "场景\t提示词\t反向提示词\n上课\t古风，少女，坐着\t模糊\n梦醒\t古风，(少女:1.2)，醒来\t模糊\n",
    "semicolons": "scene;prompt;negative_prompt;seed\n"
    "上课;古风，少女，坐着;模糊;\n梦醒;古风，(少女:1.2)，醒来;模糊;1\n",
}


@pytest.mark.parametrize("answer", ANSWERS.values(), ids=ANSWERS)
def test_what_chat_models_answer_is_read_alike(answer, tmp_path):
    assert read_story(answer, count=2) == TWO
    (tmp_path / "answer.md").write_text(answer, encoding="utf-8")
    assert read_story(tmp_path / "answer.md") == TWO


def test_a_list_of_captions_and_prompts():
    assert read_story("1. 上课：古风，少女，坐着\n2. 梦醒 - 古风，醒来\n") == [
        StoryScene("上课", "古风，少女，坐着", seed=0), StoryScene("梦醒", "古风，醒来", seed=1)
    ]  # fmt: skip


def test_a_data_frame_and_a_scenes_own_settings():
    frame = pandas.DataFrame({"scene": ["a", "b"], "prompt": ["x", "y"], "steps": [None, 12], "seed": [2**62 + 1, 3]})
    first, second = read_story(frame)
    assert (first.seed, first.settings()) == (2**62 + 1, {})
    assert second.settings() == {"steps": 12}


@pytest.mark.parametrize("encoding", ["utf-8", "utf-8-sig"])
def test_a_csv_with_quotes_and_empty_lines(tmp_path, encoding):
    file = tmp_path / "s.csv"
    file.write_text(HEADER + '开始,"少女, 站着",模糊,7\n\n结束,白马,,0\n', encoding=encoding)
    assert read_story(file) == [StoryScene("开始", "少女, 站着", "模糊", 7), StoryScene("结束", "白马", "", 0)]


@pytest.mark.parametrize("name", ["dream.csv", "idol.csv"])
def test_the_bundled_stories_word_for_word(name):
    from world.stories import story_rows

    scenes = read_story(data_dir() / "stories" / name, count=8)
    assert [(s.scene, s.prompt, s.negative_prompt, s.seed) for s in scenes] == story_rows()[name[:-4]]


FIXED = """画风：古风，水墨画
- **衣服**：绿色长裙

| scene | prompt | 衣服 |
|---|---|---|
| 上课 | {画风}，少女，{衣服} | |
| 入梦 | {画风}，少女，{衣服} | 白色长裙 |
| 王子 | {画风}，{王子\\|骑士}，银甲 | |
"""


def test_changing_the_dress_is_one_edit():
    def dresses(script):
        return [scene.prompt.split("，")[-1] for scene in script]

    assert dresses(read_story(FIXED)) == ["绿色长裙", "白色长裙", "银甲"]
    assert dresses(read_story(FIXED.replace("绿色", "红色"))) == ["红色长裙", "白色长裙", "银甲"]
    assert dresses(read_story(FIXED, {"衣服": "蓝色长裙"})) == ["蓝色长裙", "白色长裙", "银甲"]
    assert read_story(FIXED)[2].prompt == "古风，水墨画，{王子|骑士}，银甲"  # a choice is the prompt's own


def test_a_part_may_be_called_like_a_column():
    (scene,) = read_story("场景：书院\n反向提示词：模糊\n\n1. 上课：{场景}，少女\n")
    assert (scene.prompt, scene.negative_prompt) == ("书院，少女", "模糊")


def test_parts_in_json():
    scenes = [{"scene": "上课", "prompt": "{画风}，少女"}]
    for answer in ({"画风": "水墨画", "scenes": scenes}, {"fixed": {"画风": "水墨画"}, "scenes": scenes}):
        assert read_story(json.dumps(answer, ensure_ascii=False))[0].prompt == "水墨画，少女"


def test_a_script_written_and_read_again_is_the_same(tmp_path):
    script = read_script(FIXED)
    again = read_script(write_script(script, tmp_path / "s.csv"))
    assert (again, again.filled()) == (script, script.filled())
    through_excel = (tmp_path / "s.csv").read_text(encoding="utf-8-sig").replace("画\n", "画,,,,\n")
    assert read_script(through_excel) == script


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("hello\n", "no story found"),
        ("scene,promt,seed\n", "line 1: no column prompt"),
        (HEADER, "no scenes"),
        (HEADER + ",,,\n", "no scenes"),
        (HEADER + "a,b,c,1\na,b,c,x\n", "line 3: seed 'x'"),
        (HEADER + "a,b,c,-1\n", "line 2: seed"),
        (HEADER + "a,b,c,1.5\n", "line 2: seed"),
        (HEADER + "a,,c,1\n", "line 2: the prompt is missing"),
        (HEADER + "a,b,c\n", "line 2: 3 columns instead of 4"),
        (HEADER + "a,b,c,1,2\n", "line 2: 5 columns instead of 4"),
        ("scene,prompt,step\na,b,1\n", "line 2: a column is called step; is steps meant"),
        ("scene,prompt,steps\na,b,0\n", "line 2: steps = 0"),
        ("scene,prompt,sampler\na,b,eulr\n", "line 2: sampler_name = 'eulr'.*euler"),
        ("1. 古风，少女\n2. 古风，白马\n", "scene 1: the scene is missing"),
        ("1. 上课\n2. 梦醒：古风，醒来\n", "scene 1: the prompt is missing"),
        ("1. 上课：古风\n2. 睡：古风\n4. 醒：古风\n", "scene 3 is missing"),
        ("1. 上课：{画风}，少女\n2. 睡：水墨\n", "scene 1: nobody says what {画风} is"),
        ('好的：\n[{"scene": "上课", "prompt": "古', "not whole JSON"),
        ("[{“scene”: “上课”}]", "not whole JSON"),
    ],
)
def test_bad_stories_are_named_with_their_place(text, said):
    with pytest.raises(DataError, match=said):
        read_story(text + "\n")


def test_five_scenes_where_eight_are_wanted():
    answer = "\n".join(f"{n}. 第{n}格：古风，少女" for n in range(1, 6))
    with pytest.raises(DataError, match="5 scenes, 8 are wanted; missing: 6, 7, 8"):
        read_story(answer, count=8)
    with pytest.raises(DataError, match="no prompt holds"):
        read_story(answer, {"衣服": "红色长裙"})


def test_a_story_that_is_no_text(tmp_path):
    for nothing in ("", " \n"):
        with pytest.raises(DataError, match="story: it is empty"):
            read_story(nothing)
    (tmp_path / "s.csv").write_bytes("场景".encode("gbk"))
    for file in (tmp_path / "s.csv", tmp_path / "none.csv", tmp_path):
        with pytest.raises(DataError, match=file.name):
            read_story(file)


def test_the_brief_says_all_that_a_chat_model_needs(tmp_path):
    config = BriefConfig(scenes="上课；入梦", style="水墨画", answer="json", out=str(tmp_path / "brief.txt"))
    text = brief(config).read_text(encoding="utf-8")
    for words in (
        "文生图专家",
        "1、上课\n2、入梦",
        "画风：水墨画",
        "{女主}",
        "全身还是上半身",
        "例子",
        "JSON",
        "一共 2 个场景",
    ):
        assert words in text
    assert brief(BriefConfig()) == story_brief(BriefConfig())
    answer = '[{"scene": "上课", "prompt": "{画风}，{女主}，{衣服}，坐着"}]'
    assert read_story(answer, config.fixed)[0].prompt == "水墨画，一个黑色长发少女，绿色长裙，坐着"
    for wrong in ({"answer": "poem"}, {"scenes": " ；"}, {"clothes": " "}):
        with pytest.raises(SettingError, match=next(iter(wrong))):
            BriefConfig(**wrong)
