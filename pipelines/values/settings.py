"""Live settings: declared once, validated, and replaced as a whole between frames. Independent of the engine and the web server.

On the wire and on the command line a setting is a dotted key ("strength", "gate.threshold"). In code it is an attribute of a
frozen dataclass. The declarations contain range and meaning. Errors, docs/settings.md and the page are made from them.
"""

from __future__ import annotations

import dataclasses
import json
import math
import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any, Literal, get_args

from pipelines.values.types import SettingsError

MAX_PROMPT = 1500  # four contexts of a text encoder, 300 tokens, and some
MAX_SEED = 2**32 - 1

Value = bool | int | float | str

Solver = Literal["lcm", "ddim", "dpmpp-2m"]
SOLVERS: tuple[Solver, ...] = get_args(Solver)
"""Solvers of pipelines/techniques/solvers."""

SCHEDULES = ("constant", "linear", "cosine", "interval")
"""Schedules of pipelines/techniques/level_schedule.py."""

MAPS = ("canny", "soft-edge", "depth-like")
"""Kinds of maps that pipelines/techniques/hints.py can make for a ControlNet."""


def number(default: float, low: float, high: float, doc: str) -> Any:
    return field(default=default, metadata={"kind": "number", "low": low, "high": high, "doc": doc})


def integer(default: int, low: int, high: int, doc: str) -> Any:
    return field(default=default, metadata={"kind": "integer", "low": low, "high": high, "doc": doc})


def flag(default: bool, doc: str) -> Any:
    return field(default=default, metadata={"kind": "flag", "doc": doc})


def choice(default: str, options: tuple[str, ...], doc: str) -> Any:
    return field(default=default, metadata={"kind": "choice", "options": options, "doc": doc})


def text(default: str, doc: str, limit: int = MAX_PROMPT, form: str = "") -> Any:
    """form: a regular expression that the whole text must match; the doc describes it. Empty allows every text."""
    return field(default=default, metadata={"kind": "text", "limit": limit, "doc": doc, "form": form})


@dataclass(frozen=True, slots=True)
class StreamBatchSettings:
    enabled: bool = flag(True, "Denoise frames at different levels in one UNet call. Without it the steps run in sequence.")


@dataclass(frozen=True, slots=True)
class GateSettings:
    enabled: bool = flag(False, "Show the last picture again while the input hardly changes.")
    threshold: float = number(0.98, 0.5, 0.9999, "Similarity η above which a frame may be skipped.")
    max_skip: int = integer(
        10, 1, 300, "Maximum number of frames skipped in a row; with refine.enabled none while the scene is at rest."
    )
    tile_threshold: float = number(
        0.02, 0.001, 1.0, "Mean change of one tile (0..1 of full scale) that always lets a frame through."
    )


@dataclass(frozen=True, slots=True)
class CacheSettings:
    enabled: bool = flag(False, "Reuse features from an earlier UNet pass of the same session.")
    reuse: str = choice(
        "frames",
        ("frames", "steps", "encoder"),
        "frames: deep features of an earlier frame at the same level; steps: those of an earlier level of the same frame; "
        "encoder: the whole encoder path of an earlier level of the same frame. The last two need two steps or more.",
    )
    policy: str = choice(
        "interval",
        ("interval", "adaptive"),
        "interval: full pass in every k-th frame; adaptive: full pass when the input has changed.",
    )
    interval: int = integer(
        3,
        1,
        30,
        "Full pass in every k-th frame (policy interval); maximum number of frames between full passes (adaptive); with reuse "
        "steps or encoder: full pass at every k-th level.",
    )
    drift: float = number(
        0.06, 0.001, 1.0, "Mean change of the input thumbnail since the cached pass (0..1) that forces a full pass."
    )
    branch: int = integer(1, 0, 11, "Re-entry point: 0 recomputes the least; higher values recompute more of the UNet.")
    cascade: bool = flag(
        True,
        "Every second frame between full passes uses re-entry point branch − 1, with features of the frame before (needs reuse "
        "frames, branch 1 or more, interval 3 or more).",
    )
    pattern: str = text(
        "",
        "Instead of interval and cascade: the frames after a full pass, in turn; d for re-entry point branch, s for branch − 1 "
        "with features of the last d. / separates the noise levels; the last part holds for the rest. For example dsds or dss/d.",
        limit=64,
        form=r"(?:[ds]{1,29}(?:/[ds]{1,29})*)?",
    )


