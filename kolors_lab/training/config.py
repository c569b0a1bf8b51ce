"""The settings of a training, beside those of what is learned from (DataConfig), and what must agree to go on."""

from __future__ import annotations

import hashlib
import json
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

from kolors_lab.core.errors import DataError, SettingError
from kolors_lab.core.fields import OneOf, Range
from kolors_lab.core.language import _
from kolors_lab.dataset.sets import DataConfig
from kolors_lab.models.loading import check_bits
from kolors_lab.models.presets import get_preset
from kolors_lab.sampling.control import KINDS
from kolors_lab.training.checkpoint import states
from kolors_lab.training.methods import METHODS
from kolors_lab.training.optim import SCHEDULES, check_optimizer, parse_growth, peak_rate

if TYPE_CHECKING:
    from kolors_lab.dataset.folder import Example
    from kolors_lab.models.presets import Preset

PRECISIONS = {"auto": None, "fp32": "float32", "fp16": "float16", "bf16": "bfloat16"}  # name: torch's own
CHECKPOINTING = ("none", "partial", "full")
LORAS_OWN = ("alpha", "dropout", "use_rslora", "use_dora", "target_modules", "init_lora", "base_bits")
PLACES = ("data", "more_data", "out", "resume", "init_lora", "init_net", "controls", "masks")  # they may be moved


