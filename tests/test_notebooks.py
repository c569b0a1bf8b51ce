"""Every notebook keeps to the course's form: run once from clean, small, in two languages, and it gives nothing away.

What the cells compute is nbval's matter: make test-notebooks.
"""

import ast
import json
import re
from pathlib import Path

import pytest

FOLDER = Path(__file__).parents[1] / "notebooks"
NOTEBOOKS = sorted(FOLDER.glob("*.ipynb"))
TAGS = {"zh", "en", "setup", "exercise", "nbval-ignore-output", "nbval-check-output", "nbval-raises-exception"}
# Paths of a user's or a builder's machine, and what looks like a token.
SECRET = re.compile(
    r"(/home/|/Users/|/root/|/tmp/|/work/|C:\\\\Users|site-packages|\bhf_\w{20}|\bms-[0-9a-f]{8}-|\bghp_\w{20}|://[^/\s\"]+:[^/\s\"]+@)"
)
ALLOWED = re.compile(r"MODELSCOPE_CACHE=/tmp/modelscope")

FEWER = {"02_data": 1}  # exercises; every other notebook has two or three

pytestmark = pytest.mark.parametrize("file", NOTEBOOKS, ids=lambda file: file.stem)


def read(file: Path) -> dict:
    return json.loads(file.read_text(encoding="utf-8"))


def cells(file: Path, kind: str) -> list[dict]:
    return [cell for cell in read(file)["cells"] if cell["cell_type"] == kind]


def tags(cell: dict) -> list[str]:
    return cell["metadata"].get("tags", [])


def source(cell: dict) -> str:
    return "".join(cell["source"])


def outputs(file: Path) -> list[dict]:
    return [output for cell in cells(file, "code") for output in cell["outputs"]]


def solutions(cell: dict) -> list[str]:
    folds = re.findall(r"<details>.*?</details>", source(cell), re.DOTALL)
    return [code for fold in folds for code in re.findall(r"```python\n(.*?)```", fold, re.DOTALL)]


def test_outputs_are_stored_from_one_run_from_the_top(file):
    counts = [cell["execution_count"] for cell in cells(file, "code")]
    assert counts == list(range(1, len(counts) + 1)), "run: make notebooks"


def test_nothing_went_wrong_in_that_run(file):
    wrong = [o for o in outputs(file) if o["output_type"] == "error" or o.get("name") == "stderr"]
    assert not wrong


def test_nothing_of_the_machine_or_of_a_user_is_in_it(file):
    assert not SECRET.findall(ALLOWED.sub("", file.read_text(encoding="utf-8")))
    assert set(read(file)["metadata"]) == {"kernelspec", "language_info"}
    assert read(file)["metadata"]["kernelspec"]["name"] == "python3"


def test_it_is_small(file):
    assert file.stat().st_size < 1_000_000


def test_tags_are_known_and_nothing_else_is_in_the_metadata(file):
    for cell in read(file)["cells"]:
        assert set(cell["metadata"]) <= {"tags"}
        assert set(tags(cell)) <= TAGS, tags(cell)


def test_every_text_comes_in_chinese_and_then_in_english(file):
    languages = [tags(cell)[0] for cell in cells(file, "markdown")]
    assert languages == ["zh", "en"] * (len(languages) // 2)
    kinds = [cell["cell_type"] if cell["cell_type"] == "code" else tags(cell)[0] for cell in read(file)["cells"]]
    assert "en" not in [after for before, after in zip(["code", *kinds], kinds, strict=False) if before != "zh"]


def test_both_languages_have_the_same_headings_tables_and_code(file):
    texts = cells(file, "markdown")
    for zh, en in zip(texts[::2], texts[1::2], strict=True):
        for part in (r"^#+ ", r"^\|", r"^```", r"^- "):
            here, there = (len(re.findall(part, source(cell), re.MULTILINE)) for cell in (zh, en))
            assert here == there, source(en)
        assert solutions(zh) == solutions(en)


def test_it_begins_with_goals_minutes_and_memory(file):
    zh, en = cells(file, "markdown")[:2]
    assert all(word in source(zh) for word in ("# " + file.stem[:2], "你能", "分钟", "内存", "T4"))
    assert all(word in source(en) for word in ("# " + file.stem[:2], "you can", "minute", "memory", "T4"))
    assert "@" not in source(zh)


def test_one_dial_then_one_set_up_cell(file):
    code = cells(file, "code")
    assert source(code[0]).startswith('PRESET = "tiny"')
    assert [n for n, cell in enumerate(code) if "setup" in tags(cell)] == [1]
    assert all("sys.path" not in source(cell) and "chdir" not in source(cell) for cell in code)


def test_the_set_up_cell_is_that_of_every_notebook(file):
    assert source(cells(file, "code")[1]) == source(cells(NOTEBOOKS[0], "code")[1])


def test_cells_are_short(file):
    for cell in cells(file, "code"):
        assert len(source(cell).splitlines()) <= 20, source(cell)


def test_labels_are_english(file):
    """Prompts are Chinese, and text in quotes may be; names and comments are not."""
    for cell in cells(file, "code"):
        code = re.sub(r"^\s*%.*$", "pass", source(cell), flags=re.MULTILINE)
        bare = re.sub(r'"""(.|\n)*?"""|"[^"\n]*"', "", code)
        assert not re.search(r"[\u4e00-\u9fff]", bare), source(cell)


def test_exercises_stand_where_the_idea_is_each_with_a_check_and_a_folded_solution(file):
    exercises = [cell for cell in cells(file, "code") if "exercise" in tags(cell)]
    assert len(exercises) >= FEWER.get(file.stem, 2)
    assert exercises[-1] == cells(file, "code")[-1]
    assert all("check_" in source(cell).splitlines()[-1] for cell in exercises)
    found = [code for cell in cells(file, "markdown") for code in solutions(cell)]
    assert len(found) == 2 * len(exercises)  # in both languages
    for code in found:
        ast.parse(code)


def test_an_exercise_is_stored_unsolved(file):
    for cell in cells(file, "code"):
        if "exercise" in tags(cell):
            said = "".join(line for output in cell["outputs"] for line in output.get("data", {}).get("text/plain", ()))
            assert "Not yet" in said
