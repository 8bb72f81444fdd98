"""What a file or a folder is, where it is no model that Rill runs: a sentence for the refusal, with what would work.

Reads names, headers and first bytes, never weights.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any

from pipelines.checkpoints.loader.configs import RUNS
from pipelines.values.types import ModelError

PIPELINES = {
    "StableDiffusion3": "Stable Diffusion 3", "Flux": "Flux", "ZImage": "Z-Image", "QwenImage": "Qwen-Image", "Sana": "Sana",
    "PixArt": "PixArt", "Kandinsky": "Kandinsky", "AuraFlow": "AuraFlow", "HunyuanDiT": "Hunyuan-DiT", "Lumina": "Lumina",
    "StableCascade": "Stable Cascade", "Wuerstchen": "Würstchen", "Chroma": "Chroma", "HiDream": "HiDream", "IF": "DeepFloyd IF",
    "StableVideoDiffusion": "Stable Video Diffusion", "AnimateDiff": "AnimateDiff", "LTX": "LTX-Video", "Wan": "Wan",
    "CogV": "CogView or CogVideoX", "HunyuanVideo": "HunyuanVideo", "Cosmos": "Cosmos", "OmniGen": "OmniGen",
    "UniDiffuser": "UniDiffuser", "Marigold": "Marigold", "Amused": "aMUSEd", "Kolors": "Kolors", "Krea": "Krea",
    "Ovis": "Ovis-Image",
    "StableDiffusionUpscale": "the Stable Diffusion upscaler", "StableDiffusionLatentUpscale": "the latent upscaler",
    "StableDiffusionDepth2Img": "Stable Diffusion 2 depth",
}  # fmt: skip
"""Beginnings of a pipeline's class in model_index.json → the model."""

TYPES = {
    "flux": "Flux", "sd3": "Stable Diffusion 3", "xl_refiner": "the SDXL refiner", "upscale": "the Stable Diffusion upscaler",
    "stable_cascade": "Stable Cascade", "animatediff": "an AnimateDiff motion module", "controlnet": "a ControlNet",
    "ltx": "LTX-Video", "autoencoder-dc": "a deep compression autoencoder", "mochi": "Mochi", "hunyuan-video": "HunyuanVideo",
    "z-image-turbo-controlnet": "a ControlNet for Z-Image", "z-image": "Z-Image", "qwen-image": "Qwen-Image",
    "auraflow": "AuraFlow", "lumina": "Lumina", "sana": "Sana", "wan": "Wan", "hidream": "HiDream", "cosmos": "Cosmos",
    "krea": "Krea", "chroma": "Chroma", "minimax": "MiniMax",
}  # fmt: skip
"""Beginnings of the types that diffusers recognises in a single file → the model."""

NAMED = (
    ("quant_state.bitsandbytes", "quantised to 4 bits by bitsandbytes", "use the same model in float16, bfloat16 or fp8"),
    (".SCB", "quantised to 8 bits by bitsandbytes", "use the same model in float16, bfloat16 or fp8"),
    (".qweight", "quantised by GPTQ, AWQ or SVDQuant", "use the same model in float16, bfloat16 or fp8"),
    ("img_mod.1.", "Qwen-Image", RUNS), ("noise_refiner.", "Z-Image or Lumina", RUNS), ("adaln_single.", "PixArt or Sana", RUNS),
    ("t_block.1.", "PixArt", RUNS), ("single_transformer_blocks.", "Flux", RUNS), ("double_blocks.", "Flux", RUNS),
    ("single_blocks.", "Flux", RUNS), ("joint_blocks.", "Stable Diffusion 3", RUNS), ("add_q_proj.", "Stable Diffusion 3", RUNS),
    ("caption_projection.", "PixArt or Sana", RUNS), ("double_layers.", "AuraFlow", RUNS), ("image_proj.0.", "Kandinsky", RUNS),
    ("encoder_hid_proj.", "Kandinsky or Kolors", RUNS), ("motion_modules.", "an AnimateDiff motion module", RUNS),
    ("time_stack.", "Stable Video Diffusion", RUNS), ("temporal_transformer_blocks.", "Stable Video Diffusion", RUNS),
    ("image_proj.", "an IP-Adapter", "add it to a model by +picture=FILE"),
    ("controlnet_cond_embedding.", "a ControlNet", "add it to a model by +control=FILE"),
    ("zero_convs.", "a ControlNet", "add it to a model by +control=FILE"),
    ("adapter.body.", "a T2I-Adapter", "add it to a model by +control=FILE"), ("hada_w", "a LoHa", "add it to a model by +FILE"),
    ("lokr_w", "a LoKr", "add it to a model by +FILE"), ("lora", "a LoRA", "add it to a model by +FILE"),
    ("string_to_param", "a textual inversion", RUNS), ("emb_params", "a textual inversion", RUNS),
    ("clip_g", "a textual inversion for SDXL", RUNS),
    ("decoder.conv_in", "an autoencoder alone", "add it to a model by +vae=FILE"),
    ("resnets.0.time_emb_proj", "a UNet alone, without text encoder and autoencoder", "add it to a model by +unet=FILE"),
    ("input_blocks.", "a UNet alone, without text encoder and autoencoder", "add it to a model by +unet=FILE"),
    ("text_model.", "a text encoder alone", "name a whole model"), ("transformer_blocks.", "a transformer", RUNS),
)  # fmt: skip
"""Part of a tensor's name → (what the file is, what would work); the first that is found counts."""

