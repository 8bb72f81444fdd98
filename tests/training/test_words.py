"""Captions tokenise into whole words; unknown words fall apart into known pieces."""

import pytest
import torch

from training.looks import LOOKS
from training.model import CONTEXT, VOCABULARY, build_tokenizer, tokenize
from training.words import NAMES, TEMPLATES, caption, vocabulary_words


@pytest.fixture(scope="module")
def tokenizer():
    return build_tokenizer()


def test_every_word_is_one_token(tokenizer) -> None:
    words = [word for word in vocabulary_words() if not word.isdigit()]
    assert len(words) > 300
    assert [word for word in words if len(tokenizer(word).input_ids) != 3] == []
    assert len(tokenizer) <= VOCABULARY


def test_every_look_has_names_that_fit(tokenizer) -> None:
    assert set(NAMES) == set(LOOKS)
    assert len({name for names in NAMES.values() for name in names}) == sum(map(len, NAMES.values())), "one name, one look"
    names = [name for names in NAMES.values() for name in names]
    assert max(len(tokenizer(template.format(name)).input_ids) for template in TEMPLATES for name in names) <= CONTEXT


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
    assert [caption("neon", a) for _ in range(9)] == [caption("neon", b) for _ in range(9)]


def test_tokenizer_is_deterministic(tokenizer, tmp_path) -> None:
    from transformers import CLIPTokenizer

    tokenizer.save_pretrained(tmp_path)
    again = CLIPTokenizer.from_pretrained(tmp_path)
    assert build_tokenizer().get_vocab() == tokenizer.get_vocab() == again.get_vocab()
    assert again("an oil painting, at night").input_ids == tokenizer("an oil painting, at night").input_ids
