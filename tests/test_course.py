"""One-language copies of the notebooks."""

import json

import pytest

from kolors_course.copies import CourseConfig, course, notebooks_dir
from kolors_lab.cli import main
from kolors_lab.core.errors import DataError


def texts(file) -> list[str]:
    """The tags of the text cells."""
    cells = json.loads(file.read_text(encoding="utf-8"))["cells"]
    return [cell["metadata"]["tags"][0] for cell in cells if cell["cell_type"] == "markdown"]


def code(file) -> list[dict]:
    return [c for c in json.loads(file.read_text(encoding="utf-8"))["cells"] if c["cell_type"] == "code"]


@pytest.mark.parametrize("lang", ["zh", "en"])
def test_one_language_and_all_the_code_with_its_outputs(lang, tmp_path, capsys):
    assert main(["course", "--lang", lang, str(tmp_path / "course")]) == 0
    assert capsys.readouterr().out.strip() == str(tmp_path / "course")
    originals = sorted(notebooks_dir().glob("*.ipynb"))
    assert originals
    for original in originals:
        copy = tmp_path / "course" / original.name
        assert set(texts(copy)) == {lang}
        assert len(texts(copy)) == len(texts(original)) / 2
        assert code(copy) == code(original)


def test_the_glossary_goes_along(tmp_path):
    assert (course(CourseConfig(str(tmp_path))) / "GLOSSARY.md").is_file()


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
