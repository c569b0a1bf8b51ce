"""The `kolors-lab` command: one subcommand for each settings dataclass, its options made from the fields.

Example: kolors-lab baseline --preset tiny --out runs/baseline
"""

from __future__ import annotations

import argparse
import errno
import inspect
import os
import re
import sys
import warnings
from collections.abc import Callable, Sequence
from dataclasses import MISSING, fields, is_dataclass
from importlib import import_module
from typing import TYPE_CHECKING, Any, get_args, get_origin, get_type_hints

from kolors_lab.core.errors import KolorsLabError, KolorsLabWarning, SettingError

if TYPE_CHECKING:
    from jsonargparse import ArgumentParser

WRONG, STOPPED = 2, 130  # exit codes: bad input; Ctrl+C
NO_ROOM = (errno.ENOSPC, errno.EDQUOT, errno.EROFS, errno.EACCES)
COMMANDS = {  # name: (module, settings dataclass, function); a name of two words is a command of its own
    "baseline": ("kolors_lab.challenge.pipeline", "BaselineConfig", "baseline"),
    "juice": ("kolors_lab.dataset.cleaning", "CleanConfig", "clean"),
    "captions": ("kolors_lab.dataset.captions", "CaptionsConfig", "captions"),
    "train": ("kolors_lab.training.loop", "TrainConfig", "train"),
    "choose": ("kolors_lab.challenge.selection", "ChooseConfig", "choose_checkpoint"),
    "invert": ("kolors_lab.training.inversion", "InversionConfig", "invert"),
    "generate": ("kolors_lab.sampling.pipeline", "GenerateConfig", "generate_file"),
    "grid": ("kolors_lab.pictures.grids", "GridConfig", "grid"),
    "story": ("kolors_lab.comic.panels", "StoryConfig", "story"),
    "story brief": ("kolors_lab.comic.brief", "BriefConfig", "brief"),
    "story cast": ("kolors_lab.comic.casting", "CastConfig", "cast"),
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
    "course": ("kolors_course.copies", "CourseConfig", "course"),
}
JOINT = "\u00a0"  # within a name of two words, where jsonargparse takes no plain space
POSITIONAL = ("folder", "other", "what", "file", "picture", "target", "parts")  # kolors-lab score FOLDER
QUIET = {  # libraries that tell a learner what only their makers need to know; errors stay
    "TRANSFORMERS_VERBOSITY": "error",
    "DIFFUSERS_VERBOSITY": "error",
    "HF_HUB_DISABLE_PROGRESS_BARS": "1",
    "HF_DATASETS_DISABLE_PROGRESS_BARS": "1",
    "TOKENIZERS_PARALLELISM": "false",
    "MODELSCOPE_LOG_LEVEL": "40",
    "LOGURU_LEVEL": "ERROR",
}
TYPES = {"int": "a whole number", "float": "a number", "bool": "true or false", "str": "text"}


def main(argv: Sequence[str] | None = None) -> int:
    """Run one command; the exit code: 0, 2 for bad input (one line on stderr), 130 after Ctrl+C."""
    for stream in (sys.stdout, sys.stderr):  # Chinese text and file names also where the locale is C
        if hasattr(stream, "reconfigure"):
            stream.reconfigure(encoding="utf-8", errors="surrogateescape")
    try:
        return run(sys.argv[1:] if argv is None else list(argv))
    except KeyboardInterrupt:
        return _say("stopped; run the same command again to go on", STOPPED)
    except argparse.ArgumentError as error:
        return _say(f"{explain(str(error))}; see kolors-lab --help", WRONG)
    except KolorsLabError as error:
        return _say(str(error), WRONG)
    except OSError as error:
        where = f"{error.filename}: " if error.filename else ""
        hint = "; free some space or choose another place" if error.errno in NO_ROOM else ""
        return _say(f"{where}{error.strerror or error}{hint}", WRONG)


def run(argv: list[str]) -> int:
    """Parse and do one command; its exceptions pass through."""
    parser = make_parser()
    if not argv:
        parser.print_help()
        return 0
    options = parser.parse_args(join_words(argv))
    name = options.command.replace(JOINT, " ")
    module_name, config_name, function_name = COMMANDS[name]
    module = import_module(module_name)
    config = getattr(module, config_name)(**vars(options[options.command]))
    os.environ.update({key: value for key, value in QUIET.items() if key not in os.environ})
    warnings.simplefilter("ignore")
    warnings.simplefilter("always", KolorsLabWarning)
    warnings.showwarning = lambda message, *_: _say(str(message), 0)
    function = getattr(module, function_name)
    with Bars() as bars:
        result = function(config, **_callbacks(function, name, bars))
    print("\n".join(SUMMARIES.get(name, _path)(config, result)))
    return WRONG if NOT_READY.get(name, lambda done: False)(result) else 0


def join_words(argv: Sequence[str]) -> list[str]:
    """The words of a two-word command as one: ["lora", "show", "a.safetensors"] → ["lora show", "a.safetensors"]."""
    if " ".join(argv[:2]) in COMMANDS:
        return [JOINT.join(argv[:2]), *argv[2:]]
    family = [known for known in COMMANDS if known.startswith(f"{argv[0]} ")]
    if family and argv[0] not in COMMANDS:
        raise SettingError(
            f"{argv[0]} must be followed by {', '.join(n.split()[1] for n in family)}; see --help of each"
        )
    return list(argv)


