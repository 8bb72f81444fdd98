"""The autoencoder's shapes, its normalisation, and what diffusers expects of it."""

import pytest
import torch

from pipelines.autoencoder import PocketAutoencoder


@pytest.fixture(scope="module")
def model() -> PocketAutoencoder:
    torch.manual_seed(0)
    return PocketAutoencoder().eval()


@torch.no_grad()
@pytest.mark.parametrize(("height", "width"), [(8, 8), (24, 72), (64, 40)])
def test_round_trip_shapes(model, height: int, width: int) -> None:
    x = torch.rand(2, 3, height, width) * 2 - 1
    z = model.encode(x).latents
    assert z.shape == (2, 16, height // 8, width // 8)
    assert model.decode(z, return_dict=False)[0].shape == x.shape
    assert torch.equal(model.decode(z).sample, model(x))
    assert torch.equal(model.encode(x, return_dict=False)[0], z)


@torch.no_grad()
def test_statistics_normalise_latents_and_leave_pictures_unchanged(model) -> None:
    x = torch.rand(4, 3, 64, 64) * 2 - 1
    before, picture = model.encode(x).latents, model(x)
    assert before.abs().max() <= 3
    try:
        model.latent_mean.copy_(before.mean((0, 2, 3), keepdim=True))
        model.latent_std.copy_(before.std((0, 2, 3), keepdim=True))
        z = model.encode(x).latents
        assert z.mean((0, 2, 3)).abs().max() < 1e-4 and (z.std((0, 2, 3)) - 1).abs().max() < 1e-4
        torch.testing.assert_close(model(x), picture, atol=1e-5, rtol=1e-4)
    finally:
        model.latent_mean.zero_()
        model.latent_std.fill_(1)


def test_saves_and_loads_as_safetensors(model, tmp_path) -> None:
    model.save_pretrained(tmp_path)
    assert sorted(path.name for path in tmp_path.iterdir()) == ["config.json", "diffusion_pytorch_model.safetensors"]
    again = PocketAutoencoder.from_pretrained(tmp_path)
    state = again.state_dict()
    assert all(torch.equal(value, state[name]) for name, value in model.state_dict().items())
    assert again.config.scaling_factor == 1.0 and again.config.latent_channels == 16
    assert 2 ** (len(again.config.block_out_channels) - 1) == 8


def test_refuses_other_than_rgb() -> None:
    with pytest.raises(ValueError, match="RGB"):
        PocketAutoencoder(in_channels=4)
