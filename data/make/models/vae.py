"""Train tiny-kolors' VAE on pictures of every style, as Kolors' has seen every style: 128 x 128 x 3 <-> 16 x 16 x 4.

Two parts, as in Rombach et al. 2022: here encoder and decoder together, which fixes the latents; then the decoder
alone (vae_decoder.py), on which the UNet may be trained already. The loss is L1 and squared error, in faces and hands
several times as much, a light KL term and a perceptual one. It also sees toys, and never the one of data/figurine, so
that it can draw one it has never seen.

    python data/make/build.py models.vae --steps 3000 --minutes 60
"""

import argparse
import random

import numpy as np
import torch
from diffusers import AutoencoderKL
from world.scenes import STYLE, UNSEEN_STYLE, balanced_scenes, training_scenes

from models.common import SIZE, forget_places, found, key_of, made, note, rendered, to_pictures, to_tensor
from models.muon import matrices
from models.perceptual import Perceptual
from models.pictures import coverage, importance, with_boxes
from models.training import Lots, add_options, autocast, fit, run_of

KL, PERCEPTUAL = 1e-6, 0.1
CHANNELS = (32, 48, 96, 128)
VIEWS = ((12, 64), (6, 96), (3, 128))  # (pictures, side): crops of many positions, and whole pictures with their edges
STYLES = (*STYLE, UNSEEN_STYLE)
TOYS = 0.12  # share of the pictures


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


def starting_vae(start: str) -> AutoencoderKL:
    """A fresh VAE for "nothing", else the one trained last or shipped."""
    if start == "nothing":
        return new_vae()
    return AutoencoderKL.from_pretrained(found("tiny-kolors/vae"), torch_dtype=torch.float32)


def pictures_of(count: int, toys: float = TOYS) -> np.ndarray:
    """What VAEs learn from, (count,) of DRAWN: scenes of every style, a tenth spoiled, and toys among them."""
    items = balanced_scenes(2, round(count * (1 - toys)), STYLES, spoiled=0.1)
    return with_boxes("vae", items + list(range(count - len(items))))


def held_out_pictures(count: int = 210, toys: float = TOYS) -> np.ndarray:
    scenes = training_scenes(3, count - round(count * toys), STYLES)
    return rendered("vae_held", scenes + [10_000_000 + i for i in range(count - len(scenes))])


def reconstruction(decoded: torch.Tensor, pixels: torch.Tensor, places: torch.Tensor) -> torch.Tensor:
    """The mean error of pictures (N, 3, H, W), each place counting as much as `places` (N, H, W) says."""
    error = (decoded.float() - pixels).abs()
    return ((error + 2 * error.square()).mean(1) * places).sum() / places.sum()


def crops(drawn: np.ndarray, rng: random.Random, times: int = 1, device: str = "cpu"):
    """Windows of one size of VIEWS by lot at any place, `times` as many, each of another picture of DRAWN: float
    (N, 3, side, side), and how much each of their places counts, (N, side, side)."""
    count, side = rng.choice(VIEWS)
    rows = sorted(rng.sample(range(len(drawn)), times * count))
    corners = [(rng.randint(0, SIZE - side), rng.randint(0, SIZE - side)) for _ in rows]
    windows = [drawn["picture"][i, y : y + side, x : x + side] for i, (x, y) in zip(rows, corners, strict=True)]
    boxes = torch.from_numpy(drawn["boxes"][rows].astype(np.float32))
    boxes[..., :2] -= torch.tensor(corners)[:, None]
    pixels = to_tensor(np.stack(windows), device).to(memory_format=torch.channels_last)
    return pixels, importance(coverage(boxes.to(device), side, cell=1))


@torch.no_grad()
def through(vae, pictures: np.ndarray, device: str = "cpu") -> np.ndarray:
    """Reconstructions from the latents' means, uint8 as the pictures (N, 128, 128, 3)."""
    batches = (to_tensor(pictures[i : i + 16], device) for i in range(0, len(pictures), 16))
    decoded = (vae.decode(vae.encode(pixels).latent_dist.mode()).sample for pixels in batches)
    return np.concatenate([to_pictures(pixels) for pixels in decoded])


