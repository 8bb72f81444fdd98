"""Three steps of each training, interrupted and resumed, give the weights of three steps in one go."""

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from torch import Generator

from pipelines.networks.cosine_autoencoder import CosineAutoencoder
from pipelines.values.vocabulary import read_vocabulary
from training import aids, autoencoder, denoiser, lessons, namer, perception, refine
from training.critic import Critic, critic_losses
from training.denoiser import Denoiser
from training.export import LIMIT, export, load, part_of_the_way
from training.lessons import Dreams, Lessons, Scenes
from training.looks import LOOKS
from training.loop import Average, Run, averaged, learning_rate, step_rng
from training.losses import namer_loss, pattern_gap
from training.model import TIMESTEP_POWER
from training.namer import Classifier
from training.perception import Perception
from training.refine import Painter
from training.scenes import SUBJECTS
from training.sheet import paint, timestep


@pytest.fixture(scope="module")
def store() -> np.ndarray:
    return np.random.default_rng(0).integers(0, 256, (4, 3, 64, 64), dtype=np.uint8)


@pytest.fixture(autouse=True)
def _one_thread():
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(threads)


def _weights(run: Run) -> list[torch.Tensor]:
    state = run.load()
    assert state is not None
    return state["average"]["shadow"]


def test_the_autoencoders_latents_are_of_unit_variance_but_for_the_coarse_ones(tmp_path: Path, store) -> None:
    fine, coarse = (np.repeat(np.repeat(store, times, 2), times, 3)[..., :128, :128] for times in (4, 16))
    smooth = np.concatenate([coarse[:2], fine[2:]])
    model = autoencoder.make(smooth, tmp_path / "autoencoder", 0)
    again = CosineAutoencoder.from_pretrained(tmp_path / "autoencoder")
    assert torch.equal(again.latent_std, model.latent_std)
    x = torch.from_numpy(smooth).float() / 127.5 - 1
    with torch.no_grad():
        raw, z = again.analysis(x), again.encode(x).latents
    torch.testing.assert_close((z * again.latent_std + again.latent_mean), raw, atol=1e-4, rtol=1e-4)
    spread = raw.std((0, 2, 3)) / again.latent_std.flatten()
    gain = torch.tensor([2.5, 1.4, 1.4, *[1.0] * 23, *[3.0, 1.5, 1.5, 1.5, 1.5] * 2])
    assert float((spread / gain).square().mean()) == pytest.approx(1.0, abs=0.5)  # measured on windows, with looks of them
    assert spread[0] > 3 * spread[25], "luma's mean is louder than its finest frequency"


@pytest.fixture(scope="module")
def named(tmp_path_factory: pytest.TempPathFactory) -> Scenes:
    return lessons.scene_pool(tmp_path_factory.mktemp("scenes") / "scenes.npy", 20, 0)


@pytest.fixture(scope="module")
def dreams() -> Dreams:
    pictures = np.random.default_rng(1).integers(0, 256, (2 * len(SUBJECTS), 3, 128, 128), dtype=np.uint8)
    return Dreams(pictures, tuple(SUBJECTS))


def test_denoiser_resumes_exactly(tmp_path: Path, store, named: Scenes, dreams: Dreams) -> None:
    torch.manual_seed(0)
    vae = CosineAutoencoder()
    config = denoiser.DenoiserConfig(steps=3, batch=2, side=64, wide=1, wide_side=64, warmup=1, simple=2, large=3)
    whole, parts = Run(tmp_path / "whole"), Run(tmp_path / "parts")
    denoiser.train(config, whole, store, named, dreams, vae)
    denoiser.train(config, parts, store, named, dreams, vae, stop_at=1)
    denoiser.train(config, parts, store, named, dreams, vae)
    assert all(map(torch.equal, _weights(whole), _weights(parts)))


def seeing() -> Perception:
    torch.manual_seed(3)
    return Perception().requires_grad_(False).eval()


def test_perception_resumes_exactly(tmp_path: Path, named: Scenes) -> None:
    pictures = np.random.default_rng(0).integers(0, 256, (4, 3, 128, 128), dtype=np.uint8)
    config = perception.PerceptionConfig(steps=3, batch=12, side=64, warmup=1)
    whole, parts = Run(tmp_path / "whole"), Run(tmp_path / "parts" / "perception")
    perception.train(config, whole, pictures, named)
    perception.train(config, parts, pictures, named, stop_at=1)
    perception.train(config, parts, pictures, named)
    assert all(map(torch.equal, _weights(whole), _weights(parts)))
    assert not any(p.requires_grad for p in perception.load(tmp_path / "parts").parameters())