@dataclass(frozen=True)
class TrainConfig(DataConfig):
    """Training a LoRA, a ControlNet, or the whole UNet.

    Args:
        validate_every: steps between looks at the held-out pictures, if there are any
        patience: end after so many looks without a better one; 0: go on to the last step
        keep_best: save the weights of the best look, not the last ones
        sample_every: steps between pictures drawn on the way, into the run's samples; 0: none
        sample_prompts: what they show; none: the captions of the first two pictures
        control_kind: method controlnet: what controls are made of: canny, scribble, or none (they are controls already)
        controls: method controlnet: folder of a control for each picture, of the same name; none: those that the set's
            own list of pairs (prompt.json) names, or else made of the pictures themselves
        init_net: method controlnet: folder of a ControlNet to go on from, Kwai's for Kolors; none: a new one
        masks: folder of a mask for each picture, of the same name: white counts in the loss, black does not
        preset: tiny, kolors, or a folder that holds a KolorsPipeline
        method: lora; controlnet, a net that says where things stand; full, every weight of the UNet, kept as a UNet
            folder and as the LoRA of `rank` that comes nearest
        out: the folder for lora.safetensors (controlnet, unet), config.json, metrics.jsonl and checkpoints
        resume: folder of a training cut short, to go on with its settings; the command it was begun with does so too
        steps: training steps; none: the preset's
        seed: equal seeds give equal LoRAs
        rank: the LoRA's size; about 16 for a style, about 4 for a subject
        alpha: the LoRA's effect is scaled by alpha / rank
        dropout: share of what goes into the LoRA that is left out at random, against learning by heart
        use_rslora: scale by alpha / sqrt(rank) instead, so that large ranks learn as quickly as small ones
        use_dora: learn how long a layer's weights are apart from where they point; slower
        target_modules: layers that learn: attention, attention+ff, all-linear, conv, ends of names; none: the preset's
        init_lora: file of a LoRA to start from; none: from no effect
        size: px of the pictures that are learned from, a multiple of 8; none: the preset's. Kolors: 512 first
        batch_size: pictures that go through the UNet at once; none: the preset's
        gradient_accumulation_steps: batches that make one step: a larger batch in the memory of a small one
        batch_growth: larger batches later: 0.5:2,0.8:4 has 2 pictures at once after half of the steps, then 4
        optimizer: adamw, adamw8bit (CUDA), lion, prodigy, or another of torch.optim and pytorch_optimizer by its dotted
            name, such as torch.optim.Adamax
        learning_rate: at its peak; none: the preset's, as the optimizer needs it
        weight_decay: how strongly weights are drawn to 0; none: the optimizer's own
        lr_scheduler: cosine, cosine_with_restarts, linear, polynomial, constant, constant_with_warmup, or
            reduce_on_plateau, which halves the rate where the running mean of the loss no longer falls
        lr_warmup_steps: steps that the learning rate rises before the schedule begins
        snr_gamma: upper limit of min-SNR weighting; null (None in Python): every timestep weighs the same
        noise_offset: noise that is the same all over a picture, about 0.05, to learn very dark and very bright ones
        ema_decay: save a moving average of the weights that keeps this share of itself at each step, such as 0.99
        precision: auto, fp32, fp16 or bf16 for the frozen UNet; the LoRA is always fp32
        base_bits: 4 or 8: the frozen UNet in so many bits (CUDA, needs bitsandbytes); none: as precision says
        gradient_checkpointing: none, partial (the deepest blocks) or full: less memory, more time; unset: what has room
        checkpoint_every: steps between checkpoints; 0: one only when stopped by Ctrl+C or SIGTERM
    """

    validate_every: Annotated[int, Range(1)] = 20
    patience: Annotated[int, Range(0)] = 0
    keep_best: bool = True
    sample_every: Annotated[int, Range(0)] = 0
    sample_prompts: tuple[str, ...] = ()
    control_kind: Annotated[str, OneOf(KINDS)] = "canny"
    controls: str | None = None
    init_net: str | None = None
    masks: str | None = None
    preset: str = "tiny"
    method: Annotated[str, OneOf(METHODS)] = "lora"
    out: str = "runs/train"
    resume: str | None = None
    steps: Annotated[int | None, Range(1)] = None
    seed: Annotated[int, Range(0, 2**63 - 1)] = 0
    rank: Annotated[int, Range(1, 1024)] = 16
    alpha: Annotated[float, Range(1e-6, 1024)] = 16.0
    dropout: Annotated[float, Range(0, 0.99)] = 0.0
    use_rslora: bool = False
    use_dora: bool = False
    target_modules: tuple[str, ...] | None = None
    init_lora: str | None = None
    size: Annotated[int | None, Range(64, 2048)] = None
    batch_size: Annotated[int | None, Range(1)] = None
    gradient_accumulation_steps: Annotated[int, Range(1)] = 1
    batch_growth: str = ""
    optimizer: str = "adamw"
    learning_rate: Annotated[float | None, Range(1e-9)] = None
    weight_decay: Annotated[float | None, Range(0)] = None
    lr_scheduler: Annotated[str, OneOf(SCHEDULES)] = "cosine"
    lr_warmup_steps: Annotated[int, Range(0)] = 10
    snr_gamma: Annotated[float | None, Range(1e-3)] = 5.0
    noise_offset: Annotated[float, Range(0, 1)] = 0.0
    ema_decay: Annotated[float | None, Range(0, 0.999999)] = None
    precision: Annotated[str, OneOf(PRECISIONS)] = "auto"
    base_bits: int | None = None
    gradient_checkpointing: Annotated[str | None, OneOf(CHECKPOINTING)] = None
    checkpoint_every: Annotated[int, Range(0)] = 0

    def __post_init__(self):
        DataConfig.__post_init__(self)  # checks the fields of all
        parse_growth(self.batch_growth)
        check_optimizer(self.optimizer)
        check_bits("base_bits", self.base_bits)
        if self.target_modules is not None and not self.target_modules:
            raise SettingError("target_modules = (): must name at least one layer, such as to_q")
        if self.patience and not self.held_out:
            raise SettingError(
                "patience = {patience}: needs held-out pictures to look at, such as held_out 0.1",
                patience=self.patience,
            )
        self._check_method()

    def _check_method(self) -> None:
        """SettingError for settings that the method has no use for."""
        fields, idle = self.__dataclass_fields__, []
        if self.method != "lora":
            idle += LORAS_OWN
        if self.method == "controlnet":
            idle += ["rank", "sample_every"]  # samples are drawn without a control
        else:
            idle += ["controls", "control_kind", "init_net"]
        if given := [name for name in idle if getattr(self, name) != fields[name].default]:
            raise SettingError(
                "{name} = {value}: method {method} has no use for it",
                name=given[0],
                value=getattr(self, given[0]),
                method=self.method,
            )


