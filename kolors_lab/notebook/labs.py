"""PromptLab and GridLab: what ComfyUI's and the web UI's windows do, in a notebook.

Every button does what a plain call does, and shows that call: nothing here can be done in the lab alone. The pictures
lie as PNGs with their settings in the lab's folder, and a small copy stays in the saved notebook.

    PromptLab("tiny")
    GridLab("tiny")
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import MISSING, asdict, fields, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from kolors_lab.core.errors import DataError
from kolors_lab.core.files import replacing
from kolors_lab.core.images import open_image
from kolors_lab.core.language import _
from kolors_lab.lora.tags import lora_files
from kolors_lab.models.presets import get_preset
from kolors_lab.notebook.widgets import THUMB, SettingsForm, foldable, jpeg, soon, uploaded
from kolors_lab.notebook.window import Window
from kolors_lab.pictures.files import generate_file
from kolors_lab.pictures.grids import RECIPES, GridConfig, grid
from kolors_lab.sampling.config import GenerateConfig
from kolors_lab.sampling.metadata import file_mark, read_settings

if TYPE_CHECKING:
    from diffusers import KolorsPipeline
    from ipywidgets import Widget
    from PIL import Image

DRAWN = (
    "prompt", "negative_prompt", "seed", "control_after_generate", "steps", "cfg", "sampler_name", "scheduler",
    "denoise", "width", "height", "batch", "lora", "lora_strength", "image", "hires", "hires_denoise",
)  # fmt: skip
VARIED = ("prompt", "negative_prompt", "seed", "steps", "cfg", "sampler_name", "scheduler", "lora", "lora_strength")
FOLDED = (
    "control_after_generate", "sampler_name", "scheduler", "denoise", "width", "height", "batch", "image",
    "hires", "hires_denoise",
)  # fmt: skip
SIDE, SHOWN = 300, 8  # px of the live picture; pictures kept in the notebook and in the gallery
ABOUT = ("scene", "model", "model_hash", "prompt_syntax", "loras", "preset")  # of a picture, not how it was drawn
DRAWN_OVER = 0.6  # denoise of the first picture that begins from another


class Lab(Window):
    """A form, buttons, a live picture, something below it, and the same as code."""

    call = ""  # the plain call that does the same

    def __init__(self, form: SettingsForm, pipe: KolorsPipeline | None, size: tuple[int, int], below: Widget):
        """`size`: width and height of the live picture, px."""
        from ipywidgets import HTML, HBox, Image, Layout, Textarea, VBox

        super().__init__(pipe)
        self.form = form
        self.form.box.layout = Layout(flex="1 1 24em", min_width="0")
        shape = Layout(width=f"{size[0]}px", object_fit="contain")
        self.picture = Image(value=jpeg(_blank(size)), format="jpeg", layout=shape)
        self.code = Textarea(rows=9, layout=Layout(width="98%"))
        self.code.add_class("kolors-code")
        self.buttons = HBox(layout=Layout(flex_flow="row wrap"))
        side = VBox([self.progress, self.picture])
        middle = HBox([self.form.box, side], layout=Layout(flex_flow="row wrap"))
        code = foldable(_("同样的代码 the same as code"), VBox([HTML(copy_button()), self.code]))
        self.box = VBox([self.buttons, self.status, middle, below, code])
        self.box.add_class("kolors-lab")
        self.form.on_change(self.show_code)
        self.show_code(form.start)

    def described(self) -> list[str]:
        return self.form.lines()

    def show_code(self, config: Any) -> None:
        self.code.value = as_code(config, self.call)


class DrawLab(Lab):
    """What PromptLab and GridLab have beside: a menu of the LoRA files in `loras`, the picture as it is drawn."""

    def __init__(self, config: GenerateConfig, names: Sequence[str], pipe: KolorsPipeline | None, loras: str | Path):
        from ipywidgets import HBox, Layout

        files = dict.fromkeys((*map(str, lora_files(loras)), *filter(None, [config.lora])))
        folded = [name for name in FOLDED if name in names]
        form = SettingsForm(config, names, {"lora": (None, *files)}, folded, "17em")
        self.gallery = HBox(layout=Layout(flex_flow="row wrap"))
        super().__init__(form, pipe, (SIDE, SIDE), self.gallery)
        self.loras, self.progress.layout.width = str(loras), f"{SIDE}px"

    @property
    def config(self) -> Any:
        """What the form says, with the folder of LoRA files where the prompt has a tag. Raises SettingError."""
        value = self.form.value
        return replace(value, loras=self.loras) if "<lora:" in value.prompt else value

    def show(self, image: Image.Image) -> None:
        self.picture.value = jpeg(image)

    def step(self, done: int, total: int) -> None:
        super().step(done, total)
        self.say(f"{done} / {total}")


class PromptLab(DrawLab):
    """Prompt, every knob, a LoRA; generate, stop, a live picture, same again, a gallery, workflows in and out.

    `loras`: the folder whose LoRA files stand in the menu. Pictures go to `out` as 001.png, 002.png, …
    """

    call = "generate_file"

    def __init__(
        self,
        preset: str = "tiny",
        pipe: KolorsPipeline | None = None,
        loras: str | Path = "runs",
        out: str | Path = "runs/lab",
        **settings: Any,
    ):
        from ipywidgets import FileUpload, Layout

        super().__init__(GenerateConfig(preset=preset, **settings).resolve(get_preset(preset)), DRAWN, pipe, loras)
        self.out, self.made = Path(out), []
        self.upload = FileUpload(description=_("载入 Load"), accept=".png,.json", layout=Layout(width="auto"))
        self.upload.observe(self._load, "value")
        self.buttons.children = [
            self.button(_("生成 Generate"), self.generate, "primary"),
            self.button(_("停止 Stop"), lambda: self.stop.set(), "warning"),
            self.button(_("再来一张 Same again, seed+1"), self.again),
            self.button(_("在这张上画 Draw over it"), self.draw_over),
            self.button(_("保存工作流 Save workflow"), self.save_workflow),
            self.upload,
        ]

    def generate(self) -> None:
        """Draw what the form says, into the next free number of the lab's folder."""
        config = replace(self.config, out=str(self._free()))
        preview = soon(self.show)
        self.show_code(config)
        self.run(
            lambda on_step: generate_file(
                config, self.loaded(config.preset), on_step=on_step, on_preview=preview, stop=self.stop
            ),
            lambda file: self._finish(config, file),
        )

    def again(self) -> None:
        """The same once more from the next seed."""
        self.form.update(seed=self.form.value.seed + 1)
        self.generate()

    def draw_over(self) -> None:
        """Begin from the last picture: the next one redraws as much of it as denoise says."""
        denoise = self.form.value.denoise
        self.form.update(image=self._last(), denoise=DRAWN_OVER if denoise == 1 else denoise)

    def save_workflow(self) -> None:
        """Write the last picture's settings as a workflow that ComfyUI opens, beside the picture."""
        from kolors_lab.comfy.prepare import ComfyExportConfig, comfy_export

        config = ComfyExportConfig(self._last(), str(Path(self._last()).with_suffix(".json")))
        self.say(_("已保存 saved: {file}").format(file=comfy_export(config)))
        self.code.value = as_code(config, "comfy_export")

    def load(self, file: str | Path) -> None:
        """Put the settings of a picture, or of a workflow's last sampler, into the form."""
        from kolors_lab.comfy.reader import read_workflow
        from kolors_lab.comfy.settings import settings_of

        try:
            found = read_settings(file)
        except DataError:  # none of ours: a workflow, or a PNG that carries one
            found = settings_of(read_workflow(file))
        values, notes = self._loadable(found)
        before = {name: widget.value for name, widget in self.form.widgets.items()}
        self.form.update(**values)
        changed = [name for name, widget in self.form.widgets.items() if widget.value != before[name]]
        replaced = _("换掉了 replaced: {names}").format(names=", ".join(changed))
        notes.insert(0, replaced if changed else _("都一样 nothing differs"))
        self.say(_("已载入 loaded: {file}; {notes}").format(file=Path(file).name, notes="; ".join(notes)))

    def _loadable(self, found: dict) -> tuple[dict, list[str]]:
        """What of a picture's settings the form can take, and what it cannot, in words."""
        defaults = {"lora": None, "image": None, "hires": 1.0}  # a picture without them carries none
        values = defaults | {name: found[name] for name in (*DRAWN, "prompt_syntax") if found.get(name) is not None}
        notes = []
        if values["lora"]:
            values["lora"], said = self._lora(values["lora"])
            notes += said
        if start := values["image"]:  # of a picture it began from only the name is known
            values["image"] = None
            notes.append(_("image: 请再给一次 give {file} again").format(file=start.partition(":")[0]))
        if other := [name for name, value in found.items() if value and name not in (*values, *ABOUT)]:
            notes.append(_("没用上 not used: {names}").format(names=", ".join(other)))
        ours = get_preset(self.form.start.preset).name
        if found.get("model", ours) != ours:
            notes.append(_("那张图用的模型是 it was drawn by another model: {model}").format(model=found["model"]))
        return values, notes

    def _finish(self, config: GenerateConfig, file: Path) -> None:
        self.made.append(config)
        self.show(open_image(file))
        self.say(f"{file}")
        self.gallery.children = [self._tile(one) for one in self.made[: -SHOWN - 1 : -1]]
        self.keep(jpeg(contact([Path(one.out) for one in self.made[-SHOWN:]])))
        self.form.update(seed=config.next_seed())
        self.show_code(config)

    def _last(self) -> str:
        if not self.made:
            raise DataError("还没有图片 no picture yet: generate one first")
        return self.made[-1].out

    def _free(self) -> Path:
        number = max((int(file.stem) for file in self.out.glob("*.png") if file.stem.isdigit()), default=0) + 1
        return self.out / f"{number:03}.png"

    def _lora(self, mark: str) -> tuple[str | None, list[str]]:
        """The file in the menu of a LoRA that a picture names, by name and hash if it says one; and what is to say."""
        mark = mark.replace("\\", "/").rpartition("/")[2]
        name, files = mark.partition(":")[0], [value for _, value in self.form.widgets["lora"].options if value]
        alike = [file for file in files if Path(file).stem == Path(name).stem]
        found = [file for file in alike if mark in (name, file_mark("LoRA", file))]
        if not found:
            told = _("LoRA {mark}: 菜单里没有 not in the menu, 没用上 left out")
            if alike:
                told = _("LoRA {mark}: 同名的是另一个文件 of that name there is another file, 没用上 left out")
            return None, [told.format(mark=mark)]
        told = _("LoRA: 只按名字取了 taken by its name alone: {file}").format(file=found[0])
        return found[0], [told] if mark == name else []

    def _tile(self, config: GenerateConfig) -> Any:
        """A picture of the gallery, and the button that brings it and its settings back."""
        from ipywidgets import Image, Layout, VBox

        small = contact([Path(config.out)], side=THUMB)
        back = self.button(Path(config.out).stem, lambda: self._back(config))
        back.tooltip, back.layout = _line(config), Layout(width=f"{THUMB}px")
        return VBox([Image(value=jpeg(small), format="jpeg", layout=Layout(width=f"{THUMB}px")), back])

    def _back(self, config: GenerateConfig) -> None:
        self.show(open_image(config.out))
        self.form.update(**asdict(config))
        self.say(_("回到 back to {picture}").format(picture=_line(config)))

    def _load(self, change: dict) -> None:
        for name, content in uploaded(change["new"]):
            self.attempt(lambda file=self.out / "loaded" / Path(name).name, content=content: self._take(file, content))

    def _take(self, file: Path, content: bytes) -> None:
        with replacing(file) as temporary:
            temporary.write_bytes(content)
        self.load(file)


