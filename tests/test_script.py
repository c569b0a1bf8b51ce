"""Scripts: what people write and chat models answer is read alike; fixed parts; the brief; a line for what is wrong."""

import contextlib
import json
from pathlib import Path

import pandas
import pytest

from kolors_lab.cli import main
from kolors_lab.comic.brief import BriefConfig, brief, story_brief
from kolors_lab.comic.script import StoryScene, read_script, read_story, write_script
from kolors_lab.core.errors import DataError, KolorsLabWarning, SettingError
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
    "yaml": """好的：

```yaml
- scene: 上课
  prompt: 古风，少女，坐着
  negative_prompt: 模糊
- scene: 梦醒
  prompt: "古风，(少女:1.2)，醒来"
  negative_prompt: 模糊
```

希望对你有帮助！""",
    "yaml in an object": """title: 梦
反向提示词: 模糊
scenes:
  - 标题: 上课

    提示词: >-
      古风，少女，坐着
  - 标题: 梦醒
    提示词: 古风，(少女:1.2)，醒来
""",
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


@pytest.mark.parametrize(
    ("prompt", "said"),
    [
        ("风格: 水彩", "line 2: .*not whole YAML.*quotes"),
        ("a\n  prompt: b", "stands twice"),
        ("*a", "not whole YAML"),
        ("&a [x]\n  seed: *a", "refers to itself"),
    ],
)
def test_yaml_that_is_no_story(prompt, said):
    with pytest.raises(DataError, match=said):
        read_story(f"故事\n- scene: 上课\n  prompt: {prompt}\n")


def test_bullets_with_a_colon_are_no_yaml():
    story = "1. 上课\n- prompt: 古风，少女，坐着\n- negative_prompt: 模糊\n2. 梦醒\n- prompt: 古风，(少女:1.2)，醒来\n"
    assert read_story(story + "- negative_prompt: 模糊\n") == TWO


def test_lists_of_two_keys_are_yaml_only_where_they_are_the_scenes():
    people = "- 角色: 少女\n  服装: **绿色**\n- 角色: 王子\n  服装: *白色*\n\n"
    inner = "1. 上课\n  - prompt: 古风，少女，坐着\n    negative_prompt: 模糊\n2. 梦醒\n"
    inner += "  - prompt: 古风，(少女:1.2)，醒来\n    negative_prompt: 模糊\n"
    assert read_story(people + inner) == TWO


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
        ("1、上课：古风\n2、睡：古风\n3，许愿：古风，烟花\n", "line 3: a comma follows its number.*begin it with 3\\."),
        ("1、上课：古风\n2，睡：古风\n3、醒：古风\n", "line 2: a comma follows its number"),
        ("1. 上课：{画风}，少女\n2. 睡：水墨\n", "scene 1: nobody says what {画风} is"),
        ('好的：\n[{"scene": "上课", "prompt": "古', "not whole JSON"),
        ("[{“scene”: “上课”}]", "not whole JSON"),
    ],
)
def test_bad_stories_are_named_with_their_place(text, said):
    with pytest.raises(DataError, match=said):
        read_story(text + "\n")


def test_a_bad_story_is_named_in_chinese_as_chinese_is_written(tmp_path, monkeypatch):
    monkeypatch.setenv("KOLORS_LAB_LANG", "zh")
    (tmp_path / "mine.csv").write_text("scene,prompt,negative_prompt,seed\n起,少女,,-1\n", encoding="utf-8")
    said = "mine.csv：第 2 行有误：seed = -1：应为 0 到 18446744073709551615 的整数"
    with pytest.raises(DataError, match=said):
        read_story(tmp_path / "mine.csv")
    with pytest.raises(DataError, match="缺 2、3"):
        read_story("1. 起：少女\n", count=3)
    with pytest.raises(DataError, match="改成中文逗号“，”，或用英文双引号"):
        read_story("scene,prompt,negative_prompt\n起,少女,红裙,模糊\n")


