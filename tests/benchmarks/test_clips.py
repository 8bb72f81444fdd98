import numpy as np
import pytest

from benchmarks import clips


@pytest.mark.parametrize("name", clips.SCENES)
def test_frames_are_deterministic_and_sized(name: str) -> None:
    one, other = clips.clip(name, 192, 128), clips.clip(name, 192, 128)
    assert one[3].shape == (128, 192, 3) and one[3].dtype == np.uint8
    assert np.array_equal(one[3], other[3])
    assert len(clips.clip(name, 192, 128, frames=10)) == 10


def change(clip: clips.Clip, index: int) -> float:
    return float(np.abs(clip[index + 1].astype(int) - clip[index]).mean())


def test_moving_clips_move_and_pauses_hold_all_but_the_noise() -> None:
    moving = clips.clip("handheld", 256, 256)
    assert all(change(moving, index) > 3.0 for index in range(0, 120, 15))
    paused = clips.clip("pauses", 256, 256)
    noise_only = 2 * clips.NOISE / np.sqrt(np.pi)  # mean |difference| of two Gaussians
    assert change(paused, round(3.0 * clips.FPS)) == pytest.approx(noise_only, rel=0.15)
    assert change(paused, round(1.0 * clips.FPS)) > 2 * noise_only


def test_pauses_fill_at_most_thirty_percent() -> None:
    assert all(scene.pause_share <= 0.30 for scene in clips.SCENES.values())
    assert clips.SCENES["pauses"].pause_share > 0.25


def test_there_is_one_scene_cut() -> None:
    clip = clips.clip("handheld", 128, 128)
    jumps = [index for index in range(len(clip) - 1) if change(clip, index) > 35]
    assert jumps == [124]


@pytest.mark.skipif("film" not in clips.names(), reason="no ../shared/clips beside this checkout")
def test_the_film_clip() -> None:
    film = clips.clip("film", 256, 144)
    assert len(film) == 132 and film[0].shape == (144, 256, 3)


def test_out_of_range() -> None:
    with pytest.raises(IndexError):
        clips.clip("still", 128, 128, frames=2)[2]
    with pytest.raises(KeyError):
        clips.clip("nothing")
