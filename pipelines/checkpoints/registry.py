"""The registered models and extras. docs/models.md is generated from this data.

The facts are from the model cards and the authors' code as of November 2026. A revision is set if several independent public
sources have the same commit, or if a page of the hub shows these files at it. None means that no commit could be confirmed.
Then the name must contain a commit (NAME@COMMIT) or request the main branch (NAME@main).
"""

from __future__ import annotations

from pipelines.values.models import ASSETS, Extra, Hub, Lora, ModelInfo

SD15 = Hub("stable-diffusion-v1-5/stable-diffusion-v1-5", "451f4fe16113bff5a5d2269ed5ad43b0592e9a14")
SDXL = Hub("stabilityai/stable-diffusion-xl-base-1.0", "462165984030d82259a11f4367a4eed129e94a7b")
TAESD = Hub("madebyollin/taesd", "614f76814bbe30edbe2e627ace1c2234c81a2c0e")
TAESDXL = Hub("madebyollin/taesdxl", "b20258aaef75ef61e659c1e0f14f251cf0ad153e")
LCM_LORA = Hub("latent-consistency/lcm-lora-sdv1-5", "cf2fced511dbe7e26c8d1d397e728fbab875db4b")
LIGHTNING, LIGHTNING_AT = "ByteDance/SDXL-Lightning", "c9a24f48e1c025556787b0c58dd67a091ece2e44"
HYPER, HYPER_AT = "ByteDance/Hyper-SD", "bc08d970a87c74c71209491d64e3525845698863"
NITRO = "ChenDY/NitroFusion"

IP_ADAPTER, IP_ADAPTER_AT = "h94/IP-Adapter", "018e402774aeeddd60609b4ecdb7e298259dc729"

OPENRAIL = "CreativeML Open RAIL-M"
OPENRAIL_XL = "CreativeML Open RAIL++-M"
HYPER_LICENCE = "LICENSE.md of its repository (Open RAIL++-M on its card until August 2024)"
TURBO_LICENCE = "Stability AI licence, LICENSE of its repository (its card's tag: sai-nc-community, not for commerce)"

FEW_STEPS = "Trained without guidance: leave guidance off."
ONE_LEVEL = "Trained at one noise level, so the strength has no effect: little of the source remains."

NEAREST = "The strength moves to the nearest trained timestep, and with less of it fewer steps are made."

POCKET = ModelInfo(
    name="pocket",
    title="Pocket: the small model that ships with Rill",
    base=ASSETS / "pocket",
    licence="Apache-2.0",
    licence_confirmed=True,
    family="pocket",
    advice="Trained with dropped prompts: every guidance mode works.",
)

PROMPTS = ("oil painting, thick brush strokes", "a marble statue, studio light", "anime, cel shading", "an old photograph, 1920")

DISTILLED: tuple[tuple[str, tuple[int, ...], str | None], ...] = (
    (r"dmd2_sdxl_4step", (999, 749, 499, 249), None),
    (r"dmd2_sdxl_1step", (399,), None),
    (r"sdxl_lightning_1step_unet_x0", (999,), "sample"),
    (r"sdxl_lightning_2step", (999, 499), None),
    (r"sdxl_lightning_4step", (999, 749, 499, 249), None),
    (r"sdxl_lightning_8step", (999, 874, 749, 624, 499, 374, 249, 124), None),
    (r"hyper-sdxl-1step-unet", (800,), None),
)
"""Beginning of the name of a published UNet or LoRA, in lower case → the timesteps that it was trained at, and what it predicts
where that is not the base's. Sources: the model cards, arXiv 2405.14867, 2402.13929, 2404.13686."""

