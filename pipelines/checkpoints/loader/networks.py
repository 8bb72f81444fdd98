"""Makes modules of diffusers' and transformers' classes from configuration and checked weights.

A network is built on the meta device, and then the tensors of the file are assigned. So a half-precision checkpoint never
exists twice, or in float32. Every tensor must fit, so no weight keeps a random value.
"""

from __future__ import annotations

from collections.abc import Mapping
from types import MappingProxyType
from typing import Any

import torch
from safetensors import SafetensorError, safe_open
from torch import Tensor, nn

from pipelines.checkpoints.loader import gguf_file
from pipelines.checkpoints.loader.files import Weights
from pipelines.networks import latent_gate, position_bias
from pipelines.values.types import ModelError

FP8 = (torch.float8_e4m3fn, torch.float8_e5m2)
IGNORED = ("position_ids",)  # buffers in old text encoders' files; newer classes compute them
OLD_ATTENTION = {"query.": "to_q.", "key.": "to_k.", "value.": "to_v.", "proj_attn.": "to_out.0."}
CLIP_FIELDS = (
    "vocab_size", "hidden_size", "intermediate_size", "projection_dim", "num_hidden_layers", "num_attention_heads",
    "max_position_embeddings", "hidden_act", "layer_norm_eps", "attention_dropout", "initializer_range", "initializer_factor",
    "pad_token_id", "bos_token_id", "eos_token_id", "num_channels", "image_size", "patch_size",
)  # fmt: skip
SHOWN = 3  # names in an error

LOADING_ERRORS = (OSError, ValueError, RuntimeError, KeyError, TypeError, AttributeError, NotImplementedError, SafetensorError)
"""Exceptions of the libraries for invalid files."""


def empty(
    kind: str, config: Mapping[str, Any], label: str, shapes: Mapping[str, tuple[int, ...]] = MappingProxyType({})
) -> nn.Module:
    """The network of a configuration on the meta device: shapes without memory. Raises ModelError.

    shapes: of the tensors that will be assigned. They are needed for position biases (pipelines.networks.position_bias) and
    a latent's gate (latent_gate), which no configuration describes.
    """
    try:
        with torch.device("meta"):
            module: nn.Module = _class(kind).from_config(dict(config))
            if latent_gate.is_in(shapes):
                latent_gate.add(module)
        position_bias.add(module, position_bias.cells_of(shapes.items()))
        return module
    except LOADING_ERRORS as error:
        raise ModelError(f"{label}/config.json: is not the configuration of a {kind}: {error}") from error


def _class(kind: str) -> Any:
    if kind == "CosineAutoencoder":
        from pipelines.networks.cosine_autoencoder import CosineAutoencoder

        return CosineAutoencoder
    if kind == "Painter":
        from pipelines.networks.painter import Painter

        return Painter
    if kind == "TrunkPainter":
        from pipelines.networks.trunk import TrunkPainter

        return TrunkPainter
    if kind == "StyleReader":
        from pipelines.networks.style_reader import StyleReader

        return StyleReader
    import diffusers

    quiet()
    return getattr(diffusers, kind)


def build(kind: str, config: Mapping[str, Any], tensors: Mapping[str, Tensor], label: str) -> nn.Module:
    """A network with these tensors, in their dtype, in evaluation mode. Raises ModelError for missing or unfit tensors."""
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
            raise ModelError(f"{label}: {name} has shape {list(shapes[name])}; the configuration requires {list(shape)}")


def modern_name(name: str) -> str:
    """The present name of a tensor. Published files still use the names that an autoencoder's attention had before 2023."""
    if ".attentions." in name and "block" in name:
        for old, new in OLD_ATTENTION.items():
            if f".{old}" in name and "transformer_blocks" not in name:
                return name.replace(f".{old}", f".{new}")
    return name


