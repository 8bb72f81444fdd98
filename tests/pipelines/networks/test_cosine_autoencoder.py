"""The autoencoder's shapes, its normalisation, and what diffusers expects of it."""

import cv2
import numpy as np
import pytest
import torch
import torch.nn.functional as F

from pipelines.networks.cosine_autoencoder import CosineAutoencoder, cosine_basis


@pytest.fixture(scope="module")
def model() -> CosineAutoencoder:
    torch.manual_seed(0)
    model = CosineAutoencoder().eval()
    torch.nn.init.normal_(model.decoder.conv_out.weight, std=0.05)  # untrained it adds nothing
    return model


@torch.no_grad()
@pytest.mark.parametrize(("height", "width"), [(8, 8), (24, 72), (64, 40)])
def test_round_trip_shapes(model, height: int, width: int) -> None:
    x = torch.rand(2, 3, height, width) * 2 - 1
    z = model.encode(x).latents
    assert z.shape == (2, 36, height // 8, width // 8)
    assert model.decode(z, return_dict=False)[0].shape == x.shape
    assert torch.equal(model.decode(z).sample, model(x))
    assert torch.equal(model.encode(x, return_dict=False)[0], z)


@torch.no_grad()
def test_decoding_is_the_inverse_transform_and_the_detail_packed_or_not(model) -> None:
    z = torch.randn(2, 36, 5, 7)
    picture = model.decode(z).sample
    torch.testing.assert_close(picture, model.synthesise(z) + F.pixel_shuffle(model.decoder(z), 4))
    torch.testing.assert_close(model.decode_packed(z), F.pixel_unshuffle(picture, 2))


@torch.no_grad()
def test_statistics_normalise_latents_and_leave_pictures_unchanged(model) -> None:
    x = torch.rand(4, 3, 64, 64) * 2 - 1
    before = model.encode(x).latents
    picture = model.synthesise(before)
    try:
        model.latent_mean.copy_(before.mean((0, 2, 3), keepdim=True))
        model.latent_std.copy_(before.std((0, 2, 3), keepdim=True))
        z = model.encode(x).latents
        assert z.mean((0, 2, 3)).abs().max() < 1e-4 and (z.std((0, 2, 3)) - 1).abs().max() < 1e-4
        torch.testing.assert_close(model.synthesise(z), picture, atol=1e-5, rtol=1e-4)
    finally:
        model.latent_mean.zero_()
        model.latent_std.fill_(1)


def test_saves_and_loads_as_safetensors(model, tmp_path) -> None:
    model.save_pretrained(tmp_path)
    assert sorted(path.name for path in tmp_path.iterdir()) == ["config.json", "diffusion_pytorch_model.safetensors"]
    again = CosineAutoencoder.from_pretrained(tmp_path)
    state = again.state_dict()
    assert all(torch.equal(value, state[name]) for name, value in model.state_dict().items())
    assert again.config.scaling_factor == 1.0 and again.config.latent_channels == 36
    assert 2 ** (len(again.config.block_out_channels) - 1) == 8


def test_refuses_other_than_rgb() -> None:
    with pytest.raises(ValueError, match="RGB"):
        CosineAutoencoder(in_channels=4)


def test_refuses_channels_that_do_not_add_up() -> None:
    with pytest.raises(ValueError, match="26 luma and 2 x 4 chroma"):
        CosineAutoencoder(chroma_channels=4)


def test_the_cosine_basis_is_orthonormal() -> None:
    basis = cosine_basis(26, 5).flatten(1)
    torch.testing.assert_close(basis @ basis.T, torch.eye(36), atol=1e-5, rtol=0)


@torch.no_grad()
def test_untrained_it_is_a_cosine_transform() -> None:
    """A grey picture's latents are the lowest coefficients that OpenCV's transform finds, and decode to the same picture when it
    has no others."""
    model = CosineAutoencoder().eval()
    coefficients = np.zeros((8, 8), np.float32)
    coefficients[:3, :3] = np.random.default_rng(0).normal(0, 0.5, (3, 3))
    grey = torch.from_numpy(cv2.idct(coefficients)).expand(1, 3, 8, 8).contiguous()
    z = model.encode(grey).latents
    found = sorted(z.flatten().abs()[z.flatten().abs() > 1e-4].tolist())
    assert found == pytest.approx(sorted((np.abs(coefficients[coefficients != 0]) * 3**0.5).tolist()), rel=1e-3)
    torch.testing.assert_close(model.decode(z).sample, grey, atol=1e-4, rtol=1e-4)


@torch.no_grad()
def test_sensor_noise_is_not_amplified(model) -> None:
    """Whatever is added to a picture changes its raw latents by no more: an orthonormal transform, of which some is left out."""
    x, noise = torch.rand(1, 3, 64, 64), 0.01 * torch.randn(1, 3, 64, 64)
    assert float((model.analysis(x + noise) - model.analysis(x)).norm()) <= float(noise.norm())
