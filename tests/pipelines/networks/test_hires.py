"""UNets at other sizes than the native one, against diffusers' forward with hooks, and in OpenVINO."""

import copy
from collections.abc import Callable
from typing import Any

import pytest
import torch
import torch.nn.functional as F
from diffusers.models.attention_processor import AttnProcessor
from torch import Tensor, nn

from pipelines.graphs.backends.openvino import OpenVinoBackend
from pipelines.networks import lora_branches
from pipelines.networks.hires import HalvedPass, Hires, Shifted, Windows, install, temperature, window_orders
from pipelines.networks.unet import FullPass, ShallowPass
from tests.pipelines.networks.unets import diffusers_forward, inputs, unet, with_modulation

SIZE = (48, 32)
"""Of the latent, height and width: half of it is the native size, and halved once more all blocks have whole sizes."""
NATIVE = 24 * 16
STARTS = {"sd15": 0, "sd21": 0, "sdxl": 1, "sdxs": 1}
SHIFTS = (0, 1, 3)

every_shape = pytest.mark.parametrize("name", STARTS)


def plan(name: str, halves: bool = True) -> Hires:
    return Hires(STARTS[name], SIZE, NATIVE, True, halves)


def changed(name: str, halves: bool) -> tuple[Any, Windows]:
    """A copy of the miniature with changed attention."""
    model = copy.deepcopy(unet(name))
    return model, install(model, plan(name))


def given(name: str) -> tuple[Tensor, ...]:
    """x, modulation with the shifts of the rows, emb."""
    x, modulation, emb = with_modulation(name, *inputs(name, size=SIZE))
    return x, torch.cat([modulation, torch.tensor(SHIFTS).float()[:, None]], dim=1), emb


