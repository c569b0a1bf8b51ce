"""A page for a friend: draw, tell a story, read a picture's settings, in a browser.

kolors-lab app                       # on this machine
kolors-lab app --write studio        # the files of a ModelScope studio: app.py and requirements.txt

A studio runs the same page: `from kolors_lab.serve.app import app; app().launch()`.
"""

from __future__ import annotations

import json
from collections import deque
from collections.abc import Callable
from dataclasses import dataclass
from functools import cache, wraps
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import TYPE_CHECKING, Annotated, Any

from kolors_lab.comic.panels import DEFAULT_TITLE, StoryConfig, story, story_file
from kolors_lab.comic.script import read_story
from kolors_lab.core.errors import DataError, KolorsLabError, SettingError
from kolors_lab.core.fields import OneOf, Range, bounds, check_fields, hints, kinds, label
from kolors_lab.core.files import replacing, write_table
from kolors_lab.core.language import _
from kolors_lab.lora.tags import lora_files
from kolors_lab.models.loading import load_pipeline
from kolors_lab.models.presets import get_preset
from kolors_lab.pictures.files import generate_file
from kolors_lab.sampling.config import GenerateConfig
from kolors_lab.sampling.metadata import infotext, read_settings
from kolors_lab.serve.server import check_door, need

if TYPE_CHECKING:
    from diffusers import KolorsPipeline
    from gradio import Blocks

PORT = 7860
ROWS = (  # side by side
    ("prompt",), ("negative_prompt",), ("lora", "lora_strength"), ("seed", "steps", "cfg"),
    ("sampler_name", "scheduler"), ("width", "height"),
)  # fmt: skip
BUTTONS = ["download", "fullscreen"]  # without Gradio's own `share`, which sends a picture to a public place
COLUMNS = {
    "scene": "旁白 scene",
    "prompt": "提示词 prompt",
    "negative_prompt": "反向提示词 negative",
    "seed": "种子 seed",
}
KEPT = 40  # drawings whose files lie there for their browsers to load
NO_LORA = "无 none"
FILES = {
    "app.py": "from kolors_lab.serve.app import app\n\napp().launch()\n",
    "requirements.txt": "# or the path of a wheel of the project\nkolors-lab[app]\n",
}


@dataclass(frozen=True)
class AppConfig:
    """A page in the browser to draw, tell a story and read pictures, for a friend or a ModelScope studio.

    Args:
        preset: tiny, kolors, or a folder that holds a KolorsPipeline
        loras: the folder whose LoRA files can be chosen, if there is one of that name
        host: the address to listen at; 127.0.0.1 is this machine only, any other needs a key
        port: the port; 0: any that is free
        key: the password for the user kolors, 12 characters or more
        write: a folder to write a studio's app.py and requirements.txt into, in place of opening the page
    """

    preset: str = "tiny"
    loras: str = "loras"
    host: str = "127.0.0.1"
    port: Annotated[int, Range(0, 65535)] = PORT
    key: str | None = None
    write: str | None = None

    def __post_init__(self):
        check_fields(self)
        check_door(self.host, self.key)


def run_app(config: AppConfig, say: Callable[[str], None] = print) -> str:
    """Open the page until Ctrl+C, or write a studio's files. Raises KolorsLabError where it cannot begin."""
    if config.write:
        return str(write_studio(Path(config.write)))
    page = app(config)
    auth = ("kolors", config.key) if config.key else None
    try:
        _app, address, _shared = page.launch(
            server_name=config.host, server_port=config.port or None, auth=auth, quiet=True, prevent_thread_lock=True
        )
    except OSError as error:
        address = f"{config.host}:{config.port}"
        raise SettingError("{address}: it is taken; choose another --port", address=address) from error
    say(_("{address} ; Ctrl+C ends it").format(address=address))
    page.block_thread()
    return address


def write_studio(folder: Path) -> Path:
    """A ModelScope studio's files. Raises DataError where one of another content lies there."""
    for name, text in FILES.items():
        file = folder / name
        if file.exists() and file.read_text(encoding="utf-8", errors="replace") != text:
            raise DataError("{file} is there already, so it stays; choose another folder", file=file)
    for name, text in FILES.items():
        with replacing(folder / name) as part:
            part.write_text(text, encoding="utf-8")
    return folder


def app(config: AppConfig | None = None, pipe: KolorsPipeline | None = None) -> Blocks:
    """The page; the model is loaded when the first picture is asked for. Raises KolorsLabError without Gradio."""
    gr = need("gradio", "app")
    desk = Desk(config or AppConfig(), pipe)
    with gr.Blocks(title="Kolors", analytics_enabled=False) as page:
        gr.Markdown(f"## 可图画室 Kolors studio\n模型 model: `{desk.preset.name}`")
        with gr.Tab("画一张 Draw"):
            fields = _draw_tab(gr, desk)
        with gr.Tab("讲故事 Tell a story"):
            _story_tab(gr, desk)
        with gr.Tab("读图 Read a picture"):
            _read_tab(gr, fields)
    return page.queue(max_size=16, default_concurrency_limit=1)


