"""Text encoders as graphs: the same text as through torch, and from disk without the libraries that made them."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from pipelines import ModelParts, describe
from pipelines.checkpoints.loader import text
from pipelines.graphs.backends.eager import EagerBackend
from pipelines.graphs.backends.openvino import OpenVinoBackend
from pipelines.graphs.texts import Texts
from tests.miniature import save_family, save_lora

PROMPTS = ("", "ink", "A   cat,\tin 2 hats!", "ß déjà-vu 猫 🐈", "<|endoftext|> ink", "a very long prompt " * 30)


@pytest.fixture(scope="module", params=["sd15", "sd21", "sdxl"])
def model(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Path:
    return save_family(tmp_path_factory.mktemp("model") / request.param, request.param)


def parts_of(model: Path | str) -> ModelParts:
    return ModelParts(describe(str(model)))


def test_a_prompt_is_divided_once(model: Path) -> None:
    made = Texts(parts_of(model), EagerBackend(torch.device("cpu"), torch.bfloat16))
    for prompt in PROMPTS:
        assert made.length(prompt) is made.length(prompt)


def test_graphs_give_the_text_that_torch_gives(model: Path, tmp_path: Path) -> None:
    parts = parts_of(model)
    made = Texts(parts, OpenVinoBackend("bfloat16", tmp_path))
    eager = Texts(parts, EagerBackend(torch.device("cpu"), torch.bfloat16))
    for prompt in PROMPTS:
        expected = parts.encode_prompt(prompt)
        assert [tuple(value.shape) for value in expected] == [tuple(value.shape) for value in made._encode(prompt)]
        torch.testing.assert_close(made._encode(prompt), expected, rtol=0, atol=2e-3)  # weights are kept in half precision
        torch.testing.assert_close(eager._encode(prompt), expected, rtol=0, atol=0)
        if made.length(prompt).chunks == 1:
            torch.testing.assert_close(made(prompt), made._encode(prompt), rtol=0, atol=0)


def test_a_later_start_reads_no_encoder_and_no_tokenizer(model: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    first = Texts(parts_of(model), OpenVinoBackend("float32", tmp_path))("ink")

    def unwanted(*_: object) -> None:
        raise AssertionError("read again")

    monkeypatch.setattr(ModelParts, "text_network", unwanted)
    monkeypatch.setattr(ModelParts, "tokenizer", unwanted)
    again = Texts(parts_of(model), OpenVinoBackend("float32", tmp_path))
    torch.testing.assert_close(again("ink"), first, rtol=0, atol=0)
    assert not torch.equal(again("chalk on slate")[0], first[0])


def test_other_weights_tokenizers_and_loras_are_other_texts(tmp_path: Path) -> None:
    model = save_family(tmp_path / "model", "sd15")
    layer = "encoder.layers.0.self_attn.q_proj"
    lora = save_lora(tmp_path / "ink.safetensors", {f"text_encoder.text_model.{layer}": (torch.randn(2, 32), torch.randn(32, 2))})
    plain = parts_of(model).text_fingerprint
    assert parts_of(model).text_fingerprint == plain
    assert len({plain, *(parts_of(f"{model}+{lora}:{weight}").text_fingerprint for weight in (0.5, 1.0))}) == 3
    merges = next(path for path in sorted((model / "tokenizer").iterdir()) if path.suffix in (".txt", ".json"))
    merges.write_bytes(merges.read_bytes() + b"\n")
    assert parts_of(model).text_fingerprint != plain


@pytest.fixture(scope="module")
def tokenizers(tmp_path_factory: pytest.TempPathFactory) -> tuple[object, text.Tokenize]:
    parts = parts_of(save_family(tmp_path_factory.mktemp("model") / "sd15", "sd15"))
    return parts.checkpoint.tokenizer("text_encoder"), text.unpacked(parts.tokenizer("text_encoder"))


@settings(deadline=None, max_examples=200)
@given(prompt=st.text(max_size=200))
def test_a_packed_tokenizer_gives_the_numbers_of_the_library(tokenizers: tuple[object, text.Tokenize], prompt: str) -> None:
    theirs, ours = tokenizers
    ids = ours(prompt)
    length = ids.shape[1]
    expected = theirs(prompt, padding="max_length", max_length=length, truncation=True, return_tensors="pt")  # type: ignore[operator]
    assert ids.dtype == torch.int64 and torch.equal(ids, expected.input_ids)


def test_a_damaged_tokenizer_on_disk_is_made_anew(tmp_path: Path) -> None:
    backend = OpenVinoBackend("float32", tmp_path)
    assert backend.kept("a", lambda: b"one") == b"one" and backend.kept("a", lambda: b"two") == b"one"
    (file,) = (tmp_path / "openvino").glob("*.bytes")
    file.write_bytes(file.read_bytes()[:-1] + b"?")
    assert backend.kept("a", lambda: b"two") == b"two" and OpenVinoBackend("float32", tmp_path).kept("a", lambda: b"") == b"two"
    assert OpenVinoBackend("float32", None).kept("a", lambda: b"three") == b"three"
