"""Chinese or English: by which the language is chosen, and that no text is left in the other one."""

import ast
import importlib.util
import re
import string
import sys
from pathlib import Path

import pytest
from PIL import Image

from kolors_lab.challenge.check import PLACEHOLDER, missing
from kolors_lab.cli import main
from kolors_lab.core.errors import SettingError
from kolors_lab.core.figures import loss_curve
from kolors_lab.core.language import LANGUAGES, _, language
from kolors_lab.sampling.ksampler import KSampler

ROOT = Path(__file__).parents[1]
CHINESE = re.compile("[\u3400-\u9fff]")


@pytest.fixture(scope="module")
def texts():
    """The script behind `make texts`."""
    spec = importlib.util.spec_from_file_location("texts", ROOT / ".ci" / "texts.py")
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


@pytest.fixture
def speak(monkeypatch):
    return lambda name: monkeypatch.setenv("KOLORS_LAB_LANG", name)


@pytest.mark.parametrize("name", LANGUAGES)
def test_every_text_has_its_translation_and_none_is_stale(texts, name):
    known = {message.id: message.string for message in texts.read(name) if message.id}
    wanted = texts.wanted(name)
    assert [text for text in wanted if not known.get(text)] == [], "make texts names them"
    assert sorted(known.keys() - wanted.keys()) == [], "make texts takes them out"


@pytest.mark.parametrize("name", LANGUAGES)
def test_a_translation_fills_in_what_the_text_does(texts, name):
    def fields(text: str) -> set:
        return {(field, spec) for _before, field, spec, _how in string.Formatter().parse(text) if field is not None}

    def options(text: str) -> list[str]:
        return sorted(set(re.findall(r"--\w+|kolors-lab [a-z]+", text)))

    for message in texts.read(name):
        if message.id and fields(message.id) != {("画风", "")} and "fixed part" not in message.id:
            assert fields(message.string) == fields(message.id), message.id
            assert options(message.string) == options(message.id), message.id


def parts_of_the_library(kind: type):
    """Every node of that kind in the library's code, and where it stands."""
    for file in sorted((ROOT / "kolors_lab").rglob("*.py")):
        for node in ast.walk(ast.parse(file.read_text(encoding="utf-8"))):
            if isinstance(node, kind):
                yield f"{file.relative_to(ROOT)}:{node.lineno}", node


def test_all_errors_and_warnings_are_known_to_the_catalogues(texts):
    named = lambda node: {getattr(base, "id", "") for base in node.bases}  # noqa: E731
    ours = [node.name for _, node in parts_of_the_library(ast.ClassDef) if named(node) & {"Message", *texts.MESSAGES}]
    assert sorted(ours) == sorted(texts.MESSAGES)


def test_an_error_is_a_text_that_can_be_translated_and_its_values_fill_it_in(texts):
    for place, call in parts_of_the_library(ast.Call):
        if getattr(call.func, "id", "") not in texts.MESSAGES:
            continue
        text = call.args[0] if call.args else None
        assert not isinstance(text, (ast.JoinedStr, ast.BinOp)), f"{place}: put together before it is translated"
        if isinstance(text, ast.Constant):
            fields = {re.match(r"\w*", name)[0] for _before, name, *_ in string.Formatter().parse(text.value) if name}
            if fields or call.keywords:
                assert fields == {keyword.arg for keyword in call.keywords}, place


@pytest.mark.parametrize("name", LANGUAGES)
def test_what_gettext_reads_is_what_people_read(texts, name):
    assert texts.file_of(name, ".mo").read_bytes() == texts.compiled(texts.read(name)), "make texts"


def test_chinese_texts_are_chinese_and_english_ones_are_not(texts):
    """Names of things that are Chinese stay: a story's title, examples of words, the parts of a brief."""
    names = "可图|训练|偶像少女养成日记|玩偶|王子|画风|女主|衣服|女孩|少女"
    for message in texts.read("en"):
        assert not CHINESE.search(re.sub(names, "", message.string)), message.string
    plain = [m.string for m in texts.read("zh") if re.search("[a-z]{4}", m.id) and not CHINESE.search(m.string)]
    assert plain == ["diffusers 或 comfyui"] or not plain


