"""The code of the Chinese copies: the same code, with Chinese words wherever a learner reads them."""

import ast
import io
import json
import re
import tokenize

import nbformat
import pytest
from nbclient import NotebookClient

from kolors_course.chinese import BEGIN, SETUP, parts, table, translated
from kolors_course.copies import CourseConfig, course, notebooks_dir

NOTEBOOKS = sorted(notebooks_dir().glob("*.ipynb"))
TABLE = table()
CHINESE = re.compile("[\u3400-\u9fff]")
WORD = re.compile("[A-Za-z]{2,}")
SHOWN = {"print", "picture_grid", "set_xlabel", "set_ylabel", "set_title", "set_yticks", "set_xticks"}
LABELS = {"label", "xlabel", "ylabel", "title", "titles"}
QUESTION = re.compile(r"\d\d \S")  # which exercise it is, "02 one bad picture"
# What stays in a Chinese sentence: names of programs and networks, units, knobs and what the code itself calls a thing.
NAMES = """
    CLIP JPEG Kolors KolorsPipeline LoRA NaN SDXL SNR UNet VAE alpha at canny cfg consistency constant cosine data dj
    embeds git heun kolors min number plain pooled process rank runs scribble tiny train words wrong
"""
# Texts without a Chinese word: keys, files and settings, what another program reads or writes, and units.
KEPT = """
    rank alpha trigger_word examples *.safetensors checkpoints submission utf-8-sig cast.csv dream scene seed
    steps cfg batch score seconds measured named- .jpg RGB *.before.png panels consistency nan plain
    API: UI: lora_alpha denoise MB kB MiB GB min-SNR
    xingguang/kolors-idol
"""
KEPT_WHOLE = [
    "<html>404 Not Found</html>",
    "from data_juicer.tools.process_data import main; main()",
    r"Left \d+ samples|Job completed successfully",
    "not for others",
    "fmt: skip",
    "bad and good",  # rows of wrong_lora.csv
    "bad only",
]
names, kept = {*NAMES.split()}, {*KEPT.split(), *KEPT_WHOLE}

each = pytest.mark.parametrize("file", NOTEBOOKS, ids=lambda file: file.stem)


def code(file, setup: bool = False) -> list[str]:
    """The code cells, with or without the one for the setting-up, which has magics."""
    cells = json.loads(file.read_text(encoding="utf-8"))["cells"]
    cells = [c for c in cells if c["cell_type"] == "code" and ("setup" in c["metadata"].get("tags", ())) == setup]
    return ["".join(cell["source"]) for cell in cells]


def in_chinese(file) -> list[str]:
    return [translated(cell, TABLE.get(file.stem, {})) for cell in code(file)]


def told(cell: str) -> list[str]:
    """Texts of a cell that a learner may read where it is run, sentences wherever they are, and comments."""
    found = []
    for node in ast.walk(ast.parse(cell)):
        shown = []
        if isinstance(node, ast.Call):
            name = getattr(node.func, "id", getattr(node.func, "attr", ""))
            shown = [*(node.args if name in SHOWN else ()), *(k.value for k in node.keywords if k.arg in LABELS)]
        elif isinstance(node, (ast.Assign, ast.AugAssign)):
            target = node.target if isinstance(node, ast.AugAssign) else node.targets[0]
            shown = [node.value] if getattr(target, "id", "") in LABELS else []
        elif isinstance(node, ast.Constant) and isinstance(node.value, str) and " " in node.value.strip():
            shown = [node]
        found += [text for one in shown for text in words_of(one)]
    tokens = tokenize.generate_tokens(io.StringIO(cell).readline)
    found += [token.string.lstrip("# ") for token in tokens if token.type == tokenize.COMMENT]
    return [text for text in found if not QUESTION.match(text) and "image_shape_filter" not in text]


def words_of(node: ast.AST) -> list[str]:
    """Its texts, but for the keys in brackets."""
    if isinstance(node, ast.Constant):
        return [node.value] if isinstance(node.value, str) else []
    inner = [node.value] if isinstance(node, ast.Subscript) else ast.iter_child_nodes(node)
    return [text for one in inner for text in words_of(one)]


@each
def test_every_line_of_the_table_is_a_line_of_its_notebook(file):
    lines = {line.strip() for cell in code(file) for line in cell.split("\n")}
    assert not [line for line in TABLE.get(file.stem, {}) if line not in lines]
    setup = {line.strip() for cell in code(file, setup=True) for line in cell.split("\n")}
    assert not [line for line in TABLE[SETUP] if line not in setup]


def test_every_section_of_the_table_has_its_notebook():
    assert TABLE.keys() <= {SETUP, *(file.stem for file in NOTEBOOKS)}


@each
def test_nothing_but_words_differs(file):
    for before, after in zip(code(file), in_chinese(file), strict=True):
        compile(after, file.name, "exec")
        assert parts(after)[0] == parts(before)[0], after


def test_the_comparison_sees_a_change_of_code_and_of_how_a_number_is_written():
    same, *others = 'print(f"{one:9.2f} of", many)', 'print(f"{one:9.3f} of", many)', 'print(f"{many:9.2f} of", one)'
    assert parts('print(f"共有{one:12.2f}", many)')[0] == parts(same)[0]
    assert all(parts(other)[0] != parts(same)[0] for other in others)


