"""Looking through proposed captions in a notebook: leave tags out, give the trigger word, write them for training.

    tagged = tag_folder(TaggingConfig(folder="mine", tag=True))
    review_tags(tagged)                   # end the cell with it

The plain calls beside it need no mouse: `tagged.pruned(["微笑"]).triggered("我的画风").write("mine/metadata.csv")`.
"""

from __future__ import annotations

from html import escape
from typing import TYPE_CHECKING

from kolors_lab.core.errors import KolorsLabError
from kolors_lab.core.language import _
from kolors_lab.scoring.tagging import READ

if TYPE_CHECKING:
    from ipywidgets import Widget

    from kolors_lab.scoring.tagging import Tagged

SHOWN = 50  # captions in the table; the counts beside it are of all


def review_tags(tagged: Tagged, trigger: str = "") -> Widget:
    """A form for what `tag_folder` proposed; its button writes metadata.csv beside the pictures, never over one.

    `.dropped`, `.trigger`, `.table`, `.write` and `.said` are its parts, `.result()` the captions as they stand.
    """
    import ipywidgets as widgets

    tags = [(f"{tag}  × {count}", tag) for tag, count in tagged.counts()]
    dropped = widgets.SelectMultiple(options=tags, rows=min(max(len(tags), 2), 12), description=_("去掉 leave out"))
    word = widgets.Text(value=trigger, description=_("触发词 trigger word"))
    table, said = widgets.HTML(), widgets.HTML()
    write = widgets.Button(description=_("写入 write {file}").format(file=READ))
    form = widgets.VBox([widgets.HBox([dropped, widgets.VBox([word, write, said])]), table])

    def result() -> Tagged:
        return tagged.pruned(dropped.value).triggered(word.value.strip())

    def show(_change: object = None) -> None:
        rows = [f"<tr><td>{escape(name)}</td><td>{escape(text)}</td></tr>" for name, text in result().rows[:SHOWN]]
        hidden = len(tagged.rows) - SHOWN
        more = _("captions not shown: {count}").format(count=hidden)
        table.value = f"<table>{''.join(rows)}</table>" + (f"<p>{more}</p>" if hidden > 0 else "")

    def save(_button: object = None) -> None:
        try:
            said.value = escape(str(result().write(tagged.file.with_name(READ)).file))
        except KolorsLabError as error:
            said.value = escape(str(error))

    for field in (dropped, word):
        field.observe(show, "value")
    write.on_click(save)
    form.dropped, form.trigger, form.table = dropped, word, table
    form.write, form.said, form.result = write, said, result
    show()
    return form
