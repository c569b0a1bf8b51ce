"""Train tiny-kolors' UNet: Kolors' own layout and noise schedule, 128 x 128, on the little picture world.

Epsilon prediction with min-SNR weights (Hang et al. 2023, gamma 5), captions dropped at random for classifier-free
guidance, the text encoder frozen; latents and embeddings are written down once (unet_data.py). Errors in
faces and hands count several times: they are a tenth of a picture, and what one looks at first.

Held-out loss after 100 steps of 24 from the same weights: AdamW 0.158 (5e-4) and 0.1525 (1e-3), Muon 0.156 (1e-3) and
0.1545 (2e-3), whose step costs half a second more on one core: a fifth of a step of 48.

    python data/make/build.py models.unet --steps 100000 --cooldown 0 --minutes 100     # at the full rate, for a while
    python data/make/build.py models.unet --steps 23000 --cooldown 3000                 # and down to the end
"""

import argparse

import torch
from diffusers import AutoencoderKL, DDPMScheduler, EulerDiscreteScheduler, KolorsPipeline, UNet2DConditionModel
from diffusers.pipelines.kolors.text_encoder import ChatGLMModel
from diffusers.pipelines.kolors.tokenizer import ChatGLMTokenizer

from models.common import forget_places, found, made, note
from models.muon import matrices
from models.pictures import importance
from models.training import Lots, add_options, fit, precision, run_of
from models.unet_data import CAPTIONS_EACH, Data, held_out_data, training_data

DROPOUT, GAMMA = 0.1, 5.0
SCHEDULE = dict(
    beta_start=0.00085, beta_end=0.014, beta_schedule="scaled_linear", num_train_timesteps=1100,
    prediction_type="epsilon", timestep_spacing="leading", steps_offset=1,
)  # fmt: skip


def new_unet(width: int) -> UNet2DConditionModel:
    """SDXL's block layout, as Kolors'; `width` is the text encoder's hidden size."""
    return UNet2DConditionModel(
        sample_size=16, in_channels=4, out_channels=4,
        down_block_types=("DownBlock2D", "CrossAttnDownBlock2D", "CrossAttnDownBlock2D"),
        up_block_types=("CrossAttnUpBlock2D", "CrossAttnUpBlock2D", "UpBlock2D"),
        block_out_channels=(48, 96, 144), layers_per_block=2, transformer_layers_per_block=(1, 1, 2),
        attention_head_dim=(2, 4, 6), cross_attention_dim=96, use_linear_projection=True, norm_num_groups=8,
        encoder_hid_dim=width, encoder_hid_dim_type="text_proj", addition_embed_type="text_time",
        addition_time_embed_dim=32, projection_class_embeddings_input_dim=width + 6 * 32,
    )  # fmt: skip


def starting_unet(start: str, width: int) -> UNet2DConditionModel:
    """A fresh UNet for "nothing", else the one trained last or shipped."""
    if start == "nothing":
        return new_unet(width)
    return UNet2DConditionModel.from_pretrained(found("tiny-kolors/unet"), torch_dtype=torch.float32)


def noise_schedule() -> DDPMScheduler:
    return DDPMScheduler.from_config(EulerDiscreteScheduler(**SCHEDULE).config)


def uniform(count: int, generator: torch.Generator) -> torch.Tensor:
    steps = SCHEDULE["num_train_timesteps"]
    return torch.randint(0, steps, (count,), generator=generator, device=generator.device)


class Predictor(torch.nn.Module):
    """A UNet that is called with tensors only, as CUDA graphs want it: -> the predicted noise (B, 4, 16, 16)."""

    def __init__(self, unet):
        super().__init__()
        self.unet = unet

    def forward(self, noisy, t, words, mask, pooled, side):
        conditions = {"text_embeds": pooled, "time_ids": side}
        return self.unet(noisy, t, words, encoder_attention_mask=mask, added_cond_kwargs=conditions).sample


class Denoising:
    """The loss of a UNet's prediction of the noise in a batch; `predict` has Predictor's signature."""

    def __init__(self, unet, device: str):
        self.predict, self.schedule, self.device = Predictor(unet), noise_schedule(), device
        self.alphas = self.schedule.alphas_cumprod.to(device)

    def record(self, latents: torch.Tensor, text: Data) -> None:
        """From now on predict batches of that form by one CUDA graph and its backward: eager kernels of so small a
        model are shorter than the time it takes to start them."""
        torch.backends.cudnn.benchmark = True
        t = torch.zeros(len(latents), dtype=torch.int64)
        with torch.autocast("cuda", precision("cuda"), cache_enabled=False):  # casts belong into the graph
            self.predict = torch.cuda.make_graphed_callables(self.predict, self.inputs(latents, text, t))

    def errors(self, latents, text: Data, t, noise) -> torch.Tensor:
        """|noise - predicted|^2, the mean over the channels, (B, 16, 16)."""
        latents, t, noise = (x.to(self.device) for x in (latents, t, noise))
        predicted = self.predict(*self.inputs(self.schedule.add_noise(latents, noise, t), text, t))
        return (predicted.float() - noise).square().mean(1)

    def inputs(self, noisy: torch.Tensor, text: Data, t: torch.Tensor) -> tuple[torch.Tensor, ...]:
        """Predictor's arguments, on the device."""
        side = torch.tensor([128.0, 128, 0, 0, 128, 128]).repeat(len(t), 1)
        given = (noisy, t, text.words, text.mask, text.pooled, side)
        noisy, *rest = (x.to(self.device) for x in given)
        return noisy.to(memory_format=torch.channels_last), *rest

    def weight(self, t: torch.Tensor) -> torch.Tensor:
        """min(SNR, gamma) / SNR of each timestep, (B,)."""
        alpha = self.alphas[t.to(self.device)]
        snr = alpha / (1 - alpha)
        return snr.clamp(max=GAMMA) / snr

    def loss(self, latents, text: Data, details: torch.Tensor, t, noise) -> torch.Tensor:
        """The weighted mean of each picture's errors, (B,); `details` (B, 16, 16) count for more."""
        places = importance(details.to(self.device))
        errors = self.errors(latents, text, t, noise)
        return (places * errors).sum((1, 2)) / places.sum((1, 2)) * self.weight(t)


