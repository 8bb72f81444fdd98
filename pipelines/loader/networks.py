"""Configuration and checked weights to modules. The place where diffusers' and transformers' classes are made.

A network is laid out without memory and then takes the tensors of the file as they are, so a half-precision checkpoint
never exists twice, nor in float32. Every tensor must fit: nothing is left at random values.
"""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from types import MappingProxyType
from typing import Any

import torch
from safetensors import SafetensorError, safe_open
from torch import Tensor, nn

from pipelines import place
from pipelines.loader.files import Weights
from pipelines.types import ModelError

AUTOENCODERS = ("CosineAutoencoder", "AutoencoderKL", "AutoencoderTiny")
IGNORED = ("position_ids",)  # buffers of old text encoders, which newer ones make themselves
OLD_ATTENTION = {"query.": "to_q.", "key.": "to_k.", "value.": "to_v.", "proj_attn.": "to_out.0."}
SHOWN = 3  # names in an error

LOADING_ERRORS = (OSError, ValueError, RuntimeError, KeyError, TypeError, AttributeError, NotImplementedError, SafetensorError)
"""What the libraries raise for files that are not what they claim to be."""


def pools_text(unet_config: Mapping[str, Any]) -> bool:
    """Whether a UNet takes pooled text and time ids (SDXL)."""
    return unet_config.get("addition_embed_type") == "text_time"


def empty(
    kind: str, config: Mapping[str, Any], label: str, shapes: Mapping[str, tuple[int, ...]] = MappingProxyType({})
) -> nn.Module:
    """The network of a configuration, on no device: shapes without memory. Raises ModelError.

    shapes: of the tensors that it shall take; those of place biases (pipelines.place) ask for what no configuration tells.
    """
    try:
        with torch.device("meta"):
            module: nn.Module = _class(kind).from_config(dict(config))
        place.add(module, place.cells_of(shapes.items()))
        return module
    except LOADING_ERRORS as error:
        raise ModelError(f"{label}/config.json: describes no {kind}: {error}") from error


def _class(kind: str) -> Any:
    if kind == "CosineAutoencoder":
        from pipelines.cosine_autoencoder import CosineAutoencoder

        return CosineAutoencoder
    if kind == "Painter":
        from pipelines.painter import Painter

        return Painter
    import diffusers

    quiet()
    return getattr(diffusers, kind)


def build(kind: str, config: Mapping[str, Any], tensors: Mapping[str, Tensor], label: str) -> nn.Module:
    """A network with these tensors, in their dtype, in evaluation mode. Raises ModelError for what is missing or unfit."""
    renamed = {modern_name(name): tensor for name, tensor in tensors.items()}
    shapes = {name: tuple(tensor.shape) for name, tensor in renamed.items()}
    module = empty(kind, config, label, shapes)
    check_fit(module, shapes, label)
    module.load_state_dict(renamed, strict=True, assign=True)
    return module.eval().requires_grad_(False)


def check_fit(module: nn.Module, shapes: Mapping[str, tuple[int, ...]], label: str) -> None:
    """Raises ModelError if tensors of these names and shapes are not exactly the module's."""
    wanted = {name: tuple(tensor.shape) for name, tensor in module.state_dict().items()}
    missing = sorted(wanted.keys() - shapes.keys())
    extra = sorted(shapes.keys() - wanted.keys())
    if missing or extra:
        raise ModelError(
            f"{label}: weights and configuration differ: {_some('missing', missing)}{_some('unknown', extra)}".rstrip("; ")
        )
    for name, shape in wanted.items():
        if shapes[name] != shape:
            raise ModelError(f"{label}: {name} has shape {list(shapes[name])}; the configuration asks for {list(shape)}")


def modern_name(name: str) -> str:
    """An autoencoder's attention had other names before 2023; the published files still have."""
    if ".attentions." in name and "block" in name:
        for old, new in OLD_ATTENTION.items():
            if f".{old}" in name and "transformer_blocks" not in name:
                return name.replace(f".{old}", f".{new}")
    return name