@dataclass(frozen=True, slots=True)
class PartialSettings:
    enabled: bool = flag(False, "Compute only a window around what changed of the input, and keep the rest of the picture.")
    threshold: float = number(
        0.03, 0.005, 0.5, "Change of a spot of 4 x 4 pixels (0..1 of full scale) that counts; below it is noise of the camera."
    )
    refresh: int = integer(30, 2, 600, "A whole frame at least every so many frames.")


@dataclass(frozen=True, slots=True)
class NoiseSettings:
    mode: str = choice(
        "fixed", ("fixed", "walk"), "fixed: one noise for each level of the session; walk: the noise changes slowly."
    )
    walk_rate: float = number(0.02, 0.0, 0.5, "Radians of the spherical walk per frame.")
    motion: float = number(0.0, 0.0, 1.0, "How much fast motion lowers the strength (motion-aware strength).")
    warm_start: float = number(
        0.0, 0.0, 0.9, "Share of the last result, moved as the input moved, in the frame's latent before noising."
    )
    variety: float = number(
        0.0, 0.0, 1.0, "From a prompt alone: how much the layout follows the seed. More of it is further from the prompt."
    )


@dataclass(frozen=True, slots=True)
class ConsistencySettings:
    enabled: bool = flag(
        False, "Less flicker: mix the last picture in, moved along the input's optical flow. New ground and cuts take none of it."
    )
    amount: float = number(0.6, 0.0, 0.9, "Share of the last picture where its motion is known.")


@dataclass(frozen=True, slots=True)
class CadsSettings:
    enabled: bool = flag(False, "From a prompt alone: noise on the prompt, so that seeds draw different pictures (CADS).")
    scale: float = number(0.25, 0.0, 2.0, "Noise scale s.")
    low: float = number(0.6, 0.0, 1.0, "Noise level τ₁ up to which the prompt counts in full.")
    high: float = number(1.4, 0.0, 4.0, "Noise level τ₂ from which nothing is left of the prompt; above 1 some always is.")
    rescale: float = number(1.0, 0.0, 1.0, "Share ψ of the noised prompt that gets the mean and the deviation of the prompt.")


@dataclass(frozen=True, slots=True)
class StrengthMapSettings:
    mode: str = choice(
        "off", ("off", "motion", "mask"), "Strength for each pixel: from motion, or from a painted mask (white is full)."
    )
    still: float = number(0.3, 0.0, 1.0, "Share of the strength where the input does not move (mode motion).")


@dataclass(frozen=True, slots=True)
class OmegaMapSettings:
    mode: str = choice(
        "off", ("off", "motion", "mask"), "ω for each pixel: from motion, or from the painted mask (white is full ω)."
    )
    still: float = number(0.0, 0.0, 1.0, "Share of ω's effect where the input does not move (mode motion).")


@dataclass(frozen=True, slots=True)
class ControlSettings:
    scale: float = number(
        1.0, 0.0, 2.0, "How strictly the picture follows a map of the input, by the model's ControlNet; 0 is off."
    )
    map: str = choice("canny", MAPS, "The map that the ControlNet was trained on: thin lines, soft edges, or near and far.")


@dataclass(frozen=True, slots=True)
class PictureSettings:
    scale: float = number(0.6, 0.0, 2.0, "Weight of the picture prompt beside the text; 0 is off.")
    blend: float = number(0.0, 0.0, 1.0, "0 is all the first picture prompt, 1 all the second; one alone is all there is.")


@dataclass(frozen=True, slots=True)
class StyleSettings:
    amount: float = number(1.0, 0.0, 1.0, "Amount of the painted look over the picture below; 0 is none.")


@dataclass(frozen=True, slots=True)
class HiresSettings:
    share: float = number(
        0.5,
        0.0,
        1.0,
        "With hires full: share of the steps, the noisiest ones, that draw large shapes as at half the size.",
    )


@dataclass(frozen=True, slots=True)
class StitchSettings:
    fraction: float = number(
        0.5, 0.0, 1.0, "With --stitch: share of the steps, the noisiest ones, that the second, smaller UNet takes."
    )


@dataclass(frozen=True, slots=True)
class ProbeSettings:
    enabled: bool = flag(False, "Compare some frames with the unaccelerated result of the same frame.")
    every: int = integer(30, 1, 600, "Minimum number of frames between two comparisons.")
    share: float = number(0.1, 0.01, 0.9, "Maximum share of the model's time for comparisons.")