class Reference:
    """diffusers' UNet with hooks that do as the papers have it: rolls and cuts of pictures, and layers with other fields."""

    def __init__(self, name: str, halves: bool) -> None:
        self.model: Any = copy.deepcopy(unet(name))
        self.start = STARTS[name]
        self.windowed = 0
        last = len(self.model.down_blocks) - 1
        levels = [*enumerate(self.model.down_blocks), (last, self.model.mid_block)]
        for level, block in [*levels, *((last - index, block) for index, block in enumerate(self.model.up_blocks))]:
            for layer in [] if block is None else [part for key, part in block.named_modules() if key.endswith("attn1")]:
                layer.set_processor(AttnProcessor())
                windowed = level == self.start and block is not self.model.mid_block
                layer.register_forward_pre_hook(self.before(level, windowed), with_kwargs=True)
                if windowed:
                    layer.register_forward_hook(self.after(self.windowed))
                    self.windowed += 1
        if halves:
            self.halve()

    def before(self, level: int, windowed: bool) -> Callable[..., Any]:
        place = self.windowed

        def hook(layer: Any, args: tuple[Tensor, ...], kwargs: dict[str, Any]) -> Any:
            (x,) = args
            layer.scale = layer.inner_dim // layer.heads
            layer.scale = layer.scale**-0.5
            if windowed:
                x = self.cut(x, place)
            layer.scale *= temperature(x.shape[1], NATIVE // 4**level)
            return (x,), kwargs

        return hook

    def after(self, place: int) -> Callable[..., Tensor]:
        def hook(layer: Any, args: Any, output: Tensor) -> Tensor:
            return self.joined(output, place)

        return hook

    def steps(self, place: int, h: int, w: int) -> list[tuple[int, int]]:
        return [((shift + place) % 4 * (h // 4), (shift + place) % 4 * (w // 4)) for shift in SHIFTS]

    def cut(self, x: Tensor, place: int) -> Tensor:
        """[B, N, C] to [4B, N/4, C], the four windows of one row after another."""
        scale = round((SIZE[0] * SIZE[1] / x.shape[1]) ** 0.5)
        h, w = SIZE[0] // scale // 2, SIZE[1] // scale // 2
        self.shape = (h, w)
        windows = []
        for row, (down, across) in zip(x, self.steps(place, h, w), strict=True):
            picture = torch.roll(row.reshape(2 * h, 2 * w, -1), (-down, -across), (0, 1))
            windows += [picture[i * h : (i + 1) * h, j * w : (j + 1) * w].reshape(h * w, -1) for i in (0, 1) for j in (0, 1)]
        return torch.stack(windows)

    def joined(self, x: Tensor, place: int) -> Tensor:
        h, w = self.shape
        rows = []
        for four, (down, across) in zip(x.reshape(len(SHIFTS), 4, h, w, -1), self.steps(place, h, w), strict=True):
            picture = torch.cat([torch.cat([four[0], four[1]], 1), torch.cat([four[2], four[3]], 1)])
            rows.append(torch.roll(picture, (down, across), (0, 1)).reshape(4 * h * w, -1))
        return torch.stack(rows)

    def halve(self) -> None:
        down, up = self.model.down_blocks, self.model.up_blocks
        if self.start == 0:
            conv = down[0].downsamplers[0].conv
            conv.stride, conv.padding, conv.dilation = (4, 4), (2, 2), (2, 2)
            enlarge = up[-2].upsamplers[0]
            enlarge.register_forward_pre_hook(lambda _, args: (args[0], (args[0].shape[2] * 4, args[0].shape[3] * 4)))
            return
        down[1].attentions[0].register_forward_hook(lambda _, args, out: (F.avg_pool2d(out[0], 2, ceil_mode=True),))
        up[-2].attentions[-2].register_forward_hook(
            lambda _, args, out: (F.interpolate(out[0], size=[2 * side for side in out[0].shape[2:]], mode="bicubic"),)
        )

    def __call__(self, name: str) -> Tensor:
        with pytest.MonkeyPatch.context() as patch:
            patch.setattr("tests.pipelines.networks.unets.unet", lambda _: self.model)
            return diffusers_forward(name, *inputs(name, size=SIZE))


@pytest.mark.parametrize("halves", [False, True])
@every_shape
def test_the_passes_are_diffusers_forward_with_hooks(name: str, halves: bool) -> None:
    model, windows = changed(name, halves)
    inner = HalvedPass(model, STARTS[name]) if halves else FullPass(model)
    (out,) = Shifted(inner, windows, 1)(*given(name))
    expected = Reference(name, halves)(name)
    torch.testing.assert_close(out, expected, rtol=1e-4, atol=2e-5)
    plain = diffusers_forward(name, *inputs(name, size=SIZE))
    assert (out - plain).abs().max() > 20 * (out - expected).abs().max(), "it differs from the plain UNet by what it does"


@every_shape
def test_every_row_has_the_shift_of_its_modulation(name: str) -> None:
    model, windows = changed(name, False)
    x, modulation, emb = given(name)
    module = Shifted(FullPass(model), windows, 1)
    together = module(x, modulation, emb)[0]
    for row in range(3):
        alone = module(*(value[row : row + 1] for value in (x, modulation, emb)))[0]
        torch.testing.assert_close(together[row : row + 1], alone, rtol=1e-4, atol=1e-5)
    other = modulation.clone()
    other[:, -1] = 2
    assert not torch.allclose(module(x, other, emb)[0], together, atol=1e-5)


@pytest.mark.parametrize("name", ["sd15", "sdxl"])
def test_a_short_pass_repeats_the_full_one(name: str) -> None:
    model, windows = changed(name, False)
    out, deep = Shifted(FullPass(model, 1), windows, 1)(*given(name))
    (again,) = Shifted(ShallowPass(model, 1), windows, 1)(*given(name), deep)
    torch.testing.assert_close(again, out, rtol=1e-5, atol=1e-5)


def test_openvino_computes_the_same() -> None:
    """The shape of SDXL with few layers; that of SD 1.5 is in tests/pipelines/engine/test_engine_hires.py."""
    name = "lcm-xl"
    model = copy.deepcopy(unet(name))
    windows = install(model, Hires(1, SIZE, NATIVE, windows=True, halves=True))
    example = tuple(value[:2] for value in given(name))
    module: nn.Module = Shifted(HalvedPass(model, 1), windows, 1)
    expected = module(*example)[0].clone()
    backend = OpenVinoBackend("float32", None)
    found = backend.build("halved", lambda: module, example)(*example)[0]
    torch.testing.assert_close(found, expected, rtol=2e-2, atol=5e-3)  # weights are in half precision


def test_branches_of_loras_keep_their_gains_in_windows() -> None:
    model, windows = changed("sd15", False)
    layer = model.down_blocks[0].attentions[0].transformer_blocks[0].attn1.to_q
    gains, generator = lora_branches.Gains(), torch.Generator().manual_seed(0)
    down, up = torch.randn(2, 8, generator=generator), torch.randn(8, 2, generator=generator)
    plain = Shifted(FullPass(model), windows, 1)(*given("sd15"))[0]
    lora_branches.add(layer, [(down, up)], [0], gains)
    module = lora_branches.WithGains(Shifted(FullPass(model), windows, 1), gains)
    out = module(*given("sd15"), torch.tensor([[0.0], [1.0], [0.0]]))[0]
    torch.testing.assert_close(out[::2], plain[::2], rtol=1e-5, atol=1e-5)
    assert not torch.allclose(out[1], plain[1], atol=1e-4)


def test_orders_of_windows_hold_every_token_once() -> None:
    orders = window_orders(16, 8)
    assert orders.shape == (4, 128) and torch.equal(orders.sort(dim=1).values, torch.arange(128).expand(4, -1))
    assert orders[0, :5].tolist() == [0, 1, 2, 3, 8], "the first window is the upper left quarter"
    assert orders[1, 0].item() == 2 * 8 + 1, "a quarter of a window of 8 x 4 is 2 rows and 1 column"
