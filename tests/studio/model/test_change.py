"""Rules of a change of the spec: who may, what is allowed, what becomes of settings. No sockets, no models."""

from __future__ import annotations

import dataclasses
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from kernels import attention
from pipelines import FIELDS, LoraUse, MemoryShortError, ModelError, Settings, SettingsError, SpecError, StreamSpec
from studio.model.change import CHANGEABLE, ChangeRule, choices, client_error, fitted_settings, merged_spec
from studio.wire.protocol import ProtocolError
from tests.studio.wire.test_protocol import JSON

SPEC = StreamSpec("pocket", 256, 256, "eager", "float32", "cpu")


@pytest.mark.parametrize(
    ("who", "connected", "token", "word"),
    [
        ("alone", 1, False, None),
        ("alone", 2, False, "2 visitors"),
        ("alone", 2, True, None),
        ("token", 1, False, "public"),
        ("token", 3, True, None),
        ("never", 1, True, "operator"),
    ],
)
def test_permission(who: str, connected: int, token: bool, word: str | None) -> None:
    refusal = ChangeRule(who).refusal(connected, token)
    assert refusal is None if word is None else refusal is not None and word in refusal


def test_local_models_only_below_the_folders_that_were_given(tmp_path: Path) -> None:
    inside = tmp_path / "models" / "one"
    inside.mkdir(parents=True)
    (inside / "model_index.json").write_text("{}")
    (tmp_path / "models" / "link").symlink_to(tmp_path)
    assert ChangeRule().allows("pocket") and not ChangeRule().allows(str(inside))
    rule = ChangeRule(folders=(tmp_path / "models",))
    assert rule.allows(str(inside)) and rule.models()[-1] == str(inside) and "pocket" in rule.models()
    for outside in (tmp_path, tmp_path / "models/../other", tmp_path / "models-too", tmp_path / "models" / "link", Path("/")):
        assert not rule.allows(str(outside)), outside
    # More may be added to a model by its name, but not by a visitor: the parts could lie anywhere.
    assert not rule.allows(f"{inside}+/etc/x.safetensors") and not rule.allows("pocket+lcm-lora")


def test_loras_are_files_of_the_folders_that_were_given(tmp_path: Path) -> None:
    folder = tmp_path / "loras"
    (folder / "ink").mkdir(parents=True)
    for name in ("ink/wash.safetensors", "oil.safetensors", "oil.pt"):
        (folder / name).touch()
    rule = ChangeRule(lora_folders=(folder,))
    assert rule.loras() == [str(folder / "ink/wash.safetensors"), str(folder / "oil.safetensors")]
    assert all(map(rule.allows_lora, rule.loras())) and not ChangeRule().allows_lora(rule.loras()[0])
    for name in ("oil.pt", "../loras/oil.safetensors", "absent.safetensors", "x" * 390):
        assert not rule.allows_lora(str(folder / name)), name


def test_a_lora_in_use_may_have_any_weight_and_go() -> None:
    used = dataclasses.replace(SPEC, loras=(LoraUse("hub/lora", 1.0),))
    lighter = merged_spec(used, {"loras": [{"name": "hub/lora", "weight": 0.5}]}, lambda model: False)
    assert lighter.loras == (LoraUse("hub/lora", 0.5),)
    assert merged_spec(used, {"loras": []}, lambda model: False).loras == ()
    assert merged_spec(SPEC, {"loras": [{"name": "a"}]}, lambda model: False, lambda name: name == "a").loras == (LoraUse("a"),)
    with pytest.raises(ProtocolError, match="not a LoRA of this server"):
        merged_spec(SPEC, {"loras": [{"name": "hub/lora"}]}, lambda model: True)


@pytest.mark.parametrize(
    ("changes", "field", "word"),
    [
        ({}, "spec", "model, loras, width, height, backend, dtype, attention, hires, stitch"),
        ({"device": "cuda"}, "device", "cannot be changed"),
        ({"max_steps": 2}, "max_steps", "cannot be changed"),
        ({"width": 200}, "width", "multiple of 64 from 128 to 1024"),
        ({"height": 2048}, "height", "multiple of 64"),
        ({"height": 256.0}, "height", "multiple of 64"),
        ({"width": True}, "width", "multiple of 64"),
        ({"backend": "onnxruntime"}, "backend", "openvino"),
        ({"backend": ["eager"]}, "backend", "openvino"),
        ({"dtype": "int2"}, "dtype", "bfloat16"),
        ({"attention": "flash"}, "attention", "auto, sdpa, xformers"),
        ({"attention": ["sdpa"]}, "attention", "auto, sdpa, xformers"),
        ({"stitch": "/etc"}, "stitch", "registered are pocket"),
        ({"stitch": 5}, "stitch", "not the name of a model"),
        ({"hires": "on"}, "hires", "off, attention, full"),
        ({"model": "/etc"}, "model", "registered are pocket"),
        ({"model": ""}, "model", "not the name"),
        ({"model": 5}, "model", "not the name"),
        ({"model": "x" * 1000}, "model", "not the name"),
        ({"loras": "ink"}, "loras", "must be a list"),
        ({"loras": [{"name": "ink", "weight": 9}]}, "loras", "from -4 to 4"),
        ({"loras": [{"name": "/etc/passwd"}]}, "loras", "not a LoRA of this server"),
        ({"loras": [{"name": "a/b"}]}, "loras", "not a LoRA of this server"),
    ],
)
def test_what_is_refused_is_named(changes: dict[str, object], field: str, word: str) -> None:
    with pytest.raises(ProtocolError, match=word) as caught:
        merged_spec(SPEC, changes, ChangeRule().allows)
    assert (caught.value.code, caught.value.field) == ("bad_spec", field)


