"""LoRAs added, weighed and removed while a client streams, on a real engine in miniature."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from pipelines import LoraUse, Pixels, StreamSpec, load
from studio import codec
from studio.change import ChangeRule
from studio.limits import Limits
from studio.protocol import PictureWish
from tests.miniature import save_family, save_lora
from tests.studio.harness import SIZE, Peer, joined, serving

LAYER = "down_blocks.0.attentions.0.transformer_blocks.0.attn1.to_q"
NOISE = codec.encode(np.random.default_rng(0).integers(0, 256, (SIZE, SIZE, 3), dtype=np.uint8), PictureWish("png"))


async def shown(peer: Peer) -> Pixels:
    """The picture of the same frame, sent again."""
    answer = await peer.round(NOISE)
    return codec.read(memoryview(answer.picture), answer.format, Limits()).astype(int)


async def ask(peer: Peer, *uses: tuple[Path, float]) -> dict[str, Any]:
    """The answer to a wish for these LoRAs; frames go on meanwhile."""
    await peer.say("spec", spec={"loras": [{"name": str(path), "weight": weight} for path, weight in uses]}, request=5)
    told = None
    while told is None:
        await peer.round(NOISE)
        told = next((text for text in peer.texts if text["type"] in ("spec", "error")), None)
    peer.texts.clear()
    return told


@pytest.mark.timeout(300)
async def test_a_lora_comes_and_goes_while_the_picture_moves(tmp_path: Path) -> None:
    generator = torch.Generator().manual_seed(1)
    factors = {LAYER: (torch.randn(2, 32, generator=generator), torch.randn(32, 2, generator=generator))}
    model, loras = save_family(tmp_path / "model", "sd15"), tmp_path / "loras"
    loras.mkdir()
    ink = save_lora(loras / "ink.safetensors", factors)
    stranger = save_lora(loras / "stranger.safetensors", {"down_blocks.8.x": factors[LAYER]})

    def factory(spec: StreamSpec) -> Any:
        return load(replace(spec, model=str(model)))

    rule = ChangeRule(lora_folders=(loras,))
    with serving(factory=factory, backend="eager", dtype="float32", changes=rule) as running:
        async with joined(running, picture={"format": "png"}, settings={"strength": 0.7}) as peer:
            assert peer.welcome["change"]["loras"] == [str(ink), str(stranger)] and peer.welcome["spec"]["loras"] == []
            plain = await shown(peer)
            told = await ask(peer, (ink, 0.8))
            assert told["type"] == "spec" and told["spec"]["loras"] == [{"name": str(ink), "weight": 0.8}]
            with_ink = await shown(peer)
            assert np.abs(with_ink - plain).max() > 2
            refused = await ask(peer, (ink, 0.8), (stranger, 1.0))
            assert (refused["code"], refused["field"], refused["request"]) == ("bad_spec", "loras", 5)
            assert "stranger.safetensors: is for another model" in refused["message"]
            assert np.array_equal(await shown(peer), with_ink), "what ran goes on"
            assert running.hub.spec().loras == (LoraUse(str(ink), 0.8),)
            await ask(peer, (ink, -0.8))
            assert np.abs(await shown(peer) - with_ink).max() > 2
            assert (await ask(peer))["spec"]["loras"] == []
            assert np.array_equal(await shown(peer), plain)