def test_five_scenes_where_eight_are_wanted():
    answer = "\n".join(f"{n}. 第{n}格：古风，少女" for n in range(1, 6))
    with pytest.raises(DataError, match="5 scenes, 8 are wanted; missing: 6, 7, 8"):
        read_story(answer, count=8)
    with pytest.raises(DataError, match="no prompt holds"):
        read_story(answer, {"衣服": "红色长裙"})
    with pytest.raises(DataError, match=r"; mend that \(or, if a chat model wrote this, ask it to\)$"):
        read_story("scene,prompt\n上课,少女在教室\n", count=8)
    with pytest.raises(DataError, match=r"scene 2 is missing; add it \(or, if a chat model wrote this, ask it\)$"):
        read_story(answer.replace("2. 第2格：古风，少女\n", ""))


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


# As people and chat models write them ---------------------------------------------------------------------------------

CASES = Path(__file__).parent / "cases" / "story"
CLASS, ROAD = ("上课", "二次元，少女在教室"), ("入梦", "二次元，少女在路旁")
IN_THE_WILD = {  # all of them tell the same two scenes
    "labels with brackets": "1. 上课\n**提示词（Prompt）**：少女，教室\n2. 入梦\n**Prompt (提示词)**: 少女，路旁",
    "headings without a colon": "## 1. 上课\n#### 提示词\n少女，\n教室\n## 2. 入梦\n#### 提示词\n少女，路旁",
    "acts": "第一幕：上课\n提示词：少女，教室\n\n第二幕：入梦\n提示词：少女，路旁",
    "shots in quotes": "**镜头一｜上课**\n> 少女，\n> 教室\n\n**镜头二｜入梦**\n> 少女，路旁",
    "English": "### Scene 1: 上课\n- **Prompt:** 少女，教室\n\n### Scene 2: 入梦\n- **Prompt:** 少女，路旁\n\nEnjoy!",
    "full-width figures": "１．上课：少女，教室\n２．入梦：少女，路旁",
    "circled figures": "①上课：少女，教室\n②入梦：少女，路旁",
    "keycaps": "1️⃣ **上课**\n提示词：少女，教室\n2️⃣ **入梦**\n提示词：少女，路旁",
    "a title in brackets": "场景1（上课）：少女，教室\n场景2（入梦）：少女，路旁",
    "numbered fields": "场景1：上课\n1. 提示词：少女，教室\n场景2：入梦\n1. 提示词：少女，路旁",
    "chapters": "# 第一幕：校园\n## 场景1：上课\n提示词：少女，教室\n## 场景2：入梦\n提示词：少女，路旁",
    "a list before": "人物：\n1. 女主\n2. 王子\n\n1. 上课：少女，教室\n2. 入梦：少女，路旁",
    "notes behind": "1. 上课：少女，教室\n2. 入梦：少女，路旁\n\n## 建议\n1. 步数30\n2. 可以调整",
    "tables of one scene": "### 场景1：上课\n| 项目 | 内容 |\n|---|---|\n| 提示词 | 少女，教室 |\n\n"
    "### 场景2：入梦\n| 项目 | 内容 |\n|---|---|\n| 提示词 | 少女，路旁 |",
    "two tables": "## 一\n| 场景 | 提示词 |\n|---|---|\n| 上课 | 少女，教室 |\n\n"
    "## 二\n| 场景 | 提示词 |\n|---|---|\n| 入梦 | 少女，路旁 |",
    "numbers for scenes": "| 场景 | 画面描述 | 提示词 |\n|---|---|---|\n| 1 | 上课 | 少女，教室 |\n"
    "| 2 | 入梦 | 少女，路旁 |",
    "thoughts without a beginning": "先写上课\n1. 上课\n</think>\n1. 上课：少女，教室\n2. 入梦：少女，路旁",
    "JSON of JSON": '{"story": {"acts": [{"act": 1, "scenes": [{"id": 1, "title": "上课", "prompt": '
    '{"positive": "少女，教室", "negative": ""}}]}, {"scenes": [{"id": 2, "title": "入梦", '
    '"prompt": {"positive": ["少女", "路旁"]}}]}]}}',
    "JSON by number": '{"1": {"title": "上课", "prompt": "少女，教室"}, '
    '"2": {"title": "入梦", "prompt": "少女，路旁"}}',
    "JSON lines": '{"scene": "上课", "prompt": "少女，教室"}\n{"scene": "入梦", "prompt": "少女，路旁"}',
    "JSON columns": '{"scenes": ["上课", "入梦"], "prompts": ["少女，教室", "少女，路旁"]}',
    "JSON by caption": '{"prompts": {"上课": "少女，教室", "入梦": "少女，路旁"}}',
    "one of two": "**场景 1/2：上课**\n提示词：少女，教室\nScene 2 of 2: 入梦\nPrompt: 少女，路旁",
    "equals signs": "场景1：上课\n提示词=少女，教室\n场景2：入梦\nprompt = 少女，路旁",
    "as Taiwan writes": "場景1：上课\n提示詞：少女，教室\n場景2：入梦\n提示詞：少女，路旁",
    "head and prompt in a line": "**第1幕：上课** 提示词：少女，教室\n**第2幕：入梦** 提示词：少女，路旁",
    "settings in a line": "1. 上课\n提示词：少女，教室\n参数：Steps: 20, CFG: 5, Seed: 42\n2. 入梦\n提示词：少女，路旁",
    "prompts as bullets": "1. 上课\n提示词：\n- 少女\n- 教室\n2. 入梦\n提示词：\n- 少女，\n- 路旁",
    "emphasis within": "1. 上课：**少女**，*教室*\n2. 入梦：**少女**，路旁",
    "chapters by number": "第一章 上课\n提示词：少女，教室\n第二章 入梦\n提示词：少女，路旁",
    "labels in brackets": "【第一格】上课\n【提示词】少女，教室\n\n【第二格】入梦\n「提示词」少女，路旁",
    "labels before a dash": "第①幕 上课\n提示词 - 少女，教室\n\n第②幕 入梦\nPrompt——少女，路旁",
    "labels before an arrow": "场景1 | 上课\n提示词 → 少女，教室\n场景2 | 入梦\n提示词 | 少女，路旁",
    "labels before a space": "分镜（1）：上课\n提示词 少女，教室\n分镜（2）：入梦\n提示词 少女，路旁",
    "captions alone": "标题：上课\n画面：坐着\n提示词：少女，教室\n---\n标题：入梦\n画面：站着\n提示词：少女，路旁",
    "headings alone": "# 梦\n\n## 上课\n提示词：少女，教室\n\n## 入梦\n提示词：少女，路旁\n\n## 建议\n多试几次",
    "a remark in the last line": "1. 上课：少女，教室\n2. 入梦：少女，路旁\n以上就是全部提示词，可以直接复制。",
    "a thing left out": "1. 上课：少女，教室\n2. 入梦：少女，路旁\n（第3个场景与第1个类似，略）",
    "an aside with commas": "1. 上课\n提示词：少女，教室\n说明（供参考，可不写）：困\n2. 入梦\n提示词：少女，路旁",
    "where it was found": "1. 上课：少女，教室[1]\n2. 入梦：少女，路旁[^2^]",
    "another word for prompts": "1. 上课\n正面描述词：少女，教室\n2. 入梦\n绘画指令：少女，路旁",
    "a table on its side": "| | 场景1 | 场景2 |\n|---|---|---|\n| 标题 | 上课 | 入梦 |\n"
    "| 提示词 | 少女，教室 | 少女，路旁 |",
    "a table with gaps": "| 场景 | 提示词 |\n|——|——|\n| 上课 | 少女， |\n| | 教室 |\n\n| 入梦 | 少女，路旁 |",
    "CSV with spaces and a word behind": 'scene, prompt, seed\n上课, "少女，教室", 1\n'
    '入梦, "少女，路旁", 2\n\n祝创作愉快！',
    "Python": "scenes = [\n    {'scene': '上课', 'prompt': '少女，教室'},  # 第一格\n"
    "    {'scene': '入梦', 'prompt': '少女，路旁'},\n]",
    "JSON with a comma too many": '[{"scene_title": "上课", "prompt": "少女，教室",},\n'
    '{"scene": "入梦", "prompt": "少女，路旁"},]',
    "JSON with a line break": '[{"scene": "上课", "prompt": "少女，\n教室"}, '
    '{"scene": "入梦", "prompt": "少女，路旁"}]',
    "shots": "分镜头1：上课\n提示词：少女，教室\n分镜头2：入梦\n提示词：少女，路旁",
}