def test_what_is_allowed_is_merged() -> None:
    assert merged_spec(SPEC, {"width": 512, "backend": "openvino"}, lambda model: False) == StreamSpec(
        "pocket", 512, 256, "openvino", "float32", "cpu"
    )


@given(st.dictionaries(st.sampled_from([*CHANGEABLE, "device"]) | st.text(max_size=5), JSON, max_size=4))
def test_any_request_gives_a_spec_or_a_protocol_error(changes: dict[str, object]) -> None:
    try:
        assert isinstance(merged_spec(SPEC, changes, lambda model: True), StreamSpec)
    except ProtocolError as error:
        assert error.code == "bad_spec" and error.field is not None


def limited(**tops: float) -> object:
    """A model whose settings end at these."""

    def check(settings: Settings) -> None:
        for key, value in settings.flat().items():
            top = tops.get(key.replace(".", "_"))
            if top is not None and value > top:  # type: ignore[operator]
                raise SettingsError(key, f"{value} is out of range; {top} is the most")

    return check


def test_settings_go_down_to_what_is_allowed_and_nothing_else_moves() -> None:
    before = Settings().patched({"steps": 4, "cache.branch": 7, "strength": 0.9, "prompt": "fox"})
    after, reasons = fitted_settings(before, limited(steps=2, cache_branch=3, strength=0.6))
    changed = {key for key in FIELDS if before.flat()[key] != after.flat()[key]}
    assert changed == set(reasons) == {"steps", "cache.branch", "strength"}
    assert (after.steps, after.cache.branch, after.strength) == (2, 3, FIELDS["strength"].default)
    assert after.version > before.version and "2 is the most" in reasons["steps"]


def test_settings_that_fit_stay_the_same_object() -> None:
    settings = Settings()
    assert fitted_settings(settings, limited(steps=1)) == (settings, {})


def test_a_model_that_likes_nothing_is_an_error() -> None:
    def check(settings: Settings) -> None:
        raise SettingsError("seed", "no")

    with pytest.raises(SettingsError, match="seed"):
        fitted_settings(Settings(), check)


@pytest.mark.parametrize(
    ("error", "field", "word"),
    [
        (SpecError("device", "is none"), "device", "is none"),
        (SettingsError("steps", "too many"), "steps", "too many"),
        (ModelError("unet/config.json: is missing"), "model", "is missing"),
        (MemoryShortError("needs about 9 GB; 2 GB are free"), "width", "9 GB"),
        (MemoryError(), "width", "MemoryError"),
        (RuntimeError("secret path"), "width", "RuntimeError"),
    ],
)
def test_what_went_wrong_is_explained_and_not_kept(error: Exception, field: str, word: str) -> None:
    refusal = client_error(error, {"width": 512, "height": 512})
    assert (refusal.code, refusal.field) == ("bad_spec", field) and word in refusal.message and "secret" not in refusal.message
    assert refusal.__context__ is None and refusal.__cause__ is None


def test_a_lora_that_cannot_be_loaded_is_the_fault_of_the_loras() -> None:
    error = ModelError("ink.safetensors: is for another model")
    assert client_error(error, {"loras": []}).field == "loras"
    assert client_error(error, {"loras": [], "model": "pocket"}).field == "model"


def test_a_device_offers_what_runs_on_it() -> None:
    cpu, gpu = choices(SPEC, ("off",)), choices(StreamSpec(device="cuda:0"), SPEC.HIRES)
    assert cpu["backend"] == ["openvino", "eager", "compile"] and "float16" not in cpu["dtype"]
    assert gpu["backend"] == ["compile", "eager"]
    assert cpu["attention"] == ["sdpa"] and cpu["hires"] == ["off"] and gpu["hires"] == ["off", "attention", "full"]
    kinds = ["sdpa", "xformers"] if attention.available("xformers") else ["sdpa"]
    assert gpu["attention"] == kinds
