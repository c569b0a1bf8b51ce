"""Train a LoRA on Kolors' UNet, or what methods.py has beside it, from pictures with captions.

Captions and pictures are encoded once, text encoder and VAE coming and going in turn (stages.py); then the LoRA learns
to predict the noise. The trainer neither prints nor plots: it calls back (callbacks.py). Its settings are in config.py,
optimisers and schedules in optim.py, the loss in loss.py. Read `train`, `take_steps`, `Training.take_step`, `loss`, in
this order.

    kolors-lab train --preset tiny --data FOLDER --out runs/train
    kolors-lab train --resume runs/train
    accelerate launch -m kolors_lab train --preset kolors --data FOLDER --out runs/train    (on every GPU)

References: LoRA https://arxiv.org/abs/2106.09685 · SDXL's size and crop conditioning https://arxiv.org/abs/2307.01952
"""

from __future__ import annotations

import contextlib
import math
import time
from pathlib import Path
from typing import TYPE_CHECKING, Any

from kolors_lab.core.errors import Interrupted, ModelError, SettingError
from kolors_lab.core.files import write_config
from kolors_lab.dataset.sets import read_sets, tell_doubts
from kolors_lab.lora.adapter import unload_lora
from kolors_lab.models.loading import having, load_parts, need_quantization, place
from kolors_lab.models.memory import memory_used
from kolors_lab.models.processes import start_processes
from kolors_lab.training.beside import beside
from kolors_lab.training.callbacks import Checkpoints, MetricsFile, Rows
from kolors_lab.training.checkpoint import check_free, claim, load_state, states, stop_signals
from kolors_lab.training.config import PRECISIONS, TrainConfig, check_identity, identity, saved_config, settle
from kolors_lab.training.dreambooth import class_examples
from kolors_lab.training.latent_cache import encode_sets
from kolors_lab.training.loss import draw_noise, loss
from kolors_lab.training.methods import METHODS
from kolors_lab.training.optim import advance, batch_sizes, find_optimizer, make_optimizer, make_schedule
from kolors_lab.training.origin import make_header
from kolors_lab.training.processes import mean_over
from kolors_lab.training.stages import add_what_trains, gpu_line, plan_training, with_checkpointing
from kolors_lab.training.validation import sample_prompts, watch

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Sequence

    import torch
    from accelerate import PartialState
    from diffusers import KolorsPipeline, UNet2DConditionModel

    from kolors_lab.models.memory import Plan
    from kolors_lab.models.presets import Preset
    from kolors_lab.training.callbacks import Callback
    from kolors_lab.training.latent_cache import Encoded
    from kolors_lab.training.methods import Method