@pytest.mark.parametrize("text", IN_THE_WILD.values(), ids=IN_THE_WILD)
def test_answers_in_the_wild_tell_the_same_scenes(text):
    assert [(scene.scene, scene.prompt) for scene in read_script(text + "\n").filled()] == [
        ("上课", "少女，教室"),
        ("入梦", "少女，路旁"),
    ]


@pytest.mark.parametrize(
    ("file", "scenes"),
    [
        ("chat_json_prompt_list.txt", [(*CLASS, "", 0), (*ROAD, "", 1)]),
        ("chat2_json_scene_number.txt", [(*CLASS, "", 0), (*ROAD, "", 1)]),
        ("chat_md_headings.txt", [(*CLASS, "模糊", 1), (*ROAD, "模糊", 2)]),
        (
            "chat2_wrapped_prompt.txt",
            [("上课", "二次元，少女在教室，黑板，课桌，阳光", "", 0), ("入梦", "二次元，少女在路旁，桃花", "", 1)],
        ),
    ],
)
def test_answers_that_people_posted(file, scenes):
    found = read_script(CASES / file).filled()
    assert [(s.scene, s.prompt, s.negative_prompt, s.seed) for s in found] == scenes


@pytest.mark.parametrize(
    ("text", "said"),
    [
        (
            "1. 上课：二次元，少女，\n时间：晚上，教室\n2. 入梦：二次元",
            "line 2 “时间：晚上，教室” is neither prompt nor",
        ),
        ("1. 上课：二次元\n七七：你好，再见\n2. 入梦：二次元", "line 2 “七七：你好，再见”"),
        ("1. 上课\n提示词：a，b\nSeed：1\n随便一行\n2. 入梦\n提示词：c", "line 4 “随便一行”"),
        ("1. 上课：a，b\n2. 入梦：c，d\n\n1. 服装：统一，素色", "lists begin in lines 1, 4"),
        ("| 场景 | 提示词 |\n|---|---|\n| 上课 | {a|b}，c |", r"line 3: 3 cells instead of 2; write \\\| "),
        ("| 场景 | 提示词 |\n|---|---|\n| 上课 | 画面：c |", "line 3: the prompt begins with the label “画面”"),
        ('[{"scene": "上课", "prompt": "a"}, {"scene": "入梦"}]', "scene 2: the prompt is missing"),
        ('[{"scene": "上课", "prompt": "a", "prompt": "b"}]', "'prompt' stands twice"),
        ('{"a": ' * 5000 + '"b"' + "}" * 5000, "nested too deeply"),
        ("<think>\n1. 上课：二次元，少女", "still thinking"),
        ("scene,prompt\na,b\na," + "9" * 140_000, "line 3: 140002 characters"),
        ("scene,prompt,seed\na,b,1e999", "line 2: seed = inf"),
        ("1. 上课：少女，教室；负面提示词：模糊", "scene 1: the prompt holds the label “负面提示词”"),
        ("1. Class: girl, room (negative prompt: blurry)", "the prompt holds the label “negative prompt”"),
        ("1. 上课：少女，教室 --ar 1:1 --v 6", "“--ar” is an option of another program"),
        ("scene,prompt,prompt\na,b,c", "line 1: the column prompt stands there twice"),
        ('[{"prompt": "a"}]\n修改后：\n[{"prompt": "b"}]', "lists begin in lines 1, 3; leave only the one"),
        ('[{"prompt": "a"}]\n\n|场景|提示词|\n|---|---|\n|b|c|', "the scenes from line 5 on stand beside others"),
        ('1. 上课\n提示词：a\n2. 梦\n提示词：b\n\n{"scene": "c", "prompt": "d"}', "from line 1 on stand beside others"),
        ("|场景|提示词|\n|-|-|\n|a|b|\n|c|同上，夜晚|", "line 4: prompt “同上，夜晚” leans on another scene"),
        ("1. a\n提示词：b\n反向提示词：c\n2. d\n提示词：e\n反向提示词：同第一格", "“同第一格” leans on another scene"),
        ("|场景|提示词|\n|-|-|\n|a|b|\n|……|……|\n|c|d|", "line 4: the prompt is missing"),
        ("1. 上课：少女，教室 反向提示词 模糊", "the prompt holds the label “反向提示词”"),
        ("1. 上课：少女，教室 --v 6", "“--v” is an option of another program"),
        ("1. 上课：少女，教室\n|a|b|c|\n2. 入梦：少女", r"line 2 “\|a\|b\|c\|” is neither prompt"),
        ("scene,prompt\na,b\n\nscene,prompt\nc,d", "tables begin in lines 1, 4; leave only the one"),
        ("[{'scene': '上课', 'prompt': 'it's, b'}]\n", "no story found"),
        ('[{"scene": "上课", "prompt": "a", b", "x": "c"}]', "not whole JSON"),
        ("|序号|提示词|\n|-|-|\n|1|a|\n\n|序号|提示词|\n|-|-|\n|1|b|", "tables begin in lines 1, 5"),
    ],
)
def test_what_is_not_understood_is_refused_by_line(text, said):
    with pytest.raises(DataError, match=said) as error:
        read_script(text + "\n")
    assert "\n" not in str(error.value) and len(str(error.value)) < 300


