"""One-language copies of the notebooks."""

import importlib.util
import json
import re
import subprocess

import pytest

from kolors_course.copies import CourseConfig, course, glossary, notebooks_dir
from kolors_lab.cli import main
from kolors_lab.core.errors import DataError


def texts(file) -> list[str]:
    """The tags of the text cells."""
    cells = json.loads(file.read_text(encoding="utf-8"))["cells"]
    return [cell["metadata"]["tags"][0] for cell in cells if cell["cell_type"] == "markdown"]


def code(file) -> list[dict]:
    return [c for c in json.loads(file.read_text(encoding="utf-8"))["cells"] if c["cell_type"] == "code"]


def pictures(file) -> list[str]:
    return [
        data
        for cell in code(file)
        for o in cell["outputs"]
        for kind, data in o.get("data", {}).items()
        if "image" in kind
    ]


@pytest.mark.parametrize("lang", ["zh", "en"])
def test_one_language_and_all_the_code_with_its_pictures(lang, tmp_path, capsys):
    assert main(["course", "--lang", lang, str(tmp_path / "course")]) == 0
    assert capsys.readouterr().out.strip() == str(tmp_path / "course")
    originals = sorted(notebooks_dir().glob("*.ipynb"))
    assert originals
    for original in originals:
        copy = tmp_path / "course" / original.name
        assert set(texts(copy)) == {lang}
        assert len(texts(copy)) == len(texts(original)) / 2
        assert len(code(copy)) == len(code(original)) and pictures(copy) == pictures(original)
        if lang == "en":
            assert code(copy) == code(original)


CHINESE = re.compile("[\u3400-\u9fff]")


@pytest.mark.parametrize("lang", ["zh", "en"])
def test_pages_are_in_one_language_and_keep_their_marks(lang, tmp_path):
    out = course(CourseConfig(str(tmp_path / "course"), lang))
    pages = {page.name: page.read_text(encoding="utf-8") for page in out.glob("*.md")}
    assert pages.keys() >= {"GLOSSARY.md", "RIGHTS.md", "TROUBLESHOOTING.md"}
    for name, text in pages.items():
        title, *lines = text.splitlines()
        assert bool(CHINESE.search(title)) == (lang == "zh") and " · " not in title, name
        told = [line for line in lines if line.startswith("## ")]
        assert all(bool(CHINESE.search(line)) == (lang == "zh") for line in told), told
    marks = re.findall(r'<a id="[^"]+">', (notebooks_dir() / "GLOSSARY.md").read_text(encoding="utf-8"))
    assert sorted(re.findall(r'<a id="[^"]+">', pages["GLOSSARY.md"])) == sorted(marks)
    row = {
        "zh": '| 格 | <a id="panel"></a>panel | 一个场景的画面 |',
        "en": '| <a id="panel"></a>panel | 格 | the picture of one scene |',
    }
    assert row[lang] in pages["GLOSSARY.md"].splitlines()


def test_the_chinese_glossary_is_in_the_order_of_pinyin():
    rows = glossary(
        ["| English | 中文 | meaning · 意思 |", "|---|---|---|", "| a | 种子 | s · 种 |", "| b | 安装 | i · 装 |"], "zh"
    )
    assert rows == ["| 中文 | English | 意思 |", "| --- | --- | --- |", "| 安装 | b | 装 |", "| 种子 | a | 种 |"]


def test_git_does_not_see_the_copies(tmp_path):
    out = course(CourseConfig(str(tmp_path / "course")))
    subprocess.run(["git", "init", "-q", str(tmp_path)], check=True)
    seen = subprocess.run(["git", "-C", str(tmp_path), "status", "--porcelain"], capture_output=True, check=True).stdout
    assert seen == b"" and any(out.iterdir())


def test_a_learners_own_notebook_stays(tmp_path):
    own = tmp_path / sorted(notebooks_dir().glob("*.ipynb"))[0].name
    own.write_text("mine", encoding="utf-8")
    with pytest.raises(DataError, match="so it stays"):
        course(CourseConfig(str(tmp_path)))
    assert [file.name for file in tmp_path.iterdir()] == [own.name]
    assert own.read_text(encoding="utf-8") == "mine"


def test_an_unknown_language_is_one_line(tmp_path, capsys):
    assert main(["course", "--lang", "fr", str(tmp_path / "course")]) == 2
    assert "lang" in capsys.readouterr().err
    assert not (tmp_path / "course").exists()


@pytest.mark.parametrize("lang", ["zh", "en"])
def test_the_site_lists_every_page_and_its_links_keep_their_marks(lang, tmp_path):
    spec = importlib.util.spec_from_file_location("site_of_the_course", notebooks_dir().parent / ".ci" / "site.py")
    site = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(site)
    pages = course(CourseConfig(str(tmp_path / "course"), lang))
    listed = site.index(lang, pages).splitlines()
    assert {file.stem for file in pages.iterdir() if file.suffix in (".ipynb", ".md")} <= set(listed)
    assert site.linked("a [panel](GLOSSARY.md#panel), [02](02_data.ipynb) and [Kolors](https://example.org/a.md)") == (
        'a <a href="GLOSSARY.html#panel">panel</a>, <a href="02_data.html">02</a> and [Kolors](https://example.org/a.md)'
    )
