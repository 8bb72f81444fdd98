"""Colours, type and spacing of the page. System fonts only: the page sends no request to another host."""

from __future__ import annotations

import gradio as gr

SANS = ("ui-sans-serif", "system-ui", "-apple-system", "Segoe UI", "Roboto", "Helvetica Neue", "Arial", "sans-serif")
MONO = ("ui-monospace", "SFMono-Regular", "Menlo", "Consolas", "monospace")

WATER = gr.themes.Color(
    name="water", c50="#effcfa", c100="#d3f6f1", c200="#a9ece4", c300="#72dcd2", c400="#3cc4ba", c500="#1ea59d", c600="#127f7a",
    c700="#0f6663", c800="#0f5150", c900="#104443", c950="#04292a",
)  # fmt: skip
SLATE = gr.themes.Color(
    name="slate", c50="#f7f8f9", c100="#eef0f2", c200="#dfe3e7", c300="#c5ccd3", c400="#929ca7", c500="#69737f", c600="#4b545f",
    c700="#333b44", c800="#1d2329", c900="#13171b", c950="#0c0f12",
)  # fmt: skip


def theme() -> gr.themes.Base:
    """A calm, dense theme; dark and light follow the system (or `?__theme=dark`)."""
    base = gr.themes.Base(
        primary_hue=WATER,
        secondary_hue=WATER,
        neutral_hue=SLATE,
        text_size=gr.themes.sizes.text_sm,
        spacing_size=gr.themes.sizes.spacing_sm,
        radius_size=gr.themes.sizes.radius_md,
        font=[gr.themes.Font(name) for name in SANS],
        font_mono=[gr.themes.Font(name) for name in MONO],
    )
    return base.set(
        body_background_fill="*neutral_50",
        body_background_fill_dark="*neutral_950",
        body_text_color_subdued="*neutral_500",
        body_text_color_subdued_dark="*neutral_400",
        block_background_fill="white",
        block_background_fill_dark="*neutral_900",
        block_border_width="0px",
        block_border_width_dark="0px",
        block_shadow="none",
        block_shadow_dark="none",
        border_color_primary="*neutral_200",
        border_color_primary_dark="*neutral_800",
        input_background_fill="*neutral_50",
        input_background_fill_dark="*neutral_950",
        input_border_width="1px",
        input_border_color="*neutral_200",
        input_border_color_dark="*neutral_700",
        input_border_color_focus="*primary_500",
        input_border_color_focus_dark="*primary_400",
        input_shadow_focus="none",
        block_label_background_fill="transparent",
        block_label_background_fill_dark="transparent",
        block_title_text_color="*neutral_700",
        block_title_text_color_dark="*neutral_200",
        block_info_text_color="*neutral_500",
        block_info_text_color_dark="*neutral_400",
        slider_color="*primary_500",
        slider_color_dark="*primary_400",
        checkbox_background_color_selected="*primary_600",
        checkbox_background_color_selected_dark="*primary_500",
        checkbox_border_color_selected="*primary_600",
        checkbox_border_color_selected_dark="*primary_500",
        link_text_color="*primary_600",
        link_text_color_dark="*primary_300",
    )