def read(weights: Weights) -> dict[str, Tensor]:
    """All tensors, as they are in the files."""
    tensors: dict[str, Tensor] = {}
    for path in weights.files:
        try:
            with safe_open(path, framework="pt") as file:
                tensors.update({name: file.get_tensor(name) for name in file.keys()})  # noqa: SIM118
        except LOADING_ERRORS as error:
            raise ModelError(f"{path.name}: cannot be read: {error}") from error
    return tensors


def pretrained_encoder(kind: str, folder: Path, weights: Weights, label: str) -> nn.Module:
    """A CLIP encoder of texts or pictures in float32: half precision is slow or missing on a CPU, and it runs once per prompt."""
    import transformers

    quiet()
    variant = "fp16" if ".fp16" in weights.files[0].name else None
    try:
        module, about = getattr(transformers, kind).from_pretrained(
            folder,
            variant=variant,
            dtype=torch.float32,
            use_safetensors=True,
            local_files_only=True,
            output_loading_info=True,
            trust_remote_code=False,
        )
    except LOADING_ERRORS as error:
        raise ModelError(f"{label}: cannot be loaded: {error}") from error
    missing = sorted(name for name in about["missing_keys"] if not name.endswith(IGNORED))
    if missing or about["mismatched_keys"]:
        unfit = sorted(str(entry[0]) for entry in about["mismatched_keys"])
        raise ModelError(
            f"{label}: weights and configuration differ: {_some('missing', missing)}{_some('unfit', unfit)}".rstrip("; ")
        )
    return module.eval().requires_grad_(False)


def pretrained_safety_checker(folder: Path, weights: Weights, label: str, side: int) -> nn.Module:
    """The published safety checker in float32, for pictures of side x side pixels. Raises ModelError."""
    from diffusers.pipelines.stable_diffusion.safety_checker import StableDiffusionSafetyChecker

    quiet()
    variant = "fp16" if ".fp16" in weights.files[0].name else None
    options = {"use_safetensors": True, "local_files_only": True, "output_loading_info": True}
    try:
        module, about = StableDiffusionSafetyChecker.from_pretrained(folder, variant=variant, dtype=torch.float32, **options)
    except LOADING_ERRORS as error:
        raise ModelError(f"{label}: cannot be loaded: {error}") from error
    missing = sorted(name for name in about["missing_keys"] if not name.endswith(IGNORED))
    if missing or about["mismatched_keys"]:
        raise ModelError(f"{label}: weights and configuration differ: {_some('missing', missing)}".rstrip("; "))
    if module.config.vision_config.image_size != side:
        raise ModelError(f"{label}: sees pictures of {module.config.vision_config.image_size} pixels, not of {side}")
    return module.eval().requires_grad_(False)


def tokenizer(folder: Path, label: str) -> Any:
    from transformers import CLIPTokenizer

    try:
        return CLIPTokenizer.from_pretrained(folder, local_files_only=True, trust_remote_code=False)
    except LOADING_ERRORS as error:
        raise ModelError(f"{label}: cannot be loaded: {error}") from error


def quiet() -> None:
    """No notices of the libraries between our own lines, and no progress bars but those of downloads; errors still come as
    exceptions."""
    import diffusers.utils.logging as diffusers_logging
    import transformers.utils.logging as transformers_logging
    from huggingface_hub.utils import are_progress_bars_disabled, enable_progress_bars  # type: ignore[attr-defined]

    hidden = are_progress_bars_disabled()

    diffusers_logging.set_verbosity_error()
    transformers_logging.set_verbosity_error()
    transformers_logging.disable_progress_bar()  # the hub's, too
    if not hidden:
        enable_progress_bars()


def _some(what: str, names: list[str]) -> str:
    if not names:
        return ""
    rest = f" and {len(names) - SHOWN} more" if len(names) > SHOWN else ""
    return f"{what} {', '.join(names[:SHOWN])}{rest}; "
