"""Weights of words, against compel with diffusers' own pipelines; and the syntax of prompts."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch

from pipelines import Settings, StreamPipeline, StreamSpec, load
from pipelines.techniques.prompt_syntax import parse
from tests.by_hand import pipe_of
from tests.miniature import save_family
from tests.pipelines.checkpoints.by_compel import of_compel
from tests.streams import SIZE

FAMILIES = ("sd15", "sd21", "sdxl")


@pytest.fixture(scope="module")
def folders(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    root = tmp_path_factory.mktemp("weights")
    return {family: save_family(root / family, family) for family in FAMILIES}


@pytest.fixture(scope="module")
def pipelines(folders: dict[str, Path]) -> dict[str, StreamPipeline]:
    specs = {family: StreamSpec(str(folder), SIZE, SIZE, "eager", "float32") for family, folder in folders.items()}
    return {family: load(spec, warm=False) for family, spec in specs.items()}


PROMPTS = {
    "a (b:1.5) c": "a (b)1.5 c",
    "(a:1.3) (b:0.4)": "(a)1.3 (b)0.4",
    "a [b] c": "a (b)0.9090909091 c",
    "a ((b)) c": "a (b)1.21 c",
    "(a (b:2) c:0.5)": "(a)0.5 (b)1.0 (c)0.5",
    "a b (c": "a b (c)1.1",
    r"a \(b\)": r"a \(b\)",
    "a, b c": "a, b c",
    "a b c d e f g h (i:1.7)": "a b c d e f g h (i)1.7",
}


@pytest.mark.parametrize("prompt", PROMPTS)
@pytest.mark.parametrize("family", FAMILIES)
def test_weights_are_compel_s(folders: dict[str, Path], pipelines: dict[str, StreamPipeline], family: str, prompt: str) -> None:
    got, pipe = pipelines[family]._texts(prompt), pipe_of(folders[family], family)
    torch.testing.assert_close(got[0], of_compel(pipe, family, PROMPTS[prompt]), rtol=1e-4, atol=1e-4)
    if family == "sdxl":  # compel pools its own syntax as if it were words; the words alone are right
        _, _, pooled, _ = pipe.encode_prompt(parse(prompt).plain, device="cpu")
        torch.testing.assert_close(got[1], pooled[0], rtol=1e-4, atol=1e-4)


def test_a_weight_changes_the_states_and_none_does_not(pipelines: dict[str, StreamPipeline]) -> None:
    texts = pipelines["sd15"]._texts
    assert not torch.allclose(texts("a (b:1.5)")[0], texts("a b")[0], atol=1e-3)
    assert torch.equal(texts("a (b:1)")[0], texts("a b")[0])
    assert torch.equal(texts("(:1.5) ()")[0], texts("")[0])


@pytest.mark.parametrize(
    ("prompt", "plain", "words"),
    [
        ("ink AND oil", "ink oil", ["AND"]),
        ("ink <lora:style:9> oil", "ink oil", ["<lora:style:9>"]),
        ("ink <hypernet:style:1> oil", "ink oil", ["<hypernet:style:1>"]),
        ("[ink:oil:0.5] on paper", "on paper", ["[ink:oil:0.5]"]),
        ("[ink|oil] on AND paper", "on paper", ["[ink|oil]", "AND"]),
        ("(ink:9)", "ink", ["9"]),
        ("breakfast and band", "breakfast and band", []),
    ],
)
def test_unsupported_syntax_is_said_and_not_drawn(
    pipelines: dict[str, StreamPipeline], prompt: str, plain: str, words: list[str]
) -> None:
    pipeline = pipelines["sd15"]
    assert torch.equal(pipeline._texts(prompt)[0], pipeline._texts(plain)[0])
    listed = pipeline.understood(Settings().patched({"prompt": prompt})).listed()
    assert [entry["words"] for entry in listed["unknown"]] == words
    assert all("is not supported and not drawn: " in str(entry["message"]) for entry in listed["unknown"])


def test_only_words_count_for_the_context(pipelines: dict[str, StreamPipeline]) -> None:
    listed = pipelines["sd15"].understood(Settings().patched({"prompt": "(a:1.5) (b:1.5) [c]"})).listed()
    assert listed["cut"] == []


@pytest.mark.parametrize("prompt", ["", "(", ")", "[[", "((((:1.2)", ":1.2)", "\\", "(a:1e3)", "(a:.)", "(a: 1.3 )", "()" * 200])
def test_every_text_is_a_prompt(prompt: str) -> None:
    parsed = parse(prompt)
    assert all(0 <= weight <= 4**9 and text.strip() for text, weight in parsed.fragments)


@pytest.mark.parametrize(
    ("prompt", "fragments"),
    [
        ("a (b:1.3), c", (("a ", 1.0), ("b", 1.3), (", c", 1.0))),
        ("a (b: 1.3 ) c", (("a ", 1.0), ("b", 1.3), (" c", 1.0))),
        ("a: b", (("a: b", 1.0),)),
        (r"a \(b:1.3\)", (("a (b:1.3)", 1.0),)),
    ],
)
def test_fragments(prompt: str, fragments: tuple[tuple[str, float], ...]) -> None:
    assert parse(prompt).fragments == fragments