@dataclass(frozen=True, slots=True)
class RefineSettings:
    enabled: bool = flag(
        False, "While the input rests (the gate skips, or the same picture comes again), idle time draws it with more steps."
    )
    steps: int = integer(4, 2, 8, "Steps of the picture at rest, at most as many as the stream allows.")
    share: float = number(0.5, 0.05, 1.0, "Maximum share of the model's time for the picture at rest.")


@dataclass(frozen=True, slots=True)
class Settings:
    """The settings of one session. They can change between two frames; `patched` makes a changed copy."""

    version: int = 0
    prompt: str = text("oil painting", "Description of the resulting picture.")
    prompt_b: str = text("", "Second prompt, mixed in by `blend`.")
    blend: float = number(0.0, 0.0, 1.0, "0 is all prompt, 1 is all prompt_b.")
    blend_mode: str = choice("linear", ("linear", "spherical"), "How two prompts are mixed.")
    travel: float = number(0.0, 0.0, 60.0, "Seconds for the transition to a changed prompt; 0 is at once.")
    negative: str = text("", "Description of what the picture shall not show; needs guidance.")
    clip_skip: int = integer(
        0, 0, 11, "Layers left out at the end of the text encoder, as diffusers counts: 1 takes the states of the last but one."
    )
    guidance: float = number(1.5, 0.0, 10.0, "Guidance scale γ of the guidance mode; 1 is the conditional prediction itself.")
    guidance_mode: str = choice(
        "none",
        ("none", "full", "self", "one-time", "adaptive", "linear"),
        "none: one row; full: a negative row per level; self, one-time: residual guidance; adaptive: full, few negative rows; "
        "linear: negative rows of later levels are estimated from earlier levels (LinearAG).",
    )
    guidance_delta: float = number(1.0, 0.0, 1.5, "Residual strength δ of self and one-time guidance.")
    guidance_alike: float = number(
        0.98, 0.5, 1.0, "Adaptive: drop the negative row when the cosine of the guided results with and without it exceeds this."
    )
    guidance_blur: float = number(
        0.0, 0.0, 8.0, "Self and one-time: blur of the picture that guidance leads away from, in latent pixels; 0 is none."
    )
    guidance_schedule: str = choice(
        "constant",
        SCHEDULES,
        "Guidance over the noise levels. linear, cosine: weaker in noise; interval: within its bounds only.",
    )
    strength: float = number(
        0.5, 0.0, 1.0, "How much noise is added to the input before denoising; at 1 nothing of the input remains."
    )
    omega: float = number(
        1.0, 0.6, 1.4, "Granularity ω, scales the predicted noise: below 1 more grain and detail, above 1 less."
    )
    omega_schedule: str = choice("constant", SCHEDULES, "ω over the noise levels, as guidance_schedule.")
    interval_low: float = number(0.1, 0.0, 1.0, "Schedule interval: acts above this noise level, counted as the strength is.")
    interval_high: float = number(0.8, 0.0, 1.0, "Schedule interval: acts up to this noise level.")
    steps: int = integer(1, 1, 8, "Denoising steps per frame.")
    solver: str = choice(
        "auto",
        ("auto", *SOLVERS),
        "The way from step to step. lcm: new noise in each step; ddim, dpmpp-2m: no new noise, of first and second order; auto: "
        "by the model's scheduler.",
    )
    seed: int = integer(0, 0, MAX_SEED, "Seed of the session's noise.")
    stream_batch: StreamBatchSettings = field(default_factory=StreamBatchSettings)
    gate: GateSettings = field(default_factory=GateSettings)
    cache: CacheSettings = field(default_factory=CacheSettings)
    partial: PartialSettings = field(default_factory=PartialSettings)
    noise: NoiseSettings = field(default_factory=NoiseSettings)
    consistency: ConsistencySettings = field(default_factory=ConsistencySettings)
    cads: CadsSettings = field(default_factory=CadsSettings)
    strength_map: StrengthMapSettings = field(default_factory=StrengthMapSettings)
    omega_map: OmegaMapSettings = field(default_factory=OmegaMapSettings)
    control: ControlSettings = field(default_factory=ControlSettings)
    picture: PictureSettings = field(default_factory=PictureSettings)
    style: StyleSettings = field(default_factory=StyleSettings)
    hires: HiresSettings = field(default_factory=HiresSettings)
    stitch: StitchSettings = field(default_factory=StitchSettings)
    probe: ProbeSettings = field(default_factory=ProbeSettings)
    refine: RefineSettings = field(default_factory=RefineSettings)

    def patched(self, patch: Mapping[str, object]) -> Settings:
        """A copy with the values of `patch` (by dotted key) and the version raised by one.

        All or nothing: raises SettingsError with the first bad key. Unknown keys are errors.
        """
        own: dict[str, Any] = {}
        groups: dict[str, dict[str, Any]] = {}
        for key, value in patch.items():
            declaration = FIELDS.get(key)
            if declaration is None:
                raise SettingsError(key, f"unknown setting; known are {', '.join(FIELDS)}")
            checked = check(key, value, declaration.metadata)
            group, _, name = key.rpartition(".")
            (groups.setdefault(group, {}) if group else own)[name] = checked
        for group, changes in groups.items():
            own[group] = dataclasses.replace(getattr(self, group), **changes)
        return dataclasses.replace(self, version=self.version + 1, **own)

    def flat(self) -> dict[str, Value]:
        """Every setting by its dotted key, in declaration order, without the version."""
        return {key: _get(self, key) for key in FIELDS}


