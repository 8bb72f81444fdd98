"""Temporal consistency: what was made of the last frame follows the input's motion and is mixed into what is made of this one.

    y_t = (1 − w)·x_t + w·y_{t−1}(p + b(p)),   w = amount · trust(p)

with the flow b and its trust of motion.py. y is the answered picture, after decoder and painter, so what the painter adds from
frame to frame is steadied too. Where the trust is 0 (ground that was covered, a scene cut) y_t is x_t bit by bit.

The picture is moved with cubic sampling (a = −0.75, as OpenCV and torch have it): it is moved again with each frame, and linear
sampling would blur it each time. Latents for the warm start are moved with linear sampling.
"""

from __future__ import annotations

import cv2
import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor

from pipelines.techniques.motion import Motion
from pipelines.techniques.noise import ToDevice, on_host


def fed_back(picture: Tensor, last: Tensor, motion: Motion, amount: float, to_device: ToDevice = on_host) -> Tensor:
    """The picture x_t with the last answer y_{t−1} in it, uint8 [H, W, 3] each, on one device. amount: 0..1. `picture` itself
    where nothing of the motion is trusted."""
    if motion.lost or amount == 0.0:
        return picture
    compute = _by_opencv if picture.device.type == "cpu" else by_torch
    return compute(picture, last, motion, amount, to_device)


def by_torch(picture: Tensor, last: Tensor, motion: Motion, amount: float, to_device: ToDevice = on_host) -> Tensor:
    """As `fed_back`, on any device."""
    moved = _sampled(last.permute(2, 0, 1).float(), motion, "bicubic", to_device).clamp(0, 255)  # [3, H, W]
    mixed = torch.lerp(picture.permute(2, 0, 1).float(), moved, amount * _trust(motion, picture.shape[:2], to_device))
    return (mixed + 0.5).to(torch.uint8).permute(1, 2, 0).contiguous()


def _by_opencv(picture: Tensor, last: Tensor, motion: Motion, amount: float, _: ToDevice) -> Tensor:
    """As `fed_back`, on a CPU: OpenCV does not leave bytes."""
    height, width = picture.shape[:2]
    new, old = (np.ascontiguousarray(each.numpy()) for each in (picture, last))
    moved = cv2.remap(old, motion.places(height, width), None, cv2.INTER_CUBIC, borderMode=cv2.BORDER_REPLICATE)
    weight = motion.trusted(height, width) * np.float32(amount)
    return torch.from_numpy(cv2.blendLinear(new, moved, 1 - weight, weight))


def moved(latent: Tensor, motion: Motion, to_device: ToDevice = on_host) -> tuple[Tensor, Tensor]:
    """(a latent [C, h, w] moved along, its trust [1, h, w])"""
    return _sampled(latent, motion, "bilinear", to_device), _trust(motion, latent.shape[1:], to_device)


def _sampled(values: Tensor, motion: Motion, mode: str, to_device: ToDevice) -> Tensor:
    """values [C, H, W] where each place was."""
    height, width = values.shape[1:]
    places = (2 * motion.places(height, width) + 1) / np.array((width, height), np.float32) - 1  # as grid_sample counts them
    at = to_device(torch.from_numpy(places))[None].to(values.dtype)
    return F.grid_sample(values[None], at, mode, "border", align_corners=False)[0]


def _trust(motion: Motion, size: tuple[int, ...], to_device: ToDevice) -> Tensor:
    return to_device(torch.from_numpy(motion.trusted(*size)))[None]
