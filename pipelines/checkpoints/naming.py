"""Parses the name of a model, the value of `--model`. Opens no files."""

from __future__ import annotations

import dataclasses
import itertools
import re
from collections.abc import Iterable
from pathlib import Path

from pipelines.checkpoints.registry import DISTILLED, EXTRAS, REGISTRY
from pipelines.values.models import HUB_ID, REVISION, Control, Extra, Hub, Location, Lora, ModelInfo, PictureAdapter
from pipelines.values.settings import MAPS
from pipelines.values.types import LoraUse, ModelError

PREDICTIONS = ("epsilon", "v_prediction", "sample")
MAX_STRENGTH = 4.0
MAX_CONTROLS = 4
MAX_TIMESTEPS = 8
LAST_TIMESTEP = 999
GIVEN = ("control=", "picture=", "encoder=", "vae=", "unet=", "embedding=")
"""Beginnings of parts that are given by a path or hub id."""

ONCE = {
    "unet": "UNet",
    "picture": "adapter for picture prompts",
    "encoder": "picture encoder",
    "autoencoder": "autoencoder",
    "prediction": "prediction type",
    "timesteps": "list of timesteps",
}
"""Kinds of parts of which a model takes one only."""

PARTS = {"vae": "autoencoder"}


def describe(name: str) -> ModelInfo:
    """The entry of a model's name. Opens no files. Raises ModelError.

    The name is: a registered name, with @commit, or @main for the newest, if the registry has no commit; a hub id (owner/name,
    or owner/name@commit); a local folder or .safetensors file. If the whole text is an existing path, it is the name. Parts
    may follow after "+": a registered extra ("lcm-lora:0.8", "taesd"); a LoRA as hub id, owner/name/file.safetensors or local
    file with its strength (":0.8"); a UNet or an autoencoder instead of its own ("unet=", "vae="); up to MAX_CONTROLS
    ControlNets or T2I-Adapters ("control=" and a folder, file or hub id, or a registered one), each with the map that it
    follows and its weight (":canny:0.5"); an adapter for picture prompts ("picture=" and its file, or the folder of it, with
    image_encoder/ there or in models/ beside, or named by "encoder="); textual inversions ("embedding=" and a file or a folder);
    the timesteps that a distilled UNet was trained at ("timesteps=999,749"); or a prediction type.
    """
    if name in REGISTRY:
        return _pinned(REGISTRY[name])
    if Path(name).expanduser().exists():
        return local(Path(name).expanduser())
    first, *extras = _pieces(name)
    info = _registered(first) or _unregistered(first)
    _check_once(extras)
    for extra in extras:
        info = _with(info, extra)
    _check_maps(info)
    info = _as_trained(info)
    return dataclasses.replace(info, name=name if len(name) < 80 else info.name) if extras else info


def _as_trained(info: ModelInfo) -> ModelInfo:
    """`info` with what is known of a published UNet or LoRA by its file's name, unless the entry or its name states it."""
    if info.trained_timesteps:
        return info
    for place in (info.unet, *(lora.location for lora in info.loras)):
        name = (place.file or place.repo) if isinstance(place, Hub) else "" if place is None else place.name
        for start, timesteps, prediction in DISTILLED:
            if name.rpartition("/")[2].lower().startswith(start):
                info = _trained(info, timesteps)
                return dataclasses.replace(info, prediction=info.prediction or prediction, guidance_trained=False)
    return info


def _trained(info: ModelInfo, timesteps: tuple[int, ...]) -> ModelInfo:
    return dataclasses.replace(info, trained_timesteps=timesteps, max_steps=len(timesteps))


def _timesteps(given: str) -> tuple[int, ...]:
    """ "999,749" as numbers. Raises ModelError."""
    try:
        found = tuple(int(number) for number in given.split(","))
    except ValueError:
        found = ()
    falls = all(later < earlier for earlier, later in itertools.pairwise(found))
    if not (1 <= len(found) <= MAX_TIMESTEPS and falls and found[0] <= LAST_TIMESTEP and found[-1] >= 0):
        raise ModelError(
            f"'timesteps={given}': 1 to {MAX_TIMESTEPS} whole numbers that fall, from {LAST_TIMESTEP} to 0, are allowed: "
            "timesteps=999,749,499,249"
        )
    return found


def _check_maps(info: ModelInfo) -> None:
    """Raises ModelError for too many ControlNets, or several that would follow the one map of the live setting."""
    if len(info.controls) > MAX_CONTROLS:
        raise ModelError(f"{len(info.controls)} ControlNets: at most {MAX_CONTROLS} are allowed")
    if sum(control.map is None for control in info.controls) > 1:
        raise ModelError(
            "several ControlNets: the name must state the map of each, and of all but one at least: "
            f"+control=FOLDER:{MAPS[0]}; the maps are {', '.join(MAPS)}"
        )


