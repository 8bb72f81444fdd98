"""Whole models changed while a client streams, on real engines in miniature: other families, refusals, what stays in memory."""

from __future__ import annotations

import asyncio
import gc
import weakref
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from pipelines import StreamSpec, load
from pipelines.graphs import memory
from studio.model.change import ChangeRule
from studio.pictures import codec
from studio.wire.protocol import PictureEncoding
from tests.miniature import save_family
from tests.studio.harness import SIZE, joined, seen, serving

NOISE = codec.encode(np.random.default_rng(0).integers(0, 256, (SIZE, SIZE, 3), dtype=np.uint8), PictureEncoding("png"))


@pytest.mark.timeout(600)
async def test_models_of_other_families_come_and_go_while_the_picture_moves(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    folder = tmp_path / "models"
    sd15, sd21, sdxl, broken = (folder / name for name in ("sd15", "sd21", "sdxl", "broken"))
    for path, family in ((sd15, "sd15"), (sd21, "sd21"), (sdxl, "sdxl"), (broken, "sd15")):
        save_family(path, family)
    weights = broken / "unet" / "diffusion_pytorch_model.safetensors"
    weights.write_bytes(weights.read_bytes()[:-100])
    made: list[weakref.ref[Any]] = []

    def factory(spec: StreamSpec) -> Any:
        pipeline = load(spec if Path(spec.model).is_absolute() else replace(spec, model=str(sd15)))
        made.extend(map(weakref.ref, (pipeline, pipeline.graphs.parts, pipeline.graphs.parts.unet)))
        return pipeline

    changes = ChangeRule(folders=(folder,))
    with serving(factory=factory, backend="eager", dtype="float32", changes=changes) as running:
        async with joined(running, settings={"strength": 0.7, "prompt": "ink"}) as peer:
            assert {str(sd15), str(sd21), str(sdxl), str(broken)} <= set(peer.welcome["change"]["model"])
            first = await peer.shown(NOISE)
            reply, before = await peer.change(NOISE, model=str(sdxl))
            assert (reply["type"], reply["spec"]["model"], reply["model"]["name"]) == ("spec", str(sdxl), "sdxl")
            assert before and all(np.array_equal(seen(answer), first) for answer in before)
            second = await peer.shown(NOISE)
            assert np.abs(second - first).max() > 5 and reply["settings"]["values"]["prompt"] == "ink"

            refused, _ = await peer.change(NOISE, model=str(broken))
            assert (refused["code"], refused["field"]) == ("bad_spec", "model") and "is truncated" in refused["message"]
            with monkeypatch.context() as short:
                short.setattr(memory, "free_bytes", lambda place: 1_000_000)
                refused, _ = await peer.change(NOISE, model=str(sd15))
            assert refused["code"] == "bad_spec" and "1 MB are free" in refused["message"]
            assert np.array_equal(await peer.shown(NOISE), second), "the old model streams on"
            assert running.hub.spec().model == str(sdxl)

            assert (await peer.change(NOISE, model=str(sd21)))[0]["model"]["name"] == "sd21"
            assert (await peer.change(NOISE, model=str(sd15)))[0]["model"]["name"] == "sd15"
            assert np.array_equal(await peer.shown(NOISE), first)
        for _ in range(100):
            if not any(ref() for ref in made[:-3]):
                break
            gc.collect()
            await asyncio.sleep(0.05)
        assert [ref() is not None for ref in made] == [False] * 9 + [True] * 3, "an old model is still in memory"
