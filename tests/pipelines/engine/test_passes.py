"""Rows through the graphs: who shares a call, and what each graph is given."""

from dataclasses import replace
from types import SimpleNamespace

import pytest
import torch
from torch import Tensor

from pipelines.engine.conditioner import Conditioning
from pipelines.engine.passes import Passes, RowInput
from pipelines.engine.rows import AssumedKeys, Row
from pipelines.graphs.keys import GraphKey
from pipelines.techniques.conditioning import Condition
from pipelines.techniques.schedule import from_config
from pipelines.techniques.stream_batch import InFlight
from tests.miniature import BETAS

SHAPE = (4, 2, 2)
SCHEDULE = from_config(BETAS)
EMPTY = torch.zeros(2, 3)


class Graphs:
    """Records what is run. A pass gives the first number of each row's latent, and as features that number and ten times it."""

    def __init__(self) -> None:
        self.calls: list[tuple[str, int | None, tuple[Tensor, ...]]] = []
        self.parts = SimpleNamespace(pooled_size=None, inside=None, gated=False, takes_maps=False, embedding_shape=(5, 3))
        self.unready: set[GraphKey] = set()
        self.shifts = False
        self.patches = None

    def ready(self, key: GraphKey) -> bool:
        return key not in self.unready

    def run(self, part: str, inputs: tuple[Tensor, ...], branch: int | None = None, chunks: int = 1) -> tuple[Tensor, ...]:
        self.calls.append((part, branch, inputs))
        if part == "modulate":
            return (inputs[0].float()[:, None],)
        if part == "control":
            return inputs[3].mean((1, 2, 3))[:, None], inputs[4][:, None]
        first = inputs[0].flatten(1)[:, :1]
        return first[..., None, None].expand(-1, *SHAPE), first, 10 * first

    def parts_run(self) -> list[tuple[str, int | None, int]]:
        return [(part, branch, inputs[0].shape[0]) for part, branch, inputs in self.calls if part != "modulate"]


def condition(value: float) -> Condition:
    return Condition(torch.full((5, 3), value))


def given(value: float, conditioning: Conditioning, negative: bool = False, **row: object) -> RowInput:
    hint = row.pop("hint", None)
    picture = row.pop("picture", None)
    frame = InFlight(int(value), torch.full(SHAPE, value), None, (600, 300), hint=hint, picture=picture)  # type: ignore[arg-type]
    return RowInput(Row(frame, negative, **row), conditioning)  # type: ignore[arg-type]


def conditioning(control: float = 0.0, picture: float = 0.0) -> Conditioning:
    return Conditioning(condition(1.0), condition(-1.0), picture, control, None, AssumedKeys())


@pytest.fixture
def graphs() -> Graphs:
    return Graphs()


@pytest.fixture
def passes(graphs: Graphs) -> Passes:
    return Passes(graphs, SCHEDULE, None)  # type: ignore[arg-type]


def test_rows_of_one_kind_share_a_call_and_predictions_come_in_the_order_of_the_rows(graphs: Graphs, passes: Passes) -> None:
    one, other = conditioning(), conditioning()
    feature = (torch.ones(1),)
    rows = [given(1.0, one), given(2.0, one, kind=("shallow", 1), features=feature), given(3.0, other), given(4.0, other, True)]
    found = passes.predict(rows)
    assert [(made.row, float(made.output[0, 0, 0])) for made in found] == [(row.row, row.row.frame.x[0, 0, 0]) for row in rows]
    assert [tuple(map(float, made.features)) for made in found] == [(value, 10 * value) for value in (1.0, 2.0, 3.0, 4.0)]
    assert graphs.parts_run() == [("full", None, 3), ("shallow", 1, 1)]
    assert passes.predict([]) == []


def test_a_negative_row_has_the_negative_prompt_and_every_row_its_timestep(graphs: Graphs, passes: Passes) -> None:
    shared = conditioning()
    passes.predict([given(1.0, shared), given(2.0, shared, True)])
    (_, _, (x, modulation, embedding)) = graphs.calls[-1]
    assert x[:, 0, 0, 0].tolist() == [1.0, 2.0] and embedding[:, 0, 0].tolist() == [1.0, -1.0]
    assert modulation.flatten().tolist() == [600.0, 600.0]
    passes.predict([given(3.0, shared)])
    assert sum(part == "modulate" for part, _, _ in graphs.calls) == 2, "remembered for each of the two conditions"