@pytest.mark.parametrize(
    ("chosen", "system", "said"),
    [
        ("", "zh_CN.UTF-8", "zh"), ("", "zh_TW", "zh"), ("", "en_US.UTF-8", "en"), ("", "de_DE.UTF-8", "en"),
        ("", "C.UTF-8", "both"), ("", "POSIX", "both"), ("", "", "both"),
        ("zh", "en_US.UTF-8", "zh"), ("en", "zh_CN.UTF-8", "en"), ("both", "zh_CN.UTF-8", "both"),
    ],
)  # fmt: skip
def test_the_language_is_the_one_chosen_else_the_systems(monkeypatch, chosen, system, said):
    for name in ("LC_ALL", "LC_MESSAGES"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("LANG", system)
    monkeypatch.setenv("KOLORS_LAB_LANG", chosen)
    assert language() == said


def test_a_text_in_both_languages_keeps_its_half(speak):
    text = "练习分 practice score"
    said = {}
    for name in (*LANGUAGES, "both"):
        speak(name)
        said[name] = _(text)
    assert said == {"zh": "练习分", "en": "practice score", "both": text}


def test_a_language_there_is_none_of_is_one_line(speak, capsys):
    speak("fr")
    with pytest.raises(SettingError, match="KOLORS_LAB_LANG = 'fr': must be zh, en or both"):
        language()
    assert main(["--help"]) == 2
    assert capsys.readouterr().err.startswith("kolors-lab: KOLORS_LAB_LANG = 'fr'")


def test_a_notebook_shows_an_error_of_ours_as_its_line(speak, capsys):
    from IPython.core.interactiveshell import InteractiveShell

    speak("en")
    InteractiveShell().run_cell("from kolors_lab import read_story\nread_story('nowhere.csv')")
    said = capsys.readouterr().out
    assert "nowhere.csv" in said and len(said.strip().splitlines()) == 1, said


def test_help_and_errors_speak_chinese(speak, capsys):
    speak("zh")
    assert main(["--help"]) == 0
    told = capsys.readouterr().out
    assert "用法：kolors-lab 命令 --help" in told and "走完全程" in told
    with pytest.raises(SystemExit):
        main(["generate", "--help"])
    assert "画面里不要什么" in capsys.readouterr().out
    assert main(["genrate"]) == 2
    assert "没有这个命令；是不是想用 generate" in capsys.readouterr().err


def test_what_a_submission_lacks_is_said_in_chinese(speak, tmp_path):
    speak("zh")
    (line,) = missing(tmp_path)
    assert line.startswith(f"{tmp_path}：这里没有提交作品") and PLACEHOLDER not in line


def test_labels_of_a_plot_are_chinese_and_have_letters(speak, recwarn):
    speak("zh")
    figure = loss_curve([{"step": n, "loss": 1 / (n + 1)} for n in range(20)])
    assert figure.axes[0].get_ylabel() == "损失"
    figure.canvas.draw()
    assert [str(w.message) for w in recwarn if "missing from" in str(w.message)] == []


def test_the_catalogues_are_found_without_a_build():
    assert (
        Path(sys.modules["kolors_lab"].__file__).parent / "locale" / "zh" / "LC_MESSAGES" / "kolors_lab.mo"
    ).is_file()


def test_one_chinese_word_for_one_thing(speak):
    speak("zh")
    assert _("heroine's likeness") == "女主相似度"  # as the notebooks say
    assert _("dry run: nothing was sent").startswith("演练")
    assert _("readable") == "能打开、有描述"  # a picture without a caption goes at that step, too


def test_a_repair_that_leaves_a_picture_alone_is_told_in_chinese(speak, monkeypatch, tmp_path):
    from kolors_lab.sampling import repair as module
    from kolors_lab.sampling.face_probe import Found

    speak("zh")
    Image.new("RGB", (64, 64)).save(tmp_path / "1.png")
    monkeypatch.setattr(module, "find", lambda *_: [Found((1, 1, 8, 8), 0.9)])
    said = []
    config = module.RepairConfig((str(tmp_path / "1.png"),), preset="tiny", prompt="少女")
    assert module.repair(config, say=said.append) == []
    assert said[0].endswith("1.png：找到 1 张脸，都完好，没有动；要连它们一起重画，用 --which all")


def test_bounds_are_written_with_all_their_digits():
    with pytest.raises(SettingError, match=r"from 0 to 18446744073709551615$"):
        KSampler(seed=-1)