def test_a_name_is_no_number():
    script = read_script("七七：紫色短发少女\n\n1. 上课：{七七}，教室\n2. 七七：{七七}，路旁\n")
    assert [(s.scene, s.prompt) for s in script.filled()] == [
        ("上课", "紫色短发少女，教室"), ("七七", "紫色短发少女，路旁")
    ]  # fmt: skip


def test_what_is_not_used_is_named():
    answer = (
        "画风：水墨\n衣服：长裙\n\n1. 上课\n景别：全身\n提示词（中文）：{衣服}，少女\n提示词（英文）：dress, girl\n"
        "2. 梦\n提示词：马\n"
    )
    with pytest.warns(KolorsLabWarning, match="画风：水墨.*提示词（英文）.*景别：全身"):
        scenes = read_story(answer)
    assert [scene.prompt for scene in scenes] == ["长裙，少女", "马"]
    table = "| 场景 | 提示词 | 光线 |\n|---|---|---|\n| 上课 | 少女，坐着 | 柔和 |"
    assert read_script(table).unused == ("“光线”",)
    assert read_script("1. a：b，c\n2. d：e，f\n\n通用正向提示词：杰作\n").unused == ("line 4 “通用正向提示词：杰作”",)


def test_advice_behind_the_last_scene_is_not_its_own():
    """What follows an empty line behind the last scene, and no other has, is said of the whole story."""
    script = read_script("1. a：b，c\n2. d：e，f\n\n反向提示词：模糊\n\n| 参数 | 建议 |\n|---|---|\n| 步数 | 30 |\n")
    assert [(s.negative_prompt, s.steps) for s in script.scenes] == [("模糊", None)] * 2
    assert script.unused == ("line 8 “| 步数 | 30 |”",)
    script = read_script("1. a\n提示词：b\n\n步数：20\n2. d\n提示词：e\n\n步数：30\n")
    assert [scene.steps for scene in script.scenes] == [20, 30]


