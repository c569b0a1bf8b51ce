"""The `kolors-lab` command: one subcommand for each settings dataclass, its options made from the fields.

Example: kolors-lab baseline --preset tiny --out runs/baseline

Options and errors come from core/fields.py, which the notebooks' forms are made from as well; argparse does the rest.
Only the command that is asked for is imported.
"""

from __future__ import annotations

import argparse
import difflib
import inspect
import os
import signal
import sys
import warnings
from collections.abc import Callable, Sequence
from dataclasses import MISSING, fields
from importlib import import_module
from pathlib import Path
from typing import Any

from kolors_lab.core.errors import KolorsLabError, KolorsLabWarning, SettingError, explain, printable
from kolors_lab.core.fields import hints, kinds, meanings, read_field
from kolors_lab.core.language import _, language

WRONG, STOPPED = 2, 130  # exit codes: bad input; Ctrl+C
COMMANDS = {  # name: (module, settings dataclass, function); a name of two words is a command of its own
    "baseline": ("kolors_lab.challenge.pipeline", "BaselineConfig", "baseline"),
    "juice": ("kolors_lab.dataset.cleaning", "CleanConfig", "clean"),
    "captions": ("kolors_lab.scoring.tagging", "TaggingConfig", "tag_or_show"),
    "train": ("kolors_lab.training.loop", "TrainConfig", "train"),
    "choose": ("kolors_lab.challenge.selection", "ChooseConfig", "choose_checkpoint"),
    "invert": ("kolors_lab.training.inversion", "InversionConfig", "invert"),
    "generate": ("kolors_lab.pictures.files", "GenerateConfig", "generate_file"),
    "repair": ("kolors_lab.sampling.repair", "RepairConfig", "repair"),
    "controls": ("kolors_lab.pictures.controls", "ControlsConfig", "controls"),
    "grid": ("kolors_lab.pictures.grids", "GridConfig", "grid"),
    "story": ("kolors_lab.comic.panels", "StoryConfig", "story"),
    "story brief": ("kolors_lab.comic.brief", "BriefConfig", "brief"),
    "story cast": ("kolors_lab.comic.casting", "CastConfig", "cast"),
    "story check": ("kolors_lab.comic.script", "StoryCheckConfig", "story_check"),
    "score": ("kolors_lab.scoring.aesthetics", "ScoreConfig", "score"),
    "score compare": ("kolors_lab.scoring.compare", "CompareConfig", "compare"),
    "submit": ("kolors_lab.challenge.submission", "SubmitConfig", "submit"),
    "submit check": ("kolors_lab.challenge.check", "CheckConfig", "check"),
    "submit reproduce": ("kolors_lab.challenge.check", "ReproduceConfig", "reproduce"),
    "submit upload": ("kolors_lab.challenge.upload", "UploadConfig", "upload"),
    "leaderboard": ("kolors_lab.challenge.board", "LeaderboardConfig", "leaderboard"),
    "fetch": ("kolors_lab.models.fetch", "FetchConfig", "fetch"),
    "doctor": ("kolors_lab.challenge.checkup", "DoctorConfig", "doctor"),
    "comfy show": ("kolors_lab.comfy.prepare", "ComfyShowConfig", "comfy_show"),
    "comfy run": ("kolors_lab.comfy.prepare", "ComfyRunConfig", "comfy_run"),
    "comfy export": ("kolors_lab.comfy.prepare", "ComfyExportConfig", "comfy_export"),
    "lora show": ("kolors_lab.lora.arithmetic", "LoraShowConfig", "lora_show"),
    "lora convert": ("kolors_lab.lora.arithmetic", "LoraConvertConfig", "lora_convert"),
    "lora mix": ("kolors_lab.lora.arithmetic", "LoraMixConfig", "lora_mix"),
    "serve": ("kolors_lab.serve.server", "ServeConfig", "serve"),
    "app": ("kolors_lab.serve.app", "AppConfig", "run_app"),
    "course": ("kolors_course.copies", "CourseConfig", "course"),
}
POSITIONAL = ("folder", "other", "what", "file", "picture", "target", "parts", "pictures")  # kolors-lab score FOLDER
QUIET = {  # libraries that tell a learner what only their makers need to know; errors stay
    "TRANSFORMERS_VERBOSITY": "error",
    "DIFFUSERS_VERBOSITY": "error",
    "HF_HUB_DISABLE_PROGRESS_BARS": "1",
    "HF_DATASETS_DISABLE_PROGRESS_BARS": "1",
    "TOKENIZERS_PARALLELISM": "false",
    "MODELSCOPE_LOG_LEVEL": "40",
    "LOGURU_LEVEL": "ERROR",
}


