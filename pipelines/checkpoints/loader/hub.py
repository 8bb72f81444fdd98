"""Downloads the needed files of a Hugging Face hub repository, once, at one commit, with readable errors.

It requests only configuration, vocabulary and safetensors: no code, no pickles. Downloads are in the hub's own cache, which all
programs on the machine share.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Callable, Iterable
from pathlib import Path, PurePosixPath
from typing import TypeVar

from pipelines.checkpoints.loader.files import PICKLED, choose_weights
from pipelines.values.models import Hub, Location
from pipelines.values.types import ModelError

T = TypeVar("T")


class Unreachable(ModelError):
    """The hub does not answer. Files of an earlier download may be enough."""


CONFIGURATION = ("model_index.json", "config.json", "scheduler_config.json", "preprocessor_config.json")
VOCABULARY = (
    "vocab.json",
    "merges.txt",
    "tokenizer.json",
    "tokenizer_config.json",
    "special_tokens_map.json",
    "added_tokens.json",
)
PARTS = ("unet", "vae", "text_encoder", "text_encoder_2", "tokenizer", "tokenizer_2", "scheduler")


def locate(location: Location, offline: bool) -> Path:
    """A folder or file on this machine. Missing files of the hub are downloaded first. Raises ModelError.

    offline: use only files that were downloaded before. HF_HUB_OFFLINE, which the hub's library reads, does the same.
    """
    if isinstance(location, Path):
        return location.expanduser()
    if location.file and not location.file.endswith((".safetensors", ".gguf", ".json")):
        raise ModelError(f"{location}: only .safetensors files are loaded, and .gguf files of UNets")
    if offline and not _known(location):
        raise _absent(location)
    from huggingface_hub import is_offline_mode

    offline = offline or is_offline_mode()
    if location.file:
        return _file(location, offline)
    return _snapshot(location, offline)


def _known(hub: Hub) -> bool:
    """Whether the hub's cache holds anything of a repository. Cheap: the library's client is not imported."""
    from huggingface_hub import constants

    return (Path(constants.HF_HUB_CACHE) / f"models--{hub.repo.replace('/', '--')}").is_dir()


def _absent(hub: Hub) -> ModelError:
    at = f"{hub}" if hub.revision is None else f"{hub} at {hub.revision}"
    return ModelError(f"{at}: is not downloaded yet, and downloads are switched off")


def _file(hub: Hub, offline: bool) -> Path:
    from huggingface_hub import hf_hub_download

    return Path(_call(hub, offline, lambda: hf_hub_download(hub.repo, hub.file, revision=hub.revision, local_files_only=offline)))


def _snapshot(hub: Hub, offline: bool) -> Path:
    from huggingface_hub import HfApi, snapshot_download

    if offline:
        return _call(hub, offline, lambda: _downloaded(hub))
    try:
        about = _call(hub, offline, lambda: HfApi().model_info(hub.repo, revision=hub.revision))
    except Unreachable as unreachable:
        try:
            return _snapshot(hub, offline=True)
        except ModelError:
            raise unreachable from None
    names = [sibling.rfilename for sibling in about.siblings or ()]
    patterns = needed(names)
    if not any(name.endswith(".safetensors") for name in patterns):
        pickled = [name for name in names if name.endswith(PICKLED)]
        reason = f"only pickled weights ({pickled[0]}), which are refused" if pickled else "no .safetensors file"
        raise ModelError(f"{hub}: {reason}")
    # The listed commit, so that a push in between cannot mix two versions.
    return Path(_call(hub, offline, lambda: snapshot_download(hub.repo, revision=about.sha, allow_patterns=patterns)))


def _downloaded(hub: Hub) -> Path:
    """The folder of an earlier download. Raises the exceptions of the hub's library."""
    from huggingface_hub import errors, snapshot_download

    try:
        return Path(snapshot_download(hub.repo, revision=hub.revision, local_files_only=True))
    except errors.IncompleteSnapshotError as error:
        # Files that were not requested are missing too. The check of the folder reports missing parts by name.
        return Path(error.snapshot_path)


def needed(names: Iterable[str]) -> list[str]:
    """The files of a repository that a model needs: configuration, vocabulary, and one set of weights for each part."""
    by_folder: dict[str, list[str]] = defaultdict(list)
    for name in names:
        pure = PurePosixPath(name)
        if len(pure.parts) <= 2:
            by_folder[pure.parts[0] if len(pure.parts) == 2 else ""].append(pure.name)
    wanted: list[str] = []
    has_parts = "unet" in by_folder
    for folder, files in by_folder.items():
        if folder and folder not in PARTS:
            continue
        prefix = f"{folder}/" if folder else ""
        wanted += [prefix + name for name in files if name in CONFIGURATION or (folder and name in VOCABULARY)]
        chosen = (
            choose_weights(files) if folder or not has_parts else None
        )  # repositories with parts also have single files of the same model
        if chosen is not None:
            wanted.append(prefix + chosen)
            stem = chosen.partition(".")[0]
            if chosen.endswith(".json"):
                wanted += [prefix + name for name in files if name.startswith(stem) and "-of-" in name]
    return sorted(wanted)


def _call(hub: Hub, offline: bool, ask: Callable[[], T]) -> T:
    """The result of a call of the hub's library. Raises ModelError with one sentence instead of the library's exceptions."""
    from huggingface_hub import errors

    at = f"{hub}" if hub.revision is None else f"{hub} at {hub.revision}"
    try:
        return ask()
    except (errors.LocalEntryNotFoundError, errors.OfflineModeIsEnabled) as error:
        if offline or isinstance(error, errors.OfflineModeIsEnabled):
            raise _absent(hub) from error
        raise ModelError(f"{at}: is not downloaded yet, and the hub cannot be reached") from error
    except errors.GatedRepoError as error:
        raise ModelError(f"{at}: requires you to accept a licence on its page; then log in with `hf auth login`") from error
    except errors.RepositoryNotFoundError as error:
        raise ModelError(f"{at}: there is no such repository on the hub, or it is private") from error
    except errors.RevisionNotFoundError as error:
        raise ModelError(f"{at}: the repository has no such revision") from error
    except errors.EntryNotFoundError as error:
        raise ModelError(f"{at}: the repository has no such file") from error
    except (errors.HfHubHTTPError, errors.HFValidationError) as error:
        raise ModelError(f"{at}: the hub refuses: {str(error).splitlines()[0]}") from error
    except errors.HTTPError as error:  # type: ignore[attr-defined]  # of the hub library's HTTP client
        raise Unreachable(f"{at}: is not downloaded yet, and the hub cannot be reached: {error}") from error
    except OSError as error:
        raise ModelError(f"{at}: cannot be downloaded: {(str(error) or repr(error)).splitlines()[0]}") from error
