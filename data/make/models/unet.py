"""Train tiny-kolors' UNet: Kolors' own layout and noise schedule, 128 x 128, on the little picture world.

Epsilon prediction with min-SNR weights (Hang et al. 2023, gamma 5), captions dropped at random for classifier-free
guidance, the text encoder frozen and its embeddings written down once, as latents are.

Left padding: all padded places of a prompt hold one and the same vector, and Kolors masks none of them, so 256 places
are worth `n` words, one padding vector and a bias of log(256 - n) on it in attention: same numbers, less work.

    python data/make/build.py models.unet
"""

import argparse
import random

import torch
from diffusers import AutoencoderKL, DDPMScheduler, EulerDiscreteScheduler, KolorsPipeline, UNet2DConditionModel
from diffusers.pipelines.kolors.text_encoder import ChatGLMModel
from diffusers.pipelines.kolors.tokenizer import ChatGLMTokenizer
from world.captions import caption
from world.scenes import training_scenes

from models.common import TINY, fit, forget_places, kept, note, rendered
from models.vae import latents

WORDS, PLACES = 56, 256  # the longest caption in tokens; places of a padded prompt in the pipeline
CAPTIONS_EACH = 2
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


@torch.no_grad()
def embed(tokenizer, encoder, texts: list[str], batch: int = 64) -> dict[str, torch.Tensor]:
    """Embeddings of whole 256-place prompts, folded: `words` (N, WORDS, D) right-aligned behind one padding vector at
    place 0, `pooled` (N, D), `mask` (N, WORDS), of which the UNet makes its attention bias (mask - 1) * 10000."""
    folded, pooled, masks = [], [], []
    for i in range(0, len(texts), batch):
        tokens = tokenizer(
            texts[i : i + batch], padding="max_length", max_length=PLACES, truncation=True, return_tensors="pt"
        )
        hidden = encoder(**tokens, output_hidden_states=True, return_dict=True).hidden_states
        read, used = hidden[-2].transpose(0, 1), tokens["attention_mask"].sum(1)
        place = torch.arange(WORDS)
        mask = (place[None] >= WORDS - used[:, None]).float()
        mask[:, 0] = 1 + (PLACES - used).clamp(min=1).log() / 10_000
        folded.append(torch.cat([read[:, :1], read[:, PLACES - WORDS + 1 :]], 1).half())
        pooled.append(hidden[-1][-1])
        masks.append(mask)
    return {"words": torch.cat(folded), "pooled": torch.cat(pooled), "mask": torch.cat(masks)}


def world(count: int):
    """Latents of `count` scenes and the embeddings of their captions (index 0: the empty one), kept in build/."""
    scenes = training_scenes(4, count, spoiled=0.12)
    return {**kept("unet_text.pt", lambda: _captions(scenes)), **kept("unet_latents.pt", lambda: _latents(scenes))}


def _captions(scenes):
    rng = random.Random(4)
    tokenizer = ChatGLMTokenizer.from_pretrained(TINY / "tokenizer")
    encoder = ChatGLMModel.from_pretrained(TINY / "text_encoder", torch_dtype=torch.float32).eval()
    return embed(tokenizer, encoder, [""] + [caption(scene, rng) for scene in scenes for _ in range(CAPTIONS_EACH)])


def _latents(scenes):
    vae = AutoencoderKL.from_pretrained(TINY / "vae", torch_dtype=torch.float32)
    z = latents(vae, rendered("unet", scenes)[: len(scenes)], 64) * vae.config.scaling_factor
    return {"latents": z.half()}


def min_snr_loss(unet, noise_scheduler, data, picture, text, generator) -> torch.Tensor:
    """Mean over the batch of min(SNR, gamma) / SNR * |noise - predicted|^2."""
    z = data["latents"][picture].float()
    noise = torch.randn(z.shape, generator=generator)
    t = torch.randint(0, noise_scheduler.config.num_train_timesteps, (len(z),), generator=generator)
    noisy = noise_scheduler.add_noise(z, noise, t).to(memory_format=torch.channels_last)
    side = torch.tensor([128.0, 128, 0, 0, 128, 128]).repeat(len(z), 1)
    predicted = unet(
        noisy, t, data["words"][text].float(), encoder_attention_mask=data["mask"][text],
        added_cond_kwargs={"text_embeds": data["pooled"][text], "time_ids": side},
    ).sample  # fmt: skip
    alpha = noise_scheduler.alphas_cumprod[t]
    snr = alpha / (1 - alpha)
    return (snr.clamp(max=GAMMA) / snr * (predicted - noise).square().mean((1, 2, 3))).mean()


def assemble(unet) -> None:
    """Write the pipeline's folder from the parts trained so far; the UNet in shards, each well under 15 MB."""
    pipe = KolorsPipeline(
        vae=AutoencoderKL.from_pretrained(TINY / "vae", torch_dtype=torch.float16),
        text_encoder=ChatGLMModel.from_pretrained(TINY / "text_encoder", torch_dtype=torch.float16),
        tokenizer=ChatGLMTokenizer.from_pretrained(TINY / "tokenizer"),
        unet=unet.half(),
        scheduler=EulerDiscreteScheduler(**SCHEDULE),
    )
    pipe.save_pretrained(TINY, max_shard_size="13MB")
    forget_places(TINY)
    unet.float()


def main(steps: int, count: int, batch: int = 24) -> None:
    torch.manual_seed(0)
    rng, generator = random.Random(0), torch.Generator().manual_seed(0)
    data = world(count)
    unet = new_unet(data["pooled"].shape[1]).to(memory_format=torch.channels_last)
    noise_scheduler = DDPMScheduler.from_config(EulerDiscreteScheduler(**SCHEDULE).config)

    def loss_of(_):
        picture = torch.tensor(rng.sample(range(len(data["latents"])), batch))
        text = 1 + picture * CAPTIONS_EACH + torch.tensor([rng.randrange(CAPTIONS_EACH) for _ in picture])
        text[torch.rand(batch, generator=generator) < DROPOUT] = 0
        return min_snr_loss(unet, noise_scheduler, data, picture, text, generator)

    trained = fit(unet, loss_of, steps, 1e-3, "unet", 0.995, report=lambda step, averaged: assemble(averaged))
    assemble(trained)
    note("unet", steps=steps, batch=batch, pictures=count, parameters=sum(p.numel() for p in trained.parameters()))


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--steps", type=int, default=4600)
    parser.add_argument("--count", type=int, default=12_000)
    arguments = parser.parse_args()
    main(arguments.steps, arguments.count)