def main(argv: Sequence[str] | None = None) -> int:
    """Run one command; the exit code: 0, 2 for bad input (one line on stderr), 130 after Ctrl+C or SIGTERM."""
    _mend_streams()
    try:
        signal.signal(signal.SIGTERM, signal.default_int_handler)  # a closed session tidies up as Ctrl+C does
        return run(sys.argv[1:] if argv is None else list(argv))
    except KeyboardInterrupt:
        return _say(_("stopped; run the same command again to go on"), STOPPED)
    except BrokenPipeError:  # `kolors-lab --help | head`: nobody reads on
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return 0
    except Exception as error:
        line = explain(error)
        if line is None:  # a fault of the program: its makers need all of it
            raise
        return _say(line, WRONG)


def _mend_streams() -> None:
    """Chinese text and file names also where the locale is C; a closed stdout or stderr (`2>&-`) takes everything."""
    for name in ("stdout", "stderr"):
        stream = getattr(sys, name)
        if stream is None:
            setattr(sys, name, Path(os.devnull).open("w", encoding="utf-8"))  # noqa: SIM115 - as long as the process
        elif hasattr(stream, "reconfigure"):
            stream.reconfigure(encoding="utf-8", errors="surrogateescape")


def run(argv: list[str]) -> int:
    """Parse and do one command; its exceptions pass through."""
    language()  # one that is none is told before anything is said in another
    if not argv or argv[0] in ("-h", "--help"):
        about = _("Train a LoRA on Kolors and tell a story in eight pictures. To begin: kolors-lab baseline")
        return _help("kolors-lab", about, list(COMMANDS))
    if argv[0] == "--version":
        from kolors_lab import __version__

        print(__version__)
        return 0
    name, rest = find_command(argv)
    if name not in COMMANDS:  # the first word of several commands
        return _help(f"kolors-lab {name}", "", family(name))
    config = read_config(name, rest)
    os.environ.update({key: value for key, value in QUIET.items() if key not in os.environ})
    warnings.simplefilter("ignore")
    warnings.simplefilter("always", KolorsLabWarning)
    warnings.showwarning = lambda message, *rest: _say(str(message), 0)
    module, _config_name, function_name = COMMANDS[name]
    function = getattr(import_module(module), function_name)
    with Bars() as bars:
        result = function(config, **_callbacks(function, name, bars))
    print(printable("\n".join(SUMMARIES.get(name, _path)(config, result))))
    return WRONG if NOT_READY.get(name, lambda done: False)(result) else 0


def family(word: str) -> list[str]:
    """The commands of two words that begin with this one."""
    return [name for name in COMMANDS if name.startswith(f"{word} ")]


def find_command(argv: list[str]) -> tuple[str, list[str]]:
    """The command that the line begins with, of two words if there is one, and the rest.

    The first word of several commands is found where nothing or --help follows. SettingError names the nearest command.
    """
    for words in (2, 1):
        name = " ".join(argv[:words])
        if name in COMMANDS:
            return name, argv[words:]
    members = family(argv[0])
    if members and set(argv[1:]) <= {"-h", "--help"}:
        return argv[0], []
    wanted = " ".join(argv[:2]) if members else argv[0]
    near = difflib.get_close_matches(wanted, members or COMMANDS, 1, 0)[0]
    told = _("{wanted}: there is no such command; did you mean {near}? see kolors-lab --help")
    raise SettingError(told.format(wanted=wanted, near=near))