def psnr(decoded: np.ndarray, pictures: np.ndarray) -> list[float]:
    """Of each picture's reconstruction, in dB."""
    error = (decoded.astype(np.float32) - pictures) / 255
    return (-10 * np.log10(np.square(error).mean((1, 2, 3)))).tolist()


def energy(pictures: np.ndarray) -> float:
    """Mean squared gradient of the grey pictures, in units of 1/255 per px: how sharp they are."""
    grey = pictures.astype(np.float32) @ np.array([0.299, 0.587, 0.114], np.float32)
    return float(np.mean(np.diff(grey, axis=1) ** 2) + np.mean(np.diff(grey, axis=2) ** 2))


@torch.no_grad()
def latents(vae, pictures, batch: int = 32, device: str = "cpu") -> torch.Tensor:
    """The latents' means, unscaled, (N, 4, 16, 16)."""
    with autocast(device):
        batches = (to_tensor(pictures[i : i + batch], device) for i in range(0, len(pictures), batch))
        parts = [vae.encode(pixels).latent_dist.mode() for pixels in batches]
    return torch.cat(parts).float().cpu()


def encoder_key(vae) -> str:
    """Tells latents of one encoder from another's."""
    return key_of(vae.config.scaling_factor, [p.double().sum().item() for p in vae.encoder.parameters()])[:6]


def save(vae) -> None:
    """Save in half precision; what is being trained stays in full."""
    vae.half().save_pretrained(made("tiny-kolors/vae"))
    forget_places(made("tiny-kolors/vae"))
    vae.float()


def main(options: argparse.Namespace) -> None:
    torch.manual_seed(0)
    pictures, held, lots = pictures_of(options.count, options.toys), held_out_pictures(toys=options.toys), Lots(0)
    vae = starting_vae(options.start).to(options.device, memory_format=torch.channels_last)
    looks_like = Perceptual().to(options.device)

    def loss_of(_):
        pixels, places = crops(pictures, lots.rng, options.times, options.device)
        posterior = vae.encode(pixels).latent_dist
        decoded = vae.decode(posterior.sample()).sample
        loss = reconstruction(decoded, pixels, places) + KL * posterior.kl().float().mean()
        return loss + options.perceptual * looks_like(decoded, pixels)

    def report(averaged):
        return {"psnr": np.mean(psnr(through(averaged, held[::4], options.device), held[::4]))}

    trained = fit(vae, loss_of, run_of("vae", options), lots, matrices(vae), report).cpu()
    # Latents of variance one, as the noise schedule expects. From here on they stay: the UNet may be trained on them.
    trained.register_to_config(scaling_factor=round(1 / latents(trained, pictures["picture"][:500]).std().item(), 4))
    figures = psnr(through(trained, held), held)
    note("vae", psnr_mean=round(float(np.mean(figures)), 2), psnr_min=round(min(figures), 2))
    save(trained)


def options(**defaults) -> argparse.ArgumentParser:
    parser = add_options(argparse.ArgumentParser(description=__doc__), **defaults)
    parser.add_argument("--count", type=int, default=50_000, help="pictures (%(default)s)")
    parser.add_argument("--toys", type=float, default=TOYS, help="share of toys among them (%(default)s)")
    parser.add_argument("--start", choices=("last", "nothing"), default="last", help="the weights to start from")
    parser.add_argument("--times", type=int, default=1, help="as many pictures in a batch as a CPU sees (%(default)s)")
    parser.add_argument("--perceptual", type=float, default=PERCEPTUAL, help="weight of that term (%(default)s)")
    return parser


if __name__ == "__main__":
    main(options(steps=6000, cooldown=1500, lr=2e-3).parse_args())
