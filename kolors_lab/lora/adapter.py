"""LoRA adapters on the UNet (https://arxiv.org/abs/2106.09685), by peft: add, save, put on, merge, take off."""

from __future__ import annotations

import contextlib
import warnings
from pathlib import Path
from typing import TYPE_CHECKING

from kolors_lab.core.errors import ModelError
from kolors_lab.core.language import _
from kolors_lab.lora.layers import Layer, Lora, adapter_config
from kolors_lab.lora.reading import read_lora
from kolors_lab.lora.writing import diffusers_tensors, write_lora
from kolors_lab.models.presets import ATTENTION

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    import torch
    from diffusers import KolorsPipeline, UNet2DConditionModel

    Chain = Sequence[tuple[str | Path | Lora, float]]  # LoRAs, files or read ones, each with its strength

ADAPTER, WORN = "kolors_lab", "kolors_lab_worn"  # names of adapters: what stays on, what is on for a drawing
FEED_FORWARD = ("ff.net.0.proj", "ff.net.2")
TARGETS = {  # groups of layers in the UNet's blocks, by the ends of their names; a new group is one line here
    "attention": ATTENTION,
    "attention+ff": (*ATTENTION, *FEED_FORWARD),
    "all-linear": (*ATTENTION, *FEED_FORWARD, "proj_in", "proj_out", "time_emb_proj"),
    "conv": ("conv1", "conv2", "conv_shortcut", "downsamplers.0.conv", "upsamplers.0.conv"),
}


def expand_targets(target_modules: Sequence[str]) -> list[str]:
    """Ends of layers' names, a group of TARGETS replaced by its members: ("attention", "conv1") → to_q, …, conv1."""
    return list(dict.fromkeys(end for name in target_modules for end in TARGETS.get(name, (name,))))


def add_lora(
    unet: UNet2DConditionModel,
    rank: int,
    alpha: float,
    target_modules: Sequence[str],
    seed: int,
    *,
    dropout: float = 0.0,
    use_rslora: bool = False,
    use_dora: bool = False,
    start: str | Path | Lora | None = None,
) -> None:
    """Freeze the UNet and add a LoRA, in float32, to every layer that `target_modules` (ends of names, groups) names.

    Its effect starts at zero, or as that of the LoRA `start`, and is scaled by alpha / rank, with rsLoRA by
    alpha / √rank (https://arxiv.org/abs/2312.03732); DoRA: https://arxiv.org/abs/2402.09353. Equal seeds give equal
    weights. Raises ModelError if no layer has such a name and for a `start` that does not fit.
    """
    import torch
    from diffusers.training_utils import cast_training_params
    from peft import LoraConfig

    unet.requires_grad_(False)
    config = LoraConfig(
        r=rank,
        lora_alpha=alpha,
        target_modules=expand_targets(target_modules),
        lora_dropout=dropout,
        use_rslora=use_rslora,
        use_dora=use_dora,
        init_lora_weights="gaussian",
    )
    with torch.random.fork_rng():
        torch.manual_seed(seed)
        try:
            unet.add_adapter(config, adapter_name=ADAPTER)
        except ValueError as error:
            names = ",".join(target_modules)
            raise ModelError("target_modules = {names}: no such layers ({error})", names=names, error=error) from error
    cast_training_params(unet, torch.float32)
    if start is not None:
        _start_from(unet, start)


