"""A critic: distinguishes the model's pictures from the teacher's. Its features also compare the two.

No pretrained network for perceptual losses was available. So the features are those of a critic that is trained beside the model
(feature matching: Wang et al. 2018, arXiv 1711.11585; hinge loss: Lim & Ye 2017, arXiv 1705.02894).
"""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from training.loop import mixed

CHANNELS = (32, 64, 128, 128)
WIDTH = 128  # of the prompt vector


class Critic(nn.Module):
    """Pictures (N, 3, H, W) in about [-1, 1] to features at 1/2, 1/4, 1/8 and 1/8 of their size, and a score per 8 x 8 pixels.

    A score's receptive field is 46 x 46 pixels: strokes, lines and screens, but not objects. The prompt is an input, as one
    vector (projection: Miyato & Koyama 2018, arXiv 1802.05637).
    """

    def __init__(self, width: int = WIDTH) -> None:
        super().__init__()
        sizes = zip((3, *CHANNELS), CHANNELS, (4, 4, 4, 3), (2, 2, 2, 1), strict=False)
        self.layers = nn.ModuleList(nn.Conv2d(a, b, side, stride, padding=1) for a, b, side, stride in sizes)
        self.score = nn.Conv2d(CHANNELS[-1], 1, 3, padding=1)
        self.told = nn.Linear(width, CHANNELS[-1])  # the name in critic.safetensors
        nn.init.zeros_(self.told.weight)

    def forward(self, x: Tensor, prompts: Tensor, frozen: bool = False) -> tuple[Tensor, ...]:
        """(feature, ..., score). frozen: without gradients for the critic. (Not by functional_call, which swaps the parameters of
        the module itself: the parts of a batch run in threads.)"""
        features = []
        with mixed(x.device.type):
            for layer in self.layers:
                x = F.leaky_relu(_convolved(layer, x, frozen), 0.2)
                features.append(x)
            weight, bias = (p.detach() if frozen else p for p in (self.told.weight, self.told.bias))
            fits = (x * F.linear(prompts, weight, bias)[:, :, None, None]).mean(1, keepdim=True)
            return *features, _convolved(self.score, x, frozen) + fits


def _convolved(layer: nn.Module, x: Tensor, frozen: bool) -> Tensor:
    assert isinstance(layer, nn.Conv2d) and layer.bias is not None
    weight, bias = (layer.weight.detach(), layer.bias.detach()) if frozen else (layer.weight, layer.bias)
    return F.conv2d(x, weight, bias, layer.stride, layer.padding)


def critic_losses(critic: Critic, painted: Tensor, real: Tensor, prompts: Tensor) -> tuple[Tensor, Tensor, Tensor]:
    """(adversarial loss of the model, distance of the critic's features to the real pictures', the critic's own loss), (N,) each.

    prompts: the prompts as vectors (N, D), without gradients. The first two have gradients for the model only, the third for the
    critic only.
    """
    *seen, score = critic(painted, prompts, frozen=True)
    *known, real_score = critic(real, prompts)
    matching = torch.stack([per_row((a.float() - b.detach().float()).abs()) for a, b in zip(seen, known, strict=True)]).mean(0)
    own = per_row(F.relu(1 - real_score.float())) + per_row(F.relu(1 + critic(painted.detach(), prompts)[-1].float()))
    return -per_row(score.float()), matching, own


def per_row(values: Tensor) -> Tensor:
    """Means over everything but the first axis, (N,)."""
    return values.flatten(1).mean(1)