def train(
    config: TrainConfig,
    pipe: KolorsPipeline | None = None,
    on_step: Callable[[int, int, float], None] | None = None,
    on_encode: Callable[[int, int], None] | None = None,
    say: Callable[[str], None] | None = None,
    callbacks: Sequence[Callback] = (),
) -> Path:
    """Train a LoRA; return `out/lora.safetensors`, with other methods `out/controlnet` or `out/unet`. A pipeline that
    is passed in is given back as it was, without a LoRA.

    A training that was cut short and left a checkpoint in `out` goes on from there, on a CPU bit for bit.
    Calls `on_encode(done, total)` while pictures and captions are encoded, `say(line)` with the memory plan, after each
    step `on_step(step, total, loss)`; `callbacks` hear more (callbacks.py).
    Raises DataError for a set that cannot be used and a folder that is in use, full or holds a LoRA, SettingError for
    settings unlike those of the training cut short, ModelError for a loss that is not finite: what was saved stays.
    """
    config = saved_config(config) if config.resume else config
    preset, config = settle(config)
    find_optimizer(config.optimizer)
    need_quantization("base_bits", config.base_bits)
    run, method = Path(config.out), METHODS[config.method]
    check_free(run, method.result, "lora.safetensors")
    examples, held = read_sets(config)
    processes = start_processes()
    if not processes.is_main_process:  # one of them tells and writes
        on_encode = say = None
    with claim(run) if processes.is_main_process else contextlib.nullcontext():
        state = load_state(run, say)
        settings = identity(config, examples)
        if state:
            check_identity(run, state["settings"], settings)
        write_config(run / "config.json", config)
        if processes.is_main_process and config.method != "controlnet":  # which no word calls
            tell_doubts([*examples, *held], config)
        header = make_header(config, preset, examples)  # before class pictures come to the examples
        borrowed = pipe is not None
        pipe, way = _prepare(pipe, preset, config, processes, state)
        part = (lambda name: having(pipe, preset, name, way.dtype, way.bits)) if way else contextlib.nullcontext
        dtype = way.dtype if way else pipe.unet.dtype
        config = with_checkpointing(preset, config, dtype, processes.device, processes.num_processes)
        if say:
            say(gpu_line(preset, config, dtype, processes.device))
        with processes.main_process_first():  # one after the other: main memory holds one text encoder
            prompts = sample_prompts(config, examples)
            own = pipe if borrowed else None
            examples += class_examples(own, examples, config, preset, processes.device, on_encode)
            sets, known = [(examples, config), (held, config.plain())], ("", *prompts) if prompts else ()
            encoded = encode_sets(pipe, sets, preset.size, processes.device, on_encode, part, known)
        data, seen = (beside(e, of, preset.size, how) for e, (of, how) in zip(encoded, sets, strict=True))
        watchers = [*watch(pipe, prompts, seen, preset, run, processes.device), *callbacks]
        progress = [Rows(lambda row: on_step(row["step"], config.steps, row["loss"]))] if on_step else []
        checkpoints = Checkpoints(run, method, header, settings, watchers)
        if way:
            add_what_trains(pipe, preset, config, way.dtype)
        with _learner(pipe, method, config, borrowed, processes.device) as model:
            training = Training(model, pipe.scheduler, data, config, processes)
            take_steps(training, run, [*watchers, MetricsFile(run), *progress, checkpoints], state)
    return run / method.result


@contextlib.contextmanager
def _learner(
    pipe: KolorsPipeline, method: Method, config: TrainConfig, borrowed: bool, device: torch.device
) -> Iterator[Any]:
    """What learns in the pipeline; a borrowed one is afterwards as it was."""
    model = None
    try:
        model = method.begin(pipe, config)
        yield model
    finally:
        pipe.unet.eval()
        pipe.unet.disable_gradient_checkpointing()
        if borrowed:
            method.end(pipe, model)
            place(pipe, device)


def take_steps(
    training: Training, run: Path, callbacks: Sequence[Callback], state: dict[str, Any] | None = None
) -> None:
    """Take all steps, those after `state` if there is one; the callbacks hear of each.

    Ctrl+C and SIGTERM are obeyed after a checkpoint, by Interrupted where the system ignores them (`nohup`, `&`).
    """
    import torch

    main = training.processes.is_main_process
    callbacks = [callback for callback in callbacks if callback.everywhere or main]
    devices = [training.device] if training.device.type == "cuda" else []  # no context on other GPUs
    try:
        with stop_signals() as training.signals, torch.random.fork_rng(devices), _naming_what_stays(run):
            torch.manual_seed(training.config.seed)  # dropout's
            if state:
                training.load_state_dict(state["training"])
                for callback in callbacks:
                    callback.load_state_dict(state["callbacks"].get(type(callback).__name__, {}))
            for callback in callbacks:
                callback.on_start(training)
            while not (training.ended or training.stopped):
                row = training.take_step()
                for callback in callbacks:
                    callback.on_step(training, row)
                training.ended = training.ended or training.step == training.config.steps
            for callback in callbacks if training.ended else ():
                callback.on_end(training)
    except KeyboardInterrupt:  # the signal, which takes effect once all is kept
        if training.ended or not training.stopped:
            raise
    if not training.ended:
        raise Interrupted(
            "stopped after step {step} of {steps}; {run} keeps what it learned: resume={run!r} goes on from there, and "
            "so does the same baseline once more",
            step=training.step, steps=training.config.steps, run=str(run),
        )  # fmt: skip