class Desk:
    """What the page's buttons do: one drawing at a time, with the files of the last KEPT of them."""

    def __init__(self, config: AppConfig, pipe: KolorsPipeline | None):
        self.config, self.preset = config, get_preset(config.preset)
        self.pipe = cache(lambda: pipe or load_pipeline(self.preset))
        self.kept: deque[TemporaryDirectory] = deque(maxlen=KEPT)  # one that falls out is deleted

    def loras(self) -> dict[str, str]:
        """The LoRA files that can be chosen, by name."""
        folder = Path(self.config.loras)
        return {file.stem: str(file) for file in lora_files(folder)} if folder.is_dir() else {}

    def folder(self) -> Path:
        self.kept.append(TemporaryDirectory(prefix="kolors_lab_"))
        return Path(self.kept[-1].name)

    def draw(self, values: dict[str, Any], on_step: Callable[[int, int], None]) -> Path:
        """The PNG of the page's values, its settings inside. Raises KolorsLabError."""
        values = values | {"lora": self.loras().get(values["lora"])}
        out = str(self.folder() / "picture.png")
        loras = self.config.loras if Path(self.config.loras).is_dir() else None
        config = GenerateConfig(preset=self.config.preset, loras=loras, out=out, **values)
        return generate_file(config, self.pipe(), on_step)

    def story(
        self, rows: list[list], title: str, lora: str, strength: float, on_step: Callable[[int, int], None]
    ) -> tuple[Path, list[Path]]:
        """The page and the panels of a table of scenes. Raises KolorsLabError."""
        folder = self.folder()
        scenes = [row for row in rows if any(str(cell or "").strip() for cell in row)]
        table = write_table(folder / "story.csv", list(COLUMNS), scenes)
        settings = {"lora": self.loras().get(lora), "lora_strength": strength, "title": title or None}
        page = story(
            StoryConfig(preset=self.config.preset, story=str(table), out=str(folder), **settings), on_step, self.pipe()
        )
        return page, [folder / "panels" / f"{n}.png" for n in range(1, len(scenes) + 1)]


def _draw_tab(gr: Any, desk: Desk) -> dict[str, Any]:
    with gr.Row():
        with gr.Column():
            fields = {}
            for row in ROWS:
                with gr.Row():
                    fields |= {name: _control(gr, name, desk) for name in row}
            button = gr.Button("生成 Generate", variant="primary")
        picture = gr.Image(
            label="图 Picture", type="filepath", format="png", interactive=False, buttons=BUTTONS, height=640
        )

    @told(gr)
    def draw(*values: Any, progress: Any = gr.Progress()) -> str:  # noqa: B008  (Gradio's way to ask for one)
        return str(desk.draw(dict(zip(fields, values, strict=True)), lambda step, total: progress((step, total))))

    button.click(draw, list(fields.values()), picture, concurrency_id="drawing", api_name="draw")
    return fields


def _story_tab(gr: Any, desk: Desk) -> None:
    scenes = [[getattr(scene, name) for name in COLUMNS] for scene in read_story(story_file(None))]
    title = gr.Textbox(DEFAULT_TITLE, label="标题 title")
    table = gr.Dataframe(
        scenes, headers=list(COLUMNS.values()), type="array", wrap=True, label="分镜 scenes",
        column_widths=["14%", "46%", "30%", "10%"],
    )  # fmt: skip
    with gr.Row():
        lora, strength = _control(gr, "lora", desk), _control(gr, "lora_strength", desk)
    button = gr.Button("讲故事 Tell it", variant="primary")
    page = gr.Image(label="整页 Page", type="filepath", format="png", interactive=False, buttons=BUTTONS)
    panels = gr.Gallery(label="每格 Panels", columns=4, format="png", buttons=BUTTONS)

    @told(gr)
    def tell(
        rows: list[list], title: str, lora: str, strength: float,
        progress: Any = gr.Progress(),  # noqa: B008
    ) -> tuple[str, list[str]]:  # fmt: skip
        page, panels = desk.story(rows, title, lora, strength, lambda done, total: progress((done, total)))
        return str(page), [str(panel) for panel in panels]

    button.click(tell, [table, title, lora, strength], [page, panels], concurrency_id="drawing", api_name="story")


def _read_tab(gr: Any, fields: dict[str, Any]) -> None:
    """A picture's settings; those that the first tab has go into it, a LoRA apart: its file may not be here."""
    file = gr.File(label="PNG", file_types=[".png"], type="filepath")
    button = gr.Button("读取，填入“画一张” Read, and fill in Draw")
    text, found = gr.Textbox(label="参数 parameters", lines=4), gr.Code(label="全部 all", language="json")
    names = [name for name in fields if name not in ("lora", "lora_strength")]

    @told(gr)
    def read(file: str | None) -> list:
        if file is None:
            raise DataError("先选一张 PNG choose a PNG first")
        settings = read_settings(file)
        values = [settings.get(name, gr.skip()) for name in names]
        return [infotext(settings), json.dumps(settings, ensure_ascii=False, indent=2), *values]

    button.click(read, file, [text, found, *(fields[name] for name in names)], api_name="read")


def told(gr: Any) -> Callable:
    """A decorator: what a user can mend is shown in the page, in its one line."""

    def around(function: Callable) -> Callable:
        @wraps(function)
        def call(*args: Any, **options: Any) -> Any:
            try:
                return function(*args, **options)
            except KolorsLabError as error:
                raise gr.Error(str(error), print_exception=False) from error

        return call

    return around


def _control(gr: Any, name: str, desk: Desk) -> Any:
    """The control of a field of GenerateConfig: its label, its choices, its default or the preset's."""
    hint, said = hints(GenerateConfig)[name], label(name)
    default = getattr(GenerateConfig(preset=desk.config.preset).resolve(desk.preset), name)
    if name == "lora":
        return gr.Dropdown([(NO_LORA, ""), *desk.loras()], value="", label=said)
    for bound in bounds(hint):
        if isinstance(bound, OneOf):
            return gr.Dropdown(list(bound.names), value=default, label=said)
    if kinds(hint)[0] in (int, float):
        whole = kinds(hint)[0] is int
        return gr.Number(default, label=said, precision=0 if whole else None)
    return gr.Textbox(default, label=said, lines=3 if name == "prompt" else 1)