@each
def test_a_key_is_the_same_wherever_its_notebook_says_it(file):
    folders = {"grey"}  # one is called as the picture that its set leads to
    found: dict[str, set[str]] = {}
    keys = set()
    for before, after in zip(code(file), in_chinese(file), strict=True):
        for (text, _), (other, is_key) in zip(whole(before), whole(after), strict=True):
            found.setdefault(text, set()).add(other)
            keys |= {text} if is_key and text != other else set()
    assert not {text: found[text] for text in keys - folders if len(found[text]) > 1}


def whole(cell: str) -> list[tuple[str, bool]]:
    """Texts that stand by themselves, not within a formatted one, in order, and whether each is a key."""
    tree = ast.parse(cell)
    nodes = list(ast.walk(tree))
    within = {id(part) for node in nodes if isinstance(node, ast.JoinedStr) for part in node.values}
    keys = {id(key) for node in nodes if isinstance(node, ast.Dict) for key in node.keys}
    keys |= {id(node.slice) for node in nodes if isinstance(node, ast.Subscript)}
    found = [node for node in nodes if isinstance(node, ast.Constant) and id(node) not in within]
    return [(node.value, id(node) in keys) for node in found if isinstance(node.value, str)]


@each
def test_what_a_learner_reads_in_a_chinese_copy_is_chinese(file):
    texts = [text.strip() for cell in in_chinese(file) for text in told(cell)]
    assert not [text for text in texts if WORD.search(text) and not CHINESE.search(text) and text not in kept]
    assert not {word for text in texts if CHINESE.search(text) for word in WORD.findall(text)} - names


def test_no_exception_is_left_over():
    texts = [text.strip() for file in NOTEBOOKS for cell in in_chinese(file) for text in told(cell)]
    assert not names - {word for text in texts if CHINESE.search(text) for word in WORD.findall(text)}
    assert not kept - {*texts}


def test_the_stored_text_is_chinese_too_and_keeps_its_columns(tmp_path):
    out = course(CourseConfig(str(tmp_path / "course"), "zh"))
    stored = {file.stem: stored_text(file) for file in out.glob("*.ipynb")}
    assert "留下 160 张，原有 200\n" in stored["01_baseline"]
    assert "kept" not in stored["01_baseline"].split()
    assert "1.before.png" in stored["13_repair_and_one_heroine"]  # a file's name, though "before" is a title there
    assert (
        "底模      " in stored["09_the_wrong_lora"]
        and "\nbad and good, wrong and words   +" in stored["09_the_wrong_lora"]
    )
    word, before = "认作二次元", "called 二次元"
    (line,) = [line for line in stored["07_train_better"].splitlines() if word in line]
    (other,) = [line for line in stored_text(notebooks_dir() / "07_train_better.ipynb").splitlines() if before in line]
    assert columns(line.partition(word)[0] + word) == columns(other.partition(before)[0] + before)


def columns(text: str) -> int:
    return sum(1 + (char > "\u2e80") for char in text)


def stored_text(file) -> str:
    outputs = [o for c in json.loads(file.read_text(encoding="utf-8"))["cells"] for o in c.get("outputs", ())]
    return "".join("".join(output.get("text", ())) for output in outputs)


def test_a_chinese_copy_runs_and_prints_chinese_and_has_every_character_it_draws(tmp_path, monkeypatch):
    """Up to where the keys of its first chart are looked up."""
    monkeypatch.delenv("KOLORS_LAB_LANG", raising=False)
    out = course(CourseConfig(str(tmp_path / "course"), "zh"))
    notebook = nbformat.read(out / "10_aesthetic_scoring.ipynb", as_version=4)
    last = max(n for n, cell in enumerate(notebook.cells) if "再存一次" in cell.source)
    notebook.cells = notebook.cells[: last + 1]
    NotebookClient(notebook, timeout=600, extra_arguments=["--log-level=ERROR"]).execute(cwd=str(tmp_path))
    outputs = [output for cell in notebook.cells if cell.cell_type == "code" for output in cell.outputs]
    assert not [o.text for o in outputs if o.get("name") == "stderr"]  # matplotlib warns of a character it lacks
    assert "和软件包算的一样： True\n抖动 0." in "".join(o.text for o in outputs if o.output_type == "stream")
    assert sum("image/jpeg" in output.get("data", {}) for output in outputs) == 2


def test_letters_are_set_once_for_the_session_and_only_within_for_the_library():
    import matplotlib

    from kolors_lab.core.figures import chinese_letters, lettered

    with matplotlib.rc_context():
        plain = matplotlib.rcParams["font.family"]
        with lettered():
            within = matplotlib.rcParams["font.family"]
        assert matplotlib.rcParams["font.family"] == plain != within
        chinese_letters()
        assert matplotlib.rcParams["font.family"] == within


def test_the_setup_of_a_chinese_copy_ends_with_its_beginning(tmp_path):
    out = course(CourseConfig(str(tmp_path / "course"), "zh"))
    for file in NOTEBOOKS:
        (setup,) = code(out / file.name, setup=True)
        assert setup.splitlines()[-1] == BEGIN
