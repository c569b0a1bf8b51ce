"""PromptLab and GridLab: what ComfyUI's and the web UI's windows do, in a notebook.

Every button does what a plain call does, and shows that call: nothing here can be done in the lab alone. The pictures
lie as PNGs with their settings in the lab's folder, and a small copy stays in the saved notebook.

    PromptLab("tiny")
    GridLab("tiny")
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import MISSING, asdict, fields, replace
from html import escape
from pathlib import Path
from typing import TYPE_CHECKING, Any

from kolors_lab.core.errors import DataError, KolorsLabError
from kolors_lab.core.files import replacing
from kolors_lab.lora.tags import lora_files
from kolors_lab.models.loading import load_pipeline
from kolors_lab.models.presets import get_preset
from kolors_lab.notebook.widgets import SettingsForm, aside, jpeg, soon
from kolors_lab.pictures.files import generate_file
from kolors_lab.pictures.grids import RECIPES, GridConfig, grid
from kolors_lab.sampling.metadata import read_settings
from kolors_lab.sampling.pipeline import GenerateConfig, Stop, Stopped, file_mark

if TYPE_CHECKING:
    from diffusers import KolorsPipeline
    from PIL import Image

DRAWN = (
    "prompt", "negative_prompt", "seed", "control_after_generate", "steps", "cfg", "sampler_name", "scheduler",
    "denoise", "width", "height", "batch", "lora", "lora_strength", "image", "hires", "hires_denoise",
)  # fmt: skip
VARIED = ("prompt", "negative_prompt", "seed", "steps", "cfg", "sampler_name", "scheduler", "lora", "lora_strength")
SIDE, SHOWN = 300, 8  # px of the live picture; pictures kept in the notebook
DRAWN_OVER = 0.6  # denoise of the first picture that begins from another
COPY = """<button class="jupyter-button widget-button" style="width: auto" onclick="
  const code = this.closest('.kolors-lab').querySelector('.kolors-code textarea');
  code.select(); document.execCommand('copy'); this.textContent = '已复制 Copied';
">复制代码 Copy code</button>"""  # in the browser itself: the kernel has no way to the clipboard


class Lab:
    """What both labs have: a form, buttons, a live picture, a line that says how it goes, the same as code."""

    def __init__(self, config: GenerateConfig, names: Sequence[str], pipe: KolorsPipeline | None, loras: str | Path):
        from ipywidgets import HTML, HBox, Image, IntProgress, Layout, Textarea, VBox

        self.pipe, self.stop, self.busy = pipe, Stop(), False
        files = dict.fromkeys((*map(str, lora_files(loras)), *filter(None, [config.lora])))
        self.loras, self.form = str(loras), SettingsForm(config, names, {"lora": (None, *files)})
        self.picture = Image(
            value=jpeg(_blank()), format="jpeg", layout=Layout(width=f"{SIDE}px", object_fit="contain")
        )
        self.progress = IntProgress(max=1, layout=Layout(width=f"{SIDE}px"))
        self.status = HTML()
        self.code = Textarea(rows=9, layout=Layout(width="98%"), description="同样的代码 code:")
        self.code.style.description_width = "9em"
        self.code.add_class("kolors-code")
        self.buttons = HBox(layout=Layout(flex_flow="row wrap"))
        side = VBox([self.picture, self.progress, self.status])
        form = HBox([self.form.box, side], layout=Layout(flex_flow="row wrap"))
        self.box = VBox([form, self.buttons, self.code, HTML(COPY)])
        self.box.add_class("kolors-lab")
        self.kept = None  # the picture that stays in the saved notebook
        self.form.on_change(self._show_code)
        self._show_code(config)

    @property
    def config(self) -> Any:
        """What the form says, with the folder of LoRA files where the prompt has a tag. Raises SettingError."""
        value = self.form.value
        return replace(value, loras=self.loras) if "<lora:" in value.prompt else value

    def _button(self, text: str, action: Callable[[], None], style: str = "") -> Any:
        from ipywidgets import Button, Layout

        def click(_: object) -> None:
            try:
                action()
            except KolorsLabError as error:
                self.say(str(error), wrong=True)

        button = Button(description=text, button_style=style, layout=Layout(width="auto"))
        button.on_click(click)
        return button

    def say(self, text: str, wrong: bool = False) -> None:
        self.status.value = f'<span style="color:{"#b3261e" if wrong else "#444"}">{escape(text)}</span>'

    def show(self, image: Image.Image) -> None:
        self.picture.value = jpeg(image)

    def keep(self, image: Image.Image) -> None:
        """Put a picture into the cell's own output, where it stays when the widgets are gone."""
        if self.kept:
            self.kept.update({"image/jpeg": jpeg(image)}, raw=True)

    def run(self, work: Callable[..., Any], done: Callable[[Any], None]) -> None:
        """Do `work(on_step, stop)` beside the kernel's loop, then `done(its result)`, or say in a line why not."""
        if self.busy:
            self.say("还在画上一张 the last one is still being drawn", wrong=True)
            return
        self.busy, self.stop = True, Stop()
        on_step = soon(self._step)
        self.progress.value = 0
        self.say("正在画 … drawing" if self.pipe else "正在载入模型 … loading the model")

        def finish(result: Any) -> None:
            self.busy = False
            if isinstance(result, Stopped):
                self.say("停下了 stopped")
            elif isinstance(result, KolorsLabError):
                self.say(str(result), wrong=True)
            else:
                done(result)

        aside(lambda: work(on_step, self.stop), finish)

    def _step(self, done: int, total: int) -> None:
        self.progress.max, self.progress.value = total, done
        self.say(f"{done} / {total}")

    def loaded(self, preset: str) -> KolorsPipeline:
        self.pipe = self.pipe or load_pipeline(get_preset(preset))
        return self.pipe

    def _ipython_display_(self) -> None:
        from IPython.display import display

        display(self.box)
        self.kept = display({"text/plain": "图片会留在这里 pictures will stay here"}, raw=True, display_id=True)

    def _show_code(self, config: GenerateConfig) -> None:
        raise NotImplementedError


