import pytest
import torch

from kernels.prediction import Level, denoised, linear
from kernels.stream_step import stream_step
from pipelines.techniques.schedule import noised

TYPES = ["epsilon", "sample", "v_prediction", "edm", "flow", "flow_reversed"]


def drawn(count: int) -> list[torch.Tensor]:
    generator = torch.Generator().manual_seed(0)
    return [torch.randn(2, 4, 5, 3, generator=generator) for _ in range(count)]


@pytest.mark.parametrize("prediction", TYPES)
def test_rows_are_each_at_a_level_of_their_own(prediction: str) -> None:
    output, x, noise, negative = drawn(4)
    levels = [Level(0.8, 0.6, 3.0, 0.95, 0.3), Level(0.2, 0.98, 1.5, 0.6, 0.8)]
    x0, after = stream_step(prediction, output, x, levels, noise, negative)
    assert after is not None
    for row, at in enumerate(levels):
        a, s = torch.tensor(at.a), torch.tensor(at.s)
        own = denoised(prediction, output[row], x[row], a, s)
        other = denoised(prediction, negative[row], x[row], a, s)
        expected = other + at.scale * (own - other)
        torch.testing.assert_close(x0[row], expected, rtol=1e-5, atol=1e-5)
        ahead = noised(expected, noise[row], torch.tensor(at.next_a), torch.tensor(at.next_s))
        torch.testing.assert_close(after[row], ahead, rtol=1e-5, atol=1e-5)
        p, q = linear(prediction, at.a, at.s)
        torch.testing.assert_close(p * x[row] + q * output[row], own, rtol=1e-5, atol=1e-5)


def test_a_known_negative_is_taken_as_it_is() -> None:
    output, x, known = drawn(3)
    levels = [Level(0.8, 0.6, 2.0)] * 2
    x0, after = stream_step("sample", output, x, levels, known=known)
    assert after is None
    torch.testing.assert_close(x0, known + 2.0 * (output - known))


def test_what_does_not_fit_is_refused() -> None:
    output, x = drawn(2)
    with pytest.raises(ValueError, match="levels"):
        stream_step("epsilon", output, x, [Level(1.0, 0.0)])
    with pytest.raises(ValueError, match="either"):
        stream_step("epsilon", output, x, [Level(1.0, 0.0)] * 2, negative=x, known=x)
    with pytest.raises(ValueError, match="guess"):
        stream_step("guess", output, x, [Level(1.0, 0.0)] * 2)