class GridLab(DrawLab):
    """A picture over one to three settings: choose a recipe or write the axes, and draw; stopped, it goes on."""

    call = "grid"

    def __init__(
        self,
        preset: str = "tiny",
        pipe: KolorsPipeline | None = None,
        loras: str | Path = "runs",
        out: str | Path = "runs/lab/grid.png",
        **settings: Any,
    ):
        from ipywidgets import Dropdown, Layout

        config = GridConfig(preset=preset, out=str(out), **settings).resolve(get_preset(preset))
        super().__init__(config, ("x", "y", "z", *VARIED), pipe, loras)
        self.picture.layout.width = f"{2 * SIDE}px"
        self.recipes = Dropdown(options=[(_("配方 recipes"), ()), *RECIPES.items()], layout=Layout(width="16em"))
        self.recipes.observe(self._fill, "value")
        self.buttons.children = [
            self.recipes,
            self.button(_("画 Draw"), self.draw, "primary"),
            self.button(_("停止 Stop"), lambda: self.stop.set(), "warning"),
        ]

    def draw(self) -> None:
        """Draw what is missing of the grid."""
        config, live = self.config, soon(self.show)
        self.show_code(config)
        self.run(
            lambda on_step: grid(config, self.loaded(config.preset), on_step, on_picture=live, stop=self.stop),
            self._finish,
        )

    def _finish(self, file: Path) -> None:
        image = open_image(file)
        self.show(image)
        self.keep(jpeg(image))
        self.say(f"{file}")

    def _fill(self, change: dict) -> None:
        if change["new"]:
            self.form.update(x=change["new"][0], y=change["new"][1], z="")