_MODELS = (
    POCKET,
    ModelInfo(
        name="sd-turbo",
        title="SD-Turbo (Stability AI): SD 2.1 distilled to 1 to 4 steps",
        base=Hub("stabilityai/sd-turbo", "b261bac6fd2cf515557d5d0707481eafa0485ec2"),
        licence="Stability AI Community Licence, or before July 2024 its non-commercial one: see LICENSE of its repository",
        family="sd21",
        guidance_trained=False,
        autoencoder=TAESD,
        examples=PROMPTS,
        advice=FEW_STEPS,
        source="arXiv 2311.17042, model card",
    ),
    ModelInfo(
        name="sdxl-turbo",
        title="SDXL-Turbo (Stability AI): SDXL distilled to 1 to 4 steps, at 512 px",
        base=Hub("stabilityai/sdxl-turbo", "71153311d3dbb46851df1931d3ca6e939de83304"),
        licence=TURBO_LICENCE,
        licence_confirmed=True,
        family="sdxl",
        guidance_trained=False,
        autoencoder=TAESDXL,
        examples=PROMPTS,
        advice=FEW_STEPS,
        source="arXiv 2311.17042, model card",
    ),
    ModelInfo(
        name="sd15-lcm",
        title="Stable Diffusion 1.5 with the LCM-LoRA",
        base=SD15,
        licence=f"{OPENRAIL} (base), {OPENRAIL_XL} (LoRA)",
        family="sd15",
        max_steps=8,
        autoencoder=TAESD,
        loras=(Lora(LCM_LORA),),
        examples=PROMPTS,
        advice="Guidance from 1 to 2, or off. Any fine-tune of SD 1.5 takes the LoRA: FOLDER+lcm-lora+taesd.",
        source="arXiv 2311.05556, model card",
    ),
    ModelInfo(
        name="lcm-dreamshaper-v7",
        title="LCM Dreamshaper v7: a latent consistency model with guidance inside",
        base=Hub("SimianLuo/LCM_Dreamshaper_v7", "a85df6a8bd976cdd08b4fd8f3b73f229c9e54df5"),
        licence="MIT",
        licence_confirmed=True,
        family="sd15",
        max_steps=8,
        guidance=8.0,
        autoencoder=TAESD,
        examples=PROMPTS,
        advice="The network takes the guidance scale as an input (3 to 10; streams begin at 8): use guidance mode none.",
        source="arXiv 2310.04378, model card",
    ),
    ModelInfo(
        name="sdxs-512",
        title="SDXS-512: a small UNet without a mid block, one step",
        base=Hub("IDKiro/sdxs-512-0.9", "6d48fa4f5d696550dda0e6e275f84e7dc2d692c8"),
        licence=OPENRAIL_XL,
        licence_confirmed=True,
        family="sdxs",
        max_steps=1,
        guidance_trained=False,
        trained_timesteps=(999,),
        examples=PROMPTS,
        advice=f"{FEW_STEPS} {ONE_LEVEL}",
        source="arXiv 2403.16627, model card",
    ),
    *(
        ModelInfo(
            name=f"sdxl-lightning-{steps}step",
            title=f"SDXL-Lightning (ByteDance), UNet for {steps} step{'s' * (steps > 1)}",
            base=SDXL,
            unet=Hub(LIGHTNING, LIGHTNING_AT, file),
            licence=OPENRAIL_XL,
            licence_confirmed=True,
            family="sdxl",
            native_size=1024,
            max_steps=steps,
            guidance_trained=False,
            trained_timesteps=tuple(1000 - 1000 * k // steps - 1 for k in range(steps)),
            prediction="sample" if steps == 1 else "epsilon",
            autoencoder=TAESDXL,
            examples=PROMPTS,
            advice=f"{FEW_STEPS} {ONE_LEVEL if steps == 1 else NEAREST}",
            source="arXiv 2402.13929, model card",
        )
        for steps, file in (
            (1, "sdxl_lightning_1step_unet_x0.safetensors"),
            (2, "sdxl_lightning_2step_unet.safetensors"),
            (4, "sdxl_lightning_4step_unet.safetensors"),
        )
    ),
    ModelInfo(
        name="sdxl-lightning-4step-lora",
        title="SDXL-Lightning (ByteDance), LoRA for 4 steps on SDXL",
        base=SDXL,
        loras=(Lora(Hub(LIGHTNING, LIGHTNING_AT, "sdxl_lightning_4step_lora.safetensors")),),
        licence=OPENRAIL_XL,
        licence_confirmed=True,
        family="sdxl",
        native_size=1024,
        guidance_trained=False,
        trained_timesteps=(999, 749, 499, 249),
        autoencoder=TAESDXL,
        examples=PROMPTS,
        advice=f"{FEW_STEPS} {NEAREST}",
        source="arXiv 2402.13929, model card",
    ),
    ModelInfo(
        name="hyper-sd15",
        title="Hyper-SD (ByteDance), one-step LoRA on Stable Diffusion 1.5",
        base=SD15,
        loras=(Lora(Hub(HYPER, HYPER_AT, "Hyper-SD15-1step-lora.safetensors")),),
        licence=f"{OPENRAIL} (base); {HYPER_LICENCE} (LoRA)",
        family="sd15",
        max_steps=8,
        guidance_trained=False,
        autoencoder=TAESD,
        examples=PROMPTS,
        advice=f"{FEW_STEPS} A consistency model: any strength works.",
        source="arXiv 2404.13686, model card",
    ),
    ModelInfo(
        name="hyper-sdxl",
        title="Hyper-SD (ByteDance), one-step LoRA on SDXL",
        base=SDXL,
        loras=(Lora(Hub(HYPER, HYPER_AT, "Hyper-SDXL-1step-lora.safetensors")),),
        licence=f"{OPENRAIL_XL} (base); {HYPER_LICENCE}",
        family="sdxl",
        native_size=1024,
        max_steps=8,
        guidance_trained=False,
        autoencoder=TAESDXL,
        examples=PROMPTS,
        advice=f"{FEW_STEPS} A consistency model: any strength works.",
        source="arXiv 2404.13686, model card",
    ),
    ModelInfo(
        name="hyper-sdxl-1step",
        title="Hyper-SD (ByteDance), UNet for one step on SDXL, at t = 800",
        base=SDXL,
        unet=Hub(HYPER, HYPER_AT, "Hyper-SDXL-1step-Unet.safetensors"),
        licence=f"{OPENRAIL_XL} (base); {HYPER_LICENCE}",
        family="sdxl",
        native_size=1024,
        max_steps=1,
        guidance_trained=False,
        trained_timesteps=(800,),
        autoencoder=TAESDXL,
        examples=PROMPTS,
        advice=f"{FEW_STEPS} {ONE_LEVEL}",
        source="arXiv 2404.13686, model card",
    ),
    *(
        ModelInfo(
            name=f"nitro-{look}",
            title=f"NitroFusion {look.capitalize()}: SDXL in 1 to 4 steps, with a lowered timestep as input",
            base=SDXL,
            unet=Hub(NITRO, file=f"nitrosd-{look}_unet.safetensors"),
            licence=licence,
            family="sdxl",
            native_size=1024,
            guidance_trained=False,
            shift=shift,
            autoencoder=TAESDXL,
            examples=PROMPTS,
            advice=FEW_STEPS,
            source="arXiv 2412.02030, github.com/ChenDarYen/NitroFusion",
        )
        for look, shift, licence in (("realism", 0.25, "CC BY-NC 4.0"), ("vibrant", 0.5, OPENRAIL_XL))
    ),
    ModelInfo(
        name="instaflow",
        title="InstaFlow 0.9B: SD 1.5 as a rectified flow, one step",
        base=Hub("XCLiu/instaflow_0_9B_from_sd_1_5"),
        licence=f"CC BY-NC 4.0, and {OPENRAIL} of its base",
        licence_confirmed=True,
        family="sd15",
        max_steps=1,
        guidance_trained=False,
        trained_timesteps=(999,),
        prediction="flow_reversed",
        autoencoder=TAESD,
        examples=PROMPTS,
        advice=f"{FEW_STEPS} {ONE_LEVEL} The flow ends at t = 1000, where nothing of the source remains.",
        source="arXiv 2309.06380, github.com/gnobitab/InstaFlow",
    ),
)

REGISTRY: dict[str, ModelInfo] = {info.name: info for info in _MODELS}

_EXTRAS = (
    Extra("lcm-lora", "LCM-LoRA for SD 1.5, 2 to 8 steps", "lora", LCM_LORA, OPENRAIL_XL, ("sd15",), 8, "arXiv 2311.05556"),
    Extra(
        "lcm-lora-sdxl",
        "LCM-LoRA for SDXL, 2 to 8 steps",
        "lora",
        Hub("latent-consistency/lcm-lora-sdxl", "e4f4bc876032ad70aa9d241af2a2f33db0f3f048"),
        OPENRAIL_XL,
        ("sdxl",),
        8,
        "arXiv 2311.05556",
        licence_confirmed=True,
    ),
    Extra("taesd", "Tiny autoencoder for SD 1.5 and SD 2", "autoencoder", TAESD, "MIT", ("sd15", "sd21"), licence_confirmed=True),
    Extra("taesdxl", "Tiny autoencoder for SDXL", "autoencoder", TAESDXL, "MIT", ("sdxl",), licence_confirmed=True),
    *(
        Extra(
            f"{kind}-sd15",
            f"ControlNet 1.1 for SD 1.5, {title}",
            "control",
            Hub(f"lllyasviel/{repo}", revision),
            "Open RAIL",
            ("sd15",),
            source="arXiv 2302.05543",
            licence_confirmed=kind != "depth",
        )
        for kind, title, repo, revision in (
            ("canny", "Canny's lines", "control_v11p_sd15_canny", "115a470d547982438f70198e353a921996e2e819"),
            ("softedge", "soft edges", "control_v11p_sd15_softedge", "b5bcad0c48e9b12f091968cf5eadbb89402d6bc9"),
            ("depth", "depth", "control_v11f1p_sd15_depth", "539f99181d33db39cf1af2e517cd8056785f0a87"),
        )
    ),
    *(
        Extra(
            f"{kind}-sdxl",
            f"ControlNet for SDXL, {title}",
            "control",
            Hub(f"diffusers/controlnet-{kind}-sdxl-1.0", revision),
            OPENRAIL_XL,
            ("sdxl",),
            source="arXiv 2302.05543",
            licence_confirmed=kind == "canny",
        )
        for kind, title, revision in (
            ("canny", "Canny's lines", "eb115a19a10d14909256db740ed109532ab1483c"),
            ("depth", "depth", "17bb97973f29801224cd66f192c5ffacf82648b4"),
        )
    ),
    Extra(
        "picture-sd15",
        "IP-Adapter for SD 1.5: a picture as prompt",
        "picture",
        Hub(IP_ADAPTER, IP_ADAPTER_AT, "models/ip-adapter_sd15.safetensors"),
        "Apache-2.0",
        ("sd15",),
        source="arXiv 2308.06721",
        encoder=Hub(IP_ADAPTER, IP_ADAPTER_AT, "models/image_encoder/model.safetensors"),
        licence_confirmed=True,
    ),
    Extra(
        "picture-sdxl",
        "IP-Adapter for SDXL: a picture as prompt",
        "picture",
        Hub(IP_ADAPTER, IP_ADAPTER_AT, "sdxl_models/ip-adapter_sdxl_vit-h.safetensors"),
        "Apache-2.0",
        ("sdxl",),
        source="arXiv 2308.06721",
        encoder=Hub(IP_ADAPTER, IP_ADAPTER_AT, "models/image_encoder/model.safetensors"),
        licence_confirmed=True,
    ),
)

EXTRAS: dict[str, Extra] = {extra.name: extra for extra in _EXTRAS}
