import pytest

from benchmarks.configurations import Configuration, groups, touched
from benchmarks.measure import Block
from pipelines import Settings

PRESETS = {"fast": {"cache.enabled": True, "cache.pattern": "ds"}}
GROUPS = groups(1.5, PRESETS)


@pytest.mark.parametrize("name", GROUPS)
def test_every_configuration_is_valid_and_named_once(name: str) -> None:
    found = GROUPS[name].configurations()
    names = [configuration.name for configuration in found]
    assert names[0] == "all off" and len(set(names)) == len(names)
    for configuration in found:
        Settings().patched(configuration.patch)


def test_all_off_has_no_acceleration_and_guidance_in_full() -> None:
    for group in GROUPS.values():
        off = Settings().patched(group.configurations()[0].patch)
        assert off.stream_batch.enabled == (group.name == "four-guided-batch")
        assert not (off.gate.enabled or off.cache.enabled)
        assert off.guidance_mode == ("full" if "guided" in group.name else "none")


def test_leave_one_out() -> None:
    found = {configuration.name: configuration for configuration in GROUPS["four-guided"].configurations()}
    everything = Settings().patched(found["all on"].patch)
    assert everything.stream_batch.enabled and everything.gate.enabled and everything.cache.enabled
    assert everything.guidance_mode == "adaptive"
    for part in ("batch", "adaptive", "gate", "cache"):
        left = found[f"all but {part}"]
        assert set(left.parts) == {"batch", "adaptive", "gate", "cache"} - {part}
    assert Settings().patched(found["all but adaptive"].patch).guidance_mode == "full"
    assert not Settings().patched(found["all but cache"].patch).cache.enabled
    assert set(found["self"].parts) == {"self"}  # it excludes adaptive guidance, so it is no part of "all on"
    assert "all but gate" not in {c.name for c in GROUPS["one"].configurations()}  # that is the cache alone


def test_presets_are_measured_beside_the_cache_by_hand() -> None:
    found = {configuration.name: Settings().patched(configuration.patch) for configuration in GROUPS["presets"].configurations()}
    assert list(found) == ["all off", "cache/3", "preset fast"]
    assert found["preset fast"].cache.pattern == "ds" and not found["all off"].cache.enabled


def test_touched_frames() -> None:
    block = Block(skipped={2, 5}, cached={1, 4}, dropped_rows={3})
    places = range(2, 6)

    def of(*parts: str) -> set[int]:
        return touched(Configuration("", {}, parts), block, places)

    assert of() == set()
    assert of("gate") == {2, 5}
    assert of("cache") == {4}  # 1 was before the clock started
    assert of("preset fast") == {4}
    assert of("gate", "cache") == {2, 4, 5}
    assert of("adaptive") == {3}
    assert of("encoder/4") == of("steps/2") == of("2 steps") == {2, 3, 4, 5}
    assert of("consistency 0.6") == of("warm start 0.3") == {2, 3, 4, 5}
    assert of("batch") == of("self") == of("gate", "self") == {2, 3, 4, 5}