def _start_from(unet: UNet2DConditionModel, start: str | Path | Lora) -> None:
    """Give the new LoRA the effect of another one of at most its rank; what that one does not fill stays as it is."""
    import torch

    (lora, what), modules = _opened(start), dict(unet.named_modules())
    for name, layer in lora.layers.items():
        here = modules.get(name)
        if ADAPTER not in getattr(here, "lora_A", ()):
            raise ModelError("{what} has the layer {name}, which target_modules does not name", what=what, name=name)
        down, up = here.lora_A[ADAPTER].weight, here.lora_B[ADAPTER].weight
        magnitude = here.lora_magnitude_vector[ADAPTER].weight if here.use_dora[ADAPTER] else None
        if magnitude is not None and layer.magnitude is None:
            raise ModelError("{what} is no DoRA; set use_dora likewise", what=what)
        if magnitude is None and layer.magnitude is not None:
            raise ModelError("{what} is a DoRA; set use_dora likewise", what=what)
        if layer.rank > (most := len(down)):
            raise ModelError(
                "{what} has rank {rank}, more than {most}; raise rank, or lower its own first",
                what=what,
                rank=layer.rank,
                most=most,
            )
        if layer.down.shape[1:] != down.shape[1:] or len(layer.up) != len(up):
            raise ModelError("{what} was made for another model: {name} has other shapes there", what=what, name=name)
        with torch.no_grad():
            down[: layer.rank] = layer.down  # the rows after these stay random, and up's columns zero: they can learn
            up[:, : layer.rank] = layer.up * (layer.alpha / layer.rank / here.scaling[ADAPTER])
            if magnitude is not None:
                magnitude.copy_(layer.magnitude)


def save_lora(unet: UNet2DConditionModel, file: str | Path, metadata: dict[str, str] | None = None) -> Path:
    """Write the LoRA that is on the UNet for diffusers, whole or not at all; its header holds `metadata` as well."""
    return write_lora(get_lora(unet, metadata), file)


def get_lora(unet: UNet2DConditionModel, metadata: dict[str, str] | None = None) -> Lora:
    """The LoRA that `add_lora` put on the UNet. rsLoRA's scale goes into alpha: every program then reads it right."""
    layers = {}
    for name, module in unet.named_modules():
        if ADAPTER in getattr(module, "lora_A", ()):
            down, up = (side[ADAPTER].weight.detach() for side in (module.lora_A, module.lora_B))
            dora = module.use_dora[ADAPTER]
            magnitude = module.lora_magnitude_vector[ADAPTER].weight.detach() if dora else None
            config, rank = unet.peft_config[ADAPTER], len(down)
            alpha = config.lora_alpha * (rank**0.5 if config.use_rslora else 1)
            layers[name] = Layer(down, up, alpha, magnitude)
    return Lora(layers, dict(metadata or {}))


def set_loras(pipe: KolorsPipeline, chain: Chain) -> list[dict[str, str]]:
    """Put LoRAs on the pipeline, each at its strength, in place of those there before; return their headers.

    Their effects add up; strength 1 is as trained, a negative one goes the other way. An empty chain takes all off.
    Raises ModelError for what `read_lora` refuses and for a LoRA made for another model; nothing changes then.
    """
    loras = _fitting(pipe, chain)
    unload_lora(pipe)
    try:
        _put_on(pipe, loras, [strength for _, strength in chain], ADAPTER)
    except ModelError:
        unload_lora(pipe)
        raise
    return [lora.header for lora, _ in loras]


def load_lora(pipe: KolorsPipeline, file: str | Path | Lora, strength: float = 1.0) -> dict[str, str]:
    """A chain of one: put the LoRA on the pipeline at `strength`, in place of any before; return its header."""
    return set_loras(pipe, [(file, strength)])[0]


@contextlib.contextmanager
def wearing(pipe: KolorsPipeline, chain: Chain) -> Iterator[None]:
    """With these LoRAs alone on the pipeline, as `set_loras`; at the end those it had before are on it again."""
    loras, unet = _fitting(pipe, chain), pipe.unet
    strengths = [strength for _, strength in chain]
    if not hasattr(unet, "peft_config"):
        try:
            _put_on(pipe, loras, strengths, ADAPTER)
            yield
        finally:
            unload_lora(pipe)
        return
    before = unet.active_adapters()
    try:
        if chain:
            _put_on(pipe, loras, strengths, WORN)
        else:
            unet.disable_lora()
        yield
    finally:
        unet.set_adapter(before)
        unet.enable_lora()
        unet.delete_adapters([name for name in unet.peft_config if name.startswith(WORN)])  # none is active any more


def _fitting(pipe: KolorsPipeline, chain: Chain) -> list[tuple[Lora, str]]:
    """The LoRAs of a chain, each with how to speak of it. ModelError for one that was made for another model."""
    loras = [_opened(lora) for lora, _ in chain]
    for lora, what in loras:
        _compare(what, lora, pipe.unet)
    return loras