def read_config(name: str, argv: list[str]) -> Any:
    """The settings that a command's options say. SettingError, naming the nearest option, for one it does not have."""
    parser, config = make_parser(name), settings_of(name)
    options, unknown = parser.parse_known_args(argv)
    if unknown:
        flags = [f"--{field.name}" for field in fields(config) if field.name not in POSITIONAL]
        given = unknown[0].partition("=")[0]
        near = _nearest(given, flags)
        hint = _("did you mean {near}? ").format(near=near) if near else ""
        told = _("{given}: {command} has no such option; {hint}see {program} --help")
        raise SettingError(told.format(given=given, command=name, hint=hint, program=parser.prog))
    return config(**{key: tuple(value) if isinstance(value, list) else value for key, value in vars(options).items()})


def _nearest(given: str, flags: list[str]) -> str | None:
    """What was meant by a word that is no option: the nearest one, or the prompt's for a text that stands alone."""
    if not given.startswith("-"):
        return f'--prompt "{given}"' if "--prompt" in flags else None
    return next(iter(difflib.get_close_matches("--" + given[2:].replace("-", "_"), flags, 1, 0.5)), None)


def settings_of(name: str) -> type:
    """The settings dataclass of a command."""
    module, config_name, _function = COMMANDS[name]
    return getattr(import_module(module), config_name)


def _about(name: str) -> str:
    from docstring_parser import parse_from_object

    about = parse_from_object(settings_of(name)).short_description or ""
    return _(about)


class Parser(argparse.ArgumentParser):
    """argparse, whose errors are ours."""

    def error(self, message: str) -> None:
        raise SettingError(_("{message}; see {program} --help").format(message=message, program=self.prog))


def make_parser(name: str) -> Parser:
    """A command's parser: one option per field, with its default and what the docstring says of it; the fields in
    POSITIONAL go without a flag."""
    others = ", ".join(family(name))
    parser = Parser(prog=f"kolors-lab {name}", description=_about(name), allow_abbrev=False)
    parser.epilog = _("Further commands: {names}").format(names=others) if others else None
    config = settings_of(name)
    for field in fields(config):
        hint, about = hints(config)[field.name], meanings(config).get(field.name, "")
        plain = field.default in (None, "", (), MISSING)
        text = about if plain else _("{about} (default: {value})").format(about=about, value=field.default)
        options = {"help": text.replace("%", "%%"), "type": _reader(field.name, hint)}
        options |= {} if field.default is MISSING else {"default": field.default}
        if field.name in POSITIONAL:
            several = tuple[str, ...] in kinds(hint)
            optional = {"nargs": "?"} if "default" in options else {}
            parser.add_argument(field.name, **options | ({"nargs": "+", "type": str} if several else optional))
        else:
            switch = {"nargs": "?", "const": True} if bool in kinds(hint) else {}  # --official alone means true
            parser.add_argument(f"--{field.name}", required=field.default is MISSING, **options, **switch)
    return parser


def _reader(name: str, hint: Any) -> Callable[[str], Any]:
    return lambda text: read_field(name, hint, text)


def _help(usage: str, about: str, names: Sequence[str]) -> int:
    """Print the commands, each with its dataclass's first line."""
    width = max(map(len, names)) + 2
    lines = [f"    {name:{width}}{_about(name)}" for name in names]
    head = [_("usage: {command} COMMAND --help").format(command=usage), *filter(None, ["", about])]
    print("\n".join([*head, "", _("commands:"), *lines]))
    return 0


def _callbacks(function: Callable, command: str, bars: Bars) -> dict[str, Any]:
    """What the function calls to tell how far it is, by the names of its parameters."""
    known = {
        "progress": lambda: bars,
        "on_encode": lambda: bars("encode"),
        "on_step": lambda: bars(command),
        "callbacks": lambda: _figures(bars),
        "say": lambda: _tell,
        "on_progress": lambda: lambda line: print(printable(line), file=sys.stderr),
    }
    wanted = inspect.signature(function).parameters
    return {name: make() for name, make in known.items() if name in wanted}


