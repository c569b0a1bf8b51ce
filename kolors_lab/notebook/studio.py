"""StoryStudio: a story in a notebook, told by clicking: scenes edited in place, panels made again, takes, the page.

All it does lies in its folder as files that the commands read as well: `story.csv` (the table), `cast.csv` (who plays),
`panels/`, `page.png` and `page.html`. What a button does, the call under the buttons does without it.

    StoryStudio(StoryConfig(out="runs/studio"))
"""

from __future__ import annotations

import re
from dataclasses import replace
from html import escape
from itertools import count
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import TYPE_CHECKING, Any

from kolors_lab.challenge.check import PANELS
from kolors_lab.comic.casting import Cast, CastConfig, cast, choose, write_cast
from kolors_lab.comic.look import Look
from kolors_lab.comic.panels import (
    StoryConfig,
    artist,
    chosen,
    draw_files,
    panel_settings,
    read_cast,
    same_picture,
    story,
    story_file,
    story_title,
)
from kolors_lab.comic.script import Script, StoryScene, read_script, write_script
from kolors_lab.core.errors import DataError, KolorsLabError, SettingError
from kolors_lab.core.files import read_text, replacing
from kolors_lab.core.language import _
from kolors_lab.models.presets import get_preset
from kolors_lab.notebook.widgets import SettingsForm, show
from kolors_lab.notebook.window import RED, Window
from kolors_lab.scoring.aesthetics import carried

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from diffusers import KolorsPipeline
    from ipywidgets import HBox

SIDE, WIDE = 168, 960  # px of a panel in the table; of page and contact sheet
WHERE = re.compile(r"^(?:line \d+: |第 ?\d+ ?行(?:有误)?：)")  # of a table of one scene
HOW = ("title", "layout", "lora", "lora_strength", "steps", "cfg")
SAMPLE = "1、起：一个少女，站在书院门口\n2、承：一匹白马，走在桃花小路\n"  # how a story begins, where there is none
EMPTY = (  # one pale pixel, where no picture is yet
    b"GIF89a\x01\x00\x01\x00\x80\x00\x00\xee\xe9\xe0\x00\x00\x00,\x00\x00\x00\x00\x01\x00\x01\x00\x00\x02\x02D\x01\x00;"
)