class PromptLab(Lab):
    """Prompt, every knob, a LoRA; generate, stop, a live picture, same again, history, workflows in and out.

    `loras`: the folder whose LoRA files stand in the menu. Pictures go to `out` as 001.png, 002.png, …
    """

    def __init__(
        self,
        preset: str = "tiny",
        pipe: KolorsPipeline | None = None,
        loras: str | Path = "runs",
        out: str | Path = "runs/lab",
        **settings: Any,
    ):
        from ipywidgets import Dropdown, FileUpload, Layout

        super().__init__(GenerateConfig(preset=preset, **settings).resolve(get_preset(preset)), DRAWN, pipe, loras)
        self.out, self.made = Path(out), []
        self.history = Dropdown(options=[("历史 history", -1)], layout=Layout(width="16em"))
        self.history.observe(self._back, "value")
        self.upload = FileUpload(description="载入 Load", accept=".png,.json", layout=Layout(width="auto"))
        self.upload.observe(self._load, "value")
        self.buttons.children = [
            self._button("生成 Generate", self.generate, "primary"),
            self._button("停止 Stop", lambda: self.stop.set(), "warning"),
            self._button("再来一张，种子+1 Same again, seed+1", self.again),
            self._button("在这张上画 Draw over it", self.draw_over),
            self._button("保存工作流 Save workflow", self.save_workflow),
            self.upload,
            self.history,
        ]

    def generate(self) -> None:
        """Draw what the form says, into the next free number of the lab's folder."""
        config = replace(self.config, out=str(self._free()))
        preview = soon(self.show)
        self._show_code(config)
        self.run(
            lambda on_step, stop: generate_file(
                config, self.loaded(config.preset), on_step=on_step, on_preview=preview, stop=stop
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
        self.say(f"已保存 saved: {comfy_export(config)}")
        self.code.value = as_code(config, "comfy_export", "kolors_lab.comfy.prepare")

    def load(self, file: str | Path) -> None:
        """Put the settings of a picture, or of a workflow's last sampler, into the form."""
        from kolors_lab.comfy.reader import read_workflow
        from kolors_lab.comfy.settings import settings_of

        try:
            found = read_settings(file)
        except DataError:  # none of ours: a workflow, or a PNG that carries one
            found = settings_of(read_workflow(file))
        defaults = {"lora": None, "image": None, "hires": 1.0}  # a picture without them carries none
        known = defaults | {name: found[name] for name in (*DRAWN, "prompt_syntax") if found.get(name) is not None}
        known["lora"] = known["lora"] and self._lora(known["lora"])
        start, known["image"] = known["image"], None  # of a picture it began from only the name is known
        self.form.update(**known)
        missing = f"; image: give {start.partition(':')[0]} again" if start else ""
        self.say(f"已载入 loaded: {Path(file).name}{missing}")

    def _finish(self, config: GenerateConfig, file: Path) -> None:
        from kolors_lab.core.images import open_image

        self.made.append(config)
        self.show(open_image(file))
        self.say(f"{file}")
        self.history.options = [("历史 history", -1), *((_line(one), n) for n, one in enumerate(self.made))]
        self.keep(contact([Path(one.out) for one in self.made[-SHOWN:]]))
        self.form.update(seed=config.next_seed())
        self._show_code(config)

    def _last(self) -> str:
        if not self.made:
            raise DataError("还没有图片 no picture yet: generate one first")
        return self.made[-1].out

    def _free(self) -> Path:
        number = max((int(file.stem) for file in self.out.glob("*.png") if file.stem.isdigit()), default=0) + 1
        return self.out / f"{number:03}.png"

    def _lora(self, mark: str) -> str:
        """The file in the menu of a LoRA that a picture names, by name and hash if it says one."""
        mark = mark.replace("\\", "/").rpartition("/")[2]
        name, files = mark.partition(":")[0], [value for _, value in self.form.widgets["lora"].options if value]
        found = [file for file in files if Path(file).stem == Path(name).stem]
        found = [file for file in found if mark in (name, file_mark("LoRA", file))]
        if not found:
            raise DataError(f"LoRA {mark}: no such file in the menu; it has {', '.join(files) or 'none'}")
        return found[0]

    def _back(self, change: dict) -> None:
        if change["new"] != -1:
            self.form.update(**asdict(self.made[change["new"]]))

    def _load(self, change: dict) -> None:
        for upload in change["new"]:
            try:
                with replacing(self.out / "loaded" / Path(upload["name"]).name) as file:
                    file.write_bytes(upload["content"])
                self.load(self.out / "loaded" / Path(upload["name"]).name)
            except KolorsLabError as error:
                self.say(str(error), wrong=True)

    def _show_code(self, config: GenerateConfig) -> None:
        self.code.value = as_code(config, "generate_file", "kolors_lab.sampling.pipeline")


class GridLab(Lab):
    """A picture over one to three settings: choose a recipe or write the axes, and draw; stopped, it goes on."""

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
        self.recipes = Dropdown(options=[("配方 recipes", ()), *RECIPES.items()], layout=Layout(width="16em"))
        self.recipes.observe(self._fill, "value")
        self.buttons.children = [
            self.recipes,
            self._button("画 Draw", self.draw, "primary"),
            self._button("停止 Stop", lambda: self.stop.set(), "warning"),
        ]

    def draw(self) -> None:
        """Draw what is missing of the grid."""
        config, live = self.config, soon(self.show)
        self._show_code(config)
        self.run(
            lambda on_step, stop: grid(config, self.loaded(config.preset), on_step, on_picture=live, stop=stop),
            self._finish,
        )

    def _finish(self, file: Path) -> None:
        from kolors_lab.core.images import open_image

        image = open_image(file)
        self.show(image)
        self.keep(image)
        self.say(f"{file}")

    def _fill(self, change: dict) -> None:
        if change["new"]:
            self.form.update(x=change["new"][0], y=change["new"][1], z="")

    def _show_code(self, config: GenerateConfig) -> None:
        self.code.value = as_code(config, "grid", "kolors_lab.pictures.grids")


def as_code(config: Any, function: str, module: str) -> str:
    """The call that does the same, with the fields that differ from their defaults."""
    kind = type(config).__name__
    given = {
        field.name: getattr(config, field.name)
        for field in fields(config)
        if field.default is MISSING or getattr(config, field.name) != field.default
    }
    lines = ",\n".join(f"    {name}={value!r}" for name, value in given.items())
    return f"from {module} import {kind}, {function}\n\n{function}({kind}(\n{lines},\n))"


def contact(files: Sequence[Path], columns: int = 4, side: int = 160) -> Image.Image:
    """Pictures in rows of `columns`, each at most `side` px."""
    from PIL import Image

    from kolors_lab.core.images import open_image

    images = [open_image(file) for file in files]
    columns, side = min(columns, len(files)), min(side, max(max(image.size) for image in images))
    page = Image.new("RGB", (columns * side, -(-len(files) // columns) * side), "white")
    for n, image in enumerate(images):
        image.thumbnail((side, side))
        page.paste(image, (n % columns * side, n // columns * side))
    return page


def _line(config: GenerateConfig) -> str:
    return f"{Path(config.out).stem}: seed {config.seed}, {config.prompt[:12]}"


def _blank() -> Image.Image:
    from PIL import Image

    return Image.new("RGB", (SIDE, SIDE), "#eee")
