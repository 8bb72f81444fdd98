from __future__ import annotations

from pathlib import Path

import pytest

from pipelines import EXTRAS, REGISTRY, ModelError, describe
from pipelines.values.models import Control, Hub, Lora


def test_registered_names_are_entries() -> None:
    assert all(describe(name) is info for name, info in REGISTRY.items() if not info.unpinned)


@pytest.mark.parametrize("more", ["", "+taesdxl", "+sample"])
def test_no_registered_name_follows_a_branch_by_itself(more: str) -> None:
    unpinned = [info for info in REGISTRY.values() if info.unpinned]
    assert unpinned
    for info in unpinned:
        with pytest.raises(ModelError, match=f"^{info.name}: Rill has no commit for .*{info.name}@COMMIT.*{info.name}@main"):
            describe(info.name + (more if info.family == "sdxl" else ""))
        assert not describe(f"{info.name}@main").unpinned
    places = [getattr(info, part) for info in REGISTRY.values() if not info.unpinned for part in ("base", "unet", "autoencoder")]
    places += [lora.location for info in REGISTRY.values() for lora in info.loras]
    assert all(place.revision for place in places if isinstance(place, Hub))


def test_hub_ids_may_pin_a_commit() -> None:
    assert describe("Lykon/dreamshaper-8").base == Hub("Lykon/dreamshaper-8")
    assert describe("a/b@0123abc").base == Hub("a/b", "0123abc")


def test_a_registered_name_may_carry_the_commit_that_the_registry_lacks() -> None:
    unpinned = {name for name, info in REGISTRY.items() if info.unpinned}
    assert unpinned == {"nitro-realism", "nitro-vibrant", "instaflow"}
    info = describe("nitro-vibrant@0123abc+lcm-lora-sdxl")
    assert info.unet == Hub("ChenDY/NitroFusion", "0123abc", "nitrosd-vibrant_unet.safetensors") and not info.unpinned
    assert info.base == REGISTRY["nitro-vibrant"].base and info.shift == 0.5
    assert describe("instaflow@0123abc").name == "instaflow@0123abc"
    assert all(extra.location.revision for extra in EXTRAS.values() if isinstance(extra.location, Hub))
    for name, words in {
        "sd-turbo@0123abc": "has pinned commits already",
        "instaflow@": "no commit ''",
        "instaflow@a/b": "no commit",
    }.items():
        with pytest.raises(ModelError, match=words):
            describe(name)


def test_local_paths_that_exist_win_and_may_hold_a_plus(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "a" / "b+c").mkdir(parents=True)
    assert describe("a/b+c").base == Path("a/b+c")
    assert describe("gone/away.safetensors").base == Path("gone/away.safetensors")
    assert describe("folder").base == Path("folder")
    assert describe(str(tmp_path / "absent")).base == tmp_path / "absent"


def test_extras_are_added_in_order(tmp_path: Path) -> None:
    style = tmp_path / "style.safetensors"
    style.touch()
    info = describe(f"Lykon/dreamshaper-8+lcm-lora:0.8+taesd+{style}+v_prediction+some/lora/file.safetensors:2")
    assert info.loras == (
        Lora(EXTRAS["lcm-lora"].location, 0.8),
        Lora(style, 1.0),
        Lora(Hub("some/lora", None, "file.safetensors"), 2.0),
    )
    assert info.autoencoder == EXTRAS["taesd"].location and info.prediction == "v_prediction" and info.max_steps == 8


@pytest.mark.parametrize(
    "name, words",
    [
        ("sd-turbo+nothing", "registered are lcm-lora"),
        ("sdxl-turbo+lcm-lora", "lcm-lora is for sd15; sdxl-turbo is sdxl"),
        ("sd-turbo+lcm-lora:much", "not a strength"),
        ("a/b+lcm-lora:9", "from -4 to 4"),
        ("a/b+lcm-lora:nan", "from -4 to 4"),
        ("a/b+c/../d.safetensors", "is not a file"),
        ("a/b+../no-such-file-anywhere", "is not a file"),
        ("a/b+/etc/passwd.safetensors", "is not a file"),
    ],
)
def test_extras_that_make_no_sense_are_refused(name: str, words: str) -> None:
    with pytest.raises(ModelError, match=words):
        describe(name)


@pytest.mark.parametrize(
    "repo", ["..", "../x", "a/..", "a/b/c", "/etc/passwd", "a", "", "a/b@c", "http://x/y", "a/b\n", "a\\b/c"]
)
def test_what_is_no_hub_id_is_refused(repo: str) -> None:
    with pytest.raises(ModelError, match="not the id"):
        Hub(repo)


@pytest.mark.parametrize("file", ["../x.safetensors", "/x.safetensors", "a/../../x", "a\\b"])
def test_files_stay_inside_their_repository(file: str) -> None:
    with pytest.raises(ModelError, match="leads out"):
        Hub("a/b", None, file)


def test_names_that_look_like_hub_ids_but_climb_are_local_paths() -> None:
    assert describe("../x").base == Path("../x") and describe("a/..x/b").base == Path("a/..x/b")


