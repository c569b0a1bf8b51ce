"""What each command says at its end, made from its settings and its result: `summary(name, config, done)`."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

from kolors_lab.core.errors import KolorsLabError
from kolors_lab.core.language import _


def summary(name: str, config: Any, done: Any) -> list[str]:
    """The lines of the command `name`."""
    return SUMMARIES.get(name, _path)(config, done)


def answers_no(name: str, done: Any) -> bool:
    """Whether the command's answer is no, for scripts to hear."""
    return bool(NOT_READY.get(name, lambda done: False)(done))


def _baseline(config: Any, done: Any) -> list[str]:
    rows = [f"  {name}: {without} → {with_it}" for name, without, with_it in done.effect.rows()]
    return [
        "",
        _("pictures kept: {kept} of {all}").format(kept=done.kept, all=done.kept + done.rejected),
        _("training loss: {loss:.4f}").format(loss=done.loss),
        _("the {panels} panels without the LoRA → with it").format(panels=len(done.effect.lora["files"])),
        *rows,
        *done.effect.advice(),
        *_missing(done.missing),
        _("time of all steps: {seconds:.0f} s").format(seconds=done.seconds),
        _("page: {file}").format(file=done.page),
        _("report: {file}").format(file=done.report),
    ]


def _missing(lines: Sequence[str]) -> list[str]:
    return [_("still missing: {line}").format(line=line) for line in lines]


def _score(config: Any, done: Any) -> list[str]:
    return done.lines()


def _juice(config: Any, done: Any) -> list[str]:
    funnel = " → ".join(f"{name} {count}" for name, count in done.funnel)
    told = _("kept {kept}, left out {lost} (reasons in rejected.csv): {folder}")
    lines = [funnel, told.format(kept=done.kept, lost=len(done.rejected), folder=done.out)]
    if done.too_long:
        more = len(done.too_long) - 5
        files = ", ".join(done.too_long[:5]) + (_(" and {count} more").format(count=more) if more > 0 else "")
        lines.append(_("captions of which only 256 tokens fit, the rest is not read: {files}").format(files=files))
    return lines


def _captions(config: Any, done: Any) -> list[str]:
    if config.tag:
        return done.lines()
    changed = [row for row in done if row[1] != row[2]]
    lines = [line for name, before, after in changed for line in (name, f"  − {before}", f"  + {after}")]
    return [*lines, _("{changed} of {all} captions would change").format(changed=len(changed), all=len(done))]


def _choose(config: Any, done: Any) -> list[str]:
    from kolors_lab.challenge.selection import told_apart

    row = _("score {score:5.2f}   fit {fit:6.3f}   together {total:+.2f}   {file}")
    lines = [row.format(score=c.score, fit=c.fit, total=c.total, file=c.file) for c in done]
    note = _("together: score and fit, each in standard deviations of these LoRAs; the more --seeds, the surer")
    alike = _("{what} of these LoRAs differs no more than by chance, so it does not count")
    named = {_("score"): [c.scores for c in done], _("prompt fit"): [c.fits for c in done]}
    notes = [alike.format(what=what) for what, values in named.items() if not told_apart(values)]
    return [*lines, note, *notes, _("the best: {file}").format(file=done[0].file)]


def _submit(config: Any, done: Any) -> list[str]:
    written = _("submission: {folder} and {zip}").format(folder=config.folder, zip=config.zip)
    return [written, *_missing(done)]


def _check(config: Any, done: Any) -> list[str]:
    from kolors_lab.challenge.check import notes

    lines = _missing(done) or [_("{folder}: nothing is missing").format(folder=config.folder)]
    return [*lines, *notes(config.folder)]


def _repair(config: Any, done: Any) -> list[str]:
    told = _("each picture notes its repair; kolors-lab submit reproduce draws the panel and then does the same again")
    return [*_lines(config, done), *([told] if done else [])]


def _doctor(config: Any, done: Any) -> list[str]:
    bad = [check.name for check in done if not check.ok]
    if bad:
        raise KolorsLabError("not all is well: {names}; the lines above say what to do", names=", ".join(bad))
    return [_("all is well")]


def _cast(config: Any, done: Any) -> list[str]:
    lines = [_("panel  seed   score   fit  likeness")]
    for mine, seed in zip(done.takes, done.seeds, strict=True):
        take = next(take for take in mine if take.seed == seed)
        by_hand = _("  chosen by hand, ranked {rank} of {all}").format(rank=take.rank, all=len(mine))
        how = "" if take.rank == 1 else by_hand
        lines.append(f"{take.panel:5}  {seed:4}  {take.score:6.2f}  {take.fit:4.2f}  {take.likeness:8.2f}{how}")
    folder = done.page.parent
    return [
        *lines,
        _("sheets: {folder}").format(folder=folder / "takes"),
        _("page: {file}").format(file=done.page),
        _("to change a choice: edit the seeds in {file} and run this again").format(file=folder / "cast.csv"),
    ]


def _path(config: Any, done: Any) -> list[str]:
    return [str(done)]


def _lines(config: Any, done: Any) -> list[str]:
    return [str(line) for line in done]


SUMMARIES: dict[str, Callable[[Any, Any], list[str]]] = {
    "baseline": _baseline,
    "juice": _juice,
    "captions": _captions,
    "choose": _choose,
    "score": _score,
    "score compare": _score,
    "submit": _submit,
    "submit check": _check,
    "submit reproduce": _score,
    "submit upload": _lines,
    "story cast": _cast,
    "story check": _lines,
    "leaderboard": _lines,
    "repair": _repair,
    "doctor": _doctor,
    "comfy show": _lines,
    "comfy run": _lines,
    "serve": _lines,
    "lora show": _lines,
}  # the others say where what they made lies

NOT_READY: dict[str, Callable[[Any], bool]] = {  # commands whose answer may be no
    "submit check": bool,
    "submit reproduce": lambda done: not done.identical,
}
