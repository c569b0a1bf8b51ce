"""The `kolors-lab` command: one subcommand for each settings dataclass, its options made from the fields.

Example: kolors-lab baseline --preset tiny --out runs/baseline

The table of commands and their options are in options.py, what they say at their end in summaries.py. Only the command
that is asked for is imported.
"""

from __future__ import annotations

import inspect
import os
import signal
import sys
import warnings
from collections.abc import Callable, Sequence
from importlib import import_module
from pathlib import Path
from typing import Any

from kolors_lab.cli.bars import Bars
from kolors_lab.cli.options import COMMANDS, about, family, find_command, read_config
from kolors_lab.cli.summaries import answers_no, summary
from kolors_lab.core.errors import KolorsLabWarning, SettingError, explain, printable
from kolors_lab.core.language import _, language
from kolors_lab.models.processes import is_alone, is_main

WRONG, STOPPED = 2, 130  # exit codes: bad input; Ctrl+C
SHARED = ("train", "grid", "story", "story cast", "score")  # what `accelerate launch` may start several times
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
        introduction = _("Train a LoRA on Kolors and tell a story in eight pictures. To begin: kolors-lab baseline")
        return _help("kolors-lab", introduction, list(COMMANDS))
    if argv[0] == "--version":
        from kolors_lab import __version__

        print(__version__)
        return 0
    name, rest = find_command(argv)
    if name not in COMMANDS:  # the first word of several commands
        return _help(f"kolors-lab {name}", "", family(name))
    if name not in SHARED and not is_alone():
        raise SettingError(
            "{command} is done by one process: start it without accelerate launch; several share {shared}",
            command=name,
            shared=", ".join(SHARED),
        )
    config = read_config(name, rest)
    os.environ.update({key: value for key, value in QUIET.items() if key not in os.environ})
    warnings.simplefilter("ignore")
    warnings.simplefilter("always", KolorsLabWarning)
    warnings.showwarning = lambda message, *rest: _say(str(message), 0)
    module, _config_name, function_name = COMMANDS[name]
    function = getattr(import_module(module), function_name)
    with Bars() as bars:
        result = function(config, **(_callbacks(function, name, bars) if is_main() else {}))
    if is_main():
        print(printable("\n".join(summary(name, config, result))))
    return WRONG if answers_no(name, result) else 0


def _help(usage: str, introduction: str, names: Sequence[str]) -> int:
    """Print the commands, each with its dataclass's first line."""
    width = max(map(len, names)) + 2
    lines = [f"    {name:{width}}{about(name)}" for name in names]
    head = [_("usage: {command} COMMAND --help").format(command=usage), *filter(None, ["", introduction])]
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
