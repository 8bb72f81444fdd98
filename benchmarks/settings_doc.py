"""Writes docs/settings.md from the declarations in pipelines/values/settings.py: `python -m benchmarks.settings_doc`."""

from __future__ import annotations

from pathlib import Path

from pipelines import FIELDS

TARGET = Path(__file__).resolve().parents[1] / "docs" / "settings.md"
HEAD = """# Live settings

Every setting may change between two frames of a running stream: on the page, in a `settings` message (docs/protocol.md), or with
`--set KEY=VALUE` on the command line. A patch is taken whole or refused whole, with the field named. This page is generated from
`pipelines/values/settings.py` by `python -m benchmarks.settings_doc`; a test keeps them the same.

| setting | allowed | default | meaning |
|---|---|---|---|
"""
TAIL = """
## Order
A level of a frame goes: network, guidance, ω (`omega`, with its map), strength map. So guidance decides what the noise is, ω how
much of it stays, and what the strength map keeps out is the source whatever the other two did. Both maps share the painted mask.

## Refused
Every combination of switches works in every backend (`tests/pipelines/test_combinations.py`: every pair), but for these:

| field | when | why |
|---|---|---|
| `steps` | above what the stream was built for, or the model's own limit | stream batch and graphs are made for that many rows |
| `steps` | above the number of timesteps that a few-step model was trained at | no timestep is left for the further steps |
| `cache.branch` | beyond the model's re-entry points | the UNet has no such layer |

## What has nothing to act on
These are taken, and act as if they were off:

- `blend` without `prompt_b`; `negative` without guidance; guidance with `guidance` = 1; `omega_map` at `omega` = 1.
- Mode `mask` of `strength_map` and `omega_map` while nothing is painted: full strength, and all of ω, everywhere.
- `cache.reuse` *steps* and *encoder* at one step, and at the last level of a frame: no later level is there to use what is kept.
- The feature cache across frames while `noise.motion` changes the strength, or a prompt travels: features of one timestep and
  prompt are not used at another, so such frames take full passes.
- `control` while the model has no ControlNet, and `picture.scale` while it has no adapter for picture prompts or no picture is
  given (docs/models.md says how a model gets them).
- `style.amount` while no prompt names a painted look, or the model has no painter.
- From a prompt alone, without a source picture: `strength` counts as 1, `noise.warm_start` and `strength_map` have no source,
  `control` has nothing to follow, and *self* guidance takes one negative row at the first level, as *one-time* does.
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
