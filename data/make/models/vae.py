"""Train tiny-kolors' VAE on pictures of every style, as Kolors' has seen every style: 128 x 128 x 3 <-> 16 x 16 x 4.

Crops first (the net is convolutional, and small pictures give many times the steps), then whole pictures, at the end
the decoder alone. The loss is L1 and squared error with a light KL term (Rombach et al. 2022, section 3.1, without
the adversary: it would invent texture that small scenes do not have).

    python data/make/build.py models.vae
"""

import random

import numpy as np
import torch
from diffusers import AutoencoderKL
from world.scenes import STYLE, UNSEEN_STYLE, training_scenes

from models.common import SIZE, TINY, fit, forget_places, note, rendered, to_tensor

KL = 1e-6
CHANNELS = (32, 48, 96, 128)


def new_vae() -> AutoencoderKL:
    """A fresh VAE whose latents start nearly free of noise: at the usual deviation of one little gets through."""
    vae = AutoencoderKL(
        3, 3, ("DownEncoderBlock2D",) * 4, ("UpDecoderBlock2D",) * 4, CHANNELS, layers_per_block=1, latent_channels=4,
        norm_num_groups=8, sample_size=SIZE, scaling_factor=1.0, mid_block_add_attention=False, force_upcast=False,
    )  # fmt: skip
    with torch.no_grad():
        vae.quant_conv.weight[4:] = 0
        vae.quant_conv.bias[4:] = -6
    return vae


def vae_loss(vae, pixels: torch.Tensor) -> torch.Tensor:
    with torch.autocast("cpu", torch.bfloat16):
        posterior = vae.encode(pixels).latent_dist
        error = vae.decode(posterior.sample()).sample.float() - pixels
    return error.abs().mean() + 2 * error.square().mean() + KL * posterior.kl().float().mean()


def crops(pictures, rng: random.Random, count: int, side: int) -> torch.Tensor:
    """`count` random windows of `side` px, each from another picture."""
    corner = SIZE - side
    windows = []
    for i in rng.sample(range(len(pictures)), count):
        y, x = rng.randint(0, corner), rng.randint(0, corner)
        windows.append(to_tensor(pictures[i : i + 1, y : y + side, x : x + side]))
    return torch.cat(windows).to(memory_format=torch.channels_last)


@torch.no_grad()
def psnr(vae, pictures) -> list[float]:
    """Per picture the PSNR (dB) of its reconstruction from the latent's mean."""
    values = []
    for i in range(0, len(pictures), 16):
        pixels = to_tensor(pictures[i : i + 16])
        error = (vae.decode(vae.encode(pixels).latent_dist.mode()).sample.clamp(-1, 1) - pixels) / 2
        values += (-10 * error.square().mean((1, 2, 3)).log10()).tolist()
    return values


@torch.no_grad()
def latents(vae, pictures, batch: int = 32) -> torch.Tensor:
    """The latents' means, unscaled, (N, 4, 16, 16)."""
    with torch.autocast("cpu", torch.bfloat16):
        batches = (to_tensor(pictures[i : i + batch]) for i in range(0, len(pictures), batch))
        parts = [vae.encode(pixels).latent_dist.mode() for pixels in batches]
    return torch.cat(parts).float()


def save(vae) -> None:
    """Save in half precision; what is being trained stays in full."""
    vae.half().save_pretrained(TINY / "vae")
    forget_places(TINY / "vae")
    vae.float()


def kernels(part) -> list[torch.nn.Parameter]:
    """The kernels that Muon trains."""
    return [p for p in part.parameters() if p.ndim == 4 and min(p.shape[:2]) >= 16]


def main(crop_steps: int = 900, whole_steps: int = 2900, decoder_steps: int = 1300) -> None:
    torch.manual_seed(0)
    rng = random.Random(0)
    styles = (*STYLE, UNSEEN_STYLE)
    pictures = rendered("vae", training_scenes(2, 12_000, styles, spoiled=0.1))
    held = rendered("vae_held", training_scenes(3, 210, styles))
    vae = new_vae().to(memory_format=torch.channels_last)

    def report(step, averaged):
        print(f"psnr {np.mean(psnr(averaged, held[:48])):.2f} dB", flush=True)

    def loss_of(step):
        count, side = (16, SIZE // 2) if step < crop_steps else (6, SIZE)
        return vae_loss(vae, crops(pictures, rng, count, side))

    averaged = fit(vae, loss_of, crop_steps + whole_steps, 3e-3, "vae", 0.99, report, kernels(vae))
    vae.load_state_dict(averaged.state_dict())
    # Latents of variance one, as the noise schedule expects. From here on they stay: the UNet may be trained on them.
    vae.register_to_config(scaling_factor=round(1 / latents(vae, pictures[:500]).std().item(), 4))
    save(vae)
    vae.encoder.requires_grad_(False), vae.quant_conv.requires_grad_(False)
    whole = lambda _: vae_loss(vae, crops(pictures, rng, 6, SIZE))  # noqa: E731
    averaged = fit(vae, whole, decoder_steps, 1e-3, "vae_decoder", 0.99, report, kernels(vae.decoder))
    figures = psnr(averaged, held)
    note("vae", psnr_mean=round(sum(figures) / len(figures), 2), psnr_min=round(min(figures), 2))
    save(averaged)


if __name__ == "__main__":
    main()