def _map_and_weight(text: str) -> tuple[str, str | None, float]:
    """(name, map, weight) of "NAME:canny:0.5"; what is not given is None and 1. Raises ModelError for a weight out of range."""
    what, map_, weight = text, None, 1.0
    while not _exists(what):
        rest, colon, last = what.rpartition(":")
        if colon and last in MAPS and map_ is None:
            what, map_ = rest, last
        elif colon and _is_number(last) and map_ is None and weight == 1.0:
            what, weight = rest, _strength(text, last)
        else:
            break
    return what, map_, weight


def _exists(path: str) -> bool:
    try:
        return Path(path).expanduser().exists()
    except (OSError, ValueError):  # too long, or with a zero byte
        return False


def _pieces(name: str) -> list[str]:
    """The parts of a name between its plus signs. A path on this machine may contain plus signs itself: of all ways to read a
    part, the longest that exists counts."""
    words, pieces = name.split("+"), []
    while words:
        counts = (count for count in range(len(words), 1, -1) if _is_path("+".join(words[:count])))
        count = next(counts, 1)
        pieces.append("+".join(words[:count]))
        words = words[count:]
    return pieces


def _is_path(piece: str) -> bool:
    """Whether a part of a name is a path that exists: with a strength behind it, or one of GIVEN before it."""
    plain = piece.partition("=")[2] if piece.startswith(GIVEN) else piece
    what, colon, number = plain.rpartition(":")
    if piece.startswith("control="):
        what, number = _map_and_weight(plain)[0], "1"
    return _exists(plain) or (bool(colon) and _is_number(number) and _exists(what))


def _is_rest_of_path(text: str) -> bool:
    """Whether what follows a colon belongs to the path before it, as after a drive's letter, and is no number."""
    return "/" in text or "\\" in text


def _is_number(text: str) -> bool:
    try:
        float(text)
    except ValueError:
        return False
    return True


def _check_once(extras: list[str]) -> None:
    """Raises ModelError for two parts of which a model takes one."""
    kinds: dict[str, str] = {}
    for extra in extras:
        known = EXTRAS.get(extra)
        part = extra.partition("=")[0]
        kind = PARTS.get(part, part) if part != extra else "prediction" if extra in PREDICTIONS else "lora"
        kind = kind if known is None else known.kind
        if kind in ONCE and kind in kinds:
            raise ModelError(f"{kinds[kind]!r} and {extra!r}: a model takes one {ONCE[kind]}")
        kinds[kind] = extra


def with_loras(info: ModelInfo, loras: Iterable[LoraUse]) -> ModelInfo:
    """`info` with these LoRAs after its own. Opens no files. Raises ModelError for an invalid name."""
    for use in loras:
        if use.name in EXTRAS and EXTRAS[use.name].kind != "lora":
            raise ModelError(f"{use.name} is {EXTRAS[use.name].title[0].lower()}{EXTRAS[use.name].title[1:]}, no LoRA")
        info = _added(info, use.name, use.weight)
    return info


def local(path: Path) -> ModelInfo:
    """An entry without extras for a folder or file on this machine."""
    kind = "file" if path.suffix == ".safetensors" else "folder"
    return ModelInfo(path.name, f"Local {kind} {path.name}", path, "unknown", max_steps=8)


def _registered(name: str) -> ModelInfo | None:
    """The entry of a registered name, or of NAME@COMMIT if the registry has no commit; None for other names."""
    plain, at, commit = name.partition("@")
    info = REGISTRY.get(plain)
    if info is None:
        return None
    if not at:
        return _pinned(info)
    if not info.unpinned or re.fullmatch(REVISION, commit) is None:
        what = "has pinned commits already" if not info.unpinned else f"has no commit {commit!r}"
        raise ModelError(f"{plain}: {what}; name another version by its repository, owner/name@commit")
    pinned = {name: dataclasses.replace(getattr(info, name), revision=commit) for name in info.unpinned}
    return dataclasses.replace(info, name=name, **pinned)


def _pinned(info: ModelInfo) -> ModelInfo:
    """The entry itself. Raises ModelError if a part has no commit, because its branch may change at any time."""
    if not info.unpinned:
        return info
    repos = ", ".join(getattr(info, part).repo for part in info.unpinned)
    raise ModelError(
        f"{info.name}: Rill has no commit for {repos}; add one, {info.name}@COMMIT, or use the newest with {info.name}@main"
    )


def _unregistered(name: str) -> ModelInfo:
    path = Path(name).expanduser()
    found = HUB_ID.fullmatch(name)
    if path.exists() or found is None or name.endswith(".safetensors"):
        return local(path)
    repo, revision = found.groups()
    return ModelInfo(name, f"{repo} of the Hugging Face hub", Hub(repo, revision), "see its model card", max_steps=8)


