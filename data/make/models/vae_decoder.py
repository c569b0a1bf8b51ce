"""The VAE's decoder alone, the latents fixed: what the UNet draws is decoded by it, so it is to forgive small errors.

A little noise on the latents makes it forgiving, an adversary keeps lines sharp where the pixels' mean would be
soft (Esser et al. 2021), the perceptual term stays.

    python data/make/build.py models.vae_decoder --steps 3000 --minutes 60
"""

import argparse

import numpy as np
import torch
from diffusers import AutoencoderKL

from models.common import found, note
from models.muon import matrices
from models.perceptual import Adversary, Perceptual
from models.training import Lots, fit, run_of
from models.vae import (
    crops,
    encoder_key,
    energy,
    held_out_pictures,
    options,
    pictures_of,
    psnr,
    reconstruction,
    save,
    through,
)

NOISE = 0.1  # the most, in units of the latents' deviation
ADVERSARY, LATER = 0.3, 100  # its weight, and the step of a go from which the decoder hears it


def main(options: argparse.Namespace) -> None:
    torch.manual_seed(0)
    pictures, held, lots = pictures_of(options.count, options.toys), held_out_pictures(toys=options.toys), Lots(1)
    vae = AutoencoderKL.from_pretrained(found("tiny-kolors/vae"), torch_dtype=torch.float32)
    vae.to(options.device, memory_format=torch.channels_last)
    vae.encoder.requires_grad_(False), vae.quant_conv.requires_grad_(False)
    looks_like, adversary = Perceptual().to(options.device), Adversary().to(options.device)
    teacher = torch.optim.AdamW(adversary.parameters(), lr=4e-4, betas=(0.5, 0.9))
    deviation = 1 / vae.config.scaling_factor

    def learn_to_tell(decoded, pixels) -> None:
        teacher.zero_grad(set_to_none=True)
        adversary.lesson(decoded, pixels).backward()
        teacher.step()

    def loss_of(step):
        pixels, places = crops(pictures, lots.rng, options.times, options.device)
        with torch.no_grad():
            z = vae.encode(pixels).latent_dist.mode()
        strength = options.noise * deviation * torch.rand(len(z), 1, 1, 1, generator=lots.noise)
        decoded = vae.decode(z + (strength * lots.normal(z.shape)).to(z.device)).sample
        loss = reconstruction(decoded, pixels, places) + options.perceptual * looks_like(decoded, pixels)
        if options.adversary:
            learn_to_tell(decoded, pixels)
            loss = loss + (options.adversary * adversary.verdict(decoded) if step >= options.later else 0)
        return loss

    def report(averaged):
        decoded = through(averaged, held[::4], options.device)
        return {"psnr": np.mean(psnr(decoded, held[::4])), "gradient": energy(decoded) / energy(held[::4])}

    beside = {"adversary": adversary, "teacher": teacher}
    run = run_of(
        f"vae_decoder-{encoder_key(vae)}", options, decay=0.998
    )  # a new encoder begins a new decoder's training
    trained = fit(vae, loss_of, run, lots, matrices(vae), report, beside).cpu()
    figures = psnr(through(trained, held), held)
    note("vae", psnr_mean=round(float(np.mean(figures)), 2), psnr_min=round(min(figures), 2))
    save(trained)


if __name__ == "__main__":
    parser = options(steps=4000, cooldown=1500, lr=1e-3)
    parser.description = __doc__
    parser.add_argument("--noise", type=float, default=NOISE, help="on the latents (%(default)s)")
    parser.add_argument("--adversary", type=float, default=ADVERSARY, help="its weight (%(default)s)")
    parser.add_argument("--later", type=int, default=LATER, help="the step from which it is heard (%(default)s)")
    main(parser.parse_args())
