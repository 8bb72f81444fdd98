"""Writes docs/settings.md from the declarations in pipelines/settings.py: `python -m benchmarks.settings_doc`."""

from __future__ import annotations

from pathlib import Path

from pipelines import FIELDS

TARGET = Path(__file__).resolve().parents[1] / "docs" / "settings.md"
HEAD = """# Live settings

Every setting may change between two frames of a running stream: on the page, in a `settings` message (docs/protocol.md), or with
`--set KEY=VALUE` on the command line. A patch is taken whole or refused whole, with the field named. This page is generated from
`pipelines/settings.py` by `python -m benchmarks.settings_doc`; a test keeps them the same.

| setting | allowed | default | meaning |
|---|---|---|---|
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
    return HEAD + "\n".join(rows) + "\n"


if __name__ == "__main__":
    TARGET.write_text(document(), encoding="utf-8")