def copy_button() -> str:
    """Copies what stands in the code's field, in the browser itself: the kernel has no way to the clipboard."""
    name, done = _("复制代码 Copy code"), _("已复制 Copied")
    return f"""<button class="jupyter-button widget-button" style="width: auto" onclick="
  const code = this.closest('.kolors-lab').querySelector('.kolors-code textarea');
  code.select(); document.execCommand('copy'); this.textContent = '{done}';
">{name}</button>"""


def as_code(config: Any, function: str) -> str:
    """The call that does the same, with the fields that differ from their defaults."""
    kind = type(config).__name__
    given = {
        field.name: getattr(config, field.name)
        for field in fields(config)
        if field.default is MISSING or getattr(config, field.name) != field.default
    }
    lines = ",\n".join(f"    {name}={value!r}" for name, value in given.items())
    return f"from kolors_lab import {kind}, {function}\n\n{function}({kind}(\n{lines},\n))"


def contact(files: Sequence[Path], side: int = 160) -> Image.Image:
    """Pictures in rows of four, each at most `side` px."""
    from PIL import Image

    images = [open_image(file) for file in files]
    columns, side = min(4, len(files)), min(side, max(max(image.size) for image in images))
    page = Image.new("RGB", (columns * side, -(-len(files) // columns) * side), "white")
    for n, image in enumerate(images):
        image.thumbnail((side, side))
        page.paste(image, (n % columns * side, n // columns * side))
    return page


def _line(config: GenerateConfig) -> str:
    return f"{Path(config.out).stem}: seed {config.seed}, {config.prompt[:12]}"


def _blank(size: tuple[int, int]) -> Image.Image:
    from PIL import Image

    return Image.new("RGB", size, "#eee")