def resolve(config: TrainConfig, preset: Preset) -> TrainConfig:
    """The config with the preset's values where it says None."""
    return replace(
        config,
        steps=config.steps or preset.train_steps,
        batch_size=config.batch_size or preset.batch_size,
        learning_rate=config.learning_rate
        or peak_rate(config.optimizer, preset.learning_rate * METHODS[config.method].rate),
        target_modules=tuple(config.target_modules or preset.target_modules) if config.method == "lora" else None,
    )


def settle(config: TrainConfig) -> tuple[Preset, TrainConfig]:
    """The preset, at the size that the config asks for, and the config with the preset's values where it says None."""
    preset = get_preset(config.preset)
    return replace(preset, size=config.size or preset.size), resolve(config, preset)


def identity(config: TrainConfig, examples: list[Example]) -> dict[str, Any]:
    """What must be equal for a training to go on: settings but for places and for what only takes memory or time, and
    the pictures' names, sizes, captions."""
    settings = {key: value for key, value in asdict(config).items() if key not in (*PLACES, "gradient_checkpointing")}
    seen = [f"{example.image.name} {example.image.stat().st_size} {example.text}" for example in examples]
    pictures = hashlib.sha256("\n".join(seen).encode()).hexdigest()[:16]
    return json.loads(json.dumps({**settings, "pictures": pictures}))


def check_identity(run: Path, saved: dict[str, Any], current: dict[str, Any]) -> None:
    """Raise SettingError, naming what differs, if the training that was cut short in `run` was another one."""
    saved = json.loads(json.dumps(asdict(TrainConfig()))) | saved  # what an older run does not know, it had at default
    differs = [
        _("{key} = {there!r} there, {here!r} here").format(key=key, there=saved.get(key), here=value)
        for key, value in current.items()
        if saved.get(key) != value
    ]
    if differs:
        raise SettingError(
            "{run} holds a training cut short with other settings: {differs}; give the same ones to go on, or choose "
            "another out folder",
            run=run,
            differs="; ".join(differs),
        )


def _way_on(run: Path, method: str) -> str:
    """How to get more steps than a finished training has."""
    if setting := {"lora": "init_lora", "controlnet": "init_net"}.get(method):
        told = _("for more steps begin a training in another out folder with {setting} = {result}")
        return told.format(setting=setting, result=run / METHODS[method].result)
    return _("for more steps train anew, with more of them, in another out folder")


def saved_config(config: TrainConfig) -> TrainConfig:
    """The settings of the run in `config.resume`; what else is given must be as it was there, places excepted.

    Fields that an older run does not know have their defaults. Raises SettingError for what differs, DataError for a
    folder without a training that could go on.
    """
    run = Path(config.resume)
    try:
        content = json.loads((run / "config.json").read_text(encoding="utf-8"))
        saved = TrainConfig(
            **{key: tuple(value) if isinstance(value, list) else value for key, value in content.items()}
        )
    except (OSError, ValueError, TypeError, AttributeError, RecursionError, SettingError) as error:
        raise DataError("resume = {run}: holds no training that could go on ({error})", run=run, error=error) from error
    default = TrainConfig()
    given = {name: value for name, value in vars(config).items() if value != getattr(default, name)}
    places = {name: given.pop(name) for name in PLACES if name in given}
    check_identity(run, asdict(saved), given)
    if not states(run):
        if (run / METHODS[saved.method].result).exists():
            raise DataError(
                "resume = {run}: this training of {steps} steps is finished, there is nothing to go on with; {way}",
                run=run, steps=saved.steps, way=_way_on(run, saved.method),
            )  # fmt: skip
        raise DataError("resume = {run}: holds no checkpoint; leave resume out to train anew", run=run)
    return replace(saved, **places | {"out": str(run), "resume": None})