def _with(info: ModelInfo, extra: str) -> ModelInfo:
    if extra in PREDICTIONS:
        return dataclasses.replace(info, prediction=extra)
    part, equals, where = extra.partition("=")
    if equals and not where:
        raise ModelError(f"{extra!r}: names nothing after the equals sign")
    if equals and part in ("vae", "unet"):
        location = _part_location(where)
        return dataclasses.replace(info, autoencoder=location) if part == "vae" else dataclasses.replace(info, unet=location)
    if equals and part == "embedding":
        return dataclasses.replace(info, embeddings=(*info.embeddings, _part_location(where)))
    if equals and part == "timesteps":
        return _trained(info, _timesteps(where))
    if equals and part in ("control", "picture", "encoder"):
        return _conditioned(info, part, where)
    if (known := EXTRAS.get(extra.partition(":")[0])) is not None and known.kind == "control":
        return _steered(info, extra)
    what, colon, number = extra.rpartition(":")
    whole = colon and not _is_number(number) and (_is_path(extra) or _is_rest_of_path(number))  # a path with a colon in it
    return _added(info, what, _strength(extra, number)) if colon and not whole else _added(info, extra, 1.0)


def _added(info: ModelInfo, what: str, strength: float) -> ModelInfo:
    """`info` with a registered extra, or with a LoRA from a file or hub name."""
    known = EXTRAS.get(what)
    if known is None:
        return dataclasses.replace(info, loras=(*info.loras, Lora(_lora_location(what), strength)))
    _check_family(info, known)
    if known.kind == "autoencoder":
        return dataclasses.replace(info, autoencoder=known.location)
    if known.kind == "picture" and known.encoder is not None:
        return dataclasses.replace(info, picture=PictureAdapter(known.location, known.encoder))
    steps = known.max_steps or info.max_steps
    return dataclasses.replace(info, loras=(*info.loras, Lora(known.location, strength)), max_steps=steps)


def _conditioned(info: ModelInfo, part: str, where: str) -> ModelInfo:
    """`info` with a ControlNet, or an adapter for picture prompts."""
    if part == "control":
        return _steered(info, where)
    if part == "encoder":
        if info.picture is None:
            raise ModelError(f"'encoder={where}': comes after an adapter for picture prompts, +picture=")
        return dataclasses.replace(info, picture=dataclasses.replace(info.picture, encoder=_part_location(where)))
    location = _part_location(where)
    return dataclasses.replace(info, picture=PictureAdapter(location, _encoder_of(location)))


def _encoder_of(adapter: Location) -> Location:
    """The picture encoder of an adapter: in image_encoder/ beside its file; in the published repository that of every file with
    "vit-h" in its name is in models/."""
    if isinstance(adapter, Path):
        return (adapter.parent if adapter.suffix == ".safetensors" else adapter) / "image_encoder"
    folder, _, name = adapter.file.rpartition("/")
    if "vit-h" in name:
        folder = "models"
    return Hub(adapter.repo, adapter.revision, f"{folder}/image_encoder/model.safetensors".lstrip("/"))


def _steered(info: ModelInfo, given: str) -> ModelInfo:
    """`info` with one more ControlNet or T2I-Adapter: a registered one, or a folder, file or hub id, with its map and weight."""
    what, map_, weight = _map_and_weight(given)
    known = EXTRAS.get(what)
    if known is None:
        location = _part_location(what)
    elif known.kind != "control":
        raise ModelError(f"{what} is {known.title[0].lower()}{known.title[1:]}, no ControlNet")
    else:
        _check_family(info, known)
        location = known.location
    return dataclasses.replace(info, controls=(*info.controls, Control(location, map_, weight)))


def _check_family(info: ModelInfo, known: Extra) -> None:
    if info.family and info.family not in known.families:
        raise ModelError(f"{known.name} is for {' and '.join(known.families)}; {info.name} is {info.family}")


def _part_location(where: str) -> Location:
    """A folder or file on this machine, or one of the hub."""
    path = Path(where).expanduser()
    return path if path.exists() else _on_hub(where) or path


def _lora_location(what: str) -> Location:
    path = Path(what).expanduser()
    if path.exists():
        return path
    if found := _on_hub(what):
        return found
    raise ModelError(f"{what!r} is not a file, hub id, prediction type or registered extra; registered are {', '.join(EXTRAS)}")


def _on_hub(what: str) -> Hub | None:
    """owner/name or owner/name/folders/file.safetensors, each name perhaps with @commit; None for other texts."""
    owner, _, rest = what.partition("/")
    name, _, file = rest.partition("/")
    found = HUB_ID.fullmatch(f"{owner}/{name}")
    if found is None or (file and (not file.endswith((".safetensors", ".gguf")) or ".." in file.split("/"))):
        return None
    return Hub(found[1], found[2], file)


def _strength(extra: str, number: str) -> float:
    try:
        strength = float(number)
    except ValueError:
        raise ModelError(f"{extra!r}: {number!r} is not a strength") from None
    if not -MAX_STRENGTH <= strength <= MAX_STRENGTH:
        raise ModelError(f"{extra!r}: a strength from {-MAX_STRENGTH:g} to {MAX_STRENGTH:g} is allowed")
    return strength
