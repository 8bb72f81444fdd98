"""A UNet's pass in two halves, in two threads of one process."""

import queue
import threading
from collections.abc import Callable, Hashable, Sequence
from dataclasses import dataclass, field

import pytest
import torch
from diffusers import UNet2DConditionModel
from torch import Tensor, nn

from pipelines.networks import latent_gate, position_bias
from pipelines.networks.modulation import ModulationPass
from pipelines.networks.patches import BORDER, Exchange, Halves, halved
from pipelines.networks.unet import FullPass, ShallowPass
from tests.miniature import EMBEDDING, UNETS

SECONDS = 60.0


@dataclass
class Threads:
    """A `Transport` between two threads. sent: the numbers of each tensor."""

    out: "queue.Queue[Tensor]" = field(default_factory=queue.Queue)
    into: "queue.Queue[Tensor]" = field(default_factory=queue.Queue)
    sent: int = 0

    def swap(self, own: Tensor) -> Callable[[], Tensor]:
        self.sent += own.numel()
        self.out.put(own.clone())
        return lambda: self.into.get(timeout=SECONDS)


class Pair:
    """Both halves of a pass."""

    def __init__(self, module: nn.Module, exchange: Exchange) -> None:
        first, second = Threads(), Threads()
        first.out, second.out = second.into, first.into
        self.transports = first, second
        self.halves = tuple(Halves(place, transport, exchange) for place, transport in enumerate(self.transports))
        self.modules = tuple(halved(module, halves) for halves in self.halves)

    def __call__(self, inputs: Sequence[Tensor], slots: Sequence[Hashable] = (), stale: bool = False) -> tuple[Tensor, ...]:
        found: dict[int, tuple[Tensor, ...]] = {}

        def run(place: int) -> None:
            taken = [value.chunk(2, dim=-2)[place] if value.ndim == 4 else value for value in inputs]
            height, width = taken[0].shape[-2:]
            self.halves[place].begin(slots, stale, (height, width))
            with torch.inference_mode():
                found[place] = self.modules[place](*taken)
            self.halves[place].end()

        other = threading.Thread(target=run, args=(1,))
        other.start()
        run(0)
        other.join(SECONDS)
        return tuple(torch.cat(pair, dim=-2) for pair in zip(found[0], found[1], strict=True))


def inputs_of(unet: UNet2DConditionModel, seed: int = 0, rows: int = 2) -> tuple[Tensor, Tensor, Tensor]:
    generator = torch.Generator().manual_seed(seed)
    x = torch.randn(rows, 4, 16, 24, generator=generator)
    embedding = torch.randn(rows, 8, EMBEDDING, generator=torch.Generator().manual_seed(9))
    with torch.inference_mode():
        return x, ModulationPass(unet)(torch.tensor([500]), embedding)[0], embedding


def unet_of(**changes: object) -> UNet2DConditionModel:
    torch.manual_seed(0)
    return UNet2DConditionModel(**{**UNETS["sd15"], "layers_per_block": 1, **changes}).eval()


@pytest.mark.parametrize("changes", [{}, {"use_linear_projection": True, "resnet_time_scale_shift": "scale_shift"}])
def test_two_halves_in_step_are_one_device(changes: dict[str, object]) -> None:
    unet = unet_of(**changes)
    position_bias.add(unet, {"conv_in": 5})
    with torch.no_grad():
        unet.conv_in.place.normal_()
        if changes:
            latent_gate.add(unet)
            for parameter in unet.latent_gate.parameters():
                parameter.normal_(std=0.2)
    whole = FullPass(unet, 1)
    inputs = inputs_of(unet)
    with torch.inference_mode():
        expected = whole(*inputs)
        _, deep = expected
        expected_short = ShallowPass(unet, 1)(*inputs, deep)
    got = Pair(whole, "synchronous")(inputs)
    for value, one in zip(got, expected, strict=True):
        torch.testing.assert_close(value, one, atol=2e-5, rtol=1e-4)
    torch.testing.assert_close(
        Pair(ShallowPass(unet, 1), "synchronous")((*inputs, deep))[0], expected_short[0], atol=2e-5, rtol=1e-4
    )


def test_the_network_itself_stays_whole_and_shares_its_weights() -> None:
    whole = FullPass(unet_of())
    inputs = inputs_of(unet_of())
    with torch.inference_mode():
        before = whole(*inputs)[0]
        pair = Pair(whole, "stale")
        assert torch.equal(whole(*inputs)[0], before)
    own = {parameter.data_ptr() for parameter in whole.parameters()}
    assert own == {parameter.data_ptr() for parameter in pair.modules[0].parameters()}


@pytest.mark.parametrize("exchange", ["stale", "border"])
def test_what_is_stale_is_of_the_call_before_of_the_same_stream(exchange: Exchange) -> None:
    unet = unet_of()
    whole, slots = FullPass(unet), [(0, 0, 0), (1, 0, 0)]
    first, second = inputs_of(unet, 1), inputs_of(unet, 2)
    pair = Pair(whole, exchange)
    assert not pair.halves[0].knows(slots)
    pair(first, slots)
    assert pair.halves[0].knows(slots) and not pair.halves[0].knows([(2, 0, 0)]) and not pair.halves[0].knows(())
    stale = pair(second, slots, stale=True)[0]
    with torch.inference_mode():
        exact = whole(*second)[0]
    assert (stale - exact).abs().max() > 1e-3  # it did not wait for the present ones
    settled = pair(second, slots, stale=True)[0]
    for _ in range(40):  # layer after layer the other half's activations become those of the input that rests
        settled = pair(second, slots, stale=True)[0]
    if exchange == "stale":
        torch.testing.assert_close(settled, exact, atol=2e-5, rtol=1e-4)
    swapped = pair([torch.cat([value[1:], value[:1]]) for value in second], slots[::-1], stale=True)[0]
    torch.testing.assert_close(swapped, settled.flip(0), atol=1e-4, rtol=1e-3)  # rows follow their stream, not their place
    pair.halves[0].forget(slots[:1])
    assert not pair.halves[0].knows(slots) and pair.halves[0].knows(slots[1:])


def test_border_sends_a_part_of_keys_and_values_alone() -> None:
    sent = {}
    for exchange in ("stale", "border"):
        unet = unet_of()
        pair = Pair(FullPass(unet), exchange)  # type: ignore[arg-type]
        pair(inputs_of(unet))
        sent[exchange] = pair.transports[0].sent
    at_once = 2 * 2 * 32  # two rows, keys and values, 32 channels
    attention = at_once * (3 * 8 * 24 + 4 * 12)  # three layers of the outer blocks, and the middle's
    kept = at_once * (3 * round(8 * BORDER) * 24 + round(4 * BORDER) * 12)
    assert sent["stale"] - sent["border"] == attention - kept


@pytest.mark.parametrize(
    ("layer", "message"),
    [
        (nn.Conv2d(4, 4, 3, padding=0), "padding"),
        (nn.Conv2d(4, 4, 3, padding=1, padding_mode="reflect"), "padding"),
        (nn.ConvTranspose2d(4, 4, 3), "ConvTranspose2d"),
        (nn.BatchNorm2d(4), "BatchNorm2d"),
    ],
)
def test_what_cannot_be_halved_is_refused(layer: nn.Module, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        halved(nn.Sequential(layer), Halves(0, Threads(), "synchronous"))
