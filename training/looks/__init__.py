"""The looks: deterministic picture-to-picture functions that the denoiser learns to paint.

Each takes (N, 3, H, W) in [0, 1], H and W multiples of 8, and returns the same shape and range. Patterns have a period
of 8 pixels, aligned to the corner of the picture: one latent is 8 x 8 pixels, so a convolution over latents can learn them.
All are smooth in their input and change little with sensor noise, so a still scene does not flicker.
"""

from __future__ import annotations

from collections.abc import Callable

from torch import Tensor

from training.looks import drawing, light, material, painting, photographic, printing, screen

Look = Callable[[Tensor], Tensor]

GROUPS: dict[str, tuple[Look, ...]] = {
    "photographic": (photographic.photo, photographic.vintage, photographic.noir, photographic.xray, photographic.thermal),
    "drawing": (drawing.pencil, drawing.charcoal, drawing.ink, drawing.crayon, drawing.chalk, drawing.blueprint),
    "painting": (painting.oil, painting.watercolour, painting.impressionist, painting.ukiyo_e, painting.cartoon),
    "print": (printing.halftone, printing.engraving, printing.linocut, printing.popart),
    "light": (light.neon, light.vaporwave),
    "material": (material.relief, material.gold, material.mosaic, material.embroidery, material.papercut),
    "screen": (screen.pixel, screen.night_vision, screen.terminal),
}

LOOKS: dict[str, Look] = {look.__name__: look for looks in GROUPS.values() for look in looks}
GROUP_OF: dict[str, str] = {look.__name__: group for group, looks in GROUPS.items() for look in looks}
