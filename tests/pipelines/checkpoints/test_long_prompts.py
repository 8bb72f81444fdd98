"""Prompts of several chunks and parts, layers left out and textual inversions: against compel and diffusers' own pipelines."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch
from compel import ReturnedEmbeddingsType
from compel.embeddings_provider import EmbeddingsProvider
from hypothesis import given, settings
from hypothesis import strategies as st
from safetensors.torch import save_file
from transformers import PreTrainedModel

from pipelines import Entry, ModelError, ModelParts, Settings, SettingsError, StreamPipeline, StreamSpec, describe, load
from pipelines.checkpoints.loader.chunks import MAX_CHUNKS
from pipelines.techniques.prompt_syntax import parse
from tests.by_hand import Network, drawn, pipe_of
from tests.miniature import EMBEDDING, SECOND, TOKENS, save_family
from tests.pipelines.checkpoints.by_compel import of_compel
from tests.streams import SIZE, close, frames, pictures, stream

FAMILIES = ("sd15", "sdxl")
LAYERS = 4


@pytest.fixture(scope="module")
def folders(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    """With two embeddings: pale, of one vector, and dusk2, of three."""
    root = tmp_path_factory.mktemp("prompts")
    made = {family: save_family(root / family, family, layers=LAYERS) for family in FAMILIES}
    generator = torch.Generator().manual_seed(3)
    for family, folder in made.items():
        (folder / "embeddings").mkdir()
        for name, count in (("pale", 1), ("dusk2", 3)):
            vectors = {"clip_l": torch.randn(count, EMBEDDING, generator=generator)}
            vectors["clip_g"] = torch.randn(count, SECOND, generator=generator)
            saved = vectors if family == "sdxl" else {"emb_params": vectors["clip_l"]}
            save_file(saved, folder / "embeddings" / f"{name}.safetensors")
    return made


@pytest.fixture(scope="module")
def pipelines(folders: dict[str, Path]) -> dict[str, StreamPipeline]:
    specs = {family: StreamSpec(str(folder), SIZE, SIZE, "eager", "float32") for family, folder in folders.items()}
    return {family: load(spec, warm=False) for family, spec in specs.items()}


def compared(pipeline: StreamPipeline, pipe: Any, family: str, prompt: str, theirs: str) -> tuple[torch.Tensor, dict[str, Any]]:
    """(states, what is listed of the prompt), where the states are compel's of `theirs`, the prompt in its syntax."""
    got = pipeline._texts(prompt)[0]
    torch.testing.assert_close(got, of_compel(pipe, family, theirs), rtol=1e-4, atol=1e-4)
    return got, pipeline.understood(Settings().patched({"prompt": prompt})).listed()


LONG = {
    "a b c d e f g h": "a b c d e f g h",
    "a b. c d e f g h i": "a b. c d e f g h i",
    "a b, c d e f; g h i j k l": "a b, c d e f; g h i j k l",
    "a b c (d e f g h:1.5) i j": "a b c (d e f g h)1.5 i j",
    "a b c (d e f g h:0.4) i j": "a b c (d e f g h)0.4 i j",
    "abcdefghijk l m": "abcdefghijk l m",
    "a b BREAK c": '("a b", "c").and()',
    "a BREAK b c d e f g h BREAK i": '("a", "b c d e f g h", "i").and()',
    "(a BREAK b:1.5) c": '("(a)1.5", "(b)1.5 c").and()',
    "BREAK a BREAK BREAK b BREAK": '("a", "b").and()',
}


@pytest.mark.parametrize("prompt", LONG)
@pytest.mark.parametrize("family", FAMILIES)
def test_long_prompts_are_compel_s(
    folders: dict[str, Path], pipelines: dict[str, StreamPipeline], family: str, prompt: str
) -> None:
    states, listed = compared(pipelines[family], pipe_of(folders[family], family), family, prompt, LONG[prompt])
    assert states.shape[0] > TOKENS
    assert listed["cut"] == [] and listed["unknown"] == []