@pytest.mark.parametrize("words", ["同上", "同上。", "与上一格相同", "same as above", "〃"])
def test_what_a_row_leaves_to_the_one_above_is_said_there(words):
    table = f"|场景|提示词|反向提示词|\n|-|-|-|\n|上课|少女|模糊，丑陋|\n|入梦|马|{words}|\n|梦醒|少女|无|\n|又|马|-|"
    assert [scene.negative_prompt for scene in read_story(table)] == ["模糊，丑陋", "模糊，丑陋", "", ""]


def test_a_negative_prompt_of_all_below_its_heading():
    story = read_story("1. 上课：少女，教室\n2. 入梦：少女，路旁\n\n**全部场景统一反向提示词**\n模糊，丑陋\n")
    assert [scene.negative_prompt for scene in story] == ["模糊，丑陋"] * 2


@pytest.mark.parametrize("part", ["{{画风}}", "【画风】", "[画风]", "<画风>", "{ 画风 }"])
def test_a_part_in_other_brackets_is_that_part(part):
    script = read_script(f"画风：水墨\n\n1. 上课：{part}，少女，【马】\n")
    assert (script.filled()[0].prompt, script.unused) == ("水墨，少女，【马】", ())


def test_quotes_within_a_prompt_stay():
    story = "1. 上课\n提示词：“她说“你好””\n2. 入梦\n提示词：__hair__，她说“再见”\n3. 梦醒\n提示词：“少女，\n教室”\n"
    prompts = [scene.prompt for scene in read_story(story)]
    assert prompts == ["“她说“你好””", "__hair__，她说“再见”", "少女，教室"]


