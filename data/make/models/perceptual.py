"""What the VAE's pictures are compared by beside their pixels: the classifier's features, and an adversary."""

import torch
from torch import nn
from transformers import ResNetForImageClassification

from models.common import found


class Perceptual(nn.Module):
    """The distance of two pictures in the features of the world's own classifier, as LPIPS (Zhang et al. 2018)
    measures it in those of a net trained on photographs: channels of length one, squared difference, mean over places,
    summed over layers."""

    LAYERS = 3  # the embedder and the first stages: further up nothing says where a line runs

    def __init__(self):
        super().__init__()
        folder = found("tiny-classifier")
        judge = ResNetForImageClassification.from_pretrained(folder, dtype=torch.float32)
        self.embedder, self.stages = judge.resnet.embedder, judge.resnet.encoder.stages[: self.LAYERS - 1]
        self.requires_grad_(False).eval()

    def train(self, mode: bool = True):
        return super().train(False)  # its norms never follow what they measure

    def features(self, pixels: torch.Tensor) -> list[torch.Tensor]:
        """Of (N, 3, H, W) in -1..1; the stem is read before its pooling, where lines still stand apart."""
        stem = self.embedder.embedder(pixels)
        layers = [stem]
        x = self.embedder.pooler(stem)
        for stage in self.stages:
            layers.append(x := stage(x))
        return [nn.functional.normalize(layer, dim=1, eps=1e-6) for layer in layers]

    def forward(self, drawn: torch.Tensor, pixels: torch.Tensor) -> torch.Tensor:
        with torch.no_grad():
            wanted = self.features(pixels)
        return sum((a - b).square().sum(1).mean() for a, b in zip(self.features(drawn), wanted, strict=True))


class Adversary(nn.Module):
    """Says of every patch of 34 px whether it was drawn or decoded (Isola et al. 2017, small), with the loss that
    teaches it (hinge) and the one that it gives the decoder."""

    def __init__(self, width: int = 32):
        super().__init__()
        act = nn.LeakyReLU(0.2)
        spectral = nn.utils.parametrizations.spectral_norm
        layers = [nn.Conv2d(3, width, 4, 2, 1), act]
        for wide in (width, 2 * width):
            layers += [spectral(nn.Conv2d(wide, 2 * wide, 4, 2, 1)), act]
        self.net = nn.Sequential(*layers, nn.Conv2d(4 * width, 1, 3, 1, 1))

    def lesson(self, drawn: torch.Tensor, pixels: torch.Tensor) -> torch.Tensor:
        """Its own loss, of decoded pictures against true ones."""
        real, false = self.net(pixels), self.net(drawn.detach())
        return (nn.functional.relu(1 - real).mean() + nn.functional.relu(1 + false).mean()) / 2

    def verdict(self, drawn: torch.Tensor) -> torch.Tensor:
        """The decoder's loss."""
        return -self.net(drawn).mean()
