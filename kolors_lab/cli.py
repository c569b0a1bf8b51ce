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
ABOUT = "Train a LoRA on Kolors and tell a story in eight pictures. To begin: kolors-lab baseline"


def main(argv: Sequence[str] | None = None) -> int:
    """Run one command; the exit code: 0, 2 for bad input (one line on stderr), 130 after Ctrl+C or SIGTERM."""
    _mend_streams()
    try:
        signal.signal(signal.SIGTERM, signal.default_int_handler)  # a closed session tidies up as Ctrl+C does
        return run(sys.argv[1:] if argv is None else list(argv))
    except KeyboardInterrupt:
        return _say("stopped; run the same command again to go on", STOPPED)
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
    if not argv or argv[0] in ("-h", "--help"):
        return _help("kolors-lab", ABOUT, list(COMMANDS))
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
    warnings.showwarning = lambda message, *_: _say(str(message), 0)
    module, _, function_name = COMMANDS[name]
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
    raise SettingError(f"{wanted}: there is no such command; did you mean {near}? see kolors-lab --help")


def read_config(name: str, argv: list[str]) -> Any:
    """The settings that a command's options say. SettingError, naming the nearest option, for one it does not have."""
    parser, config = make_parser(name), _config(name)
    options, unknown = parser.parse_known_args(argv)
    if unknown:
        flags = [f"--{field.name}" for field in fields(config) if field.name not in POSITIONAL]
        given = unknown[0].partition("=")[0]
        near = difflib.get_close_matches("--" + given[2:].replace("-", "_"), flags, 1, 0.5)
        hint = f"did you mean {near[0]}? " if near and given.startswith("--") else ""
        raise SettingError(f"{given}: {name} has no such option; {hint}see {parser.prog} --help")
    return config(**{key: tuple(value) if isinstance(value, list) else value for key, value in vars(options).items()})


def _config(name: str) -> type:
    module, config_name, _ = COMMANDS[name]
    return getattr(import_module(module), config_name)


def _about(name: str) -> str:
    from docstring_parser import parse_from_object

    return parse_from_object(_config(name)).short_description or ""


class Parser(argparse.ArgumentParser):
    """argparse, whose errors are ours."""

    def error(self, message: str) -> None:
        raise SettingError(f"{message}; see {self.prog} --help")


def make_parser(name: str) -> Parser:
    """A command's parser: one option per field, with its default and what the docstring says of it; the fields in
    POSITIONAL go without a flag."""
    others = ", ".join(family(name))
    parser = Parser(prog=f"kolors-lab {name}", description=_about(name), allow_abbrev=False)
    parser.epilog = f"Further commands: {others}" if others else None
    config = _config(name)
    for field in fields(config):
        hint, about = hints(config)[field.name], meanings(config).get(field.name, "")
        plain = field.default in (None, "", (), MISSING)
        text = about if plain else f"{about} (default: {field.default})"
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
    print("\n".join([f"usage: {usage} COMMAND --help", *filter(None, ["", about]), "", "commands:", *lines]))
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

    def __exit__(self, *_: object) -> None:
        self.close()


def _baseline(config: Any, done: Any) -> list[str]:
    verdict = "above" if done.passed else "below"
    kind = "练习分 practice score, no pass or fail in the challenge" if done.practice else "mean score"
    lines = [
        f"pictures kept   {done.kept} of {done.kept + done.rejected}",
        f"training loss   {done.loss:.4f}",
        f"{kind}   {done.base_score:.2f} without the LoRA, {done.lora_score:.2f} with it: {verdict} 6",
        f"time            {done.seconds:.0f} s",
        f"page            {done.page}",
        f"report          {done.report}",
    ]
    return ["", *lines]


def _score(config: Any, done: Any) -> list[str]:
    return done.lines()


def _juice(config: Any, done: Any) -> list[str]:
    funnel = " → ".join(f"{name} {count}" for name, count in done.funnel)
    return [funnel, f"kept {done.kept}, left out {len(done.rejected)} (reasons in rejected.csv): {done.out}"]


def _captions(config: Any, done: Any) -> list[str]:
    if config.tag:
        return done.lines()
    changed = [row for row in done if row[1] != row[2]]
    lines = [line for name, before, after in changed for line in (name, f"  − {before}", f"  + {after}")]
    return [*lines, f"{len(changed)} of {len(done)} captions would change"]


def _choose(config: Any, done: Any) -> list[str]:
    lines = [f"score {c.score:5.2f}   fit {c.fit:6.3f}   together {c.total:+.2f}   {c.file}" for c in done]
    note = "together: score and fit, each in standard deviations of these LoRAs; the more --seeds, the surer"
    return [*lines, note, f"the best: {done[0].file}"]


def _submit(config: Any, done: Any) -> list[str]:
    return [f"submission: {config.folder} and {config.zip}", *(f"still missing: {line}" for line in done)]


def _check(config: Any, done: Any) -> list[str]:
    return [f"still missing: {line}" for line in done] or [f"{config.folder}: nothing is missing"]


def _doctor(config: Any, done: Any) -> list[str]:
    bad = [check.name for check in done if not check.ok]
    if bad:
        raise KolorsLabError(f"not all is well: {', '.join(bad)}; the lines above say what to do")
    return ["all is well"]


def _cast(config: Any, done: Any) -> list[str]:
    lines = ["panel  seed   score   fit  likeness"]
    for mine, seed in zip(done.takes, done.seeds, strict=True):
        take = next(take for take in mine if take.seed == seed)
        how = "" if take.rank == 1 else f"  chosen by hand, ranked {take.rank} of {len(mine)}"
        lines.append(f"{take.panel:5}  {seed:4}  {take.score:6.2f}  {take.fit:4.2f}  {take.likeness:8.2f}{how}")
    folder = done.page.parent
    hint = f"to change a choice: edit the seeds in {folder / 'cast.csv'} and run this again"
    return [*lines, f"sheets  {folder / 'takes'}", f"page    {done.page}", hint]


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