@pytest.mark.parametrize("rest", [" " * 60_000, "#" * 60_000, "(" * 60_000, "*" * 40_000, "|-" * 20_000, "[{" * 20_000])
def test_long_lines_are_read_or_refused_at_once(rest):
    for text in (rest, f"1. 上课：古风，少女\n{rest}\n", f"古风：{rest}\n"):
        with contextlib.suppress(DataError):
            read_script(text + "\n")


@pytest.mark.parametrize("flag", [["--story", "FILE"], ["--story=FILE"], ["FILE"]])
def test_a_check_takes_its_story_as_the_commands_beside_it_do(flag, tmp_path, capsys):
    (tmp_path / "a.csv").write_text("scene,prompt\n上课,少女在教室\n", encoding="utf-8")
    assert main(["story", "check", *(word.replace("FILE", str(tmp_path / "a.csv")) for word in flag)]) == 0
    assert "+ 少女在教室" in capsys.readouterr().out


def test_a_check_shows_the_story_as_it_was_understood(capsys):
    assert main(["story", "check", str(CASES / "chat_md_headings.txt"), "--count", "2"]) == 0
    printed = capsys.readouterr().out
    for words in (
        "1  上课  · seed 1",
        "+ 二次元，少女在教室",
        "− 模糊",
        "not used: line 4 “- **画面描述**",
        "2 scenes",
    ):
        assert words in printed
    assert main(["story", "check", str(CASES / "chat_md_headings.txt"), "--count", "3"]) == 2


SEEDS = {  # with its seed in brackets behind the label: caption, prompt and seed of two scenes
    "headings": "### 1. 上课（seed: 41）\n提示词：古风，少女\n### 2. 放学（种子：7）\n提示词：古风，街道",
    "bold": "**第1格：上课（Seed：41）**\n提示词：古风，少女\n**第2格：放学【种子 7】**\n提示词：古风，街道",
    "one line each": "1. 上课（seed: 41）：古风，少女\n2. 放学（随机种子=7）：古风，街道",
    "half-width": "1. 上课 (seed: 41)\n提示词：古风，少女\n2. 放学 [seed: 7]\n提示词：古风，街道",
    "captions": "标题：上课（seed: 41）\n提示词：古风，少女\n标题：放学（seed: 7）\n提示词：古风，街道",
    "by the prompt": "1. 上课\n提示词（seed: 41）：古风，少女\n2. 放学\n提示词：古风，街道（种子：7）",
    "by the prompt, half-width": "1. 上课\n- **提示词 (seed: 41)**：古风，少女\n2. 放学\n提示词 (seed 7)\n古风，街道",
    "without a colon": "1. 上课\n提示词（种子 41）：古风，少女\n2. 放学\n提示词（种子：7）\n古风，街道",
    "table": "| 场景 | 提示词 |\n|---|---|\n| 上课（seed: 41） | 古风，少女 |\n| 放学（种子：7） | 古风，街道 |",
    "csv": "scene,prompt\n上课（seed: 41）,古风，少女\n放学（种子：7）,古风，街道",
    "json": '[{"scene": "上课（seed: 41）", "prompt": "古风，少女"},'
    ' {"scene": "放学（种子：7）", "prompt": "古风，街道"}]',
}  # fmt: skip


@pytest.mark.parametrize("shape", SEEDS)
def test_a_seed_in_brackets_behind_a_label_is_the_panels(shape, tmp_path, capsys):
    (tmp_path / "a.txt").write_text(SEEDS[shape] + "\n", encoding="utf-8")
    assert main(["story", "check", str(tmp_path / "a.txt")]) == 0
    lines = capsys.readouterr().out.splitlines()
    assert lines == [
        "1  上课  · seed 41", "   + 古风，少女", "2  放学  · seed 7", "   + 古风，街道", "2 scenes"
    ]  # fmt: skip


