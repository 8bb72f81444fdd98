"""The page at every size of the window: the picture stays in view beside what is adjusted, and words fit their places."""

from __future__ import annotations

from collections.abc import Iterator

import pytest
from selenium import webdriver
from selenium.webdriver.common.by import By

from tests.browser.chrome import Page
from tests.browser.conftest import Studio

pytestmark = pytest.mark.browser

SIZES = [
    (360, 780),
    (390, 844),
    (844, 390),
    (768, 1024),
    (900, 1000),
    (1040, 800),
    (1280, 657),
    (1280, 720),
    (1440, 900),
    (1920, 1080),
]
FIRST = (
    "#rill-input",
    "#rill-prompt",
    "#rill-strength",
    "#rill-seed",
    "#rill-blend",
    ".rill-look, .rill-chip",
    "#rill-keep .rill-plain",
)

BESIDE = """const [at] = arguments;
  const control = at instanceof Element ? at : document.querySelector(at);
  if (!control.checkVisibility()) return 'hidden meanwhile';
  control.scrollIntoView({ block: 'center' });
  const [one, picture] = [control, document.querySelector('#rill-output')].map((item) => item.getBoundingClientRect());
  const inside = picture.top >= 0 && picture.left >= 0 && picture.bottom <= innerHeight + 1 && picture.right <= innerWidth + 1;
  const beside = one.right <= picture.left + 1 || one.left >= picture.right - 1;
  const apart = beside || one.bottom <= picture.top + 1 || one.top >= picture.bottom - 1;
  const seen = one.top < innerHeight && one.bottom > 0 && one.right <= innerWidth + 1;
  return [inside && picture.width > 100, apart, seen]"""
CONTROLS = """return [...document.querySelectorAll('button, input, select, textarea, a[href]')]
  .filter((item) => item.checkVisibility({ opacityProperty: true, visibilityProperty: true }) && item.getClientRects().length)"""
SMALL = """const text = (node) => node.nodeType === 3 && node.data.trim();
  const spoken = (item) => item.checkVisibility() && [...item.childNodes].some(text);
  return [...document.querySelectorAll('.gradio-container *')].filter(spoken)
  .filter((item) => parseFloat(getComputedStyle(item).fontSize) < 12.5)
  .map((item) => item.outerHTML.slice(0, 100))"""
OVERLAP = """const boxes = [...document.querySelectorAll('.rill-part-strip :is(.rill-figure, .rill-legend li, canvas, h2)')]
    .filter((item) => item.checkVisibility()).map((item) => item.getBoundingClientRect());
  const shared = (a, b, from, to) => Math.min(a[to], b[to]) - Math.max(a[from], b[from]);
  const meet = (a, b) => shared(a, b, 'left', 'right') > 1 && shared(a, b, 'top', 'bottom') > 1;
  return [boxes.length, boxes.flatMap((a, index) => boxes.slice(index + 1).filter((b) => meet(a, b))).length,
    Math.max(...boxes.map((box) => box.right)) <= innerWidth]"""


MODES = {"guidance_mode": "adaptive", "noise.mode": "walk", "strength_map.mode": "motion", "omega_map.mode": "motion"}
OPEN = """for (const key of Object.keys(rill.settings.fields)) if (key.endsWith('.enabled')) rill.settings.put(key, true);
  for (const [key, mode] of Object.entries(arguments[0])) rill.settings.put(key, mode)"""
CLOSED = """return [...document.querySelectorAll('.rill-row .rill-body')].filter((body) => body.querySelector('.block'))
  .filter((body) => !body.checkVisibility()).map((body) => body.parentElement.id)"""


@pytest.fixture(scope="module", params=SIZES, ids=lambda size: f"{size[0]}x{size[1]}")
def loaded(request: pytest.FixtureRequest, studio: Studio, desktop: webdriver.Chrome) -> Iterator[Page]:
    width, height = request.param
    metrics = {"width": width, "height": height, "deviceScaleFactor": 1, "mobile": min(width, height) < 500}
    desktop.execute_cdp_cmd("Emulation.setDeviceMetricsOverride", metrics)
    yield Page(desktop, studio.url).open().live()
    desktop.execute_cdp_cmd("Emulation.clearDeviceMetricsOverride", {})
    desktop.get("about:blank")