def test_the_registry_is_consistent() -> None:
    for name, info in REGISTRY.items():
        assert info.name == name and info.title and info.licence and info.advice and info.prompts
        assert not info.trained_timesteps or info.max_steps <= len(info.trained_timesteps)
        assert all(0 <= t < 1000 for t in info.trained_timesteps)
        for place in (info.base, info.unet, info.autoencoder, *(lora.location for lora in info.loras)):
            if isinstance(place, Hub):
                assert place.revision is None or (len(place.revision) == 40 and set(place.revision) <= set("0123456789abcdef"))
    assert REGISTRY["sdxl-lightning-1step"].prediction == "sample"
    assert REGISTRY["sdxl-lightning-4step"].trained_timesteps == (999, 749, 499, 249)
    assert REGISTRY["hyper-sdxl-1step"].trained_timesteps == (800,)


@pytest.mark.parametrize(
    ("extras", "words"),
    [
        ("control=a/b+control=c/d", "must state the map of each"),
        ("canny-sd15+control=c/d", "must state the map of each"),
        ("control=a/b:canny:9", "from -4 to 4"),
        ("control=taesd", "taesd is tiny autoencoder for SD 1.5 and SD 2, no ControlNet"),
        ("control=a/b:canny" + "+control=a/b:depth-like" * 4, "at most 4 are allowed"),
        ("taesd+taesdxl", "takes one autoencoder"),
        ("picture=a+picture=b", "takes one adapter for picture prompts"),
        ("epsilon+v_prediction", "takes one prediction type"),
        ("timesteps=499+timesteps=249", "takes one list of timesteps"),
        ("timesteps=249,499", "whole numbers that fall"),
        ("timesteps=1000", "whole numbers that fall"),
        ("timesteps=a", "whole numbers that fall"),
        ("timesteps=9,8,7,6,5,4,3,2,1", "1 to 8 whole numbers"),
        ("control=", "names nothing after the equals sign"),
    ],
)
def test_parts_of_which_a_model_takes_one_are_not_given_twice(extras: str, words: str) -> None:
    with pytest.raises(ModelError, match=words):
        describe(f"a/b+{extras}")


@pytest.mark.parametrize(
    ("extras", "timesteps", "prediction"),
    [
        ("unet=a/b/dmd2_sdxl_4step_unet_fp16.safetensors", (999, 749, 499, 249), None),
        ("unet=a/b/dmd2_sdxl_1step_unet.safetensors", (399,), None),
        ("tianweiy/DMD2/dmd2_sdxl_4step_lora_fp16.safetensors:0.9", (999, 749, 499, 249), None),
        ("unet=a/b/sdxl_lightning_1step_unet_x0.safetensors", (999,), "sample"),
        ("unet=a/b/Hyper-SDXL-1step-Unet.safetensors", (800,), None),
        ("unet=a/b/dmd2_sdxl_4step_unet.safetensors+timesteps=999,499", (999, 499), None),
        ("unet=a/b/own.safetensors+timesteps=999", (999,), None),
        ("unet=a/b/own.safetensors", (), None),
    ],
)
def test_trained_timesteps_are_stated_or_known_by_a_published_name(
    extras: str, timesteps: tuple[int, ...], prediction: str | None
) -> None:
    info = describe(f"some/sdxl+{extras}")
    assert (info.trained_timesteps, info.prediction) == (timesteps, prediction)
    assert info.max_steps == (len(timesteps) or 8)


def test_published_names_agree_with_the_registry() -> None:
    for name in ("sdxl-lightning-1step", "sdxl-lightning-2step", "sdxl-lightning-4step", "hyper-sdxl-1step"):
        info = REGISTRY[name]
        assert isinstance(info.unet, Hub)
        named = describe(f"some/sdxl+unet={info.unet}")
        assert named.trained_timesteps == info.trained_timesteps
        assert (named.prediction or "epsilon") == (info.prediction or "epsilon")


def test_every_path_may_contain_plus_signs_and_colons(tmp_path: Path) -> None:
    names = ["mo+del", "lo+ra:1.safetensors", "con+trol", "ad+ap+ter"]
    for name in names:
        (tmp_path / name).mkdir()
    model, lora, control, picture = (tmp_path / name for name in names)
    info = describe(f"{model}+{lora}:-0.5+taesd+control={control}+picture={picture}+{lora}")
    assert info.base == model and [(part.location, part.strength) for part in info.loras] == [(lora, -0.5), (lora, 1.0)]
    assert info.controls == (Control(control),) and info.picture is not None and info.picture.weights == picture
    assert info.autoencoder is not None


def test_a_drive_letter_is_part_of_the_path() -> None:
    """The file is absent: the message is about the file, not about a strength."""
    for name in (r"x/y+C:\loras\ink.safetensors", "x/y+C:/loras/ink.safetensors", r"x/y+C:\loras\ink.safetensors:0.8"):
        with pytest.raises(ModelError, match="is not a file"):
            describe(name)
