"""`<lora:name:0.8>` in a prompt: taken out of its text, and the files they mean."""

from __future__ import annotations

from pathlib import Path

from kolors_lab.core.errors import SettingError
from kolors_lab.core.language import _
from kolors_lab.prompts.syntax import extract_loras


def find_tags(text: str, folder: str | Path | None) -> tuple[str, list[tuple[Path, float]]]:
    """A prompt without its `<lora:name:0.8>` tags, and their files and strengths in order.

    Files are looked for by their names in the folder and those within it, nowhere else. Raises SettingError.
    """
    text, tags = extract_loras(text)
    if tags and folder is None:
        raise SettingError("<lora:{name}>: say as loras which folder the file is in", name=tags[0][0])
    return text, [(find_lora(name, folder), strength) for name, strength in tags]


def find_lora(name: str, folder: str | Path) -> Path:
    """The one LoRA file `name`.safetensors in a folder or those within it. Raises SettingError."""
    files = lora_files(folder)
    found = [file for file in files if file.stem == name]
    if not found:
        has = ", ".join(dict.fromkeys(file.stem for file in files)) or _("none")
        raise SettingError(
            "<lora:{name}>: no such file in {folder}, which has {has}", name=name, folder=folder, has=has
        )
    if len(found) > 1:
        files = ", ".join(map(str, found))
        raise SettingError("<lora:{name}>: which of {files}? Give one as lora, or rename it", name=name, files=files)
    return found[0]


def lora_files(folder: str | Path) -> list[Path]:
    """All .safetensors files of a folder and those within it, but for links that lead out."""
    inside = Path(folder).resolve()
    return [file for file in sorted(Path(folder).rglob("*.safetensors")) if file.resolve().is_relative_to(inside)]
