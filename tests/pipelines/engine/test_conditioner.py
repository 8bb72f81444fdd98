"""What the UNet gets beside latents: prompts, picture prompts, styles, and what their keys depend on."""

from dataclasses import replace
from types import SimpleNamespace

import numpy as np
import pytest
import torch
from torch import Tensor

from pipelines.engine.conditioner import Conditioner
from pipelines.engine.state import StreamState
from pipelines.techniques.noise import SessionNoise
from pipelines.techniques.stream_batch import InFlight
from pipelines.techniques.styles import Style
from pipelines.values.settings import Settings
from pipelines.values.types import Frame

PICTURE = np.zeros((4, 4, 3), np.uint8)


class Parts(SimpleNamespace):
    """A text encoder that counts letters, and a picture encoder that counts its calls."""

    def __init__(self, picture_tokens: int = 0) -> None:
        super().__init__(
            w_size=None,
            empty_is_zero=False,
            embedding_shape=(2, 3),
            picture_tokens=picture_tokens,
            encoded=[],
            pictures=0,
            has_painter=False,
            reads_styles=False,
        )

    def read_prompt(self, prompt: str) -> tuple[str, Style | None]:
        return prompt, Style(torch.ones(3), 0.5) if "mosaic" in prompt else None

    def time_ids(self, width: int, height: int) -> Tensor | None:
        return None

    def encode_prompt(self, words: str) -> tuple[Tensor, ...]:
        self.encoded.append(words)
        return (torch.full((2, 3), float(len(words))),)

    def encode_picture(self, picture: np.ndarray) -> tuple[Tensor, Tensor]:
        self.pictures += 1
        return torch.ones(4, 3), torch.zeros(4, 3)


@pytest.fixture
def parts() -> Parts:
    return Parts()


@pytest.fixture
def conditioner(parts: Parts) -> Conditioner:
    return Conditioner(parts, (64, 64), lambda value: value, parts.encode_prompt)  # type: ignore[arg-type]


def session() -> StreamState:
    return StreamState(SessionNoise(0, (4, 8, 8)))


def test_rows_have_the_prompt_and_negative_rows_the_negative_prompt(conditioner: Conditioner, parts: Parts) -> None:
    settings = Settings().patched({"prompt": "fox", "negative": "dull"})
    for state in (session(), session()):
        made = conditioner(state, Frame(0, 0.0, None), settings)
        assert (float(made.prompt.embedding[0, 0]), float(made.negative.embedding[0, 0])) == (3.0, 4.0)
    assert sorted(parts.encoded) == ["dull", "fox"], "encoded once for all sessions"


def test_a_session_that_only_moves_on_stays_where_it_is_between_two_prompts(conditioner: Conditioner) -> None:
    state, patch = session(), {"travel": 2.0, "blend_mode": "linear"}
    conditioner(state, Frame(0, 0.0, None), Settings().patched({**patch, "prompt": "a"}))
    later = Settings().patched({**patch, "prompt": "abcde"})
    conditioner(state, Frame(1, 1.0, None), later)
    half = conditioner(state, Frame(2, 2.0, None), later)
    assert float(half.prompt.embedding[0, 0]) == pytest.approx(3.0)
    assert conditioner(state, None, later).prompt is half.prompt


def test_keys_change_on_the_way_between_prompts(conditioner: Conditioner) -> None:
    state, frame = session(), InFlight(0, torch.zeros(1), None, (500,))
    settings = Settings().patched({"travel": 2.0, "prompt": "a"})
    conditioner(state, Frame(0, 0.0, None), settings)
    keys = []
    for number, prompt in ((1, "b"), (2, "b"), (9, "b")):
        made = conditioner(state, Frame(number, float(number), None), settings.patched({"prompt": prompt}))
        keys.append(made.keys.features(frame))
    assert len(set(map(repr, keys))) == 3


def test_the_amount_of_paint_is_the_looks_times_the_settings(conditioner: Conditioner) -> None:
    settings = Settings().patched({"prompt": "mosaic", "style.amount": 0.4})
    style = conditioner(session(), None, settings).style
    assert style is not None and style.amount == pytest.approx(0.2)
    assert conditioner(session(), None, Settings()).style is None


def test_a_picture_prompt_is_encoded_once_and_only_where_there_is_an_adapter() -> None:
    for tokens, calls in ((0, 0), (4, 1)):
        parts, state = Parts(tokens), session()
        made = Conditioner(parts, (64, 64), lambda value: value, parts.encode_prompt)  # type: ignore[arg-type]
        state.set_picture(PICTURE)
        for _ in range(3):
            made.pictures.read(state.seen)
        assert parts.pictures == calls and (state.seen.tokens is not None) == bool(calls)
        state.set_picture(None)
        made.pictures.read(state.seen)
        assert state.seen.tokens is None and parts.pictures == calls


def test_prepare_encodes_the_prompts_of_the_settings(conditioner: Conditioner, parts: Parts) -> None:
    settings = Settings().patched({"prompt": "fox", "prompt_b": "owl", "blend": 0.5})
    conditioner.prepare(settings, False)
    assert sorted(parts.encoded) == ["fox", "owl"]
    conditioner(session(), Frame(0, 0.0, None), replace(settings, negative="owl"))
    assert sorted(parts.encoded) == ["fox", "owl"]
