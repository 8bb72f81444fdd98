"""LoRAs added, weighed and removed while a client streams, on a real engine in miniature."""

from __future__ import annotations

import asyncio
import threading
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from pipelines import LoraUse, StreamSpec, load
from studio.model.change import ChangeRule
from studio.pictures import codec
from studio.wire.limits import Limits
from studio.wire.protocol import PictureEncoding
from tests.miniature import ONE_CHUNK, fewer_layers, save_family, save_lora
from tests.studio.harness import SIZE, Peer, joined, seen, serving

LAYER = "down_blocks.0.attentions.0.transformer_blocks.0.attn1.to_q"
NOISE = codec.encode(np.random.default_rng(0).integers(0, 256, (SIZE, SIZE, 3), dtype=np.uint8), PictureEncoding("png"))


def uses(*loras: tuple[Path, float]) -> list[dict[str, object]]:
    return [{"name": str(path), "weight": weight} for path, weight in loras]


async def after_the_next_answer(peer: Peer, event: threading.Event) -> None:
    count = len(peer.answers)
    while len(peer.answers) == count:
        await asyncio.sleep(0.01)
    event.set()


@pytest.mark.long
@pytest.mark.parametrize("backend", ["eager", "openvino"])
async def test_loras_come_and_go_while_the_picture_moves(
    tmp_path: Path, graph_cache: Path, monkeypatch: pytest.MonkeyPatch, backend: str
) -> None:
    fewer_layers(monkeypatch, "sdxs")
    generator = torch.Generator().manual_seed(1)
    factors = [{LAYER: tuple(8 * torch.randn(*size, generator=generator) for size in ((2, 32), (32, 2)))} for _ in range(2)]
    model, loras = save_family(tmp_path / "model", "sdxs", kl=False, tokens=ONE_CHUNK), tmp_path / "loras"
    loras.mkdir()
    ink, oil = (save_lora(loras / f"{name}.safetensors", pair) for name, pair in zip(("ink", "oil"), factors, strict=True))
    stranger = save_lora(loras / "stranger.safetensors", {"down_blocks.8.x": factors[0][LAYER]})

    built: list[StreamSpec] = []
    streamed = threading.Event()

    def factory(spec: StreamSpec) -> Any:
        built.append(spec)
        assert len(built) == 1 or streamed.wait(60)
        return load(replace(spec, model=str(model)), graph_cache)

    rule, patient = ChangeRule(lora_folders=(loras,)), replace(Limits(), ping_s=60.0)  # a busy machine builds for long
    with serving(patient, factory=factory, backend=backend, dtype="float32", changes=rule) as running:
        async with joined(running, picture={"format": "png"}, settings={"strength": 0.7}) as peer:
            assert peer.welcome["change"]["loras"] == list(map(str, (ink, oil, stranger))) and peer.welcome["spec"]["loras"] == []
            plain = await peer.shown(NOISE)
            released = asyncio.create_task(after_the_next_answer(peer, streamed))
            reply, before = await peer.change(NOISE, loras=uses((ink, 0.8)))
            await released
            assert reply["type"] == "spec" and reply["spec"]["loras"] == uses((ink, 0.8))
            assert before or backend == "eager", "the old graphs go on meanwhile"
            assert all(np.array_equal(seen(answer), plain) for answer in before)
            with_ink = await peer.shown(NOISE)
            assert np.abs(with_ink - plain).max() > 2
            refused, _ = await peer.change(NOISE, loras=uses((ink, 0.8), (stranger, 1.0)))
            assert (refused["code"], refused["field"], refused["request"]) == ("bad_spec", "loras", 5)
            assert "stranger.safetensors: is for another model" in refused["message"]
            assert np.array_equal(await peer.shown(NOISE), with_ink), "what ran goes on"
            assert running.hub.spec().loras == (LoraUse(str(ink), 0.8),)
            before_weight = len(built)
            reply, _ = await peer.change(NOISE, loras=uses((ink, -0.4)))
            assert reply["spec"]["loras"] == uses((ink, -0.4)) and len(built) == before_weight, "a weight builds no pipeline"
            assert np.abs(await peer.shown(NOISE) - with_ink).max() > 2
            await peer.change(NOISE, loras=uses((ink, 0.8)))
            assert np.array_equal(await peer.shown(NOISE), with_ink)
            await peer.change(NOISE, loras=uses((ink, 0.8), (oil, -0.5)))
            with_both = await peer.shown(NOISE)
            assert np.abs(with_both - with_ink).max() > 2
            await peer.change(NOISE, loras=uses((oil, -0.5), (ink, -0.8)))
            assert np.abs(await peer.shown(NOISE) - with_both).max() > 2
            reply, _ = await peer.change(NOISE, loras=[])
            assert reply["spec"]["loras"] == []
            again = await peer.shown(NOISE)
            assert np.abs(again - plain).max() <= (backend == "openvino"), "a compiled graph and its file may round otherwise"
    assert backend == "openvino" or len(built) == 1, "in place"


async def test_a_prompt_adds_a_lora_of_the_folder_and_takes_it_away(tmp_path: Path) -> None:
    """In the hello and in a patch; a name that is in no folder is stated and changes nothing."""
    generator = torch.Generator().manual_seed(1)
    factors = {LAYER: tuple(8 * torch.randn(*size, generator=generator) for size in ((2, 32), (32, 2)))}
    model, loras = save_family(tmp_path / "model", "sdxs", kl=False), tmp_path / "loras"
    loras.mkdir()
    ink = save_lora(loras / "Ink.safetensors", factors)

    def factory(spec: StreamSpec) -> Any:
        return load(replace(spec, model=str(model)), tmp_path / "graphs")

    rule = ChangeRule(lora_folders=(loras,))
    with serving(factory=factory, backend="eager", dtype="float32", changes=rule) as running:
        opening = {"strength": 0.7, "prompt": "a <lora:ink:0.8>"}
        async with joined(running, picture={"format": "png"}, settings=opening) as peer:
            changed = await peer.next_text("spec")
            assert changed["spec"]["loras"] == uses((ink, 0.8))
            (entry,) = changed["settings"]["understood"]
            assert (entry["words"], entry["kind"], changed["settings"]["unknown"]) == ("<lora:ink:0.8>", "lora", [])
            with_ink = await peer.shown(NOISE)
            await peer.send("settings", patch={"prompt": "a <lora:oil:1>"}, request=1)
            answer = await peer.next_text("settings")
            assert [entry["words"] for entry in answer["unknown"]] == ["<lora:oil:1>"]
            assert (await peer.next_text("spec"))["spec"]["loras"] == []
            assert np.abs(await peer.shown(NOISE) - with_ink).max() > 2
