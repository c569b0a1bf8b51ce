"""Pages and cards from Jinja templates, which lie beside the code that fills them in."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

from kolors_lab.core.files import replacing
from kolors_lab.core.fonts import embed_font
from kolors_lab.core.language import _, language


def render(template: Path, content: dict[str, Any], **filters: Callable[[Any], str]) -> str:
    """A template filled in; in one of HTML (`….html.j2`) every value is escaped."""
    from jinja2 import Environment, FileSystemLoader, select_autoescape

    templates = Environment(
        loader=FileSystemLoader(template.parent), autoescape=select_autoescape(["html.j2"]), trim_blocks=True,
        keep_trailing_newline=True,
    )  # fmt: skip
    templates.filters |= filters
    templates.globals |= {"_": _, "lang": language()}
    return templates.get_template(template.name).render(content)


def write_page(file: str | Path, template: Path, content: dict[str, Any]) -> Path:
    """A page of one file, which may be sent and opened offline: its `font` has just the characters it shows."""
    font = embed_font(render(template, content | {"font": ""}))
    with replacing(file) as part:
        part.write_text(render(template, content | {"font": font}), encoding="utf-8")
    return Path(file)
