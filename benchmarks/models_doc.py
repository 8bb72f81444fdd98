"""Writes docs/models.md from the entries in pipelines/checkpoints/registry.py: `python -m benchmarks.models_doc`."""

from __future__ import annotations

from pathlib import Path

from pipelines import EXTRAS, REGISTRY, ModelInfo
from pipelines.values.models import Extra

TARGET = Path(__file__).resolve().parents[1] / "docs" / "models.md"
HEAD = """# Models

`--model` takes

- a registered name from the table below, with `@COMMIT` where the table names none, or `@main`, which follows the newest;
- the id of a hub repository in the diffusers layout, `owner/name`, or `owner/name@commit`;
- a local folder in the diffusers layout, or a single `.safetensors` file of SD 1.5, SD 2 or SDXL;
- any of them with more added by `+`: an extra by name (`FOLDER+lcm-lora:0.8+taesd`), a LoRA as local file, hub id or
  `owner/name/file.safetensors` with its strength, or a prediction type (`+epsilon`, `+v_prediction`, `+sample`).

LoRAs may also be named with `--lora NAME[:WEIGHT]` (render, serve) or in a `spec` message, several at once, each with a weight
from -4 to 4. They are read in kohya's layout and in that of diffusers and peft, for the UNet and the text encoders, and fused:
W + weight · α/r · B·A, with each layer's own rank r and alpha α (a tensor of its own, or `lora_adapter_metadata`; without either
α = r). A file with a layer that the model lacks, with numbers that are not finite, or of another kind (DoRA, LoHa, LoKr) is
refused by name; `models --check MODEL+LORA` counts a LoRA's layers. On the page a weight, or a LoRA of the server's
`--lora-folder`, changes while the stream runs: the model is fused anew beside the one that streams.

Two more parts condition the picture beside the words, each by a registered extra or a name of its own, `FOLDER+canny-sd15` or
`FOLDER+control=CONTROLNET+picture=ADAPTER`:

- A **ControlNet** holds the picture to a map of the incoming frame: `control.map` (made by OpenCV: Canny's lines, soft edges, or
  a depth-like map, which is a stand-in and measures nothing) and `control.scale`, live; 0 is off. The map must be of the
  kind that the ControlNet was trained on.
- An **adapter for picture prompts** (IP-Adapter, the plain kind: not plus, full or face) makes the result like a given picture:
  `--picture FILE` (render, `studio.client`), a picture on the page, or a *picture* message, weighed live by `picture.scale`.

A folder may have a **painter** (`painter/config.json` and its weights): a small network behind the decoder that draws strokes and
lines. `looks` in its configuration maps a prompt to rows of its table of styles and their shares. A prompt that names such a look
is painted over the look "photo"; other words go to the text encoder, several painted looks mix, and a blend of prompts mixes
their styles. `style.amount` sets how much paint is laid over the picture, live.

`app.py models` lists what is present, `app.py models --check MODEL` says what something is and whether it would load. Models that
are not here yet are downloaded on first use, with a progress bar; `--offline` (or `HF_HUB_OFFLINE=1`) forbids it. Only
safetensors are read, no code of a repository is ever run, and every header, path and class is checked before anything is loaded.
Files of a model's folder are read by Rill alone: plain ones of at most 16 MB beside the weights, JSON of at most 32 levels, and
no link may lead out of the folder. What libraries look for by themselves (adapters, chat templates, generation settings, code,
pickles) is never opened; a test watches which files are.

None of these weights could be loaded where Rill was made, which has no access to the hub: the loading code is tested on
miniatures in exactly the published layouts. A commit is pinned where several independent public sources name the same one, or a
copy of the hub's own page shows the very files at it. Where the table says none, none could be confirmed. Such a model is not
loaded unless its name says which commit (`instaflow@COMMIT`), or that the newest is meant, whatever it is (`instaflow@main`);
`app.py models` says so, too. A licence marked with ? could not be found on a copy of the hub's own pages for every part, and is
what is commonly stated. Licences change: read those of the repositories before you use a model.

This page is generated from `pipelines/checkpoints/registry.py` by `python -m benchmarks.models_doc`; a test keeps them the same.

| name | from | at | licence | predicts | trained at t | size | steps |
|---|---|---|---|---|---|---|---|
"""
EXTRAS_HEAD = """
## Extras

| name | what | from | at | licence | for |
|---|---|---|---|---|---|
"""


def document() -> str:
    rows = "\n".join(_row(info) for info in REGISTRY.values())
    notes = "\n".join(f"- **{info.name}**: {info.title}. {info.advice}{_source(info)}" for info in REGISTRY.values())
    extras = "\n".join(map(_extra, EXTRAS.values()))
    return f"{HEAD}{rows}\n\n{notes}\n{EXTRAS_HEAD}{extras}\n"


def _row(info: ModelInfo) -> str:
    places = [info.base, *([info.unet] if info.unet else []), *(lora.place for lora in info.loras)]
    places += [info.autoencoder] if info.autoencoder else []
    shown = "ships with Rill" if isinstance(info.base, Path) else " + ".join(map(str, places))
    pins = "-" if isinstance(info.base, Path) else " + ".join(map(_at, places))
    predicts = info.prediction or ("sample" if info.name == "pocket" else "epsilon")
    told = f", told t·{info.shift:g}" if info.shift != 1.0 else ""
    trained = ", ".join(map(str, info.trained_timesteps)) or "all"
    steps = f"1-{info.max_steps}" if info.max_steps > 1 else "1"
    return (
        f"| `{info.name}` | {shown} | {pins} | {_licence(info)} | {predicts}{told} | {trained} | {info.native_size} | {steps} |"
    )


def _extra(extra: Extra) -> str:
    families = ", ".join(extra.families)
    return f"| `{extra.name}` | {extra.title} | {extra.place} | {_at(extra.place)} | {_licence(extra)} | {families} |"


def _licence(entry: ModelInfo | Extra) -> str:
    return entry.licence if entry.licence_seen else f"{entry.licence} ?"


def _at(place: object) -> str:
    revision = getattr(place, "revision", None)
    return "none" if revision is None else f"`{revision[:8]}`"


def _source(info: ModelInfo) -> str:
    return f" Source: {info.source}." if info.source else ""


if __name__ == "__main__":
    TARGET.write_text(document(), encoding="utf-8")
