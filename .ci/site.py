"""The course as pages to read, in both languages, from the stored notebooks: `make site` → build/site/index.html.

Nothing is run and nothing is fetched. Sphinx with MyST-NB reads the one-language copies that `kolors-lab course` makes.
"""

import json
import re
import shutil
import subprocess
import sys
from pathlib import Path

from kolors_course.copies import LANGUAGES, CourseConfig, course

ROOT = Path(__file__).parents[1]
BUILD = ROOT / "build"
NAMES = {"zh": "中文", "en": "English"}
TITLES = {
    "zh": "kolors_lab：用 Kolors 训练 LoRA，画一个故事",
    "en": "kolors_lab: a LoRA on Kolors, a story in pictures",
}
WORDS = {
    "zh": {"learn": "笔记", "look": "查一查", "first": "不用安装就能读；想动手，照仓库里的 README.zh-CN.md 做。"},
    "en": {
        "learn": "Notebooks",
        "look": "To look up",
        "first": "To read before anything is installed; README.md begins.",
    },
}
LINK = re.compile(r"\[([^\]]+)\]\((\w+)\.(?:md|ipynb)(#[\w-]*)?\)")  # to another page of the course
STYLE = "@media (max-width: 600px) { table { table-layout: fixed; font-size: 85% } td { overflow-wrap: anywhere } }\n"
SETTINGS = {  # of Sphinx
    "project": "kolors_lab",
    "author": "kolors_lab",
    "html_static_path": ["_static"],
    "html_css_files": ["course.css"],
    "extensions": ["myst_nb"],
    "nb_execution_mode": "off",
    "nb_merge_streams": True,
    "myst_enable_extensions": ["dollarmath", "amsmath"],
    "myst_heading_anchors": 3,
    "suppress_warnings": ["mystnb.unknown_mime_type"],  # widgets; their pictures and texts are there
    "html_theme": "sphinx_book_theme",
    "html_copy_source": False,
    "html_show_copyright": False,
}


def build(lang: str) -> None:
    """Write build/site/LANG. CalledProcessError where Sphinx has something to warn of."""
    source, out = BUILD / "site-source" / lang, BUILD / "site-source" / "html" / lang
    course(CourseConfig(str(source), lang))
    for file in source.glob("*.md"):
        file.write_text(linked(file.read_text(encoding="utf-8")), encoding="utf-8")
    for file in source.glob("*.ipynb"):
        notebook = json.loads(file.read_text(encoding="utf-8"))
        for cell in notebook["cells"]:
            if cell["cell_type"] == "markdown":
                cell["source"] = linked("".join(cell["source"]))
        file.write_text(json.dumps(notebook, ensure_ascii=False), encoding="utf-8")
    (source / "index.md").write_text(index(lang, source), encoding="utf-8")
    (other,) = set(LANGUAGES) - {lang}
    settings = SETTINGS | {
        "language": {"zh": "zh_CN", "en": "en"}[lang],
        "html_title": TITLES[lang],
        "html_theme_options": {
            "announcement": f'<a style="color:inherit" href="../{other}/index.html">{NAMES[other]}</a>',
            "show_toc_level": 2,
        },
    }
    (source / "_static").mkdir()
    (source / "_static" / "course.css").write_text(STYLE, encoding="utf-8")
    conf = [f"{name} = {value!r}" for name, value in settings.items()]
    (source / "conf.py").write_text("\n".join(conf) + "\n", encoding="utf-8")
    # A process each: Sphinx is not made for two languages in one. -W: a page that is not as it should be is an error.
    subprocess.run(
        [sys.executable, "-m", "sphinx", "-q", "-W", "--keep-going", "-d", f"{out}.pickles", str(source), str(out)],
        check=True,
    )
    out.rename(BUILD / "site" / lang)  # what MyST-NB leaves beside `out` stays behind


def linked(text: str) -> str:
    """Links to other pages as HTML, for their marks are: Sphinx knows nothing of `<a id>`."""
    return LINK.sub(r'<a href="\2.html\3">\1</a>', text)


def index(lang: str, source: Path) -> str:
    """The first page: what there is to learn, and to look up."""
    words, pages = WORDS[lang], sorted({file.stem for file in source.iterdir() if file.suffix in (".ipynb", ".md")})
    parts = {words["learn"]: [p for p in pages if p[0].isdigit()], words["look"]: [p for p in pages if p[0].isupper()]}
    trees = [
        f"```{{toctree}}\n:caption: {name}\n:maxdepth: 1\n\n" + "\n".join(names) + "\n```"
        for name, names in parts.items()
    ]
    return "\n\n".join([f"# {TITLES[lang]}", words["first"], *trees]) + "\n"


def main() -> None:
    """Both languages, and a page that asks which."""
    for folder in ("site", "site-source"):
        shutil.rmtree(BUILD / folder, ignore_errors=True)
    (BUILD / "site").mkdir(parents=True)
    for lang in LANGUAGES:
        build(lang)
    links = "".join(f'<p><a href="{lang}/index.html">{TITLES[lang]}</a></p>' for lang in LANGUAGES)
    head = '<!doctype html><meta charset="utf-8"><meta name="viewport" content="width=device-width">'
    (BUILD / "site" / "index.html").write_text(f"{head}<title>kolors_lab</title>{links}", encoding="utf-8")
    print(BUILD.relative_to(ROOT) / "site" / "index.html")


if __name__ == "__main__":
    main()
