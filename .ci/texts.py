"""Bring the catalogues of texts up to date with the code: `make texts`, then fill in what it names.

A text is what the code marks with `_`, in Python and in templates, what an error or a warning of ours is made of, and
what the docstrings of commands' settings say.
The Chinese catalogue holds every text, the English one those that stand in both languages. Texts that nothing marks any
more go; .po is for people, .mo is what gettext reads, and both are kept in git, so that a checkout needs no build.
"""

import re
import sys
from collections.abc import Iterator
from io import BytesIO
from pathlib import Path

from babel.messages import Catalog
from babel.messages.extract import extract_from_dir
from babel.messages.mofile import write_mo
from babel.messages.pofile import read_po, write_po

ROOT = Path(__file__).parents[1]
METHODS = [("**.py", "python"), ("**.j2", "jinja2")]
MESSAGES = (
    "KolorsLabError", "SettingError", "DataError", "ModelError", "FetchError", "UploadError", "KolorsLabWarning",
    "Full", "Interrupted", "PromptCut", "Stopped",
)  # fmt: skip
KEYWORDS = dict.fromkeys(("_", *MESSAGES))  # whose first argument is a text
CHINESE = re.compile("[\u3400-\u9fff]")


def texts() -> dict[str, list[str]]:
    """Every text, and the files that it stands in, in the order of the files."""
    found: dict[str, list[str]] = {}
    for text, file in [*_marked(), *_documented()]:
        places = found.setdefault(text, [])
        places += [file] if file not in places else []
    return found


def _marked() -> Iterator[tuple[str, str]]:
    package = ROOT / "kolors_lab"
    for file, _line, text, _comments, _context in sorted(extract_from_dir(package, METHODS, keywords=KEYWORDS)):
        yield text, f"kolors_lab/{file}"


def _documented() -> Iterator[tuple[str, str]]:
    from docstring_parser import parse_from_object

    from kolors_lab.cli.options import COMMANDS, settings_of
    from kolors_lab.core.fields import documented

    for command in COMMANDS:
        config = settings_of(command)
        about, file = parse_from_object(config).short_description, f"{config.__module__.replace('.', '/')}.py"
        yield from ((text, file) for text in (about, *documented(config).values()))


def wanted(language: str) -> dict[str, list[str]]:
    """The texts that this language's catalogue must hold."""
    return {text: files for text, files in texts().items() if text and (language == "zh" or CHINESE.search(text))}


def file_of(language: str, suffix: str = ".po") -> Path:
    return ROOT / "kolors_lab" / "locale" / language / "LC_MESSAGES" / f"kolors_lab{suffix}"


def read(language: str) -> Catalog:
    """The catalogue as it is in git; an empty one before there is any."""
    if not file_of(language).exists():
        return Catalog(locale=language)
    with file_of(language).open("rb") as stream:
        return read_po(stream, locale=language)


def compiled(catalog: Catalog) -> bytes:
    """What gettext reads."""
    stream = BytesIO()
    write_mo(stream, catalog)
    return stream.getvalue()


def update(language: str) -> list[str]:
    """Write both files of a language; the texts that still lack their translation."""
    before = read(language)
    about = {"project": "kolors_lab", "version": "1", "header_comment": "#", "fuzzy": False}
    about |= dict.fromkeys(("msgid_bugs_address", "last_translator", "language_team"), "kolors_lab")
    first = before.creation_date  # and no other: the same texts give the same file
    after = Catalog(language, creation_date=first, revision_date=first, **about)
    for text, files in wanted(language).items():
        known = before.get(text)
        after.add(text, known.string if known else "", [(file, None) for file in files])
    file_of(language).parent.mkdir(parents=True, exist_ok=True)
    with file_of(language).open("wb") as stream:
        write_po(stream, after, width=120, include_lineno=False)
    file_of(language, ".mo").write_bytes(compiled(after))
    return [message.id for message in after if message.id and not message.string]


if __name__ == "__main__":
    missing = [(language, text) for language in ("zh", "en") for text in update(language)]
    for language, text in missing:
        print(f"{file_of(language).relative_to(ROOT)}: {text!r} lacks its translation")
    sys.exit(bool(missing))