@pytest.fixture
def sized(loaded: Page) -> Page:
    """The page as it was loaded at this size: the drawer is closed, and the settings are the defaults."""
    loaded.js("if (document.body.dataset.engine === 'open') rill.toggleEngine(); rill.reset()")
    loaded.at_rest()
    return loaded


def open_rows(page: Page) -> None:
    """Switches on every row of the drawer, so that its sliders are shown."""
    page.js(OPEN, MODES)
    page.at_rest()
    assert page.js("return document.querySelectorAll('.rill-row .rill-body .block').length") > 30
    assert page.js(CLOSED) == []


def test_the_picture_stays_in_view_beside_whatever_is_adjusted(sized: Page) -> None:
    for selector in FIRST:
        assert sized.js(BESIDE, selector) == [True, True, True], selector
    assert sized.js("return [document.documentElement.scrollWidth <= innerWidth, scrollY]") == [True, 0]
    assert sized.js(SMALL) == []
    sized.engine()
    open_rows(sized)
    sized.moves_on()
    for control in sized.js(CONTROLS + ".filter((item) => item.closest('#rill-engine'))"):
        stands = sized.js(BESIDE, control)
        assert stands in ([True, True, True], "hidden meanwhile"), control.get_attribute("outerHTML")[:200]
    sized.wait("figures", lambda: "–" not in sized.js("return document.querySelector('[data-figure=p50]').textContent"))
    boxes, meeting, within = sized.js(OVERLAP)
    assert boxes >= 10 and meeting == 0 and within
    assert sized.js(SMALL) == []


def test_the_bar_of_a_clip_is_within_reach_at_every_size(sized: Page) -> None:
    """Also the bar of the sample: a first visitor stops it and moves a slider."""
    sized.choose("sample")
    for part in ("button[aria-label='Hold the clip']", "input[type=range]", "button[aria-label='Play in a loop']"):
        assert sized.js(BESIDE, f".rill-clip {part}") == [True, True, True], part
    hold = sized.driver.find_element(By.CSS_SELECTOR, ".rill-clip button[aria-label='Hold the clip']")
    hold.click()
    sized.wait("the clip held", lambda: sized.js("return rill.source.element.paused"))


def test_the_brushes_are_within_the_window_and_the_wipe_is_under_its_handle(sized: Page) -> None:
    sized.choose("paint")
    sized.brushes()
    bar = sized.box(".rill-easel")
    assert bar["y"] + bar["height"] <= sized.js("return innerHeight"), bar
    hint = "return document.querySelector('.rill-hint').checkVisibility()"
    assert not sized.js(hint), "a drag paints here"
    sized.choose("sample")
    sized.js("document.querySelector(\".rill-tools button[aria-label^='Wipe between input']\").click()")
    sized.wait("the wipe", lambda: sized.js("return document.querySelector('.rill-frame').dataset.view") == "wipe")
    handle, picture = sized.box(".rill-wiper"), sized.box("#rill-output")
    assert abs(handle["x"] + handle["width"] / 2 - picture["x"] - picture["width"] / 2) <= 1, (handle, picture)
    assert not sized.js(hint)


OVERFLOWING = """const inner = (box) => {
    const { left, right } = box.getBoundingClientRect();
    const { borderLeftWidth, borderRightWidth } = getComputedStyle(box);
    return [left + parseFloat(borderLeftWidth), right - parseFloat(borderRightWidth)];
  };
  const seen = (item) => item.checkVisibility({ opacityProperty: true, visibilityProperty: true });
  const beyond = (box, parts) => {
    const [left, right] = inner(box);
    return parts.filter(({ width }) => width > 0).some((part) => part.left < left - 0.5 || part.right > right + 0.5);
  };
  const rects = (box) => {
    const texts = document.createTreeWalker(box, NodeFilter.SHOW_TEXT), found = [];
    for (let node; (node = texts.nextNode()); ) {
      if (!node.data.trim() || node.parentElement.closest('.rill-spoken') || !seen(node.parentElement)) continue;
      const range = document.createRange();
      range.selectNodeContents(node);
      found.push(...range.getClientRects());
    }
    return found;
  };
  const words = [...document.querySelectorAll('button, label, summary, h2, legend, .rill-tile')].filter(seen);
  const bars = [...document.querySelectorAll('[role=toolbar], .rill-kinds, .rill-buttons, .rill-sourceline, .rill-part-top')]
    .filter(seen).filter((bar) => !/auto|scroll/.test(getComputedStyle(bar).overflowX));
  const name = (item) => `${item.className || item.tagName}: ${item.textContent.slice(0, 40)}`;
  const parts = (bar) => [...bar.children].filter(seen).map((part) => part.getBoundingClientRect());
  const found = [...words.filter((box) => beyond(box, rects(box))), ...bars.filter((bar) => beyond(bar, parts(bar)))];
  return [words.length, found.map(name)]"""


