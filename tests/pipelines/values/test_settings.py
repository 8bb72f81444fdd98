import dataclasses

import pytest
from hypothesis import given
from hypothesis import strategies as st

from pipelines.values.settings import FIELDS, Settings, parse_assignment
from pipelines.values.types import SettingsError, SpecError, StreamSpec

JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(), lambda x: st.lists(x) | st.dictionaries(st.text(), x)
)


def test_a_patch_raises_the_version_and_touches_nothing_else() -> None:
    before = Settings()
    after = before.patched({"strength": 0.25, "gate.enabled": True})
    assert (after.version, after.strength, after.gate.enabled) == (1, 0.25, True)
    assert {k: v for k, v in after.flat().items() if k not in ("strength", "gate.enabled")} == {
        k: v for k, v in before.flat().items() if k not in ("strength", "gate.enabled")
    }


def test_flat_round_trips() -> None:
    settings = Settings().patched({"prompt": "ink", "cache.interval": 7, "noise.mode": "walk"})
    assert dataclasses.replace(Settings().patched(settings.flat()), version=1) == settings


@pytest.mark.parametrize(
    "patch",
    [
        {"strenght": 0.5},
        {"strength": 1.5},
        {"strength": "0.5"},
        {"strength": True},
        {"steps": 1.5},
        {"steps": 0},
        {"gate": {}},
        {"prompt": "x" * 1501},
        {"prompt": "a\x00b"},
        {"gate.enabled": 1},
        {"guidance_mode": "most"},
        {"seed": 10**400},
        {"version": 3},
    ],
)
def test_bad_values_name_their_field(patch: dict[str, object]) -> None:
    with pytest.raises(SettingsError) as caught:
        Settings().patched(patch)
    assert caught.value.field == next(iter(patch))


def test_one_bad_key_spoils_the_whole_patch() -> None:
    with pytest.raises(SettingsError):
        Settings().patched({"strength": 0.1, "steps": 99})


@given(st.sampled_from(sorted(FIELDS)) | st.text(max_size=12), JSON)
def test_any_json_is_taken_or_refused(key: str, value: object) -> None:
    try:
        settings = Settings().patched({key: value})
    except SettingsError as error:
        assert error.field == key
    else:
        assert settings.flat()[key] == value


@pytest.mark.parametrize(
    "given_, expected",
    [
        ("strength=0.3", ("strength", 0.3)),
        ("gate.enabled=true", ("gate.enabled", True)),
        ("prompt=a=b", ("prompt", "a=b")),
        ("seed=12", ("seed", 12)),
        ("prompt=5", ("prompt", "5")),
    ],
)
def test_assignments(given_: str, expected: tuple[str, object]) -> None:
    assert parse_assignment(given_) == expected


@pytest.mark.parametrize("given_", ["strength", "nothing=1", "steps=two", "=3", "steps=" + "[" * 100000])
def test_bad_assignments(given_: str) -> None:
    with pytest.raises(SettingsError):
        parse_assignment(given_)


@pytest.mark.parametrize(
    "change",
    [{"width": 500}, {"height": 64}, {"width": 2048}, {"backend": "tpu"}, {"dtype": "int2"}, {"max_steps": 9}, {"model": ""}],
)
def test_a_spec_names_what_is_wrong(change: dict[str, object]) -> None:
    with pytest.raises(SpecError) as caught:
        StreamSpec(**change)  # type: ignore[arg-type]
    assert caught.value.field in change


@pytest.mark.parametrize("pattern", ["x", "d/", "/d", "d s", "D", "d" * 30, "dd//d"])
def test_a_pattern_of_another_form_is_refused_by_name(pattern: str) -> None:
    with pytest.raises(SettingsError, match=r"cache\.pattern: .* has another form"):
        Settings().patched({"cache.pattern": pattern})


@pytest.mark.parametrize("pattern", ["", "d", "dss/d", "d" * 29])
def test_a_pattern_of_the_declared_form_is_taken(pattern: str) -> None:
    assert Settings().patched({"cache.pattern": pattern}).cache.pattern == pattern
