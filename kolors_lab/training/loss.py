"""What a training step learns from: random noise and timesteps, and how far off the UNet's guess of the noise is.

References: min-SNR weighting https://arxiv.org/abs/2303.09556 · the loss of diffusers' train_text_to_image_lora_sdxl.py
· noise offset https://www.crosslabs.org/blog/diffusion-with-offset-noise
"""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    import torch
    from diffusers import DDPMScheduler, UNet2DConditionModel


def draw_noise(
    shape: torch.Size,
    num_timesteps: int,
    generator: torch.Generator,
    device: torch.device,
    noise_offset: float = 0.0,
) -> tuple[torch.Tensor, torch.Tensor]:
    """Noise of `shape` and a timestep of its own for each example, (B,); drawn on the CPU, so equal on every device.

    `noise_offset` is the deviation of what is added to a whole channel of a picture at once.
    """
    import torch

    noise = torch.randn(shape, generator=generator)
    timesteps = torch.randint(num_timesteps, shape[:1], generator=generator)
    if noise_offset:
        noise += noise_offset * torch.randn(*shape[:2], 1, 1, generator=generator)
    return noise.to(device), timesteps.to(device)


def loss(
    unet: UNet2DConditionModel,
    noise_scheduler: DDPMScheduler,
    batch: dict[str, torch.Tensor],
    noise: torch.Tensor,
    timesteps: torch.Tensor,
    snr_gamma: float | None = 5.0,
) -> torch.Tensor:
    """Mean squared error, a scalar, of the predicted noise; an example counts by its weight x min(SNR, gamma) / SNR.

    Where the batch has a `mask` (B, 1, h, w), the mean of a picture is that over its white, so that small masks count
    as much as large ones; its `control` (B, 3, H, W) goes to the model among the added conditions.
    `batch` as Encoded.batch gives it; noise (B, 4, h, w); timesteps (B,) in 0..1099.
    """
    import torch
    from diffusers.training_utils import compute_snr

    noisy = noise_scheduler.add_noise(batch["latents"], noise, timesteps)
    conditions = {"text_embeds": batch["pooled"], "time_ids": batch["time_ids"]}
    conditions |= {"control": batch["control"]} if "control" in batch else {}
    dtype = unet.conv_in.weight.dtype  # unet.dtype would go through all parameters, 3 % of a small model's step
    predicted = unet(noisy.to(dtype), timesteps, batch["prompt_embeds"], added_cond_kwargs=conditions).sample
    squares = (predicted.float() - noise).square().mean(dim=1, keepdim=True)
    mask = batch.get("mask", torch.ones_like(squares))
    error = (squares * mask).sum(dim=(1, 2, 3)) / mask.sum(dim=(1, 2, 3))
    if snr_gamma is not None:
        snr = compute_snr(noise_scheduler, timesteps)
        error = error * snr.clamp(max=snr_gamma) / snr
    return (error * batch["weight"]).mean()
