"""The files that a workflow names, found in the user's folders and nowhere else."""

from __future__ import annotations

import os
import re
from functools import cached_property
from pathlib import Path

from kolors_lab.comfy.graph import Graph, escapes, is_link, name_of, rows, short, within
from kolors_lab.comfy.nodes import kind_of
from kolors_lab.core.errors import DataError
from kolors_lab.core.images import open_image
from kolors_lab.core.language import _
from kolors_lab.lora.reading import read_lora

Files = dict[tuple[str, str], Path | None]  # by (node id, input); None: left out
NO_LORA = ("None", "none", "", None)  # what a list of LoRAs has in a place that is free
MAX_FILES = 100_000  # that are looked through in a folder


def find_files(
    graph: Graph, loras: str | Path | None, skip: bool, images: str | Path | None, nets: str | Path | None = None
) -> tuple[Files, list[str]]:
    """The files of all nodes, checked, and what to tell; with `skip` a LoRA that is missing is left out.

    `loras`, `images`, `nets`: the folders of LoRAs, of pictures, and of ControlNets, each of these a folder itself.

    Raises DataError and ModelError with node id and type.
    """
    files: Files = {}
    notes: list[str] = []
    place = _Folder(loras)
    for key, node in list(graph.items()):
        inputs, known = node["inputs"], kind_of(node)
        loaded = [(name, widget) for name, widget in known.widgets.items() if widget.folder == "loras"]
        named = [(name, inputs[name] if inputs.get(widget.switch, "On") == "On" else "") for name, widget in loaded]
        named += [(name, row["lora"] if row.get("on", True) else "") for name, row in rows(node)]
        for name, wanted in named:
            files[key, name] = None if wanted in NO_LORA else _lora(graph, key, str(wanted), place, skip, notes)
            if files[key, name] is None and wanted not in NO_LORA:
                _leave_out(graph, key, name)
        for name, widget in known.widgets.items():
            if widget.folder == "images":
                files[key, name] = _image(graph, key, str(inputs[name]), images)
            elif widget.folder == "control_nets":
                files[key, name] = _net(graph, key, str(inputs[name]), nets)
    return {place: file for place, file in files.items() if place[0] in graph}, notes


def _lora(graph: Graph, key: str, wanted: str, place: _Folder, skip: bool, notes: list[str]) -> Path | None:
    """A LoRA's file, where the workflow's own path says or else of its name anywhere within the folder."""
    path, at = wanted.replace("\\", "/"), name_of(graph, key)
    name = path.rpartition("/")[2]
    safe = re.sub(r"\.[^./]*$", "", path) + ".safetensors"
    here = _inside(place.folder, path) or _inside(place.folder, safe)
    file = here or place.find(name, at) or place.find(safe.rpartition("/")[2], at)
    if file is None:
        if skip:
            notes.append(_("{at}: LoRA {name} is missing and left out").format(at=at, name=short(name)))
            return None
        if place.folder:
            raise DataError(
                "{at}: LoRA {name} is not in {folder}; or leave it out with --missing_loras skip (in Python: "
                "missing_loras='skip')",
                at=at, name=short(name), folder=place.folder,
            )  # fmt: skip
        raise DataError(
            "{at}: LoRA {name} is needed: say with --loras (in Python: loras=…) which folder it is in; or "
            "leave it out with --missing_loras skip (missing_loras='skip')",
            at=at, name=short(name),
        )  # fmt: skip
    with within(graph, key):
        read_lora(file, graph[key]["inputs"].get("lora_alpha"))  # damage and pickles with code are found now
    if file.name != name:
        notes.append(_("{at}: {found} in place of {name}").format(at=at, found=file.name, name=name))
    return file


