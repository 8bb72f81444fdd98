"""Writes docs/models.md from the entries in pipelines/checkpoints/registry.py: `python -m benchmarks.models_doc`."""

from __future__ import annotations

import textwrap
from pathlib import Path

from pipelines import EXTRAS, REGISTRY, ModelInfo
from pipelines.values.models import Extra

TARGET = Path(__file__).resolve().parents[1] / "docs" / "models.md"
HEAD = """# Models

`--model` accepts

- a registered name from the table below; if the table has no commit, add `@COMMIT`, or `@main` for the newest one;
- the id of a hub repository in the diffusers layout, `owner/name`, or `owner/name@commit`;
- a local folder in the diffusers layout, or a single `.safetensors` file of SD 1.5, SD 2 or SDXL;
- any of these with parts added by `+`: an extra by name (`FOLDER+lcm-lora:0.8+taesd`); a LoRA as local file, hub id or
    `owner/name/file.safetensors` with its strength; textual inversions (`+embedding=`, a file or a folder); or a prediction
  type (`+epsilon`, `+v_prediction`, `+sample`).

A part `+vae=` or `+unet=` (folder, file or hub id) replaces the model's own autoencoder or UNet. A UNet or a LoRA that was
distilled to a few timesteps works at these only: `+timesteps=999,749,499,249` states them. Rill knows those of DMD2,
SDXL-Lightning and Hyper-SDXL's one-step UNet by the beginning of the published file's name (`dmd2_sdxl_4step...`); `--check`
shows them.

`app.py models` lists the models. `app.py models --check MODEL` identifies a model and reports whether it would load.

## Formats

"pipeline": latents within 1e-4 of diffusers' own pipeline; "weights": equal to what diffusers, peft or compel make of the same
file; all on miniatures that those libraries saved. "header": `--check` finds it without reading weights.

| format | Rill | checked by |
|---|---|---|
| SD 1.5, SD 2, SDXL, LCM, SDXS; folder or single file, fp16, sharded | loads | pipeline |
| EDM: Playground 2.5, CosXL; v-prediction by tensor, modelspec or kohya's metadata | loads | pipeline |
| fp8 (e4m3, e5m2), ComfyUI's scaled fp8; with LoRAs | loads | pipeline |
| single file or folder without autoencoder, `+vae=` (folder, file, hub), TAESD as one file | loads | weights |
| UNet alone by `+unet=`: diffusers, original, ComfyUI's split; trained timesteps by name or `+timesteps=` | loads | weights |
| LoRA, DoRA: diffusers, kohya, OneTrainer, peft's own file | loads | pipeline, weights |
| LoHa, LoKr: peft, LyCORIS' names | loads | weights |
| OneTrainer's bundled embeddings | LoRA loads, embeddings are stated as not used | log, header |
| ControlNet: folder, or one file in diffusers' or the original layout | loads | weights |
| several ControlNets, ControlNet Union, T2I-Adapter (full, light, XL; several): folder or file of diffusers | loads | pipeline |
| T2I-Adapter beside a ControlNet; Union or T2I-Adapter in the original layout | refused | header |
| IP-Adapter, plain, Plus, full face: folder or file, with models/image_encoder or `+encoder=` | loads | pipeline |
| weights of words, BREAK, prompts beyond 77 tokens, clip skip | loads | weights |
| textual inversion: `emb_params`, `clip_l` + `clip_g`, `string_to_param`, diffusers; .safetensors | loads | weights |
| IP-Adapter FaceID (it takes the vectors of insightface) | refused by name | header |
| inpainting (9 channels), InstructPix2Pix and CosXL's edit model (8 channels): folder, single file, `+unet=` | loads | pipeline |
| depth, upscaler, Marigold; factor-4 autoencoder; class embeddings | refused | header |
| SD3, Flux, Z-Image, Qwen-Image, Sana, PixArt, Kandinsky and others; the SDXL refiner | refused by name | header |
| GGUF by `+unet=`: a UNet, or the UNet of a whole file, read as float16 | loads | output of diffusers' UNet |
| bitsandbytes, GPTQ, int8, OpenVINO and ONNX exports; GGUF as a whole model | refused | header |
| pickles, Git LFS pointers, HTML pages, JSON errors under another name | refused | header |
| `<lora:NAME:0.8>` in a prompt, with `--lora-folder` | loads | settings |
| `AND`, `[a\\|b]`, `[a:b:0.5]` in a prompt | stated, not drawn | settings |

## LoRA

`--lora NAME[:WEIGHT]` (render, serve) or a `spec` message adds LoRAs, several at once, each with a weight from -4 to 4. Rill
reads the files of kohya, LyCORIS, OneTrainer, diffusers and peft (a folder, or adapter_model.safetensors with its
adapter_config.json), for the UNet and the text encoders, and fuses them in float32: W + weight · α/r · Δ. Each layer has its own
rank r and alpha α (a tensor of its own, `lora_adapter_metadata` or adapter_config.json; without one α = r). Δ is B·A for a LoRA
and a DoRA, which then sets the lengths of the rows, and the product of the factors for LoHa and LoKr.

A file is refused if it has a layer that the model lacks, values that are not finite, or another kind of adapter; the error names
it. The log, the JSON of `render` (`loras`) and `models --check MODEL+LORA` state how many layers of each part are used, and what
of the file is not. On the page you can change a weight, or choose a LoRA of the server's `--lora-folder`, while the stream runs:
a second model is fused beside the one that streams.

## Inpainting and instructions

An **inpainting model** draws anew what the painted mask covers (on the page, `--mask FILE` of `render`, a *mask* message), and
sees the rest of the incoming picture. At least half white counts. Without a mask it draws all of the picture anew.

To an **InstructPix2Pix model** the prompt is an instruction ("make it winter") for the incoming picture, which the UNet gets
beside the noised one. Such models are trained from noise alone: take strength 1. Guidance acts on the text; a guidance of its own
for the picture is not computed (it is 1).

## Prompts

Words can have weights, as in other programs: `(word)` weighs 1.1, `[word]` 1/1.1, `(word:1.3)` 1.3, and brackets nest; `\\(`
is a bracket. A prompt longer than the context of the text encoder, 77 tokens, is read in up to four chunks, divided behind a
full stop, comma or word; `BREAK` begins the next chunk. What is beyond four chunks is not read, and the answer (`cut`) shows
it. compel computes this, and Rill's numbers are equal to compel's. Weights and later chunks do not change SDXL's pooled text.
Until the graphs for a longer text are built (in the background of a server), its first chunk counts alone.

`clip_skip` leaves out so many of the encoder's last layers, as diffusers counts (AUTOMATIC1111's *Clip skip* minus 1).
One picture may have **several prompts**, by region or by weight: `left: ink | right: van gogh` ([prompts](prompts.md)).

A **textual inversion** is a word of the prompt: the name of its file, or diffusers' token. Rill finds the files in the folder
`embeddings` in the model's folder or beside its file, and by `MODEL+embedding=FILE_OR_FOLDER`. `understood` lists those that a
prompt names (kind `embedding`), `unknown` those that are for another model, or pickled.

`<lora:NAME:0.8>` adds the file NAME.safetensors below a `--lora-folder` (`render`, `serve`) with this weight, and sets the
weight of a LoRA that is there already. On a server it changes the stream for all visitors, by the rules of a `spec` message,
and it takes the LoRA away when it leaves the prompt; pictures come without the LoRA until the change is done. `understood`
lists it (kind `lora`) once it is loaded, else `unknown` does.

`AND`, `[a|b]` and `[a:b:0.5]` are not supported: they are not drawn, and the answer to the settings (`unknown`) states it.
Models with a table of words (pocket) have no syntax, one chunk and no clip skip.

## Noise schedules

`scheduler_config.json` states them; a missing field has the default of its class in diffusers. EDM models (Playground 2.5,
CosXL) work: by an `EDM*` scheduler, or in a single file by `edm_vpred.sigma_max`, `edm_mean` and `edm_std`. A single file states
velocity by a tensor `v_pred`, by `modelspec.prediction_type`, or by kohya's `ss_v_parameterization`.

## ControlNet, picture prompt, painter

A registered extra (`FOLDER+canny-sd15`) or a name (`FOLDER+control=CONTROLNET+picture=ADAPTER`) adds these parts:

- A **ControlNet** makes the picture follow a map of the incoming frame: `control.map` (made by OpenCV: Canny's lines, soft
  edges,
  or a depth-like map, which imitates depth and does not measure it) and `control.scale`, both live; 0 is off. The map must be
  of the kind that the ControlNet was trained on.
- Up to four ControlNets work at once, each with its map and, if you like, its weight beside `control.scale`:
  `FOLDER+control=A:canny+control=B:depth-like:0.5`. One of them may leave out the map; it follows `control.map`. Their effects
  add up. A **ControlNet Union** gets the kind of the map as an input. **T2I-Adapters** are named in the same way, also several,
  but not beside a ControlNet.
- An **adapter for picture prompts** (IP-Adapter: plain, Plus or full face; not FaceID) makes the result resemble a given
  picture: `--picture FILE` (render, `studio.client`), a picture on the page, or a *picture* message. `picture.scale` sets its
  weight, live. Its picture encoder is the folder `image_encoder` beside it or in `models/` of its repository, or a folder that
  the name states: `FOLDER+picture=FILE+encoder=FOLDER`.

A folder may have a **painter** (`painter/config.json` and its weights): a small network after the decoder that draws strokes
and lines. `looks` in its configuration maps a prompt to rows of its table of styles and their shares. A prompt that names such
a look is painted over the look "photo"; if `looks.json` has a look with the same prompt, the painted one replaces it. Other
words go to the text encoder. Several painted looks mix, and a blend of prompts mixes their styles. `style.amount` sets the
amount of paint, live. With `toned` in the configuration each style has seven more numbers, a tone: the picture is printed in two
colours, as pencil on paper or a blueprint.

A folder may have a **table of words** (`words/`, made by `python -m training words build`): words in English, German, Spanish,
French, Japanese and Chinese are replaced by the looks, modifiers and scenes of the model. Its phrases are names of styles,
movements, media and painters. Other English words are compared by meaning. Unknown words are dropped. The answer to the settings
([protocol](protocol-messages.md)), the JSON of `render` and the Python client list what was understood and what was not.

## Pictures as styles

A folder with a painter may have a **style reader** (`style_reader`); pocket has one. Then every picture prompt is a style:
`--picture FILE` (render, `studio.client`), a picture on the page, or a *picture* message. The reader mixes the painter's known
styles by how alike their texture is, and takes the picture's colours. `picture.scale` sets the share of the picture's style,
live: from 0.6 on (the default) it is the whole style; below, the words' painted look has the rest, or there is less paint if
the words name no painted look.

A style may also be a file (`.safetensors`, some kilobytes): its numbers, a name, a small picture, origin and licence of the
picture, and the fingerprint of the painter that the numbers belong to. `--picture` and the *picture* message accept it. A file
that is damaged, belongs to another painter, or has numbers that are not finite is refused, and the error names the reason.

Two pictures or styles mix: `--picture-b FILE` (render, `studio.client`), *Blend with another* on the page,
`picture(..., second=True)` of the Python client, or a *picture* message of kind 6. `picture.blend` moves from the first (0) to
the second (1), live. With an adapter for picture prompts the tokens of the two pictures mix in the same way. Keeping the style
of two pictures keeps the mixture.

The server also fits the numbers to the picture in the background, 180 steps in about 45 s of processor time, one picture at a
time, at `serve --fit-share` of one core (0.5; 0 fits none). `app.py fit PICTURE STYLE.safetensors` does the same from file to
file.

Styles in the folder `styles` of a model are looks by their names: the prompt "woodblock wave, at night" paints in that style,
`understood` lists it with the kind `style`, and the page shows it in the group "Paintings". `assets/pocket/styles` has seven
fitted styles of public-domain paintings (Hokusai, Van Gogh, Kandinsky, Renoir); each file names its painting. `python -m
training painter fit` makes them, with a fixed seed, from paintings of the Debian package gcompris-qt-data 3.1-2. A session
may name the styles whose files it has sent or kept in the same way.

## Files and downloads

Missing models are downloaded on first use, with a progress bar; `--offline` (or `HF_HUB_OFFLINE=1`) forbids it. Rill reads only
safetensors, never runs code of a repository, and checks every header, path and class before it loads anything. Only Rill reads
files of a model's folder: regular files of at most 16 MB beside the weights, JSON of at most 32 levels, and no link that leaves
the folder. Files that libraries search for by themselves (adapters, chat templates, generation settings, code, pickles) are
never opened; a test watches all opened files.

The developers' machines had no access to the hub, so none of these published weights has been loaded yet. The loading code is
tested on miniatures in exactly the published layouts. A commit is pinned if several independent public sources name the same
one, or if a copy of the hub's own page shows these files at it. "none" in the table means that no commit could be confirmed.
Rill loads such a model only if its name contains a commit (`instaflow@COMMIT`) or requests the newest one (`instaflow@main`).
A licence with ? could not be confirmed on a copy of the hub's own pages for every part; the table has the commonly stated one.
Licences change: read those of the repositories before you use a model.

## Registered models

`python -m benchmarks.models_doc` generates this page from `pipelines/checkpoints/registry.py`, and a test compares the two.

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
    notes = "\n".join(map(_note, REGISTRY.values()))
    extras = "\n".join(map(_extra, EXTRAS.values()))
    return f"{HEAD}{rows}\n\n{notes}\n{EXTRAS_HEAD}{extras}\n"


def _row(info: ModelInfo) -> str:
    places = [info.base, *([info.unet] if info.unet else []), *(lora.location for lora in info.loras)]
    places += [info.autoencoder] if info.autoencoder else []
    shown = "ships with Rill" if isinstance(info.base, Path) else " + ".join(map(str, places))
    pins = "-" if isinstance(info.base, Path) else " + ".join(map(_at, places))
    predicts = info.prediction or ("sample" if info.name == "pocket" else "epsilon")
    shifted = f", timestep · {info.shift:g}" if info.shift != 1.0 else ""
    trained = ", ".join(map(str, info.trained_timesteps)) or "all"
    steps = f"1-{info.max_steps}" if info.max_steps > 1 else "1"
    cells = (f"`{info.name}`", shown, pins, _licence(info), predicts + shifted, trained, str(info.native_size), steps)
    return f"| {' | '.join(cells)} |"


def _extra(extra: Extra) -> str:
    families = ", ".join(extra.families)
    return f"| `{extra.name}` | {extra.title} | {extra.location} | {_at(extra.location)} | {_licence(extra)} | {families} |"


def _licence(entry: ModelInfo | Extra) -> str:
    return entry.licence if entry.licence_confirmed else f"{entry.licence} ?"


def _at(place: object) -> str:
    revision = getattr(place, "revision", None)
    return "none" if revision is None else f"`{revision[:8]}`"


def _note(info: ModelInfo) -> str:
    """What the table has no column for, as a list item of lines of at most 128 characters."""
    note = f"- **{info.name}**: {info.title}. {info.advice}{_source(info)}"
    return textwrap.fill(note, 128, subsequent_indent="  ", break_long_words=False, break_on_hyphens=False)


def _source(info: ModelInfo) -> str:
    return f" Source: {info.source}." if info.source else ""


if __name__ == "__main__":
    TARGET.write_text(document(), encoding="utf-8")
