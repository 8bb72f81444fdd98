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
        ahead = noised(expected, noise[row], torch.tensor(at.next_x0), torch.tensor(at.next_noise))
        torch.testing.assert_close(after[row], ahead, rtol=1e-5, atol=1e-5)
        p, q = linear(prediction, at.a, at.s)
        torch.testing.assert_close(p * x[row] + q * output[row], own, rtol=1e-5, atol=1e-5)


def test_rows_of_every_solver_share_a_pass_and_get_the_same_bits_alone() -> None:
    output, x, noise, previous = drawn(4)
    output, x, noise, previous = (torch.cat([one, one.flip(0)]) for one in (output, x, noise, previous))
    shares = [(0.95, 0.3, 0.0, 0.0), (0.4, 0.0, 0.55, 0.0), (0.7, 0.0, 0.55, -0.3), (0.0, 0.0, 0.0, 0.0)]
    levels = [Level(0.8, 0.6, 1.0, *share) for share in shares]
    x0, after = stream_step("epsilon", output, x, levels, noise, previous=previous)
    assert after is not None
    for row, (of_x0, of_noise, of_x, of_previous) in enumerate(shares):
        expected = of_x0 * x0[row] + of_noise * noise[row] + of_x * x[row] + of_previous * previous[row]
        torch.testing.assert_close(after[row], expected, rtol=1e-5, atol=1e-5)
        terms = (noise[row : row + 1] if of_noise else None, previous[row : row + 1] if of_previous else None)
        _, alone = stream_step("epsilon", output[row : row + 1], x[row : row + 1], [levels[row]], terms[0], previous=terms[1])
        assert alone is None if row == 3 else alone is not None and torch.equal(alone[0], after[row])


@pytest.mark.parametrize("share", [{"next_noise": 0.5}, {"next_previous": 0.5}])
def test_a_term_that_a_row_has_a_share_of_must_be_given(share: dict[str, float]) -> None:
    output, x = drawn(2)
    with pytest.raises(ValueError, match="term"):
        stream_step("epsilon", output, x, [Level(0.8, 0.6), Level(0.8, 0.6, **share)])


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
