"""Changes of the stream's spec: which client may request one, what is allowed, and how settings are fitted. Pure functions of
values, and the slow work that builds a new pipeline; studio/visit/hub.py runs it in a thread, and swaps the pipelines.
"""

from __future__ import annotations

import dataclasses
import logging
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from pipelines import (
    FIELDS,
    REGISTRY,
    ModelError,
    ModelInfo,
    Preset,
    RillError,
    Settings,
    SettingsError,
    SpecError,
    StreamSpec,
)
from studio.model.catalogue import catalogue
from studio.model.prompt_loras import lora_files
from studio.wire.protocol import ProtocolError, brief

if TYPE_CHECKING:
    from pipelines import StreamPipeline

log = logging.getLogger("rill")

CHANGEABLE = ("model", "loras", "width", "height", "backend", "dtype", "attention", "hires", "stitch")
WHO = ("alone", "token", "never")
MAX_MODEL = 400


@dataclass(frozen=True, slots=True)
class ChangeRule:
    """Which client may change the spec: alone (the only one, or one with the API token), token (one with the token), or never.

    folders: local models may be loaded from folders below these; without any, only registered models and the one the server was
    started with. lora_folders: the same for LoRAs, of which none is registered.
    """

    who: str = "alone"
    folders: tuple[Path, ...] = ()
    lora_folders: tuple[Path, ...] = ()

    def refusal(self, connected: int, token: bool) -> str | None:
        """Why a client may not change the spec now, None if it may. connected: sessions, its own included."""
        if self.who == "never":
            return "the operator of this server does not allow changes of model, size and backend"
        if token or (self.who == "alone" and connected <= 1):
            return None
        if self.who == "token":
            return "this is a public server: only a client with the API token may change model, size and backend"
        return f"{connected} visitors share the pipeline: only a client with the API token may change it now"

    def allows(self, model: str) -> bool:
        """May a model of this name be loaded? Does not check whether it can be."""
        if model in REGISTRY:
            return True
        try:  # what does not exist as a whole would be taken for a model with more added to it
            path = Path(model).resolve(strict=True)
        except (OSError, ValueError, RuntimeError):  # too long a name, no text of this file system, a loop of links
            return False
        return any(path.is_relative_to(folder.resolve()) for folder in self.folders)

    def allows_lora(self, name: str) -> bool:
        """May this LoRA be loaded? Only a file of one of the folders: what a visitor names is never downloaded."""
        return name in self.loras()

    def loras(self) -> list[str]:
        """The LoRA files that may be loaded."""
        return lora_files(self.lora_folders)

    def models(self) -> list[str]:
        """Registered models that are present, and the model folders that may be loaded."""
        names = [str(entry["name"]) for entry in catalogue(REGISTRY.values()) if entry["state"] == "present"]
        found = [path.parent for folder in self.folders for path in sorted(folder.glob("*/model_index.json"))]
        return [*names, *map(str, found)]


def choices(spec: StreamSpec, hires: Sequence[str]) -> dict[str, list[str]]:
    """Backends, dtypes and kinds of attention that are available on the spec's device, and the values of `hires` that its model
    takes."""
    from pipelines import attention_kinds, backends, quantised_dtypes  # imports torch, which the server does not wait for

    floats = ("bfloat16", "float32") if spec.device == "cpu" else ("float16", "bfloat16", "float32")
    return {
        "backend": list(backends(spec.device)),
        "dtype": [*floats, *quantised_dtypes(spec.device)],
        "attention": list(attention_kinds(spec.device)),
        "hires": list(hires),
    }


def merged_spec(
    present: StreamSpec,
    changes: Mapping[str, object],
    allows: Callable[[str], bool],
    allows_lora: Callable[[str], bool] = lambda name: False,
) -> StreamSpec:
    """The present spec with these changes; LoRAs that are in use may stay with any weight. Raises ProtocolError bad_spec, naming
    the field and what is allowed."""
    known = ", ".join(CHANGEABLE)
    if not changes:
        raise _bad(f"names nothing to change; {known} can be changed", "spec")
    for key in changes:
        if key not in CHANGEABLE:
            raise _bad(f"{brief(key)} cannot be changed; {known} can", str(key)[:40])
    model = changes.get("model", present.model)
    if not isinstance(model, str) or not 0 < len(model) <= MAX_MODEL or "\0" in model:
        raise _bad(f"{brief(model)} is not the name of a model", "model")
    if model != present.model and not allows(model):
        raise _bad(f"{brief(model)} is not a model of this server; registered are {', '.join(REGISTRY)}", "model")
    small = changes.get("stitch", present.stitch)
    if isinstance(small, str) and small not in ("", present.stitch) and not ("\0" not in small and allows(small)):
        raise _bad(f"{brief(small)} is not a model of this server; registered are {', '.join(REGISTRY)}", "stitch")
    try:
        spec = dataclasses.replace(present, **changes)  # type: ignore[arg-type]
    except SpecError as error:
        raise _bad(str(error), error.field) from error
    used = {use.name for use in present.loras}
    for use in spec.loras:
        if use.name not in used and not allows_lora(use.name):
            raise _bad(f"{brief(use.name)} is not a LoRA of this server; the welcome lists them in change.loras", "loras")
    return spec