def test_short_passes_get_their_features_and_the_decoder_a_latent_for_a_gate_only(graphs: Graphs, passes: Passes) -> None:
    features = (torch.full((7,), 5.0), torch.full((9,), 6.0))
    passes.predict([given(1.0, conditioning(), kind=("decoder", None), features=features)])
    part, _, inputs = graphs.calls[-1]
    assert part == "decoder" and [tuple(value.shape) for value in inputs] == [(1, 1), (1, 5, 3), (1, 7), (1, 9)]
    graphs.parts.gated = True
    passes.predict([given(1.0, conditioning(), kind=("decoder", None), features=features)])
    assert [tuple(value.shape) for value in graphs.calls[-1][2]] == [(1, *SHAPE), (1, 1), (1, 5, 3), (1, 7), (1, 9)]


def test_rows_that_a_controlnet_takes_part_in_have_calls_of_their_own(graphs: Graphs, passes: Passes) -> None:
    hint = torch.full((3, 8, 8), 0.25)
    rows = [given(1.0, conditioning(0.5), hint=hint), given(2.0, conditioning(0.5)), given(3.0, conditioning(0.0), hint=hint)]
    passes.predict(rows)
    assert graphs.parts_run() == [("control", None, 1), ("controlled-full", None, 1), ("full", None, 2)]
    (inputs,) = (inputs for part, _, inputs in graphs.calls if part == "controlled-full")
    assert [value.flatten().tolist() for value in inputs[-2:]] == [[0.25], [0.5]], "the hint's residual, at its scale"
    shallow = given(4.0, conditioning(1.0), hint=hint, kind=("shallow", 1), features=(torch.ones(1),))
    passes.predict([shallow])
    assert graphs.parts_run()[-2:] == [("control", 1, 1), ("controlled-shallow", 1, 1)]
    passes.predict([given(5.0, conditioning(1.0), hint=hint, kind=("decoder", None), features=(torch.ones(1),))])
    assert graphs.parts_run()[-1] == ("decoder", None, 1), "its features hold the residuals already"


def test_tokens_of_a_picture_prompt_follow_the_text(graphs: Graphs) -> None:
    nothing = torch.zeros(3, 3)
    passes = Passes(graphs, SCHEDULE, nothing)  # type: ignore[arg-type]
    tokens = torch.full((2, 3), 7.0), EMPTY
    rows = [given(1.0, conditioning(picture=0.5), picture=tokens), given(2.0, conditioning(picture=0.0), picture=tokens)]
    passes.predict(rows)
    embedding = graphs.calls[-1][2][2]
    assert embedding.shape == (2, 8, 3)
    assert (embedding[0, 5:] != 0).any() and torch.equal(embedding[1, 5:], nothing)


def long(chunks: int) -> Conditioning:
    return replace(conditioning(), prompt=Condition(torch.arange(chunks * 15.0).reshape(-1, 3)), chunks=chunks)


def test_rows_of_one_length_share_a_call(passes: Passes, graphs: Graphs) -> None:
    made = passes.predict([given(1, long(2)), given(2, conditioning()), given(3, long(2)), given(4, long(3))])
    assert [one.output.flatten()[0].item() for one in made] == [1, 2, 3, 4]
    lengths = [(inputs[0].shape[0], inputs[2].shape[1]) for part, _, inputs in graphs.calls if part == "full"]
    assert lengths == [(2, 10), (1, 5), (1, 15)]
    texts = [inputs[1].shape[1] for part, _, inputs in graphs.calls if part == "modulate"]
    assert set(texts) == {5}, "it takes one chunk"


def test_the_first_chunk_counts_alone_until_the_graph_for_all_is_ready(passes: Passes, graphs: Graphs) -> None:
    graphs.unready.add(GraphKey("full", 1, None, 2))
    passes.predict([given(1, long(2)), given(2, conditioning())])
    ((_, _, inputs),) = [call for call in graphs.calls if call[0] == "full"]
    assert inputs[2].shape == (2, 5, 3) and torch.equal(inputs[2][0], long(2).prompt.embedding[:5])