@contextlib.contextmanager
def _naming_what_stays(run: Path) -> Iterator[None]:
    """Add to a ModelError which checkpoint is the last good one."""
    try:
        yield
    except ModelError as error:
        if kept := states(run):
            file = kept[-1].with_suffix(".safetensors")
            raise ModelError("{error}: {file} stays; try a lower learning_rate", error=error, file=file) from error
        raise ModelError("{error}: nothing saved; try a lower learning_rate", error=error) from error


class Training:
    """The moving parts of a run: weights, optimiser, schedule, average, random numbers. A checkpoint holds them all."""

    def __init__(
        self,
        unet: UNet2DConditionModel,
        scheduler: Any,
        data: Encoded,
        config: TrainConfig,
        processes: PartialState,
    ):
        """`unet` carries a LoRA, `scheduler` is the pipeline's; `config` is resolved."""
        import torch
        from diffusers import DDPMScheduler
        from diffusers.training_utils import EMAModel

        self.config, self.data, self.processes, self.device = config, data, processes, processes.device
        self.unet = unet if config.base_bits else unet.to(self.device)  # a quantized one is where it belongs
        self.weights = [parameter for parameter in unet.parameters() if parameter.requires_grad]
        self.noise_scheduler = DDPMScheduler.from_config(scheduler.config)  # Kolors' own betas, 1100 steps of them
        self.optimizer = make_optimizer(config, self.weights)
        self.schedule = make_schedule(config, self.optimizer)
        self.dtype = unet.conv_in.weight.dtype  # unet.dtype looks at every parameter
        self.scaler = torch.amp.GradScaler(self.device.type, enabled=self.dtype == torch.float16)
        self.ema = EMAModel(self.weights, decay=config.ema_decay) if config.ema_decay is not None else None
        self.generator = torch.Generator().manual_seed(config.seed)
        together = config.gradient_accumulation_steps * processes.num_processes
        self.batches = data.batches([size * together for size in batch_sizes(config)], self.generator)
        self.step, self.seconds, self.smooth = 0, 0.0, None  # steps done; time they took; running mean of the loss
        self.ended = self.stopped = False  # nothing is left to learn; a signal came, and is obeyed
        self.signals: Sequence[int] = ()

    def take_step(self) -> dict[str, float]:
        """One step down the gradient of the next batch; its row of metrics. ModelError for a loss that is not finite.

        Each process takes its share of the batch, in as many parts as there is accumulation; noise and timesteps are
        drawn for the whole batch, so that the gradient is the same however it is shared out.
        """
        import torch

        start, config = time.monotonic(), self.config
        index = self.batches[self.step]
        share = len(index) // self.processes.num_processes
        mine = slice(self.processes.process_index * share, (self.processes.process_index + 1) * share)
        batch = self.data.batch(index[mine], self.device)
        shape, parts = (len(index), *batch["latents"].shape[1:]), config.gradient_accumulation_steps
        noise, timesteps = draw_noise(
            shape, len(self.noise_scheduler), self.generator, self.device, config.noise_offset
        )
        noise, timesteps = noise[mine], timesteps[mine]
        total = torch.zeros((), device=self.device)
        for part in (slice(first, first + share // parts) for first in range(0, share, share // parts)):
            tensors = {name: tensor[part] for name, tensor in batch.items()}
            with torch.autocast(self.device.type, self.dtype, enabled=self.dtype != torch.float32):
                value = loss(self.unet, self.noise_scheduler, tensors, noise[part], timesteps[part], config.snr_gamma)
            self.scaler.scale(value / parts).backward()
            total += value.detach() / parts
        mean_over(self.processes, [total])
        if not math.isfinite(value := total.item()):
            raise ModelError("the loss at step {step} is {value}", step=self.step + 1, value=value)
        rate = self.schedule.get_last_lr()[0] * self.optimizer.param_groups[0].get("d", 1.0)  # d: what Prodigy finds
        self._update(value)
        self.step += 1
        took = time.monotonic() - start
        self.seconds += took
        row = {"step": self.step, "loss": value, "learning_rate": rate, "seconds": self.seconds}
        return row | {"pictures_per_second": len(index) / took, "memory_gib": memory_used(self.device)}

    def _update(self, value: float) -> None:
        """Move the weights along the gradient, cut to a norm of 1; the scaler does nothing but in float16."""
        import torch

        mean_over(self.processes, [weight.grad for weight in self.weights])
        self.scaler.unscale_(self.optimizer)
        torch.nn.utils.clip_grad_norm_(self.weights, 1.0)
        self.scaler.step(self.optimizer)
        self.scaler.update()
        self.optimizer.zero_grad()
        self.smooth = value if self.smooth is None else 0.98 * self.smooth + 0.02 * value
        advance(self.schedule, self.smooth)
        if self.ema:
            self.ema.step(self.weights)

    @contextlib.contextmanager
    def averaged(self) -> Iterator[None]:
        """With the moving average, if there is one, in place of the weights."""
        if self.ema:
            self.ema.store(self.weights)
            self.ema.copy_to(self.weights)
        try:
            yield
        finally:
            if self.ema:
                self.ema.restore(self.weights)

    def save(self, file: Path, header: dict[str, str], write: Callable[[Any, Path, dict[str, str]], Path]) -> None:
        """Write what was learned by a method's `write`, averaged if there is an average.

        ModelError, and nothing is written, if it is not finite.
        """
        with self.averaged():
            if not all(weight.isfinite().all() for weight in self.weights):
                raise ModelError("the weights after step {step} are not finite", step=self.step)
            write(self.unet, file, header)

    def bytes_saved(self) -> int:
        """How much a checkpoint takes at most: what was learned, and weights, two moments and the average to go on."""
        return sum(weight.nbytes for weight in self.weights) * (5 if self.ema else 4)

    def state_dict(self) -> dict[str, Any]:
        """All that going on after this step needs."""
        import torch

        return {
            "weights": [weight.detach().cpu() for weight in self.weights],
            **{name: getattr(self, name).state_dict() for name in ("optimizer", "schedule", "scaler")},
            "ema": self.ema.state_dict() if self.ema else None,
            "generator": self.generator.get_state(),
            "random": torch.get_rng_state(),  # dropout's
            "cuda": torch.cuda.get_rng_state(self.device) if self.device.type == "cuda" else None,
            "dtype": str(self.dtype).removeprefix("torch."),
            **{name: getattr(self, name) for name in ("step", "seconds", "smooth")},
        }

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Take up where `state` was written."""
        import torch

        with torch.no_grad():
            for weight, saved in zip(self.weights, state["weights"], strict=True):
                weight.copy_(saved)
        for name in ("optimizer", "schedule", "scaler"):
            getattr(self, name).load_state_dict(state[name])
        if self.ema:
            self.ema.load_state_dict(state["ema"])
            self.ema.to(self.device)
        self.generator.set_state(state["generator"])
        torch.set_rng_state(state["random"])
        if self.device.type == "cuda" and state["cuda"] is not None:
            torch.cuda.set_rng_state(state["cuda"], self.device)
        self.step, self.seconds, self.smooth = state["step"], state["seconds"], state["smooth"]


def _prepare(
    pipe: KolorsPipeline | None,
    preset: Preset,
    config: TrainConfig,
    processes: PartialState,
    state: dict[str, Any] | None,
) -> tuple[KolorsPipeline, Plan | None]:
    """A pipeline without any of its parts yet, and the plan by which they come; or the one passed in, on the CPU and
    without a LoRA, and None. A training that goes on does so in the number type that it had."""
    import torch

    if pipe is None:
        before = getattr(torch, state["training"].get("dtype", ""), None) if state else None
        way = plan_training(preset, config, processes.device, before, processes.num_processes)
        return load_parts(preset, (), way.dtype), way
    wanted = getattr(torch, PRECISIONS[config.precision] or "", None)
    if config.base_bits:
        raise SettingError(
            "base_bits = {bits}: not with a pipeline that is passed in, which would lose its UNet",
            bits=config.base_bits,
        )
    if wanted not in (None, pipe.unet.dtype):
        raise SettingError(
            "precision = {precision}: the pipeline that was passed in is in {dtype}",
            precision=config.precision,
            dtype=pipe.unet.dtype,
        )
    unload_lora(pipe)
    pipe.remove_all_hooks()
    pipe.to("cpu")
    return pipe, None
