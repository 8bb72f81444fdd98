"""Adapts a finished model to another autoencoder and more words, as the start of the next training.

    python -m training.grow --runs runs --weights assets/pocket

Everything between the first and the last convolution stays. Words of both vocabularies keep their embedding. The first
convolution is fitted by least squares to the old one's output for the same pictures; the last one to the true latents of the
lessons, from its inputs. (Weights of the first pocket model, whose autoencoder was another class, need commit 53da089; those of
the second to the sixth get today's louder coarse latents exactly by `--louder` of commit 29a2406.)
"""

from __future__ import annotations

import argparse
from collections.abc import Iterable
from pathlib import Path

import numpy as np
import torch
import torch.nn.functional as F
from torch import Generator, Tensor, nn

from pipelines.networks import latent_gate
from pipelines.networks.cosine_autoencoder import CosineAutoencoder
from training import autoencoder, data, export, lessons
from training.autoencoder import with_looks
from training.denoiser import Denoiser, DenoiserConfig, encoded
from training.lessons import Scenes

SIDE = 128


def fit(convolution: nn.Conv2d, pairs: Iterable[tuple[Tensor, Tensor]], ridge: float = 1e-4) -> float:
    """Sets weight and bias so that `convolution` maps (N, C, h, w) to (N, D, h, w) of the pairs with the least squared error.

    ridge: penalty on the weights, relative to the mean square of the inputs. Returns the share of the outputs' variance that is
    explained, 0..1.
    """
    size = convolution.kernel_size[0]
    inputs, outputs = convolution.in_channels * size * size + 1, convolution.out_channels
    gram, cross = torch.zeros(inputs, inputs, dtype=torch.float64), torch.zeros(inputs, outputs, dtype=torch.float64)
    count, total, squares = 0, torch.zeros(outputs, dtype=torch.float64), torch.zeros(outputs, dtype=torch.float64)
    for x, y in pairs:
        columns = F.unfold(x.float(), size, padding=size // 2)  # [N, C k k, h w]
        columns = torch.cat([columns, torch.ones_like(columns[:, :1])], dim=1).transpose(1, 2).flatten(0, 1).double()
        wanted = y.flatten(2).transpose(1, 2).flatten(0, 1).double()
        gram, cross = gram + columns.t() @ columns, cross + columns.t() @ wanted
        count, total, squares = count + len(wanted), total + wanted.sum(0), squares + wanted.square().sum(0)
    penalty = torch.full((inputs,), ridge * float(gram.diagonal()[:-1].mean()), dtype=torch.float64)
    penalty[-1] = 0.0
    found = torch.linalg.solve(gram + torch.diag(penalty), cross)
    with torch.no_grad():
        convolution.weight.copy_(found[:-1].t().reshape(convolution.weight.shape))
        convolution.bias.copy_(found[-1])  # type: ignore[union-attr]
    left = squares - 2 * (found * cross).sum(0) + (found * (gram @ found)).sum(0)
    return float(1 - left.sum() / (squares - total.square() / count).sum())


ENDS = ("unet.conv_in.", "unet.conv_out.", f"unet.{latent_gate.NAME}.")
"""Parts whose shapes follow the latent's channels."""


@torch.no_grad()
def take_over(model: Denoiser, older: Denoiser, ends: bool = False) -> None:
    """Copies everything but the first and the last convolution and the latent's gate, or those too (`ends`); embeddings word by
    word.

    A place (pipelines.networks.position_bias) that the older model lacks stays as it is.
    """
    kept = older.state_dict()
    for name, value in model.state_dict().items():
        if name.endswith("token_embedding.weight"):
            ids = older.tokenizer.get_vocab()
            known = [(row, ids[token]) for token, row in model.tokenizer.get_vocab().items() if token in ids]
            value[[row for row, _ in known]] = kept[name][[row for _, row in known]]
        elif name in kept and (ends or not name.startswith(ENDS)):
            value.copy_(kept[name])


def same_latents(old: CosineAutoencoder, new: CosineAutoencoder) -> bool:
    """Whether two autoencoders have the same encoder. Their decoders may differ."""
    ours, theirs = (
        {name: value for name, value in vae.state_dict().items() if name.startswith(("analysis.", "latent_"))}
        for vae in (new, old)
    )
    return ours.keys() == theirs.keys() and all(
        value.shape == theirs[name].shape and torch.allclose(value.float(), theirs[name].float(), atol=1e-3)
        for name, value in ours.items()
    )


@torch.no_grad()
def grown(
    older: Denoiser, old: CosineAutoencoder, new: CosineAutoencoder, store: np.ndarray, named: Scenes, seed: int,
    batches: int = 40, side: int = SIDE,
) -> tuple[Denoiser, dict[str, float]]:  # fmt: skip
    """A denoiser for latents of `new` from one for latents of `old`, and how well its two fitted convolutions fit (0..1).

    Where the two make the same latents, nothing has to be fitted.
    """
    torch.manual_seed(seed)
    model = Denoiser(new.config["latent_channels"]).eval()
    same = same_latents(old, new)
    take_over(model, older, ends=same)
    if same:
        return model, {}

    def seen() -> Iterable[tuple[Tensor, Tensor]]:
        for k in range(batches):
            rng = Generator().manual_seed(seed + 88_000 + k)
            x = with_looks(data.batch(store, 8, side, rng), rng)
            yield encoded(new, x), older.unet.conv_in(encoded(old, x))

    def painted() -> Iterable[tuple[Tensor, Tensor]]:
        arriving: list[Tensor] = []
        watch = model.unet.conv_out.register_forward_pre_hook(lambda _, inputs: arriving.append(inputs[0]))
        config = DenoiserConfig()
        for k in range(batches):
            rng = Generator().manual_seed(seed + 99_000 + k)
            lesson = lessons.batch(store, named, 12, side, 4, config.mixture, rng)
            start = encoded(new, lesson.start)
            x = model.noisy(start, lesson.timesteps, torch.randn(start.shape, generator=rng))
            model(x, lesson.timesteps, lesson.prompts)
            yield arriving.pop(), encoded(new, lesson.target)
        watch.remove()

    return model, {"conv_in": fit(model.unet.conv_in, seen()), "conv_out": fit(model.unet.conv_out, painted())}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--runs", type=Path, default=Path("runs"), help="folder for everything that training writes")
    parser.add_argument("--weights", type=Path, default=Path("assets/pocket"), help="the finished model")
    parser.add_argument("--pictures", type=int, default=3000, help="size of the pool of source pictures")
    parser.add_argument("--scenes", type=int, default=DenoiserConfig.scenes, help="size of the pool of scenes")
    parser.add_argument("--seed", type=int, default=0)
    args = parser.parse_args()
    torch.set_flush_denormal(True)
    older, old = export.load(args.weights)
    store = data.pool(args.runs / "sources.npy", args.pictures, args.seed)
    new = autoencoder.read(args.runs / "autoencoder").eval()
    named = lessons.scene_pool(args.runs / "scenes.npy", args.scenes, args.seed)
    model, explained = grown(older, old, new, store, named, args.seed)
    torch.save(model.state_dict(), args.runs / "grown.pt")
    print({name: round(value, 3) for name, value in explained.items()})


if __name__ == "__main__":
    main()
