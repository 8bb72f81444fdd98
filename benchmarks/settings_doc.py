"""Writes docs/settings.md from the declarations in pipelines/values/settings.py: `python -m benchmarks.settings_doc`."""

from __future__ import annotations

from pathlib import Path

from pipelines import FIELDS

TARGET = Path(__file__).resolve().parents[1] / "docs" / "settings.md"
HEAD = """# Live settings

Every setting can change between two frames of a running stream: on the page, in a `settings` message
(docs/protocol-messages.md), or with `--set KEY=VALUE` on the command line. A patch is applied as a whole or refused as a
whole; the error names the field. `python -m benchmarks.settings_doc` generates this page from `pipelines/values/settings.py`,
and a test compares the two.

| setting | allowed | default | meaning |
|---|---|---|---|
"""
TAIL = """
## Order
The order within one level of a frame is: network, guidance, ω (`omega`, with its map), strength map. So guidance determines the
predicted noise, ω scales it, and the strength map restores the source where it is black, whatever the other two did. Both maps
use the same painted mask.

## Refused

Every combination of switches works in every backend (`tests/pipelines/engine/test_combinations.py` tries every pair), except for
these:

| field | when | why |
|---|---|---|
| `steps` | above `max_steps` of the stream, or above the model's own limit | graphs are built for that many rows |
| `steps` | above the number of timesteps that a few-step model was trained at | no timestep is left for further steps |
| `solver` | *ddim* and *dpmpp-2m*, with NitroFusion | it reads a latent as one of a lower level, with new noise in each step |
| `cache.branch` | above the model's last re-entry point | the UNet has no such layer |

## Strength and paint

The denoising strength leads painted looks, too, although the painter draws what it sees: from 0 to 0.5 the share of the paint
grows (`style.amount` scales it), from 0.5 to 0.9 strokes become larger and freer and the style stronger. At 1 the scene of the
prompt is painted as it is.

## Accepted without effect

These are accepted, and act as if they were off:

- `solver` at one step: every solver ends there. A live change of it holds for the frames that come; frames under way end as they
  began.
- `stitch.fraction` without `--stitch`, and while it is less than one step (docs/design/stitch.md); `idle` states the latter.
- `hires.share` without `--hires full`, and while it is less than one step (docs/design/sizes.md); `idle` states the latter.
- `blend` without `prompt_b`; `negative` without guidance; guidance with `guidance` = 1; `omega_map` at `omega` = 1.
- Mode `mask` of `strength_map` and `omega_map` while nothing is painted: full strength and full ω everywhere.
- `cache.reuse` *steps* and *encoder* at one step, and at the last level of a frame: no later level can use the features.
- `cache.reuse` *encoder* with a model that predicts the picture itself, such as pocket: later steps would repeat the first one.
  The answer to the settings (`idle`) and the page say so.
- The feature cache across frames while `noise.motion` changes the strength, or while a prompt travels: features belong to one
  timestep and prompt, so such frames use full passes.
- `control` while the model has no ControlNet, and `picture.scale` while it has no adapter for picture prompts or no picture is
  set (docs/models.md describes how to add them).
- `picture.blend` while there are not two picture prompts.
- `refine` while the stream's own steps are as many and nothing is reused, while prompts or styles travel or the noise walks, and
  for files (`delivery` *every*).
- `style.amount` while no prompt names a painted look, or while the model has no painter.
- `guidance_schedule`, `guidance_blur` without guidance; `guidance_blur` with modes other than *self* and *one-time*;
  `omega_schedule` at `omega` = 1. `guidance_schedule` does not act on a γ that the network itself takes (distilled LCM).
- `interval_low` at or above `interval_high`: the schedule *interval* then acts nowhere.
- *linear* guidance at one step: there is no earlier level to estimate from, so it is *full*.
- `travel` with a prompt that has regions or weights (docs/prompts.md): it changes at once; `idle` states it.
- `cads` with a source picture, and at levels up to `cads.low`.
- `noise.variety` with a source picture, and with a model that was trained at the noisiest timestep only.
- `partial` in a stream batch of several steps, while the feature cache reuses *steps* or *encoder*, with *adaptive* or *linear*
  guidance, `guidance_blur`, `refine`, `consistency`, a prompt that has regions or weights, a noise walk, `noise.motion`,
  `noise.warm_start`, a map of *motion* or a ControlNet. Also with models whose UNet looks at the whole picture at every size or
  whose autoencoder is not a tiny one, in int8, and for pictures that are too small for a window. Every frame is computed as a
  whole then; the answer to the settings (`idle`) and the page say why (docs/design/partial.md).
- `consistency` and `noise.warm_start` in the first frame, where the input's motion cannot be followed, and after a scene cut;
  `consistency` also in the first picture after a change of its look.
- From a prompt alone, without a source picture: `strength` counts as 1, `noise.warm_start`, `consistency` and `strength_map`
  have no source, `control` has no input, and *self* guidance uses one negative row at the first level, as *one-time* does.
"""


def document() -> str:
    rows = []
    for key, item in FIELDS.items():
        rule = item.metadata
        match rule["kind"]:
            case "flag":
                allowed = "true, false"
            case "choice":
                allowed = ", ".join(rule["options"])
            case "text":
                allowed = f"text, at most {rule['limit']} characters"
            case _:
                allowed = f"{rule['low']} to {rule['high']}"
        default = str(item.default).lower() if rule["kind"] == "flag" else item.default
        rows.append(f"| `{key}` | {allowed} | `{default}` | {rule['doc']} |")
    return HEAD + "\n".join(rows) + "\n" + TAIL


if __name__ == "__main__":
    TARGET.write_text(document(), encoding="utf-8")
