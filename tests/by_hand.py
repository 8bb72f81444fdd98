"""Sequential denoising with diffusers' own pipelines and networks, without the engine: the reference for streams."""

from __future__ import annotations

import warnings
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import torch
from diffusers import StableDiffusionPipeline, StableDiffusionXLPipeline
from torch import Tensor

from pipelines import Pixels, Settings
from pipelines.techniques.noise import SessionNoise

Network = Callable[[Tensor, int, int], Tensor]
"""(x, timestep, row) to the network's output; row 0 has the prompt, row 1 the negative one."""

Clean = Callable[[Tensor, Tensor, Tensor, Tensor], Tensor]
"""(x, output, a, s) to the clean latent."""


def pipe_of(folder: Path, family: str, **parts: Any) -> Any:
    """diffusers' pipeline of a folder, with these parts instead of its own."""
    cls = StableDiffusionXLPipeline if family == "sdxl" else StableDiffusionPipeline
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", FutureWarning)  # about fields in scheduler_config.json
        pipe = cls.from_pretrained(folder, local_files_only=True, **parts)
    pipe.set_progress_bar_config(disable=True)
    return pipe


def rows(pipe: Any, prompt: str, size: int) -> list[tuple[Tensor, dict[str, Tensor]]]:
    """(text, added conditions) of the row with the prompt and of the row without one; size in pixels."""
    encoded = pipe.encode_prompt(prompt, device="cpu", num_images_per_prompt=1, do_classifier_free_guidance=True)
    if len(encoded) == 2:
        return [(encoded[0], {}), (encoded[1], {})]
    ids = torch.tensor([[size, size, 0, 0, size, size]], dtype=torch.float32)
    return [(encoded[k], {"text_embeds": encoded[k + 2], "time_ids": ids}) for k in range(2)]


def plain(pipe: Any, prompt: str, size: int, **options: Any) -> Network:
    """The pipeline's UNet alone."""
    texts = rows(pipe, prompt, size)

    def network(x: Tensor, t: int, row: int) -> Tensor:
        text, added = texts[row]
        return pipe.unet(x, t, encoder_hidden_states=text, added_cond_kwargs=added, **options).sample

    return network


def epsilon(x: Tensor, output: Tensor, a: Tensor, s: Tensor) -> Tensor:
    return (x - s * output) / a


def velocity(x: Tensor, output: Tensor, a: Tensor, s: Tensor) -> Tensor:
    return a * x - s * output


def sample(x: Tensor, output: Tensor, a: Tensor, s: Tensor) -> Tensor:
    return output


def even(settings: Settings) -> list[int]:
    """Evenly spaced timesteps below the strength's one."""
    return [round(round(settings.strength * 999) * (settings.steps - level) / settings.steps) for level in range(settings.steps)]


def denoised(
    pipe: Any,
    network: Network,
    settings: Settings,
    pixels: Pixels,
    noise: SessionNoise,
    clean: Clean = epsilon,
    timesteps: Sequence[int] | None = None,
    network_timestep: Callable[[int], int] = lambda t: t,
) -> Tensor:
    """The latent [1, C, h, w] of a picture that was noised and denoised once for each timestep.

    network_timestep: the timestep that the network gets, and whose coefficients interpret its output.
    """
    bars = pipe.scheduler.alphas_cumprod
    with torch.no_grad():
        x0 = encoded(pipe.vae, pixels)
        for level, t in enumerate(even(settings) if timesteps is None else timesteps):
            x = bars[t] ** 0.5 * x0 + (1 - bars[t]) ** 0.5 * noise.level(level)
            output = network(x, network_timestep(t), 0)
            if settings.guidance_mode == "full":
                unguided = network(x, network_timestep(t), 1)
                output = unguided + settings.guidance * (output - unguided)
            x0 = clean(x, output, bars[network_timestep(t)] ** 0.5, (1 - bars[network_timestep(t)]) ** 0.5)
        return x0


def drawn(pipe: Any, network: Network, settings: Settings, pixels: Pixels, noise: SessionNoise, clean: Clean = epsilon) -> Pixels:
    """The picture of what `denoised` returns."""
    with torch.no_grad():
        return decoded(pipe.vae, denoised(pipe, network, settings, pixels, noise, clean))


def encoded(vae: Any, pixels: Pixels) -> Tensor:
    """A picture's latent [1, C, h, w], at the mode of its distribution."""
    encoded = vae.encode(torch.from_numpy(pixels).permute(2, 0, 1)[None] / 127.5 - 1)
    latents: Tensor = encoded.latents if hasattr(encoded, "latents") else encoded.latent_dist.mode()
    return latents * vae.config.scaling_factor


def decoded(vae: Any, latents: Tensor) -> Pixels:
    """The picture of a latent [1, C, h, w]."""
    shown = vae.decode(latents / vae.config.scaling_factor).sample[0]
    return ((shown + 1) * 127.5).round().clamp(0, 255).permute(1, 2, 0).to(torch.uint8).numpy()