def test_a_panel_that_has_a_seed_and_no_caption_is_one():
    for text in ("第1格（种子：7）：古风，少女\n第2格（seed: 8）：古风，街道\n", "第1格（种子：7）\n古风，少女\n"):
        first = read_script(text).scenes[0]
        assert (first.scene, first.prompt, first.seed) == ("", "古风，少女", 7)


def test_what_is_no_seed_for_certain_stays_and_what_is_said_twice_is_told():
    text = "1. 毕业（高3）\n提示词：花，(seed:2)\n2. 种下（种子：向日葵）\n提示词：古风\n"
    script = read_script(f"{text}3. 走（steps: 9，cfg: 3）\n提示词：街\n")
    assert [(s.scene, s.seed, s.steps, s.cfg) for s in script.scenes] == [
        ("毕业（高3）", 0, None, None), ("种下（种子：向日葵）", 1, None, None), ("走", 2, 9, 3.0)
    ]  # fmt: skip
    assert script.scenes[0].prompt == "花，(seed:2)" and not script.unused
    told = read_script("1. 上课（seed: 41）\n种子：7\n说明（seed: 5）：好看\n提示词：古风\n")
    assert told.scenes[0].seed == 41 and told.unused == ("line 2 “种子：7”", "line 3 “说明（seed: 5）：好看”")
    with pytest.raises(DataError, match="line 2: seed is 9, and 7 in brackets"):
        read_script("scene,prompt,seed\n上课（种子：7）,古风,9\n")


def test_a_height_alone_is_a_mountains_and_a_seed_of_pandas_is_the_same():
    found = read_script("1. 登山（高度：1200）\n提示词：山（高：3000）\n2. 画（宽：512，高：768）\n提示词：街\n").scenes
    assert [(s.scene, s.prompt, s.width, s.height) for s in found] == [
        ("登山（高度：1200）", "山（高：3000）", None, None), ("画", "街", 512, 768)
    ]  # fmt: skip
    assert read_script([{"scene": "上课（seed: 41）", "prompt": "古风", "seed": 41.0}]).scenes[0].seed == 41


@pytest.mark.parametrize("label", ["提示词（种子 5）：", "提示词（种子：5）：", "反向提示词 (seed: 5)："])
def test_a_second_seed_by_a_label_is_told(label):
    script = read_script(f"1. 上课（种子：3）\n{label}丑\n{'' if label[0] == '提' else '提示词：古风'}\n")
    assert script.scenes[0].seed == 3 and script.unused == (f"line 2 “{label}丑”",)


def test_commas_behind_the_first_belong_to_the_prompt_of_two_columns(tmp_path, capsys):
    file = tmp_path / "a.csv"
    file.write_text('scene,prompt\n上课,girl, (room:1.2),  sitting\n"入梦, 夜","bed, moon"\n', encoding="utf-8")
    with pytest.warns(KolorsLabWarning, match="line 2: more commas than columns"):
        found = read_story(file)
    assert [(s.scene, s.prompt) for s in found] == [("上课", "girl, (room:1.2),  sitting"), ("入梦, 夜", "bed, moon")]
    assert main(["story", "check", str(file)]) == 0
    assert "line 2: more commas than columns; all behind the first is the prompt: “girl, (ro" in capsys.readouterr().out


@pytest.mark.parametrize(
    "table",
    ["prompt,scene\ngirl, room,上课", "scene,prompt,seed\n上课,girl, room,3", 'scene,prompt\n"a, b",girl, room'],
)
def test_commas_that_cannot_be_told_apart_are_refused_with_their_line(table):
    with pytest.raises(DataError, match=r"line 2: [34] columns instead of [23]; put text with a comma in quotes"):
        read_script(table + "\n")


def test_a_story_in_another_encoding_is_offered_and_not_guessed(tmp_path):
    for encoding, name in (("gbk", "GBK"), ("utf-16", "UTF-16")):
        (tmp_path / "s.csv").write_bytes("scene,prompt\n上课,二次元少女\n".encode(encoding))
        with pytest.raises(DataError, match=f"in {name} it begins “scene,prompt 上课.*save it again as UTF-8"):
            read_script(tmp_path / "s.csv")
