"""TagReview: looking through proposed captions in a notebook, each beside its picture: leave tags out, give the trigger
word, write them for training.

    tagged = tag_folder(TaggingConfig(folder="mine", tag=True))
    TagReview(tagged)                     # end the cell with it

The plain calls beside it need no mouse: `tagged.pruned(["微笑"]).triggered("我的画风").write("mine/metadata.csv")`.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from kolors_lab.core.images import embed
from kolors_lab.core.language import _
from kolors_lab.notebook.widgets import THUMB, captioned
from kolors_lab.notebook.window import Window
from kolors_lab.scoring.tagging import READ

if TYPE_CHECKING:
    from kolors_lab.scoring.tagging import Tagged

SHOWN, LISTED = 50, 12  # captions in the table, where the counts beside it are of all; lines of the list of tags


class TagReview(Window):
    """A form for what `tag_folder` proposed, each caption beside its picture.

    Its button writes metadata.csv beside the pictures: again after a change, but never over one that is not its own.
    """

    def __init__(self, tagged: Tagged, trigger: str = ""):
        import ipywidgets as w

        super().__init__()
        self.tagged, self.file, self.written = tagged, tagged.file.with_name(READ), b""
        tags = [(f"{tag}  × {count}", tag) for tag, count in tagged.counts()]
        whole = {"style": {"description_width": "auto"}}  # no name is cut short
        self.dropped = w.SelectMultiple(options=tags, rows=LISTED, description=_("去掉 leave out"), **whole)
        self.trigger = w.Text(value=trigger, description=_("触发词 trigger word"), **whole)
        self.write = self.button(_("写入 write {file}").format(file=READ), self.save, "primary")
        self.table = w.HTML(layout=w.Layout(max_height="32em", overflow="hidden auto"))
        side = w.VBox(
            [self.trigger, self.write, self.status], layout=w.Layout(flex="1 1 20em", align_items="flex-start")
        )
        self.box = w.VBox([w.HBox([self.dropped, side], layout=w.Layout(flex_flow="row wrap")), self.table])
        self.pictures = [embed(tagged.file.parent / name, THUMB) for name, _text in tagged.rows[:SHOWN]]
        for field in (self.dropped, self.trigger):
            field.observe(lambda _change: self.attempt(self.refresh), "value")
        self.refresh()

    def result(self) -> Tagged:
        """The captions as they stand."""
        return self.tagged.pruned(self.dropped.value).triggered(self.trigger.value.strip())

    def refresh(self) -> None:
        """The captions as they stand, as a table."""
        self.table.value = captioned(self.pictures, [text for _name, text in self.result().rows])
        count = len(self.tagged.rows)
        self.say(_("captions not shown: {count}").format(count=count - SHOWN) if count > SHOWN else "")

    def save(self) -> None:
        """Write the captions. DataError where captions lie that this window did not write."""
        if self.file.is_file() and self.file.read_bytes() == self.written:
            self.file.unlink()
        self.written = self.result().write(self.file).file.read_bytes()
        self.say(str(self.file))

    def described(self) -> list[str]:
        counts = "  ".join(f"{tag} × {count}" for tag, count in self.tagged.counts()[:LISTED])
        return [counts, *(f"{name}  {text}" for name, text in self.result().rows[:LISTED])]

    def promise(self) -> str:
        """The plain call that does the same."""
        return f'tagged.pruned([…]).triggered("{self.trigger.value}").write("{self.file.as_posix()}")'
