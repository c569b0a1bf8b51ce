"""The nodes that run here, told as ComfyUI's /object_info tells its own; clients check and build workflows by it."""

from __future__ import annotations

import inspect
from pathlib import Path
from typing import TYPE_CHECKING, Any

from kolors_lab.comfy.nodes import NODES
from kolors_lab.comfy.registry import Link, Node, Widget
from kolors_lab.comfy.writer import KINDS
from kolors_lab.core.images import SUFFIXES
from kolors_lab.lora.tags import lora_files

if TYPE_CHECKING:
    from kolors_lab.serve.server import ServeConfig


def object_info(config: ServeConfig, only: str | None = None) -> dict[str, Any]:
    """Every node, or only one, by its class."""
    files = {
        "loras": [str(file.relative_to(config.loras)) for file in lora_files(config.loras)] if config.loras else [],
        "images": sorted(
            str(file.relative_to(config.images))
            for file in Path(config.images).rglob("*")
            if file.suffix.lower() in SUFFIXES
        ),
    }
    return {name: _info(name, node, files) for name, node in NODES.items() if only in (None, name)}


def _info(name: str, node: Node, files: dict[str, list[str]]) -> dict[str, Any]:
    inputs: dict[str, dict] = {"required": {}, "optional": {}}
    for key, kind in node.inputs.items():
        part = "optional" if isinstance(kind, Link) and kind.optional else "required"
        inputs[part][key] = [kind.kind, {}] if isinstance(kind, Link) else _widget(kind, files)
    return {
        "input": inputs, "input_order": {part: list(found) for part, found in inputs.items()},
        "output": list(node.outputs), "output_is_list": [False] * len(node.outputs),
        "output_name": list(node.outputs), "name": name, "display_name": name,
        "description": inspect.getdoc(node.run) or "", "python_module": "nodes", "category": "kolors_lab",
        "output_node": node.pictures,
    }  # fmt: skip


def _widget(widget: Widget, files: dict[str, list[str]]) -> list:
    options = {} if widget.default is None else {"default": widget.default}
    if widget.folder in files:
        return [files[widget.folder], options | ({"image_upload": True} if widget.folder == "images" else {})]
    if widget.choices:
        return [list(widget.choices), options]
    if widget.kind in (int, float):
        options |= {"min": widget.low, "max": widget.high, "step": widget.step if widget.kind is int else 0.01}
        options |= {"control_after_generate": True} if widget.is_seed else {}
    if widget.kind is str and widget.dynamic:
        options |= {"multiline": True, "dynamicPrompts": True}
    return [KINDS.get(widget.kind, "*"), options]