def test_naming_looks_is_fitted_and_nothing_else(store) -> None:
    model, before = seeing(), seeing()
    pool = np.repeat(np.repeat(store, 4, 2), 4, 3)
    found = perception.fit_looks(model, pool, windows=4, side=64, epochs=20)
    assert found > 0.6, "pictures that it was fitted to"
    changed = {name for name, value in model.state_dict().items() if not torch.equal(value, before.state_dict()[name])}
    assert changed == {"look.weight", "look.bias"}
    x = torch.from_numpy(pool[:1, :, :64, :64]).float() / 127.5 - 1
    assert model.named(model(x))[1].shape == (1, len(LOOKS)) and torch.isfinite(model.named(model(x))[1]).all()


@pytest.mark.long
def test_refinement_resumes_exactly_and_keeps_the_encoder(tmp_path: Path, store, named: Scenes, dreams: Dreams) -> None:
    def painter() -> Painter:
        torch.manual_seed(0)
        return Painter(Denoiser(), CosineAutoencoder())

    config = refine.RefineConfig(steps=3, batch=2, side=64, warmup=1, large=3, dreams=2)
    namer = Classifier(tuple(LOOKS))
    whole, parts = Run(tmp_path / "whole"), Run(tmp_path / "parts")
    refine.train(config, whole, store, named, dreams, painter(), seeing(), namer=namer)
    refine.train(config, parts, store, named, dreams, painter(), seeing(), namer=namer, stop_at=1)
    refine.train(config, parts, store, named, dreams, painter(), seeing(), namer=namer)
    assert all(map(torch.equal, _weights(whole), _weights(parts)))
    before, after = painter(), averaged(whole, painter())
    assert torch.equal(before.vae.analysis.weight, after.vae.analysis.weight)
    assert not torch.equal(before.vae.decoder.conv_out.weight, after.vae.decoder.conv_out.weight)
    assert not torch.equal(before.denoiser.unet.conv_in.weight, after.denoiser.unet.conv_in.weight)


