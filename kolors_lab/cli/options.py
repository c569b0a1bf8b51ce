"""The commands, and their options made from the fields of settings dataclasses.

Options and errors come from core/fields.py, which the notebooks' forms are made from as well; argparse does the rest.
"""

from __future__ import annotations

import argparse
import difflib
from collections.abc import Callable
from dataclasses import MISSING, fields
from importlib import import_module
from typing import Any

from kolors_lab.core.errors import SettingError
from kolors_lab.core.fields import hints, kinds, meanings, read_field
from kolors_lab.core.language import _

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
FLAGGED = {"story check": "--story"}  # what the commands beside it call this one's argument; it goes with either


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
    raise SettingError(
        "{wanted}: there is no such command; did you mean {near}? see kolors-lab --help", wanted=wanted, near=near
    )


def read_config(name: str, argv: list[str]) -> Any:
    """The settings that a command's options say. SettingError, naming the nearest option, for one it does not have."""
    parser, config = make_parser(name), settings_of(name)
    if flag := FLAGGED.get(name):
        argv = [word.removeprefix(f"{flag}=") for word in argv if word != flag]
    options, unknown = parser.parse_known_args(argv)
    if unknown:
        flags = [f"--{field.name}" for field in fields(config) if field.name not in POSITIONAL]
        given = unknown[0].partition("=")[0]
        near = _nearest(given, flags)
        hint = _("did you mean {near}? ").format(near=near) if near else ""
        raise SettingError(
            "{given}: {command} has no such option; {hint}see {program} --help",
            given=given,
            command=name,
            hint=hint,
            program=parser.prog,
        )
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


def about(name: str) -> str:
    """The first line of a command's settings."""
    from docstring_parser import parse_from_object

    line = parse_from_object(settings_of(name)).short_description or ""
    return _(line)


class Parser(argparse.ArgumentParser):
    """argparse, whose errors are ours."""

    def error(self, message: str) -> None:
        raise SettingError("{message}; see {program} --help", message=message, program=self.prog)


def make_parser(name: str) -> Parser:
    """A command's parser: one option per field, with its default and what the docstring says of it; the fields in
    POSITIONAL go without a flag."""
    others = ", ".join(family(name))
    parser = Parser(prog=f"kolors-lab {name}", description=about(name), allow_abbrev=False)
    parser.epilog = _("Further commands: {names}").format(names=others) if others else None
    config = settings_of(name)
    for field in fields(config):
        hint, meaning = hints(config)[field.name], meanings(config).get(field.name, "")
        plain = field.default in (None, "", (), MISSING)
        text = meaning if plain else _("{about} (default: {value})").format(about=meaning, value=field.default)
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
