"""Captions tokenise into whole words and can be read back; unknown words fall apart into known pieces."""

import pytest
import torch

from training.looks import LOOKS
from training.model import CONTEXT, VOCABULARY, build_tokenizer, tokenize
from training.modifiers import LIGHTS, PALETTES, TEXTURES
from training.scenes import SUBJECTS
from training.teacher import SLIGHTLY, VERY, Request, draw
from training.words import (
    INTENSITY_WORDS,
    LIGHT_WORDS,
    NAMES,
    PALETTE_WORDS,
    SCENES,
    TEXTURE_WORDS,
    caption,
    parse,
    scene_caption,
    vocabulary_words,
)  # fmt: skip


@pytest.fixture(scope="module")
def tokenizer():
    return build_tokenizer()


def test_every_word_is_one_token(tokenizer) -> None:
    words = [word for word in vocabulary_words() if not word.isdigit()]
    assert len(words) > 400
    assert [word for word in words if len(tokenizer(word).input_ids) != 3] == []
    assert len(tokenizer) <= VOCABULARY


def test_everything_that_the_teacher_can_do_has_words() -> None:
    assert list(NAMES) == [*dict.fromkeys(NAMES)] and set(NAMES) == set(LOOKS)
    assert set(PALETTE_WORDS) == set(PALETTES)
    assert set(LIGHT_WORDS) == set(LIGHTS)
    assert set(TEXTURE_WORDS) == set(TEXTURES)
    assert set(SCENES) == set(SUBJECTS)
    assert set(INTENSITY_WORDS) == {SLIGHTLY, VERY}
    tables = (NAMES, PALETTE_WORDS, LIGHT_WORDS, TEXTURE_WORDS)
    phrases = [phrase for table in tables for words in table.values() for phrase in words]
    assert len(phrases) == len(set(phrases)), "one phrase, one meaning"


def test_captions_fit_and_are_read_back(tokenizer) -> None:
    rng = torch.Generator().manual_seed(1)
    for _ in range(600):
        request = draw(rng)
        text = caption(request, rng)
        assert parse(text) == request, text
        assert len(tokenizer(text).input_ids) <= CONTEXT, text


def test_captions_of_scenes_name_the_subject(tokenizer) -> None:
    rng = torch.Generator().manual_seed(2)
    for subject, phrases in SCENES.items():
        text = scene_caption(subject, draw(rng), rng)
        assert any(phrase in text for phrase in phrases)
        assert len(tokenizer(text).input_ids) <= CONTEXT, text


@pytest.mark.parametrize(
    ("prompt", "request_"),
    [
        ("Sketched", Request("pencil")),
        ("an OIL painting of a castle, at night", Request("oil", light="night")),
        ("very strong watercolor", Request("watercolour", VERY)),
        ("slightly neon, in blue and gold", Request("neon", SLIGHTLY, "blue_gold")),
        ("ukiyo-e with thick outlines in fog", Request("ukiyo_e", light="fog", texture="thick")),
        ("gold statue at golden hour", Request("gold", light="golden")),
        ("a xylophone quartz", Request()),
        ("", Request()),
        ("penciled oilcloth", Request()),
    ],
)
def test_parse(prompt: str, request_: Request) -> None:
    assert parse(prompt) == request_


def test_unknown_words_have_no_unknown_tokens(tokenizer) -> None:
    for text in ("a xylophone quartz", "日本 neon", "çava! 42"):
        ids = tokenizer(text).input_ids
        assert ids[0] == tokenizer.bos_token_id and ids[-1] == tokenizer.eos_token_id
        assert tokenizer.eos_token_id not in ids[1:-1]


def test_padding_and_the_empty_prompt(tokenizer) -> None:
    ids = tokenize(tokenizer, ["", "neon " * 40])
    assert ids.shape == (2, CONTEXT)
    assert ids[0, 0] == tokenizer.bos_token_id and (ids[0, 1:] == tokenizer.eos_token_id).all()
    assert ids[1, -1] == tokenizer.eos_token_id


def test_captions_are_a_function_of_the_generator() -> None:
    a, b = torch.Generator().manual_seed(5), torch.Generator().manual_seed(5)
    assert [caption(Request("neon"), a) for _ in range(9)] == [caption(Request("neon"), b) for _ in range(9)]


def test_tokenizer_is_deterministic(tokenizer, tmp_path) -> None:
    from transformers import CLIPTokenizer

    tokenizer.save_pretrained(tmp_path)
    again = CLIPTokenizer.from_pretrained(tmp_path)
    assert build_tokenizer().get_vocab() == tokenizer.get_vocab() == again.get_vocab()
    assert again("an oil painting, at night").input_ids == tokenizer("an oil painting, at night").input_ids