def test_a_refinement_goes_on_from_a_finished_model(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(aids, "FOLDER", tmp_path)
    torch.manual_seed(1)
    earlier = Painter(Denoiser(), CosineAutoencoder())
    export(earlier.denoiser, earlier.vae, tmp_path / "weights")
    assert aids.keep(earlier.critic, "critic") > 0
    painter = refine.start_painter(tmp_path / "runs", tmp_path / "weights")
    assert painter.training and painter.denoiser.training
    for (name, mine), theirs in zip(painter.named_parameters(), earlier.parameters(), strict=True):
        if "token_embedding" not in name:  # which has spare rows
            torch.testing.assert_close(mine, theirs, atol=1e-3, rtol=1e-3)
    got, expected = (some.denoiser.pooled(["a stormy sea", "oil painting"]) for some in (painter, earlier))
    torch.testing.assert_close(got, expected, atol=1e-2, rtol=1e-2)
    encoder = autoencoder.read(tmp_path / "runs" / "autoencoder")
    torch.testing.assert_close(encoder.analysis.weight, earlier.vae.analysis.weight, atol=1e-3, rtol=1e-3)


def test_a_part_of_the_way_from_a_finished_model_is_between_the_two(tmp_path: Path) -> None:
    torch.manual_seed(1)
    export(Denoiser(), CosineAutoencoder(), tmp_path / "before")
    before, _ = load(tmp_path / "before")
    torch.manual_seed(2)
    model, vae = Denoiser(), CosineAutoencoder()
    own = {name: value.clone() for name, value in model.state_dict().items()}
    decoder = {name: value.clone() for name, value in vae.state_dict().items()}
    part_of_the_way(tmp_path / "before", model, vae, 0.25, 1.0)
    for name, value in vae.state_dict().items():
        assert torch.equal(value, decoder[name]), "the whole way"
    name = "unet.conv_in.weight"
    wanted = 0.75 * before.state_dict()[name] + 0.25 * own[name]
    torch.testing.assert_close(model.state_dict()[name], wanted, atol=1e-6, rtol=1e-5)
    with pytest.raises(ValueError, match="of another shape"):
        part_of_the_way(tmp_path / "before", Denoiser(16), CosineAutoencoder(), 0.25)


def test_dreams_of_loose_detail_have_weights_of_their_own() -> None:
    subjects = ["", "rain", "stripes", "galaxy"]
    nothing = torch.zeros(4, 3, 8, 8)
    lesson = lessons.Lessons(nothing, nothing, [""] * 4, torch.zeros(4), subjects, [""] * 4)
    assert refine.kinds(lesson, 1) == {"others": [0], "dreamt": [2], "loose": [1, 3]}
    assert refine.kinds(lesson, 4) == {"others": [0, 1, 2, 3]}, "a scene that is not dreamt is a lesson like others"
    assert set(refine.EXACT) < set(SUBJECTS)


def test_patterns_that_repeat_with_every_latent_differ_from_other_detail() -> None:
    rng = torch.Generator().manual_seed(0)
    picture = torch.rand(1, 3, 128, 128, generator=rng)
    cell = 0.1 * torch.randn(1, 3, 8, 8, generator=rng)
    cell = cell - cell.mean((2, 3), keepdim=True)
    grid = pattern_gap(picture + cell.repeat(1, 1, 16, 16), picture)
    torch.testing.assert_close(grid, cell.abs().mean()[None])
    elsewhere = pattern_gap(picture + cell.std() * torch.randn(picture.shape, generator=rng), picture)
    assert float(elsewhere) < 0.35 * float(grid), "a quarter, the mean of 16"
    assert float(pattern_gap(picture + 0.5, picture)) < 1e-6, "brighter is no pattern"


def test_perception_is_the_runs_own_or_the_one_that_is_kept(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(aids, "FOLDER", tmp_path)
    with pytest.raises(FileNotFoundError, match="perception"):
        perception.load(tmp_path)
    kept = perception.Perception()
    aids.keep(kept, "perception")
    found = perception.load(tmp_path)
    torch.testing.assert_close(found.look.weight, kept.look.weight, atol=1e-3, rtol=1e-3)
    assert not any(p.requires_grad for p in found.parameters())


class Faithful(Denoiser):
    """Finds the clean latents of any noise, since they are given to it."""

    def forward(self, x: torch.Tensor, t: torch.Tensor, prompts: list[str]) -> torch.Tensor:
        self.seen.append((x, t))
        return self.known


def test_the_namer_is_the_runs_own_or_the_one_that_is_kept(tmp_path: Path, store) -> None:
    kept = namer.load_kept(tmp_path)
    assert kept.names == tuple(LOOKS)
    made = namer.make(tmp_path, store, namer.NamerConfig(steps=1, batch=16, side=64, warmup=1), 1)
    ours = namer.load_kept(tmp_path)
    x = torch.rand(2, 3, 64, 64)
    torch.testing.assert_close(ours(x), made(x), atol=0.05, rtol=0.05)  # float16
    assert not torch.allclose(ours(x), kept(x), atol=0.05)


def test_only_pictures_whose_prompt_names_a_look_are_judged_by_it() -> None:
    torch.manual_seed(0)
    namer = Classifier(("oil", "ink")).requires_grad_(False)
    painted = (torch.rand(3, 3, 64, 64) * 2 - 1).requires_grad_()
    lesson = Lessons(painted, painted, [""] * 3, torch.zeros(3), [""] * 3, ["ink", "", "oil"])
    found = namer_loss(namer, painted, lesson)
    logits = namer(painted.detach() * 0.5 + 0.5).log_softmax(1)
    expected = torch.stack([-0.975 * row[k] - 0.025 * row[1 - k] for row, k in ((logits[0], 1), (logits[2], 0))])
    torch.testing.assert_close(found[[0, 2]].detach(), expected)
    (slope,) = torch.autograd.grad(found.sum(), painted)
    assert found[1] == 0 and slope[1].abs().sum() == 0 and slope[0].abs().sum() > 0 and slope[2].abs().sum() > 0
    assert namer_loss(namer, painted, replace(lesson, looks=[""] * 3)).tolist() == [0, 0, 0]


def test_a_namer_that_is_shown_windows_sees_the_whole_picture_in_time() -> None:
    torch.manual_seed(0)
    namer = Classifier(("oil", "ink")).requires_grad_(False)
    painted = (torch.rand(1, 3, 128, 128) * 2 - 1).requires_grad_()
    lesson = Lessons(painted, painted, [""], torch.zeros(1), [""], ["ink"])
    shown = []
    for seed in range(24):
        (slope,) = torch.autograd.grad(namer_loss(namer, painted, lesson, Generator().manual_seed(seed)).sum(), painted)
        shown.append(slope.abs().sum((0, 1)) > 0)
        rows, columns = shown[-1].any(1).nonzero().flatten(), shown[-1].any(0).nonzero().flatten()
        assert rows[0] % 8 == columns[0] % 8 == 0 and len(rows) == len(columns) == 96
    seen = torch.stack(shown).any(0)
    assert seen.any(0).all() and seen.any(1).all() and len({tuple(one.flatten().tolist()) for one in shown}) > 10


@pytest.mark.long
def test_later_steps_keep_to_the_first_with_the_teachers_amount_of_detail(
    tmp_path: Path, store, named: Scenes, dreams: Dreams
) -> None:
    weights = {}
    for carried, share in ((0.0, 0.8), (1.0, 0.8), (1.0, 0.0)):
        torch.manual_seed(0)
        config = refine.RefineConfig(steps=1, batch=2, side=64, warmup=1, large=9, carried=(carried,), amounts=share)
        run = Run(tmp_path / f"{carried}{share}")
        refine.train(config, run, store, named, dreams, Painter(Denoiser(), CosineAutoencoder()), seeing())
        weights[carried, share] = _weights(run)
    assert not all(map(torch.equal, weights[0.0, 0.8], weights[1.0, 0.8])), "one of the model's own steps before it"
    assert not all(map(torch.equal, weights[1.0, 0.8], weights[1.0, 0.0])), "and less detail than before"


def test_the_denoiser_can_be_trained_alone(tmp_path: Path, store, named: Scenes, dreams: Dreams) -> None:
    torch.manual_seed(0)
    painter = Painter(Denoiser(), CosineAutoencoder())
    before = {name: value.clone() for name, value in painter.state_dict().items()}
    config = refine.RefineConfig(steps=1, batch=2, side=64, warmup=1, large=9, decoder=False)
    refine.train(config, Run(tmp_path), store, named, dreams, painter, seeing())
    changed = {name.split(".")[0] for name, value in painter.state_dict().items() if not torch.equal(value, before[name])}
    assert changed == {"denoiser", "critic"}


def test_export_and_load(tmp_path: Path) -> None:
    torch.manual_seed(1)
    model, vae = Denoiser().eval(), CosineAutoencoder().eval()
    size = export(model, vae, tmp_path / "pocket")
    assert size <= LIMIT
    listed = read_vocabulary(tmp_path / "pocket")
    assert {look.name for look in listed.looks} == set(LOOKS) and listed.modifiers and listed.scenes
    again, vae2 = load(tmp_path / "pocket")
    x = torch.rand(1, 3, 64, 64)
    a, b = paint(model, vae, x, ["neon outlines"], 0.5), paint(again, vae2, x, ["neon outlines"], 0.5)
    assert a.shape == x.shape and (a - b).abs().max() < 0.03  # float16 weights
    with pytest.raises(FileNotFoundError):
        averaged(Run(tmp_path / "empty"), torch.nn.Linear(1, 1))


def test_noise_levels() -> None:
    model = Denoiser()
    assert timestep(0.0) == 0 and timestep(1.0) == 999
    a, s = model.signal, model.sigma
    torch.testing.assert_close(a**2 + s**2, torch.ones(1000))
    assert float(a[500] / s[500]) ** 2 == pytest.approx(3.0, rel=0.05)  # equal in the middle of the squared cosine, then times 3
    assert bool((model.signal[1:] < model.signal[:-1]).all()) and float(a[999]) < 1e-3
    z, noise = torch.ones(1, 16, 2, 2), torch.full((1, 16, 2, 2), 2.0)
    assert torch.allclose(model.noisy(z, torch.tensor([300]), noise), a[300] + 2 * s[300])


def test_learning_rate_and_average() -> None:
    rates = [learning_rate(step, 100, 1.0, 10) for step in range(100)]
    assert rates[0] == 0.1 and max(rates) == 1.0 and rates[-1] < 0.03
    module = torch.nn.Linear(1, 1, bias=False)
    average = Average(module, 0.5)
    start = module.weight.item()
    with torch.no_grad():
        module.weight.add_(1)
    average.update()  # decay (1 + 1) / (10 + 1)
    assert average.shadow[0].item() == pytest.approx(start + 9 / 11)
    assert step_rng(1, 2, 0).initial_seed() != step_rng(1, 2, 1).initial_seed()


def test_the_losses_of_painter_and_critic_reach_only_their_own_weights() -> None:
    torch.manual_seed(0)
    critic, real, prompts = Critic(), torch.rand(2, 3, 32, 32), torch.randn(2, 128)
    painted = torch.rand(2, 3, 32, 32, requires_grad=True)
    dislike, matching, own = (value.sum() for value in critic_losses(critic, painted, real, prompts))
    weights = list(critic.parameters())
    for value in (dislike, matching):
        to_painting, *to_critic = torch.autograd.grad(value, [painted, *weights], retain_graph=True, allow_unused=True)
        assert bool(to_painting.abs().sum() > 0) and all(gradient is None for gradient in to_critic)
    to_painting, *to_critic = torch.autograd.grad(own, [painted, *weights], allow_unused=True)
    assert to_painting is None and all(gradient is not None for gradient in to_critic)
    assert float(critic_losses(critic, real, real, prompts)[1].sum()) == 0.0
    with torch.no_grad():
        critic.told.weight.normal_()
    one, other = (critic(real, words)[-1] for words in (prompts, -prompts))
    assert not torch.equal(one, other), "the prompt counts"


def test_statistics_distinguish_texture_from_flatness_wherever_it_is() -> None:
    rng = Generator().manual_seed(0)
    noise, moved, flat = (
        torch.randn((1, 8, 32, 32), generator=rng),
        torch.randn((1, 8, 32, 32), generator=rng),
        torch.zeros(1, 8, 32, 32),
    )
    assert perception.likeness([noise] * 3, [moved] * 3).item() < 0.25 * perception.likeness([noise] * 3, [flat] * 3).item()
    mean, deviation = perception.moments(noise, 1)
    torch.testing.assert_close(deviation.flatten(), noise.flatten(2).std(2, correction=0).flatten(), atol=1e-3, rtol=1e-3)
    torch.testing.assert_close(mean.flatten(), noise.mean((2, 3)).flatten())
    torch.testing.assert_close(perception.gram(noise)[0, 1, 2], (noise[0, 1] * noise[0, 2]).mean())


def test_a_later_step_starts_from_what_the_model_made_in_the_first() -> None:
    model = Faithful()
    model.known, model.seen = torch.randn(2, 36, 8, 8), []
    x, t = torch.randn(2, 36, 8, 8), torch.tensor([800, 400])
    assert refine.carried_on(model, x, t, ["", ""], (0.0, 1.0), Generator())[0] is x and not model.seen
    later, level, found = refine.carried_on(model, x, t, ["", ""], (1.0,), Generator().manual_seed(4))
    assert list(found) == [0, 1] and torch.equal(torch.stack(list(found.values())), model.known)
    shares = [(k / n) ** TIMESTEP_POWER for k, n in ((1, 4), (1, 3), (1, 2), (2, 3), (3, 4))]
    assert all(int(b) in {round(int(a) * share) for share in shares} for a, b in zip(t, level, strict=True))
    left = later - model.signal[level].view(-1, 1, 1, 1) * model.known
    spread = left.std((1, 2, 3)) / model.sigma[level]
    assert spread.tolist() == pytest.approx([1, 1], abs=0.1), "fresh noise of the later level's strength"


def test_some_rows_have_several_steps_behind_them_and_keep_to_the_last() -> None:
    class Counting(Faithful):
        def forward(self, x: torch.Tensor, t: torch.Tensor, prompts: list[str]) -> torch.Tensor:
            self.seen.append((t.tolist(), prompts))
            return torch.full_like(x, len(self.seen))

    model = Counting()
    model.seen = []
    names = [str(row) for row in range(64)]
    x, t = torch.randn(64, 36, 8, 8), torch.full((64,), 900)
    _, level, found = refine.carried_on(model, x, t, names, (0.5, 0.5, 1.0), Generator().manual_seed(1))
    (first, ones), (second, twos), (_, threes) = model.seen
    assert set(first) == {900} and max(second) < 900 and twos == threes and set(twos) < set(ones) < set(names)
    assert 20 < len(ones) < 44 and 0.2 < len(twos) / len(ones) < 0.8
    for row in range(64):
        steps = (str(row) in ones) + (str(row) in twos) + (str(row) in threes)
        assert (row in found) == bool(steps)
        assert not steps or float(found[row].unique()) == (3 if steps == 3 else 1), "what the newest of its steps found"
        assert (int(level[row]) < 900) == bool(steps)
