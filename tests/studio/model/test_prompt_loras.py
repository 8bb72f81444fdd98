"""<lora:NAME:WEIGHT>: which LoRAs prompts ask for, and when they go."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
import torch
from PIL import Image

from app import main
from pipelines import LoraTag, LoraUse, Settings, lora_tags
from studio.model.prompt_loras import PromptLoras, lora_files, tagged
from tests.miniature import save_family, save_lora

INK, OIL = "/loras/Ink.safetensors", "/loras/sub/oil.v2.safetensors"


def prompts(prompt: str, **others: str) -> Settings:
    return Settings().patched({"prompt": prompt, **others})


@pytest.mark.parametrize(
    ("prompt", "found"),
    [
        ("a <lora:ink:0.8> b", [("ink", 0.8)]),
        ("<lora:ink>", [("ink", 1.0)]),
        ("<LORA: ink : -.5 >", [("ink", -0.5)]),
        ("<lora:oil.v2:1><lora:ink:2>", [("oil.v2", 1.0), ("ink", 2.0)]),
        ("<lora:ink:9> <lora:ink:x> <lora::1> <lora:ink:0.8", []),
    ],
)
def test_tags(prompt: str, found: list[tuple[str, float]]) -> None:
    assert [(tag.name, tag.weight) for tag in lora_tags(prompt)] == found
    assert all(isinstance(tag, LoraTag) and tag.words in prompt for tag in lora_tags(prompt))


def test_prompts_add_files_and_set_weights() -> None:
    by_hand = (LoraUse("by-hand.safetensors", 0.3), LoraUse(INK, 0.5))
    settings = prompts("a <lora:ink:0.8>", prompt_b="<lora:oil.v2:-1> <lora:absent:1>")
    assert tagged(by_hand, settings, [INK, OIL]) == (by_hand[0], LoraUse(INK, 0.8), LoraUse(OIL, -1.0))
    assert tagged(by_hand, prompts("a"), [INK, OIL]) == by_hand
    assert tagged(by_hand, settings, []) == by_hand


def test_a_lora_goes_with_its_tag_and_others_stay() -> None:
    asked, calls = PromptLoras(), list[int]()

    def files() -> list[str]:
        calls.append(1)
        return [INK, OIL]

    other = LoraUse("by-hand.safetensors")
    assert asked.wanted((other,), prompts("a"), files) is None and not calls, "no folder is listed for nothing"
    with_ink = asked.wanted((other,), prompts("a <lora:ink:0.8>"), files)
    assert with_ink == (other, LoraUse(INK, 0.8))
    assert asked.wanted((other,), prompts("b <lora:ink:0.8>"), files) is None, "what was refused is not asked again"
    assert asked.wanted(with_ink, prompts("b <lora:ink:0.4>"), files) == (other, LoraUse(INK, 0.4))
    assert asked.wanted(with_ink, prompts("b"), files) == (other,)
    assert asked.wanted((other,), prompts("b <lora:absent:1>"), files) is None


def test_files_of_folders(tmp_path: Path) -> None:
    for name in ("b.safetensors", "sub/a.safetensors", "sub/note.txt"):
        (tmp_path / name).parent.mkdir(exist_ok=True)
        (tmp_path / name).touch()
    assert lora_files([tmp_path]) == [str(tmp_path / "b.safetensors"), str(tmp_path / "sub/a.safetensors")]
    assert lora_files([tmp_path / "absent"]) == []


def test_a_render_takes_the_loras_that_its_prompt_names(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    layer = "down_blocks.0.attentions.0.transformer_blocks.0.attn1.to_q"
    model = save_family(tmp_path / "model", "sdxs", kl=False)
    (tmp_path / "loras").mkdir()
    save_lora(tmp_path / "loras/ink.safetensors", {layer: (torch.randn(2, 32), torch.randn(32, 2))})
    Image.new("RGB", (64, 64), "teal").save(tmp_path / "in.png")
    common = ["--model", str(model), "--size", "128", "--backend", "eager", "--dtype", "float32"]
    prompt = ["--lora-folder", str(tmp_path / "loras"), "--prompt", "a <lora:ink:0.8> <lora:oil:1>"]
    assert main(["render", str(tmp_path / "in.png"), str(tmp_path / "out.png"), *common, *prompt]) == 0
    result = json.loads(capsys.readouterr().out.splitlines()[-1])
    assert "ink.safetensors" in result["loras"][0] and "weight 0.8" in result["loras"][0]
    assert [entry["words"] for entry in result["understood"]] == ["<lora:ink:0.8>"]
    assert [entry["words"] for entry in result["unknown"]] == ["<lora:oil:1>"]
