"""A finished model's knowledge in other latents and more words: the fit, the words, the whole."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch
from torch import nn

from pipelines.networks.cosine_autoencoder import CosineAutoencoder
from training import autoencoder, export, grow, lessons
from training.denoiser import Denoiser
from training.model import tokenize
from training.words import vocabulary_words


@torch.no_grad()
def test_the_fit_finds_the_convolution_that_made_the_pairs_and_its_explained_share() -> None:
    torch.manual_seed(0)
    true, found = nn.Conv2d(3, 2, 3, padding=1), nn.Conv2d(3, 2, 3, padding=1)
    pictures = [torch.randn(4, 3, 12, 12) + 0.5 for _ in range(3)]
    assert grow.fit(found, [(x, true(x)) for x in pictures]) == pytest.approx(1.0, abs=1e-4)
    torch.testing.assert_close(found.weight, true.weight, atol=1e-3, rtol=0)
    torch.testing.assert_close(found.bias, true.bias, atol=1e-3, rtol=0)
    noisy = [(x, true(x) + true(x).std() * torch.randn(4, 2, 12, 12)) for x in pictures]
    assert grow.fit(found, noisy) == pytest.approx(0.5, abs=0.1)  # as much noise as signal


@torch.no_grad()
def test_words_keep_what_they_mean(monkeypatch: pytest.MonkeyPatch) -> None:
    torch.manual_seed(0)
    older, _ = export.load(Path("assets/pocket"))
    monkeypatch.setattr("training.model.vocabulary_words", lambda: ["quokka", *vocabulary_words()[::-1]])
    model = Denoiser(36).eval()
    vocabularies = older.tokenizer.get_vocab(), model.tokenizer.get_vocab()
    assert vocabularies[0]["painting</w>"] != vocabularies[1]["painting</w>"], "the words have other numbers now"
    grow.take_over(model, older)
    prompts = ["oil painting", "neon outlines of a cat, detailed"]
    ours = model.text_encoder(tokenize(model.tokenizer, prompts)).last_hidden_state
    theirs = older.text_encoder(tokenize(older.tokenizer, prompts)).last_hidden_state
    torch.testing.assert_close(ours, theirs)


def test_a_grown_denoiser_explains_most_of_smooth_pictures(tmp_path: Path) -> None:
    bytes_ = np.random.default_rng(0).integers(0, 256, (6, 3, 8, 8), dtype=np.uint8)
    store = np.repeat(np.repeat(bytes_, 16, 2), 16, 3)
    older, old = export.load(Path("assets/pocket"))
    new = CosineAutoencoder(luma_channels=20, chroma_channels=6, latent_channels=32).eval()
    autoencoder.measure_latents(new, store, 0, batches=4)
    named = lessons.scene_pool(tmp_path / "scenes.npy", 20, 0)
    model, explained = grow.grown(older, old, new, store, named, 0, batches=6, side=64)
    assert model.unet.config["in_channels"] == 32
    assert explained["conv_in"] > 0.7 and explained["conv_out"] > 0.3


def test_where_the_latents_stay_everything_is_taken_over_but_places_that_there_were_not(tmp_path: Path) -> None:
    older, old = export.load(Path("assets/pocket"))
    named = lessons.scene_pool(tmp_path / "scenes.npy", 20, 0)
    model, explained = grow.grown(older, old, old, np.zeros((1, 3, 8, 8), np.uint8), named, 0)
    assert explained == {}
    ours, theirs = model.state_dict(), older.state_dict()
    spare = "text_encoder.embeddings.token_embedding.weight"  # some rows belong to no word
    assert spare in theirs and all(torch.equal(ours[name], value) for name, value in theirs.items() if name != spare)
    changed = CosineAutoencoder.from_pretrained("assets/pocket/vae")
    changed.latent_std *= 1.1
    assert not grow.same_latents(old, changed)