class StoryStudio(Window):
    """Widgets for one story; `config.story` is where it begins, `config.out` where everything goes."""

    def __init__(self, config: StoryConfig | None = None, pipe: KolorsPipeline | None = None, takes: int = 4):
        import ipywidgets as w

        config = config or StoryConfig(out="runs/studio")
        super().__init__(pipe)
        self.out, self.takes, self.looked = Path(config.out), takes, 1
        self.file = self.out / "story.csv"
        self.box, self.script = w.VBox(), Script((), {})
        try:
            self._open(config)
        except DataError as error:
            self._mend(config, error)

    def _source(self, config: StoryConfig) -> Any:
        """Where the story is read: what the studio wrote on another day, else where the config says."""
        return self.file if self.file.exists() else story_file(config.story)

    def _open(self, config: StoryConfig) -> None:
        """Fill the window with the story. Raises DataError for one that cannot be read."""
        import ipywidgets as w

        self.script = read_script(self._source(config))
        title = config.title or story_title(config.story)
        settings = replace(config, story=str(self.file), title=title)
        self.form = SettingsForm(settings, HOW, names="11em")
        self.parts = {
            name: w.Text(text, description=f"{{{name}}}", layout=w.Layout(width="98%"))
            for name, text in self.script.fixed.items()
        }
        for part in self.parts.values():
            part.observe(lambda _: self.refresh(), "value")
        scenes = chosen(self.out, self.script.scenes)
        self.rows = [
            SettingsForm(scene, ("scene", "prompt", "negative_prompt", "seed"), names="14em") for scene in scenes
        ]
        self.pictures = [w.Image(value=EMPTY, format="png", width=SIDE, height=SIDE) for _ in scenes]
        self.notes = [w.HTML() for _ in scenes]
        self.progress.layout.width = "20em"
        self.big = w.Image(layout=w.Layout(width="100%", max_width=f"{WIDE}px", display="none"))
        self.play = w.HBox(layout=w.Layout(flex_flow="row wrap"))
        self.call = w.HTML()
        self.box.children = self._arranged()
        for row in self.rows:
            row.on_change(lambda _: self.refresh())
        self.form.on_change(lambda _: self.refresh())
        self.refresh()

    def _mend(self, config: StoryConfig, error: DataError) -> None:
        """A story that cannot be read, to be mended here: the line that is wrong marked, the text to write in.

        Where there is no such file, a sample to begin with.
        """
        import ipywidgets as w

        source, told = self._source(config), str(error)
        if not isinstance(source, str | Path) or Path(source).is_dir():
            raise error
        there = Path(source).is_file()
        if not there:
            begin = _("下面是两行样子，改成你自己的故事 below are two lines to begin a story of your own with")
            told = f"{told} {begin}"
        text = w.Textarea(read_text(source) if there else SAMPLE, rows=14, layout=w.Layout(width="98%"))
        where = w.HTML(marked(text.value, str(error)))

        def again() -> None:
            if self.file.exists():  # what was there is kept beside it
                self.file.replace(free_name(self.out, "story.damaged.csv"))
            with replacing(self.file) as part:
                part.write_text(text.value, encoding="utf-8")
            self.say("")
            try:
                self._open(config)
            except DataError as still:
                where.value = marked(text.value, str(still))
                raise

        self.say(told, wrong=True)
        self.box.children = (self.button(_("存好，打开 Save and open"), again, "primary"), self.status, where, text)

    def promise(self) -> str:
        return _("漫画页会留在这里 the page will stay here")

    def described(self) -> list[str]:
        return [f"{n}. {scene.scene}: {scene.prompt}" for n, scene in enumerate(self.script.scenes, 1)]

    def _arranged(self) -> tuple[Any, ...]:
        """Fixed parts, the table of scenes, settings, buttons, and the page or a contact sheet below."""
        import ipywidgets as w

        table = w.VBox(
            [self._line(n) for n in range(1, len(self.rows) + 1)],
            layout=w.Layout(
                max_height="640px", overflow="hidden auto", border="1px solid #ddd", padding="6px", display="block"
            ),
        )
        buttons = [
            self.button(_("画没画的，排版 Draw and page"), self.tell, "primary"),
            self.button(_("试镜 Cast"), self.cast),
        ]
        once = _("固定的部分，只说一次 Parts said once")
        head = [w.HTML(f"<b>{once}</b>"), *self.parts.values()] if self.parts else []
        few = _("这个故事有 {count} 格，比赛要 {wanted} 格 this story has {count} panels, the challenge wants {wanted}")
        if len(self.rows) < PANELS:
            head.insert(0, w.HTML(few.format(count=len(self.rows), wanted=PANELS)))
        bar = w.HBox([*buttons, self.progress], layout=w.Layout(flex_flow="row wrap"))
        return (bar, self.status, *head, table, self.form.box, self.call, self.play, self.big)

    def _line(self, n: int) -> HBox:
        """One scene: its panel, its fields, what can be done with it."""
        import ipywidgets as w

        self.rows[n - 1].box.layout = w.Layout(flex="1 1 24em", min_width="0")
        side = w.VBox([w.HTML(f"<b style='font-size:1.3em'>{n}</b>"), self.pictures[n - 1]])
        buttons = [
            self.button(_("画第 {n} 格 Draw").format(n=n), lambda: self.draw(n)),
            self.button(_("换种子 Next seed"), lambda: self.draw(n, 1)),
        ]
        return w.HBox(
            [side, self.rows[n - 1].box, w.VBox([*buttons, self.notes[n - 1]], layout=w.Layout(width="11em"))]
        )

    @property
    def config(self) -> StoryConfig:
        return self.form.value

    def save(self) -> list:
        """Write story.csv, and cast.csv if there is one, from what the widgets say; the scenes with parts filled in.

        SettingError or DataError, and nothing is written, where it could not be read again.
        """
        scenes, rows = self._scenes(), read_cast(self.out)
        self._check(scenes)
        if len(rows) == len(scenes):  # there was a casting: the seeds are its choice, the table keeps its own
            new = [
                row | {"scene": scene.scene, "seed": str(scene.seed)} for row, scene in zip(rows, scenes, strict=True)
            ]
            if new != rows:
                write_cast(self.out, new)
            old = self.script.scenes
            scenes = [replace(scene, seed=before.seed) for scene, before in zip(scenes, old, strict=True)]
        self.script = self._script(scenes)
        write_script(self.script, self.file)
        return chosen(self.out, self.script.filled())

    def _scenes(self) -> list[StoryScene]:
        """What the rows say. SettingError for one without a prompt."""
        scenes = [row.value for row in self.rows]
        for n, scene in enumerate(scenes, 1):
            if not scene.prompt.strip():
                raise SettingError(
                    "第 {n} 格没有提示词，没有保存 scene {n} has no prompt, nothing is saved; say what it shows", n=n
                )
        return scenes

    def _check(self, scenes: list[StoryScene]) -> None:
        with TemporaryDirectory() as folder:
            file = write_script(self._script(scenes), Path(folder, "story.csv"))
            try:
                read_script(file)
            except DataError as error:
                self._check_each(scenes, file)
                raise SettingError("没有保存 nothing is saved: {why}", why=_bare(error, file)) from error

    def _check_each(self, scenes: list[StoryScene], file: Path) -> None:
        """SettingError for the first scene that cannot be read by itself; the table's lines are nothing seen here."""
        own = self.script.own or ({},) * len(scenes)
        for n, scene in enumerate(scenes, 1):
            write_script(replace(self._script([scene]), own=own[n - 1 : n]), file)
            try:
                read_script(file)
            except DataError as error:
                why = WHERE.sub("", _bare(error, file))
                raise SettingError("没有保存：第 {n} 格 nothing is saved: panel {n}: {why}", n=n, why=why) from error

    def _settings(self) -> dict[Path, dict]:
        """What each panel should be drawn from."""
        scenes = self._script(self._scenes()).filled()
        config = self.config
        settings = panel_settings(scenes, get_preset(config.preset), look=self._look(), **config.drawing())
        return {self.out / "panels" / f"{n}.png": one for n, one in enumerate(settings, 1)}

    def _look(self) -> Look:
        return Look.of(self.config, self.script.filled())

    def _script(self, scenes: Sequence[StoryScene]) -> Script:
        return Script(tuple(scenes), {name: part.value for name, part in self.parts.items()}, self.script.own)

    def draw(self, n: int, further: int = 0) -> None:
        """Draw panel `n` (from 1) again, from the seed in its row or one `further` on."""
        if further and not self.busy:
            self.rows[n - 1].update(seed=self.rows[n - 1].value.seed + further)
        self.save()
        file, settings = list(self._settings().items())[n - 1]
        config = self.config

        def work(on_step: Callable[[int, int], None]) -> None:
            with artist(self._pipe, config.lora, config.lora_strength) as pipe:
                draw_files(pipe, {file: settings}, 1, None, 1, self._look())

        told = _("第 {n} 格好了，页还没重排 panel {n} is drawn, the page not yet").format(n=n)
        self.run(work, lambda _done: self.say(told))

    def tell(self) -> None:
        """Draw the panels that are missing or changed, and the page."""
        self.save()
        self.run(lambda on_step: story(self.config, on_step, self._pipe), self._show_page)

    def cast(self) -> None:
        """Draw `takes` of every scene and have the best play; below, every scene's sheet and another choice."""
        self.save()
        config = CastConfig(**vars(self.config), takes=self.takes)
        self.run(lambda on_step: cast(config, on_step, self._pipe), self._show_cast)

    def choose(self, n: int, seed: int) -> None:
        """Have `seed` play scene `n`."""
        choose(self.out, n, seed)
        self.rows[n - 1].update(seed=seed)
        self.cast()

    def _pipe(self) -> KolorsPipeline:
        return self.loaded(self.config.preset)

    def refresh(self) -> None:
        """Show the panels that are there, which of them are out of date, and the call that does the same."""
        try:
            settings, config = self._settings(), self.config
        except KolorsLabError as error:
            self.say(self._named(error), wrong=True)
            return
        if self.wrong:  # of an edit before this one
            self.say("")
        for (file, wanted), picture, note in zip(settings.items(), self.pictures, self.notes, strict=True):
            there = carried(file)
            picture.value = show(file, SIDE).data if there else EMPTY
            note.value = stale() if there and not same_picture(there, wanted) else ""
        changed = [name for name in ("preset", *HOW) if getattr(config, name) != getattr(StoryConfig, name)]
        values = ", ".join(f"{name}={getattr(config, name)!r}" for name in ("out", "story", *changed))
        self.call.value = f"<code>story(StoryConfig({escape(values)}))</code>"

    def _named(self, error: KolorsLabError) -> str:
        """What is wrong, with the panel that it is wrong in, if it is one's."""
        try:
            self._check(self._scenes())
        except KolorsLabError as named:
            return str(named)
        return str(error)

    def _show_page(self, page: Path) -> None:
        self.say(_("排好了 the page is made: {page}").format(page=page))
        self.keep(self._enlarge(page))

    def _enlarge(self, file: Path) -> bytes:
        """Show page or contact sheet below the buttons; the JPEG."""
        picture = show(file, WIDE).data
        self.big.value, self.big.layout.display = picture, ""
        return picture

    def _show_cast(self, done: Cast) -> None:
        """A scene's contact sheet, and its seeds to choose from, the best first."""
        import ipywidgets as w

        narrow = {"description_width": "9em"}
        for row, seed in zip(self.rows, done.seeds, strict=True):
            row.update(seed=seed)
        self._show_page(done.page)
        which = w.Dropdown(options=range(1, len(done.takes) + 1), description=_("看第几格 scene"), style=narrow)
        seeds = w.ToggleButtons(description=_("选种子 seed"), button_style="info", style=narrow)
        seeds.style.button_width = "5em"

        def look(_: object = None) -> None:
            self.looked = n = which.value
            seeds.unobserve_all("value")
            playing = str(done.seeds[n - 1])
            all_of_them = [str(take.seed) for take in done.takes[n - 1]]
            seeds.options = [(f"✓ {seed}" if seed == playing else seed, seed) for seed in all_of_them]
            seeds.value = playing
            seeds.observe(lambda change: self.choose(n, int(change["new"])), "value")
            self._enlarge(done.sheets[n - 1])

        which.observe(look, "value")
        which.value = min(self.looked, len(done.takes))
        look()
        self.play.children = (which, seeds)
        told = _(
            "往下看样片，点种子选用；没点过的，已先选了最好的 look at the samples below and click a seed to have it; "
            "where you clicked none, the best is chosen"
        )
        self.say(told)


def _bare(error: DataError, file: Path) -> str:
    """What an error says behind the name of the file."""
    return str(error).removeprefix(f"{file}: ").removeprefix(f"{file}：")


def stale() -> str:
    """What stands beside a panel that is out of date."""
    told = _("改过了，还没重画 changed, not drawn yet")
    return f'<span style="color:#c8553d">{told}</span>'


def marked(text: str, error: str) -> str:
    """The lines of a text around the one that an error names, that one in red; "" where it names none."""
    found = re.search(r"line (\d+)|第 ?(\d+) ?行", error)
    if not found:
        return ""
    wrong, lines = int(found[1] or found[2]), text.splitlines()
    near = range(max(1, wrong - 2), min(len(lines), wrong + 2) + 1)
    styles = {wrong: f"background:{RED};color:white"}
    rows = (f'<div style="{styles.get(n, "")}">{n:4}  {escape(lines[n - 1])}</div>' for n in near)
    return f"<pre>{''.join(rows)}</pre>"


def free_name(folder: Path, name: str) -> Path:
    """A path of that name in the folder, numbered where one is there."""
    first = folder / name
    others = (first.with_stem(f"{first.stem}-{n}") for n in count(2))
    return first if not first.exists() else next(file for file in others if not file.exists())