def _get(settings: Settings, key: str) -> Any:
    value: Any = settings
    for part in key.split("."):
        value = getattr(value, part)
    return value


def _declared(cls: type, prefix: str = "") -> Iterator[tuple[str, dataclasses.Field[Any]]]:
    for item in dataclasses.fields(cls):
        if item.metadata:
            yield prefix + item.name, item
        elif isinstance(item.default_factory, type) and dataclasses.is_dataclass(item.default_factory):
            yield from _declared(item.default_factory, f"{prefix}{item.name}.")


FIELDS: dict[str, dataclasses.Field[Any]] = dict(_declared(Settings))
"""Every live setting by its dotted key; `metadata` holds kind, range and doc."""


def check(key: str, value: object, rule: Mapping[str, Any]) -> Value:
    """`value` as the declared type. Accepts JSON types; strings are not converted.

    Raises SettingsError, which names `key` and the allowed values.
    """
    kind = rule["kind"]
    if kind == "flag":
        if isinstance(value, bool):
            return value
        raise SettingsError(key, f"{_brief(value)} is not true or false")
    if kind == "choice":
        if isinstance(value, str) and value in rule["options"]:
            return value
        raise SettingsError(key, f"{_brief(value)} is not one of {', '.join(rule['options'])}")
    if kind == "text":
        if not isinstance(value, str):
            raise SettingsError(key, f"{_brief(value)} is not text")
        if len(value) > rule["limit"]:
            raise SettingsError(key, f"is {len(value)} characters long; {rule['limit']} are allowed")
        if any((ord(char) < 32 and char not in "\t\n") or 0xD800 <= ord(char) < 0xE000 for char in value):
            raise SettingsError(key, "contains control characters")
        if rule.get("form") and not re.fullmatch(rule["form"], value):
            raise SettingsError(key, f"{_brief(value)} has another form; the description of the setting has examples")
        return value
    return _check_number(key, value, rule)


def _check_number(key: str, value: object, rule: Mapping[str, Any]) -> int | float:
    low, high, whole = rule["low"], rule["high"], rule["kind"] == "integer"
    allowed = f"{'a whole number' if whole else 'a number'} from {low} to {high} is allowed"
    if isinstance(value, bool) or not isinstance(value, int | float):
        raise SettingsError(key, f"{_brief(value)} is not a number; {allowed}")
    try:
        inside = math.isfinite(value) and low <= value <= high
    except OverflowError:
        inside = False
    if not inside or (whole and value != int(value)):
        raise SettingsError(key, f"{_brief(value)} is out of range; {allowed}")
    return int(value) if whole else float(value)


def _brief(value: object) -> str:
    shown = repr(value)
    return shown if len(shown) <= 40 else shown[:37] + "..."


def parse_assignment(assignment: str) -> tuple[str, Value]:
    """("gate.enabled", True) from "gate.enabled=true". Raises SettingsError; the value is checked by `patched`."""
    key, equals, raw = assignment.partition("=")
    key = key.strip()
    if not equals:
        raise SettingsError(key or assignment, "must be given as KEY=VALUE")
    declaration = FIELDS.get(key)
    if declaration is None:
        raise SettingsError(key, f"unknown setting; known are {', '.join(FIELDS)}")
    if declaration.metadata["kind"] in ("text", "choice"):
        return key, raw
    try:
        value = json.loads(raw.strip().lower())
    except (ValueError, RecursionError):
        value = raw
    return key, check(key, value, declaration.metadata)