def _put_on(pipe: KolorsPipeline, loras: list[tuple[Lora, str]], strengths: list[float], prefix: str) -> None:
    """Load LoRAs as adapters of these names beside any that are there, and let them alone act."""
    names = [f"{prefix}_{n}" if n else prefix for n in range(len(loras))]
    for name, (lora, what) in zip(names, loras, strict=True):
        _load(pipe, name, lora, what)
    if names:
        pipe.unet.set_adapters(names, strengths)


def _opened(lora: str | Path | Lora) -> tuple[Lora, str]:
    """The LoRA and how to speak of it."""
    return (lora, _("the LoRA")) if isinstance(lora, Lora) else (read_lora(lora), f"LoRA {lora}")


def _load(pipe: KolorsPipeline, name: str, lora: Lora, what: str) -> None:
    # several LoRAs are what is wanted; not catch_warnings, which changes the filters of every thread
    warnings.filterwarnings("ignore", "Already found a `peft_config`")
    try:
        pipe.load_lora_into_unet(
            diffusers_tensors(lora),
            network_alphas=None,
            unet=pipe.unet,
            adapter_name=name,
            metadata={f"unet.{key}": value for key, value in adapter_config(lora).items()},
            low_cpu_mem_usage=True,  # the weights are put in as they are, without random ones before
            _pipeline=pipe,
        )
    except (ValueError, TypeError, KeyError, AttributeError, RuntimeError) as error:
        raise ModelError("{what} cannot be loaded ({error})", what=what, error=error) from error


def _compare(what: str, lora: Lora, unet: UNet2DConditionModel) -> None:
    """Raise ModelError at the first layer of the LoRA that has none of fitting shape in the UNet."""
    modules = dict(unet.named_modules())
    for name, layer in lora.layers.items():
        module = modules.get(name)
        weight = getattr(getattr(module, "base_layer", module), "weight", None)
        if weight is None or weight.ndim < 2:
            raise ModelError(
                "{what} was made for another model: layer {name}, {there} there, no such layer here",
                what=what,
                name=name,
                there=tuple(layer.down.shape),
            )
        # a convolution's kernel is the down part's; the up part is 1 x 1
        for side, there, here in (
            ("down", layer.down, (layer.rank, *weight.shape[1:])),
            ("up", layer.up, (weight.shape[0], layer.rank, *(1,) * (weight.ndim - 2))),
        ):
            if tuple(there.shape) != here:
                raise ModelError(
                    "{what} was made for another model: layer {name}, {side}: {there} there, {here} here",
                    what=what,
                    name=name,
                    side=side,
                    there=tuple(there.shape),
                    here=here,
                )


def unload_lora(pipe: KolorsPipeline) -> None:
    """Take any LoRA off the pipeline; nothing happens where there is none."""
    if pipe.unet._hf_peft_config_loaded:  # also where adding one was cut short
        pipe.unload_lora_weights()


def merge_loras(pipe: KolorsPipeline, chain: Chain) -> dict[str, torch.Tensor]:
    """Add LoRAs into the base's own weights, in place of any on it; return those weights as they were, by layer.

    The pipeline then draws as with the LoRAs, at the base's speed, and can be saved whole. `unmerge` takes what this
    returns: subtracting instead would leave rounding errors behind. Raises ModelError as `set_loras`.
    """
    set_loras(pipe, chain)
    touched = {name: module for name, module in pipe.unet.named_modules() if hasattr(module, "base_layer")}
    before = {name: module.base_layer.weight.detach().clone() for name, module in touched.items()}
    if before:
        pipe.unet.fuse_lora()
    unload_lora(pipe)
    return before


def unmerge(pipe: KolorsPipeline, before: dict[str, torch.Tensor]) -> None:
    """Give the base back the very bits that `merge_loras` returned."""
    import torch

    with torch.no_grad():
        for name, weight in before.items():
            pipe.unet.get_submodule(name).weight.copy_(weight)