def test_no_words_leave_their_button_and_no_button_its_bar(sized: Page) -> None:
    """In the first view, while somebody paints, and in the drawer with every row open."""
    sized.choose("sample")
    sized.js("rill.setPaused(true)")  # the tools stay
    try:
        counts = [sized.js(OVERFLOWING)]
        sized.choose("paint")
        sized.brushes()
        counts.append(sized.js(OVERFLOWING))
        sized.engine()
        open_rows(sized)
        counts.append(sized.js(OVERFLOWING))
    finally:
        sized.js("rill.setPaused(false)")
    assert all(seen > 20 for seen, _ in counts), counts
    assert [found for _, found in counts] == [[], [], []]


def test_pictures_side_by_side_fill_their_frame(sized: Page) -> None:
    """The sheet and what becomes of it; on an upright phone the sheet has the whole frame."""
    sized.choose("paint")
    sized.brushes()
    sized.wait("the sheet", lambda: sized.box(".rill-layer-colour")["width"] > 0)
    sheet, frame = sized.box(".rill-layer-colour"), sized.box(".rill-frame")
    assert sheet["width"] >= 240, sheet
    pictures = sheet["width"] * sheet["height"] * (2 if sheet["width"] < 0.6 * frame["width"] else 1)
    assert pictures >= 0.9 * frame["width"] * frame["height"], (sheet, frame)


WORDS = "a wombat in a flurble near the zanzibar gloop of quartz, and a plombir behind the seventh grumpf"
LONG = {"prompt": WORDS, "prompt_b": WORDS, "blend": 0.4}
REMARKS = """const all = (letters, make) => [...letters].map((letter) => ({ setting: 'prompt', ...make(letter) }));
  rill.say('words', {
    understood: all('abcd', (letter) => ({ words: `words ${letter}`, meaning: 'electric stained glass', by: 'alias' })),
    unknown: all('efghi', (letter) => ({ words: `something ${letter}`, nearest: letter === 'g' ? 'oil painting' : null })),
    cut: [{ setting: 'prompt', tokens: 24, kept: '', lost: 'and all the rest of it' }] })"""
SCROLLS = """const main = document.querySelector('#rill-main');
  return main.scrollHeight > main.clientHeight"""


def test_the_page_of_a_laptop_does_not_scroll(sized: Page) -> None:
    """Not with long prompts and remarks either, nor with the drawer: what is too long scrolls in its own column."""
    width, height = sized.js("return [innerWidth, innerHeight]")
    if width < 1180 or height < 700:
        pytest.skip("here everything stands in one column, which scrolls")
    sized.choose("sample")
    found = {"first": sized.js(SCROLLS)}
    sized.js("for (const [key, value] of Object.entries(arguments[0])) rill.settings.put(key, value)", LONG)
    sized.at_rest()
    sized.js(REMARKS)
    sized.wait("the remarks", lambda: len(sized.driver.find_elements(By.CSS_SELECTOR, ".rill-part-understood p")) == 3)
    try:
        found["remarks"] = sized.js(SCROLLS)
        crossfader = sized.box("#rill-second")["height"]
        sized.engine()
        found["remarks and drawer"] = sized.js(SCROLLS)
        sized.js("rill.say('words', {}); rill.reset()")
        sized.at_rest()
        found["drawer"] = sized.js(SCROLLS)
    finally:
        sized.js("rill.say('words', {})")
    assert not any(found.values()), found
    assert crossfader > 60, "room for the crossfader beside all that"