def _figures(bars: Bars) -> list[Any]:
    from kolors_lab.training.callbacks import Rows

    return [Rows(bars.note)]


def _tell(line: object) -> None:
    """Print a line, above a progress bar if there is one."""
    from tqdm import tqdm

    tqdm.write(printable(line))


def _say(message: str, code: int) -> int:
    print(f"kolors-lab: {printable(' '.join(message.split()))}", file=sys.stderr)
    return code


class Bars:
    """Progress bars on stderr, one at a time: `bars("train")` names what is to come, on_step(done, total) fills it."""

    def __init__(self):
        self.bar, self.stage, self.figures = None, "", {}

    def __call__(self, stage: str) -> Callable[..., None]:
        if self.bar is None or self.bar.bar_format is None:  # a name still waiting for its first step stays
            self.open(stage)

        def on_step(done: int, total: int, loss: float | None = None) -> None:
            if self.stage != stage:
                self.open(stage)
            if self.bar.bar_format:
                self.bar.bar_format = None
                self.bar.reset(total)
            if loss is not None:
                self.bar.set_postfix(loss=f"{loss:.4f}", **self.figures, refresh=False)
            self.bar.update(done - self.bar.n)

        return on_step

    def note(self, row: dict[str, float]) -> None:
        """Figures of a training step, shown behind its loss: learning rate, pictures per second, memory."""
        rate, speed, memory = (row[name] for name in ("learning_rate", "pictures_per_second", "memory_gib"))
        self.figures = {"lr": f"{rate:.1e}", "pictures/s": f"{speed:.1f}", "GiB": f"{memory:.1f}"}

    def open(self, stage: str) -> None:
        from tqdm import tqdm

        self.close()
        self.stage = stage
        self.bar = tqdm(desc=f"{stage:8}", file=sys.stderr, bar_format="{desc} …", dynamic_ncols=True)

    def close(self) -> None:
        if self.bar is not None:
            self.bar.leave = self.bar.bar_format is None  # a name that never came to a step goes
            self.bar.close()

    def __enter__(self) -> Bars:
        return self

    def __exit__(self, *error: object) -> None:
        self.close()


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
    return [funnel, told.format(kept=done.kept, lost=len(done.rejected), folder=done.out)]


def _captions(config: Any, done: Any) -> list[str]:
    if config.tag:
        return done.lines()
    changed = [row for row in done if row[1] != row[2]]
    lines = [line for name, before, after in changed for line in (name, f"  − {before}", f"  + {after}")]
    return [*lines, _("{changed} of {all} captions would change").format(changed=len(changed), all=len(done))]


def _choose(config: Any, done: Any) -> list[str]:
    row = _("score {score:5.2f}   fit {fit:6.3f}   together {total:+.2f}   {file}")
    lines = [row.format(score=c.score, fit=c.fit, total=c.total, file=c.file) for c in done]
    note = _("together: score and fit, each in standard deviations of these LoRAs; the more --seeds, the surer")
    return [*lines, note, _("the best: {file}").format(file=done[0].file)]


def _submit(config: Any, done: Any) -> list[str]:
    written = _("submission: {folder} and {zip}").format(folder=config.folder, zip=config.zip)
    return [written, *_missing(done)]


def _check(config: Any, done: Any) -> list[str]:
    return _missing(done) or [_("{folder}: nothing is missing").format(folder=config.folder)]


def _doctor(config: Any, done: Any) -> list[str]:
    bad = [check.name for check in done if not check.ok]
    if bad:
        told = _("not all is well: {names}; the lines above say what to do")
        raise KolorsLabError(told.format(names=", ".join(bad)))
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
    "repair": _lines,
    "doctor": _doctor,
    "comfy show": _lines,
    "comfy run": _lines,
    "serve": _lines,
    "lora show": _lines,
}  # the others say where what they made lies

NOT_READY: dict[str, Callable[[Any], bool]] = {  # commands whose answer may be no, for scripts to hear
    "submit check": bool,
    "submit reproduce": lambda done: not done.identical,
}
