"""The trunk of a run as the painter of the shipped model: its own styles, paintings', and the RECOLOURED and INKED looks.

The trunk learns the published network's own styles only. A recoloured look is a mixture of them, whose last numbers are set
such that its colours are those of the published network's picture of it.
"""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor

from pipelines.networks.painter import Painter
from pipelines.networks.trunk import TrunkPainter
from pipelines.techniques.styles import with_tone
from pipelines.values.picture_style import TONE
from training.painter.published import RECOLOURED, behind

CUT = 0.99
"""Where a painted picture's values are cut before their hyperbolic arc tangent: those of the last layer."""


@torch.no_grad()
def released(trunk: TrunkPainter, published: Painter, photographs: Sequence[Tensor]) -> TrunkPainter:
    """The trunk with a tone for each style, a row and a name for each recoloured look, and a name for each mixture of them.

    published: has the recoloured looks. photographs: [1, 3, H, W] each; colours are measured on them.
    """
    own = len(trunk.styles)
    taught = {name: dict(published.config["looks"][name]) for name in trunk.config["looks"] if name in published.config["looks"]}
    looks = {**taught, **behind(own)}
    rows = []
    for name, look in RECOLOURED.items():
        theirs = published.style(name)
        plain = torch.cat([theirs[:-TONE], torch.zeros(TONE)])
        targets = [published(photograph, plain[None]) for photograph in photographs]
        rows.append(torch.cat([in_colours(trunk, trunk.style(look.paints), photographs, targets), theirs[-TONE:]]))
    config = {key: trunk.config[key] for key in ("channels", "num_blocks", "half_channels")}
    made = TrunkPainter(**config, num_styles=own + len(rows), looks=looks, toned=True)
    made.load_state_dict({**trunk.state_dict(), "styles": torch.cat([with_tone(trunk.styles), torch.stack(rows)])})
    return made.eval().requires_grad_(False)


def in_colours(trunk: TrunkPainter, numbers: Tensor, photographs: Sequence[Tensor], targets: Sequence[Tensor]) -> Tensor:
    """The numbers [N] of a style with those of the last layer such that each channel has the mean and deviation of the targets,
    [1, 3, H, W] each, and the sign of what they have in common."""
    drawn = torch.cat([trunk.last(photograph, numbers[None])[0].flatten(1) for photograph in photographs], 1)
    wanted = torch.cat([target[0].clamp(-CUT, CUT).atanh().flatten(1) for target in targets], 1)
    common = ((drawn - drawn.mean(1, keepdim=True)) * (wanted - wanted.mean(1, keepdim=True))).mean(1)
    gamma = common.sign() * wanted.std(1) / drawn.std(1).clamp_min(1e-3)
    return torch.cat([numbers[:-6], gamma, wanted.mean(1) - gamma * drawn.mean(1)])
