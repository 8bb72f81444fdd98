"""What graphs a pass needs, and which every frame needs."""

from pipelines.graphs.keys import ALWAYS_READY, GraphKey, with_control


def test_a_controlnet_needs_a_pass_that_takes_its_residuals_and_as_many_of_its_own_layers() -> None:
    assert with_control(GraphKey("full", 2)) == (GraphKey("controlled-full", 2), GraphKey("control", 2))
    assert with_control(GraphKey("full", 2, 1)) == (GraphKey("controlled-full", 2, 1), GraphKey("control", 2))
    assert with_control(GraphKey("shallow", 1, 1)) == (GraphKey("controlled-shallow", 1, 1), GraphKey("control", 1, 1))
    assert with_control(GraphKey("decoder", 1)) == () == with_control(GraphKey("encode", 1))


def test_the_graphs_that_every_frame_needs_are_those_of_one_row() -> None:
    assert {(key.part, key.rows, key.branch) for key in ALWAYS_READY} == {
        (part, 1, None) for part in ("encode", "decode", "modulate", "full")
    }