@pytest.mark.parametrize(
    ("prompt", "lost"),
    [
        (" ".join("abcdefghijklmnopqrstuvwxyz"), "y z"),
        ("a BREAK b BREAK c BREAK d BREAK e f", "e f"),
        ("a BREAK b BREAK c BREAK d e f g h i j k", "j k"),
        ("a. b c d e f g. h i j k l m n o p (q r:1.2) s", "n o p q r s"),
    ],
)
def test_what_is_beyond_four_chunks_is_cut_and_said(pipelines: dict[str, StreamPipeline], prompt: str, lost: str) -> None:
    pipeline = pipelines["sd15"]
    (cut,) = pipeline.understood(Settings().patched({"prompt": prompt})).listed()["cut"]
    assert (cut["lost"], cut["tokens"]) == (lost, MAX_CHUNKS * TOKENS)
    assert pipeline._texts(prompt)[0].shape[0] == MAX_CHUNKS * TOKENS


@settings(max_examples=60, deadline=None)
@given(st.text("ab.,;: ()", max_size=40))
def test_chunks_are_counted_as_compel_divides(pipelines: dict[str, StreamPipeline], prompt: str) -> None:
    pipeline = pipelines["sd15"]
    found = pipeline._texts.length(prompt)
    assert pipeline._texts(prompt)[0].shape[0] == found.chunks * TOKENS
    provider: EmbeddingsProvider = pipeline.graphs.parts.encode_weighted._provider(0)[0]
    (part,) = parse(prompt).parts or ((("", 1.0),),)
    ids, _, _ = provider.get_token_ids_and_expand_weights([text for text, _ in part], [weight for _, weight in part], "cpu")
    assert (found.chunks, found.cut is not None) == (min(len(ids) // TOKENS, MAX_CHUNKS), len(ids) // TOKENS > MAX_CHUNKS)


@pytest.mark.parametrize("skip", [1, 2])
@pytest.mark.parametrize("family", FAMILIES)
def test_layers_are_left_out_as_diffusers_does(
    folders: dict[str, Path], pipelines: dict[str, StreamPipeline], family: str, skip: int
) -> None:
    pipe = pipe_of(folders[family], family)
    if family == "sd15":  # diffusers and compel look for the last norm where transformers had it before 5.6
        pipe.text_encoder.__dict__["text_model"] = pipe.text_encoder
    got = pipelines[family]._texts("a b c", skip)
    expected = pipe.encode_prompt(
        "a b c", device="cpu", num_images_per_prompt=1, do_classifier_free_guidance=False, clip_skip=skip
    )
    torch.testing.assert_close(got[0], expected[0][0], rtol=1e-4, atol=1e-4)
    assert not torch.allclose(got[0], pipelines[family]._texts("a b c")[0], atol=1e-3)
    if family == "sdxl":
        torch.testing.assert_close(got[1], expected[2][0], rtol=1e-4, atol=1e-4)
    elif skip == 1:
        kind = ReturnedEmbeddingsType.PENULTIMATE_HIDDEN_STATES_NORMALIZED
        weighted = pipelines[family]._texts("a (b:1.4) c", 1)[0]
        torch.testing.assert_close(weighted, of_compel(pipe, family, "a (b)1.4 c", kind), rtol=1e-4, atol=1e-4)


def test_more_layers_than_there_are_cannot_be_left_out(pipelines: dict[str, StreamPipeline]) -> None:
    for family, most in (("sd15", LAYERS - 1), ("sdxl", LAYERS - 2)):
        pipelines[family].check(Settings().patched({"clip_skip": most}))
        with pytest.raises(SettingsError, match=f"clip_skip: {most + 1} is out of range; this model allows 0 to {most}"):
            pipelines[family].check(Settings().patched({"clip_skip": most + 1}))


def with_embeddings(folder: Path, family: str) -> Any:
    """diffusers' pipeline that has loaded the folder's embeddings itself."""
    from safetensors.torch import load_file

    pipe = pipe_of(folder, family)
    for name in ("pale", "dusk2"):
        file = load_file(folder / "embeddings" / f"{name}.safetensors")
        if family == "sd15":
            pipe.load_textual_inversion(file, token=name)
        else:
            pipe.load_textual_inversion(file["clip_l"], token=name, text_encoder=pipe.text_encoder, tokenizer=pipe.tokenizer)
            pipe.load_textual_inversion(file["clip_g"], token=name, text_encoder=pipe.text_encoder_2, tokenizer=pipe.tokenizer_2)
    return pipe


NAMED = {
    "a pale b": "a pale b",
    "pale": "pale",
    "a, Pale, b": "a, pale, b",
    "a (dusk2:1.4) b": "a (dusk2)1.4 b",
    "dusk2 a b c d e f": "dusk2 a b c d e f",
    "embedding:pale b": "pale b",
}


@pytest.mark.parametrize("prompt", NAMED)
@pytest.mark.parametrize("family", FAMILIES)
def test_an_embedding_is_diffusers(
    folders: dict[str, Path], pipelines: dict[str, StreamPipeline], family: str, prompt: str
) -> None:
    _, listed = compared(pipelines[family], with_embeddings(folders[family], family), family, prompt, NAMED[prompt])
    (entry,) = listed["understood"]
    assert entry["kind"] == "embedding" and entry["words"] in ("pale", "dusk2")


@pytest.mark.parametrize("prompt", ["paler a", "a-pale", "un_pale", "dusk"])
def test_an_embedding_is_a_whole_word(pipelines: dict[str, StreamPipeline], prompt: str) -> None:
    assert pipelines["sd15"].understood(Settings().patched({"prompt": prompt})).listed()["understood"] == []


def saved(path: Path, **tensors: torch.Tensor) -> Path:
    save_file(tensors, path)
    return path


def test_an_embedding_of_the_models_name(folders: dict[str, Path], tmp_path: Path) -> None:
    """As a file and as a folder; diffusers' token is a word beside the file's name."""
    vector = torch.randn(EMBEDDING)
    saved(tmp_path / "cat.safetensors", **{"<cat-toy>": vector})
    texts = []
    for place, prompt in ((tmp_path / "cat.safetensors", "a <cat-toy>"), (tmp_path, "a cat")):
        parts = ModelParts(describe(f"{folders['sd15']}+embedding={place}"))
        texts.append(parts.encode_weighted(parts.parse_prompt(prompt).parts)[0])
    assert torch.equal(*texts)


def test_of_embeddings_with_the_same_name_the_first_counts(folders: dict[str, Path], tmp_path: Path) -> None:
    """That of the model's name before that of its folder, which has another vector, and more or fewer of them."""
    vector = torch.randn(2, EMBEDDING)
    for word in ("pale", "dusk2"):
        texts = []
        for name in (word, "fresh"):
            place = saved(tmp_path / f"{name}.safetensors", emb_params=vector)
            parts = ModelParts(describe(f"{folders['sd15']}+embedding={place}"))
            texts.append(parts.encode_weighted(parts.parse_prompt(f"a {name} b").parts)[0])
        assert torch.equal(*texts)


def test_embeddings_are_put_into_an_encoder_all_at_once(folders: dict[str, Path], monkeypatch: pytest.MonkeyPatch) -> None:
    """Each resizing copies every vector of the encoder."""
    resize, sizes = PreTrainedModel.resize_token_embeddings, []

    def counted(self: Any, size: int, **options: Any) -> Any:
        sizes.append(size)
        return resize(self, size, **options)

    monkeypatch.setattr(PreTrainedModel, "resize_token_embeddings", counted)
    encoder: Any = ModelParts(describe(str(folders["sd15"]))).encode_weighted._encoders["text_encoder"][1]
    assert sizes == [encoder.get_input_embeddings().num_embeddings]


@pytest.mark.parametrize(
    ("tensors", "reason"),
    [
        ({"clip_l": torch.zeros(1, 768), "clip_g": torch.zeros(1, 1280)}, "is an embedding for SDXL"),
        ({"emb_params": torch.zeros(1, 1024)}, "is an embedding for SD 2"),
        ({"a": torch.zeros(1, EMBEDDING), "b": torch.zeros(1)}, "is no textual inversion"),
        ({"emb_params": torch.zeros(100, EMBEDDING)}, "1 to 75 rows are allowed"),
        ({"emb_params": torch.zeros(2, 2, EMBEDDING)}, "1 to 75 rows are allowed"),
    ],
)
def test_an_embedding_that_cannot_be_used(
    folders: dict[str, Path], tmp_path: Path, tensors: dict[str, torch.Tensor], reason: str
) -> None:
    """It is an error where the user gives the file, and is stated where a prompt names one of a folder."""
    path = saved(tmp_path / "other.safetensors", **tensors)
    with pytest.raises(ModelError, match=f"other.safetensors: .*{reason}"):
        ModelParts(describe(f"{folders['sd15']}+embedding={path}"))
    pipeline = load(StreamSpec(f"{folders['sd15']}+embedding={tmp_path}", SIZE, SIZE, "eager", "float32"), warm=False)
    (entry,) = pipeline.understood(Settings().patched({"prompt": "a other b"})).listed()["unknown"]
    assert entry["words"] == "other" and reason in str(entry["message"])
    assert torch.equal(pipeline._texts("a other b")[0], pipeline._texts("a b")[0]), "its name is not drawn as words"


def test_an_embedding_with_a_pickle_or_broken_numbers(folders: dict[str, Path], tmp_path: Path) -> None:
    (tmp_path / "old.pt").write_bytes(b"PK")
    with pytest.raises(ModelError, match=r"old\.pt: is pickled"):
        ModelParts(describe(f"{folders['sd15']}+embedding={tmp_path / 'old.pt'}"))
    bad = saved(tmp_path / "bad.safetensors", emb_params=torch.full((1, EMBEDDING), float("nan")))
    with pytest.raises(ModelError, match="bad: has numbers that are not finite"):
        _ = ModelParts(describe(f"{folders['sd15']}+embedding={bad}")).encode_weighted


def network_of(pipe: Any, family: str, prompt: str, negative: str) -> Network:
    """The pipeline's UNet with compel's texts, the shorter one filled up with the empty prompt."""
    texts = [of_compel(pipe, family, words) for words in (prompt, negative)]
    while len(texts[1]) < len(texts[0]):
        texts[1] = torch.cat([texts[1], of_compel(pipe, family, "")])
    added: list[dict[str, torch.Tensor]] = [{}, {}]
    if family == "sdxl":
        ids = torch.tensor([[SIZE, SIZE, 0, 0, SIZE, SIZE]], dtype=torch.float32)
        for row, words in enumerate((prompt, negative)):
            pooled = pipe.encode_prompt(words, device="cpu", num_images_per_prompt=1, do_classifier_free_guidance=False)[2]
            added[row] = {"text_embeds": pooled, "time_ids": ids}

    def network(x: torch.Tensor, t: int, row: int) -> torch.Tensor:
        sample: torch.Tensor = pipe.unet(x, t, encoder_hidden_states=texts[row][None], added_cond_kwargs=added[row]).sample
        return sample

    return network


@pytest.mark.parametrize("guidance", ["none", "full"])
@pytest.mark.parametrize("family", FAMILIES)
def test_a_long_prompt_is_drawn_as_diffusers_draws_it(
    folders: dict[str, Path], pipelines: dict[str, StreamPipeline], family: str, guidance: str
) -> None:
    prompt, pipeline = "a b c d e f g h i", pipelines[family]
    settings = Settings().patched({"prompt": prompt, "negative": "b", "guidance_mode": guidance, "guidance": 2.0, "steps": 2})
    pipeline.prepare(settings)
    source = frames(2)
    got = pictures(stream(pipeline, settings, source))
    pipe, noise = pipe_of(folders[family], family), pipeline.open(settings).noise
    assert source[1].pixels is not None
    assert close(got[1], drawn(pipe, network_of(pipe, family, prompt, "b"), settings, source[1].pixels, noise))
    short = pictures(stream(pipeline, settings.patched({"prompt": "a b c d e f"}), source))
    assert not close(got[1], short[1], 0), "the later chunk counts"


def test_sessions_with_texts_of_different_lengths_step_together(pipelines: dict[str, StreamPipeline]) -> None:
    pipeline, (first, *_) = pipelines["sd15"], frames(1)
    wishes = [
        Settings().patched({"prompt": words}) for words in ("a b c d e f g h i", "a", "a b BREAK c BREAK d", "b c d e f g h i j")
    ]
    for wish in wishes:
        pipeline.prepare(wish)
    for wish in wishes:
        for key in pipeline.graphs_for(wish, len(wishes)):
            pipeline.graphs.build(key)
    together = pipeline.step([Entry(pipeline.open(wish), first, wish) for wish in wishes])
    for answer, wish in zip(together, wishes, strict=True):
        (alone,) = pipeline.step([Entry(pipeline.open(wish), first, wish)])
        assert answer.pixels is not None and alone.pixels is not None
        assert close(answer.pixels.numpy(), alone.pixels.numpy())