def _leave_out(graph: Graph, key: str, name: str) -> None:
    """Take a LoRA out of the graph, so that no picture says it was drawn with it: its place in a list, or the node."""
    node, known = graph[key], kind_of(graph[key])
    if known.is_row(name):
        node["inputs"][name] = {**node["inputs"][name], "on": False}
        return
    if sum(widget.folder == "loras" for widget in known.widgets.values()) > 1:
        node["inputs"][name] = "None"
        return
    passed = [next((put for put, link in known.links.items() if link.kind == of), "") for of in known.outputs]
    for other in graph.values():
        for put, value in other["inputs"].items():
            if is_link(value) and value[0] == key:
                other["inputs"][put] = node["inputs"].get(passed[value[1]])
    del graph[key]


def _image(graph: Graph, key: str, name: str, folder: str | Path | None) -> Path:
    """The picture that a node names, in the folder or one within it, checked."""
    at = name_of(graph, key)
    for place in ("input", "output", "temp"):  # ComfyUI's folders
        name = name.removesuffix(f" [{place}]")
    if escapes(name):
        raise DataError(
            "{at}: image = {name!r} leads out of the folder of pictures; give a plain name", at=at, name=name
        )
    file = _inside(folder, name.replace("\\", "/"))
    if file is None:
        if folder:
            raise DataError("{at}: picture {name} is not in {folder}", at=at, name=short(name), folder=folder)
        raise DataError(
            "{at}: picture {name} is needed: say with --images (in Python: images=…) which folder it is in",
            at=at, name=short(name),
        )  # fmt: skip
    with within(graph, key):
        open_image(file)
    return file


def _net(graph: Graph, key: str, name: str, folder: str | Path | None) -> Path:
    """The folder of a ControlNet: of the name that the node says, without suffix, or the one that is given itself."""
    at, path = name_of(graph, key), name.replace("\\", "/").removesuffix(".safetensors").removesuffix(".bin")
    if folder is None:
        raise DataError(
            "{at}: ControlNet {name} is needed: say with --control_nets (in Python: control_nets=…) which folder it is "
            "in",
            at=at, name=short(name),
        )  # fmt: skip
    for place in (".", path, path.rpartition("/")[2]):
        if config := _inside(folder, f"{place}/config.json"):
            return config.parent
    raise DataError(
        "{at}: {folder} holds no ControlNet {name}: a folder of that name with its config.json",
        at=at, folder=folder, name=short(name),
    )  # fmt: skip


def _inside(folder: str | Path | None, path: str) -> Path | None:
    """The file at a path within the folder; None where there is none, or it leads out, also by a symbolic link."""
    if not folder or not path.strip(". ") or escapes(path):
        return None
    file = Path(folder, path)
    try:
        return file if file.is_file() and file.resolve().is_relative_to(Path(folder).resolve()) else None
    except (OSError, ValueError, RuntimeError):  # a name too long or of no encoding, a ring of links
        return None


class _Folder:
    """A folder and all that lies within, looked through once, when a file is not where it should be."""

    def __init__(self, folder: str | Path | None):
        self.folder = folder

    @cached_property
    def paths(self) -> dict[str, list[Path]]:
        """The paths within the folder by the files' names. Raises DataError for more than MAX_FILES."""
        found: dict[str, list[Path]] = {}
        count = 0
        for place, _folders, names in os.walk(self.folder or ""):
            count += len(names)
            if count > MAX_FILES:
                raise DataError(
                    "{folder}: more than {most} files; give the folder of the LoRAs alone",
                    folder=self.folder,
                    most=MAX_FILES,
                )
            for name in names:
                found.setdefault(name, []).append(Path(place, name).relative_to(self.folder))
        return found

    def find(self, name: str, at: str) -> Path | None:
        """The one file of this name; of several that at the top. DataError where none of several is."""
        if top := _inside(self.folder, name):
            return top
        found = [path for path in self.paths.get(name, ()) if _inside(self.folder, str(path))]
        if len(found) > 1:
            places = ", ".join(sorted(map(str, found))[:5])
            raise DataError(
                "{at}: LoRA {name} is there {count} times: {places}; write the folder in the workflow",
                at=at, name=name, count=len(found), places=places,
            )  # fmt: skip
        return Path(self.folder, found[0]) if found else None