def chosen(data, size: int, lots: Lots) -> tuple[list[int], list[int]]:
    """`size` different pictures by lot, and of each one of its captions, some dropped."""
    pictures = sorted(lots.rng.sample(range(len(data.latents)), size))
    texts = [1 + i * CAPTIONS_EACH + lots.rng.randrange(CAPTIONS_EACH) for i in pictures]
    return pictures, [0 if lots.rng.random() < DROPOUT else i for i in texts]


@torch.no_grad()
def held_out_loss(unet, data, device: str, batch: int = 32) -> dict[str, float]:
    """The loss, and the part of it in faces and hands, on pictures of combinations never trained on; noise and
    timesteps are the same every time."""
    denoising, lots = Denoising(unet, device), torch.Generator().manual_seed(7)
    count = len(data.latents)
    t = torch.linspace(0, SCHEDULE["num_train_timesteps"] - 1, count).long()[torch.randperm(count, generator=lots)]
    noise = torch.randn((count, 4, 16, 16), generator=lots)
    maps = []
    for first in range(0, count, batch):
        rows = range(first, min(first + batch, count))
        texts = data.texts_of([1 + i * CAPTIONS_EACH for i in rows])
        at = slice(rows.start, rows.stop)
        errors = denoising.errors(data.latents_of(list(rows)), texts, t[at], noise[at])
        maps.append(errors * denoising.weight(t[at])[:, None, None])
    maps, details = torch.cat(maps), data.details_of(list(range(count)))
    return {"held_out": maps.mean().item(), "details": ((maps * details).sum() / details.sum()).item()}


def assemble(unet) -> None:
    """Write the pipeline's folder from the parts trained so far; the UNet in shards, each well under 15 MB."""
    pipe = KolorsPipeline(
        vae=AutoencoderKL.from_pretrained(found("tiny-kolors/vae"), torch_dtype=torch.float16),
        text_encoder=ChatGLMModel.from_pretrained(found("tiny-kolors/text_encoder"), torch_dtype=torch.float16),
        tokenizer=ChatGLMTokenizer.from_pretrained(found("tiny-kolors/tokenizer")),
        unet=unet.half(),
        scheduler=EulerDiscreteScheduler(**SCHEDULE),
    )
    pipe.save_pretrained(made("tiny-kolors"), max_shard_size="13MB")
    forget_places(made("tiny-kolors"))
    unet.float()


def main(options: argparse.Namespace) -> None:
    torch.manual_seed(0)
    data, held = training_data(options.count, options.device), held_out_data(options.device)
    lots = Lots(0, options.device)
    unet = starting_unet(options.start, data.width).to(options.device, memory_format=torch.channels_last)
    denoising = Denoising(unet.train(), options.device)
    if options.graph:
        rows = list(range(options.batch))
        denoising.record(data.latents_of(rows), data.texts_of(rows))

    def loss_of(_):
        rows, texts = chosen(data, options.batch, lots)
        t, noise = uniform(len(rows), lots.noise), lots.normal((len(rows), 4, 16, 16))
        return denoising.loss(data.latents_of(rows), data.texts_of(texts), data.details_of(rows), t, noise).mean()

    def report(averaged):
        return held_out_loss(averaged, held, options.device)

    trained = fit(unet, loss_of, run_of("unet", options), lots, matrices(unet) if options.muon else (), report)
    assemble(trained.cpu())
    note("unet", **{name: getattr(options, name) for name in ("steps", "cooldown", "batch", "count")})


if __name__ == "__main__":
    parser = add_options(argparse.ArgumentParser(description=__doc__), steps=21_000, cooldown=3000, lr=1e-3)
    parser.add_argument("--batch", type=int, default=48)
    parser.add_argument("--graph", action="store_true", help="as a CUDA graph; needs --device cuda")
    parser.add_argument("--muon", action="store_true", help="train the matrices and kernels with it")
    parser.add_argument("--count", type=int, default=50_000, help="pictures (%(default)s)")
    parser.add_argument("--start", choices=("last", "nothing"), default="last", help="the weights to start from")
    main(parser.parse_args())