def read(weights: Weights) -> dict[str, Tensor]:
    """All tensors, in the files' dtypes; fp8 as float16, which holds the same numbers, or with their scale as float32."""
    tensors: dict[str, Tensor] = {}
    for path in weights.files:
        if path.suffix == gguf_file.SUFFIX:
            tensors.update(gguf_file.tensors(path, path.name))
            continue
        try:
            with safe_open(path, framework="pt") as file:
                found = {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118
        except LOADING_ERRORS as error:
            raise ModelError(f"{path.name}: cannot be read: {error}") from error
        tensors.update({name: tensor.half() if tensor.dtype in FP8 else tensor for name, tensor in found.items()})
    for name, scale in weights.scales.items():
        factor = tensors[scale].float()
        tensors[name] = tensors[name].float() * factor.reshape(-1, *[1] * (tensors[name].ndim - 1))
    return {name: tensors[name] for name in weights.tensors} if weights.scales else tensors


def read_one(weights: Weights, name: str) -> Tensor:
    """One tensor, as it is in its file. Raises ModelError."""
    if name not in weights.homes:
        raise ModelError(f"{weights.files[0].name}: has no tensor {name!r}")
    try:
        with safe_open(weights.homes[name], framework="pt") as file:
            tensor: Tensor = file.get_tensor(name)
            return tensor
    except LOADING_ERRORS as error:
        raise ModelError(f"{weights.homes[name].name}: cannot be read: {error}") from error


def clip_encoder(kind: str, config: Mapping[str, Any], weights: Weights, label: str) -> nn.Module:
    """A CLIP encoder of texts or pictures in float32. Half precision is slow or missing on a CPU, and it runs once per prompt.

    kind: CLIPTextModel, CLIPTextModelWithProjection or CLIPVisionModelWithProjection. Raises ModelError.
    """
    import transformers

    made = transformers.CLIPVisionConfig if "Vision" in kind else transformers.CLIPTextConfig
    try:
        described = made(**_known(config))
    except LOADING_ERRORS as error:
        raise ModelError(f"{label}/config.json: is not the configuration of a {kind}: {error}") from error
    return _loaded(getattr(transformers, kind), described, weights, label)


def empty_text(part: str, config: Mapping[str, Any], label: str) -> nn.Module:
    """The network of text_encoder or text_encoder_2 on the meta device. Raises ModelError."""
    import transformers

    kind = "CLIPTextModelWithProjection" if part == "text_encoder_2" else "CLIPTextModel"
    try:
        with torch.device("meta"):
            made: nn.Module = getattr(transformers, kind)(transformers.CLIPTextConfig(**_known(config)))
    except LOADING_ERRORS as error:
        raise ModelError(f"{label}/config.json: is not the configuration of a {kind}: {error}") from error
    return made


def check_text(module: nn.Module, weights: Weights, label: str) -> None:
    """Raises ModelError if the file lacks a tensor of the text encoder, or has it in another shape."""
    shapes = {_bare(name): info.shape for name, info in weights.tensors.items()}
    wanted = {_bare(name): tuple(tensor.shape) for name, tensor in module.state_dict().items() if not name.endswith(IGNORED)}
    missing = sorted(wanted.keys() - shapes.keys())
    unfit = sorted(name for name in wanted.keys() & shapes.keys() if wanted[name] != shapes[name])
    if missing or unfit:
        found = f"{_some('missing', missing)}{_some('unfit', unfit)}".rstrip("; ")
        raise ModelError(f"{label}: weights and configuration differ: {found}")


def _bare(name: str) -> str:
    """A text encoder's tensor without the prefix that transformers left away with version 5.6."""
    return name.removeprefix("text_model.")


def safety_checker(config: Mapping[str, Any], weights: Weights, label: str, side: int) -> nn.Module:
    """The published safety checker in float32, for pictures of side x side pixels. Raises ModelError."""
    import transformers
    from diffusers.pipelines.stable_diffusion.safety_checker import StableDiffusionSafetyChecker

    vision = {**(config.get("vision_config") or {}), **(config.get("vision_config_dict") or {})}
    try:
        described = transformers.CLIPConfig(vision_config=_known(vision), projection_dim=int(config.get("projection_dim", 512)))
    except LOADING_ERRORS as error:
        raise ModelError(f"{label}/config.json: is not the configuration of a safety checker: {error}") from error
    if described.vision_config.image_size != side:
        raise ModelError(f"{label}: takes pictures of {described.vision_config.image_size} pixels, not of {side}")
    return _loaded(StableDiffusionSafetyChecker, described, weights, label)


def _known(config: Mapping[str, Any]) -> dict[str, Any]:
    """The fields that describe a CLIP network. Other fields name adapters, kernels or code, which Rill never loads."""
    return {name: config[name] for name in CLIP_FIELDS if name in config}


def _loaded(cls: Any, config: Any, weights: Weights, label: str) -> nn.Module:
    """A network of transformers with these weights, in float32. It gets tensors instead of a folder, so it opens no file."""
    quiet()
    try:
        module, about = cls.from_pretrained(
            None, config=config, state_dict=read(weights), dtype=torch.float32, local_files_only=True, output_loading_info=True
        )
    except LOADING_ERRORS as error:
        raise ModelError(f"{label}: cannot be loaded: {error}") from error
    missing = sorted(name for name in about["missing_keys"] if not name.endswith(IGNORED))
    if missing or about["mismatched_keys"]:
        unfit = sorted(str(entry[0]) for entry in about["mismatched_keys"])
        raise ModelError(
            f"{label}: weights and configuration differ: {_some('missing', missing)}{_some('unfit', unfit)}".rstrip("; ")
        )
    loaded: nn.Module = module.eval().requires_grad_(False)
    return loaded


def quiet() -> None:
    """Switch off the libraries' notices, and all progress bars except those of downloads. Errors still raise exceptions."""
    import diffusers.utils.logging as diffusers_logging
    import transformers.utils.logging as transformers_logging
    from huggingface_hub.utils import are_progress_bars_disabled, enable_progress_bars  # type: ignore[attr-defined]

    hidden = are_progress_bars_disabled()

    diffusers_logging.set_verbosity_error()
    transformers_logging.set_verbosity_error()
    transformers_logging.disable_progress_bar()  # also the hub's
    if not hidden:
        enable_progress_bars()


def _some(what: str, names: list[str]) -> str:
    if not names:
        return ""
    rest = f" and {len(names) - SHOWN} more" if len(names) > SHOWN else ""
    return f"{what} {', '.join(names[:SHOWN])}{rest}; "