ADDED_BY = {"UNet2DConditionModel": "+unet=FOLDER", "AutoencoderKL": "+vae=FOLDER", "AutoencoderTiny": "+vae=FOLDER"}
"""Classes of networks that replace those of a model → how."""

QUANTISED_DTYPES = ("I8", "U8", "BOOL", "I16", "U16", "I32", "U32", "I64", "U64")


def of_tensors(tensors: Mapping[str, Any]) -> str:
    """What a file with these tensors (name → something with a shape) is, and what would work."""
    for part, what, works in NAMED[:3]:
        if any(part in name for name in tensors):
            return f"it is {what}; {works}"
    if (known := _by_diffusers(tensors)) is not None:
        return f"it is {known}; {RUNS}"
    for part, what, works in NAMED[3:]:
        if any(part in name for name in tensors):
            return f"it is {what}; {works}"
    return f"it is of no known layout; {RUNS}"


def _by_diffusers(tensors: Mapping[str, Any]) -> str | None:
    """The model that diffusers recognises; None for a Stable Diffusion, or what it does not know."""
    from diffusers.loaders.single_file_utils import infer_diffusers_model_type

    try:
        kind = str(infer_diffusers_model_type(tensors))
    except (KeyError, IndexError, AttributeError, TypeError, ValueError):
        return None
    if "controlnet" in kind and not kind.startswith("z-image"):
        return None
    return next((what for start, what in TYPES.items() if kind.startswith(start)), None)


def check_index(index: Mapping[str, Any], names: Iterable[str], label: str) -> None:
    """Raises ModelError for a model_index.json of a model that Rill does not run. names: of the files in the folder's parts."""
    kind = str(index.get("_class_name", ""))
    found = set(names)
    classes = [str(entry[1]) for entry in index.values() if isinstance(entry, list) and len(entry) == 2]
    if any(name.startswith("openvino_") for name in found) or any(name.startswith("OV") for name in (kind, *classes)):
        raise ModelError(f"{label}: is an OpenVINO export; name the model that it was exported from, Rill makes its own graphs")
    if kind.startswith("Onnx") or any(name.endswith(".onnx") for name in found):
        raise ModelError(f"{label}: is an ONNX export; name the model that it was exported from, Rill makes its own graphs")
    if kind.startswith("StableDiffusionXL") and absent(index.get("text_encoder")) and not absent(index.get("text_encoder_2")):
        raise ModelError(f"{label}: is the SDXL refiner ({kind}); {RUNS}")
    matches = [start for start in PIPELINES if kind.startswith(start)]
    if matches:
        raise ModelError(f"{label}: is {PIPELINES[max(matches, key=len)]} ({kind}); {RUNS}")
    if "unet" not in index and (other := next((part for part in ("transformer", "prior", "decoder") if part in index), None)):
        raise ModelError(f"{label}: is a {kind or 'pipeline'} with a {other} instead of a UNet; {RUNS}")


def of_folder(names: Iterable[str], config: Mapping[str, Any]) -> str:
    """What a folder without model_index.json is, from its files' names and its config.json, and what would work."""
    found = sorted(names)
    kind = config.get("_class_name") or next(iter(config.get("architectures") or ()), None)
    weights = [name for name in found if name.endswith(".safetensors")]
    if "adapter_config.json" in found or any("lora" in name for name in weights):
        return "it is a LoRA; add it to a model by +FOLDER"
    if str(kind).startswith("ControlNet") or kind == "T2IAdapter":
        return f"it is a {'ControlNet' if kind != 'T2IAdapter' else 'T2I-Adapter'}; add it to a model by +control=FOLDER"
    if kind in ADDED_BY:
        return f"it is a part of a model, {kind}, alone; name the folder above it, or add it to a model by {ADDED_BY[str(kind)]}"
    if kind:
        return f"it is a part of a model, {kind}, alone; name the folder above it"
    if any(name.startswith("openvino_") for name in found):
        return "it is an OpenVINO export; name the model that it was exported from"
    if weights:
        return f"it holds {', '.join(weights[:3])}; name that file"
    return f"it is no folder in the diffusers layout; {RUNS}"


def check_quantised(config: Mapping[str, Any], label: str) -> None:
    """Raises ModelError for the configuration of a network whose weights a library has quantised."""
    given = config.get("quantization_config")
    if given:
        method = given.get("quant_method", "a library") if isinstance(given, dict) else given
        bits = " to 4 bits" if isinstance(given, dict) and given.get("load_in_4bit") else ""
        raise ModelError(
            f"{label}: is quantised{bits} by {method}; use the same model in float16, bfloat16 or fp8, "
            "and --dtype for what Rill computes in"
        )


def check_dtypes(tensors: Mapping[str, Any], label: str) -> None:
    """Raises ModelError for weights that are whole numbers, which only the library that made them can read."""
    strange = [name for name, info in tensors.items() if info.dtype in QUANTISED_DTYPES and info.count > 1]
    strange = [name for name in strange if not name.endswith("position_ids")]
    if strange:
        dtype = tensors[strange[0]].dtype
        raise ModelError(
            f"{label}: is quantised: {strange[0]} has dtype {dtype}; use the same model in float16, bfloat16, float32 or fp8"
        )


def absent(entry: Any) -> bool:
    """Whether an entry of model_index.json names no part."""
    return entry is None or (isinstance(entry, list) and entry[1:] == [None])