def fitted_settings(settings: Settings, check: Callable[[Settings], None]) -> tuple[Settings, dict[str, str]]:
    """`settings` as far as `check` lets them be, and for each that had to change the reason.

    A whole number goes down to the largest allowed below it, anything else to its default. Raises SettingsError if that does not
    help.
    """
    reasons: dict[str, str] = {}
    while True:
        try:
            check(settings)
            return settings, reasons
        except SettingsError as error:
            if error.field in reasons or error.field not in FIELDS:
                raise
            reasons[error.field] = error.reason
            settings = _lowered(settings, error.field, check)


def _lowered(settings: Settings, key: str, check: Callable[[Settings], None]) -> Settings:
    rule = FIELDS[key].metadata
    if rule["kind"] == "integer":
        for value in range(int(settings.flat()[key]) - 1, rule["low"] - 1, -1):
            candidate = settings.patched({key: value})
            try:
                check(candidate)
            except SettingsError as error:
                if error.field == key:
                    continue
            return candidate
    return settings.patched({key: FIELDS[key].default})


def build(
    factory: Callable[[StreamSpec], StreamPipeline], specs: Sequence[StreamSpec], wishes: Sequence[Settings]
) -> list[StreamPipeline]:
    """A pipeline of each spec that has shown one picture for every session's settings. Slow; raises whatever goes wrong."""
    built: list[StreamPipeline] = []
    try:
        for spec in specs:
            built.append(factory(spec))
            for settings in wishes or (Settings(),):
                built[-1].rehearse(fitted_settings(settings, built[-1].check)[0], max(1, len(wishes)))
    except BaseException:
        for pipeline in built:
            pipeline.close()
        raise
    return built


def client_error(error: Exception, changes: Mapping[str, object]) -> ProtocolError:
    """The error for the client whose change failed. It keeps no reference to `error`: its traceback holds the half-built
    pipeline."""
    requested = next((key for key in CHANGEABLE if key in changes), "spec")
    if isinstance(error, SpecError | SettingsError):
        return _bad(str(error), error.field)
    if isinstance(error, ModelError):
        return _bad(str(error), "loras" if "loras" in changes and "model" not in changes else "model")
    if isinstance(error, RillError):
        return _bad(str(error), requested)
    return _bad(f"the pipeline cannot be built ({type(error).__name__}); the present one stays", requested)


def drop_tracebacks(error: BaseException | None) -> None:
    """Of an error that has been logged, and of its causes. Their frames hold pipelines, which would stay in memory for as long
    as a log record or the Future of the change keeps the error."""
    while error is not None:
        error.__traceback__ = None
        error = error.__cause__ or error.__context__


def facts(pipeline: StreamPipeline) -> dict[str, Any]:
    """`spec` and `model` of a welcome."""
    info = pipeline.info
    model = {
        "name": info.name,
        "title": info.title,
        "native_size": info.native_size,
        "max_steps": info.max_steps,
        "guidance_trained": info.guidance_trained,
        "prompts": list(info.prompts),
        "modifiers": [{"prompt": word.prompt, "group": word.group} for word in info.vocabulary.modifiers],
        "scenes": [word.prompt for word in info.vocabulary.scenes],
        "conditions": _conditions(info),
        "presets": [_preset(preset) for preset in info.presets if _takes(pipeline, preset)],
    }
    return {"spec": dataclasses.asdict(pipeline.spec), "model": model}


def _preset(preset: Preset) -> dict[str, Any]:
    return {"name": preset.name, "settings": dict(preset.settings), "cost": preset.cost, "ssim": preset.ssim}


def _takes(pipeline: StreamPipeline, preset: Preset) -> bool:
    """Whether this stream can do what a preset sets: it may allow fewer steps than the model."""
    try:
        pipeline.check(Settings().patched(preset.settings))
    except SettingsError as error:
        log.warning("preset %s is not offered: %s", preset.name, error)
        return False
    return True


def _conditions(info: ModelInfo) -> list[str]:
    """What a model takes beside the words: a map for its ControlNet, a picture prompt, the amount of a painted style."""
    has = {"control": bool(info.controls), "picture": info.takes_pictures, "style": bool(info.vocabulary.painted)}
    return [name for name, there in has.items() if there]


def _bad(message: str, field: str) -> ProtocolError:
    return ProtocolError(message, code="bad_spec", field=field)