def _callbacks(function: Callable, command: str, bars: Bars) -> dict[str, Callable]:
    """What the function calls to tell how far it is, by the names of its parameters."""
    known = {
        "progress": lambda: bars,
        "on_encode": lambda: bars("encode"),
        "on_step": lambda: bars(command),
        "on_metrics": lambda: bars.note,
        "say": lambda: _tell,
        "on_progress": lambda: lambda line: print(line, file=sys.stderr),
    }
    wanted = inspect.signature(function).parameters
    return {name: make() for name, make in known.items() if name in wanted}


def _tell(line: object) -> None:
    """Print a line, above a progress bar if there is one."""
    from tqdm import tqdm

    tqdm.write(str(line))


def make_parser() -> ArgumentParser:
    """The parser, with a subcommand for every settings dataclass."""
    from jsonargparse import ArgumentParser

    parser = ArgumentParser(
        prog="kolors-lab",
        exit_on_error=False,
        formatter_class=Help,
        description="Train a LoRA on Kolors and tell a story in eight pictures. To begin: kolors-lab baseline",
    )
    commands = parser.add_subcommands(dest="command", metavar="COMMAND", title="commands")
    for name, (module, config_name, _) in COMMANDS.items():
        config = getattr(import_module(module), config_name)
        command = ArgumentParser(exit_on_error=False, formatter_class=Help)
        command.description = add_options(command, config)
        commands.add_subcommand(name.replace(" ", JOINT), command, help=command.description)
    return parser


def add_options(command: ArgumentParser, config: type) -> str:
    """One option per field, with its type, default and docstring; the fields in POSITIONAL go without a flag.

    Returns the dataclass's first line. (jsonargparse's own add_class_arguments would import all that the module's
    TYPE_CHECKING block names, seconds of torch and diffusers, to look at types that are no fields.)
    """
    from docstring_parser import parse_from_object

    about = parse_from_object(config)
    bases = [base for base in reversed(config.__mro__) if is_dataclass(base)]  # fields may be explained in any of them
    texts = {part.arg_name: part.description for base in bases for part in parse_from_object(base).params}
    types = get_type_hints(config)
    for field in fields(config):
        options = {} if field.default is MISSING else {"default": field.default}
        name = f"--{field.name}"
        if types[field.name] is bool:  # --official alone means true
            options |= {"nargs": "?", "const": True}
        if field.name in POSITIONAL:
            several = get_origin(types[field.name]) is tuple
            name, options = field.name, {"nargs": "+"} if several else options and options | {"nargs": "?"}
        kind = types[field.name]
        kind = words if tuple[str, ...] in (kind, *get_args(kind)) else kind
        kind = str if options.get("nargs") == "+" else kind
        command.add_argument(name, type=kind, help=texts.get(field.name), **options)
    return about.short_description


def words(text: str | tuple[str, ...]) -> tuple[str, ...]:
    """`attention,conv1`, `[attention, conv1]` or `["attention", "conv1"]` → ("attention", "conv1"); a tuple stays."""
    if not isinstance(text, str):
        return text  # jsonargparse checks what it has parsed once more
    if not text.startswith("["):
        return tuple(word.strip() for word in text.split(","))
    import yaml

    try:
        found = yaml.load(text, yaml.BaseLoader)  # which leaves every item text; JSON is a part of YAML
    except yaml.YAMLError:
        found = [None]
    if not all(isinstance(word, str) for word in found):
        raise ValueError("must be like [one, two]; put what holds other brackets into quotes")
    return tuple(found)


class Help(argparse.HelpFormatter):
    """Help that gives each default, but no Python types."""

    def format_help(self) -> str:
        return super().format_help().replace(JOINT, " ")

    def _get_help_string(self, action: argparse.Action) -> str:
        text = action.help or ""
        plain = action.default in (None, "", (), argparse.SUPPRESS)
        return text if plain else f"{text} (default: {action.default})"


def explain(error: str) -> str:
    """A parser's message in a learner's words: which option, what was given, what is allowed."""
    error = " ".join(error.split())  # JOINT becomes a space, too
    key = re.match(r'Parser key "(?:[^".]+\.)*(\w+)":', error)
    value = re.search(r"(?:Got|Given) value: (.*)$", error)
    if not (key and value):
        return re.sub(r"\b(?:" + "|".join(COMMANDS) + r")\.(\w+)", r"\1", error)
    literals = re.search(r"Literal\[(.*?)\]", error)
    kinds = dict.fromkeys(re.findall(r"Expected a <class '(\w+)'>", error))
    words = [TYPES.get(kind, kind) for kind in kinds if kind != "NoneType"]
    return f"{key[1]} = {value[1]!r}: must be {f'one of {literals[1]}' if literals else ' or '.join(words)}"


def _say(message: str, code: int) -> int:
    print(f"kolors-lab: {' '.join(message.split())}", file=sys.stderr)
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
    "leaderboard": _lines,
    "doctor": _doctor,
    "comfy show": _lines,
    "comfy run": _lines,
    "lora show": _lines,
}  # the others say where what they made lies

NOT_READY: dict[str, Callable[[Any], bool]] = {  # commands whose answer may be no, for scripts to hear
    "submit check": bool,
    "submit reproduce": lambda done: not done.identical,
}
