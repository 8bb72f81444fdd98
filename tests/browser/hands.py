"""Touch, keyboard, clipboard, dictation and input methods: the events that the browser itself makes of them."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

from selenium.webdriver import ActionChains
from selenium.webdriver.common.by import By
from selenium.webdriver.common.keys import Keys

from pipelines import Settings
from studio.web.page.controls import element_id
from tests.browser.chrome import Page
from tests.browser.conftest import Studio

LISTEN = """if (globalThis.patches) return;
  globalThis.patches = [];
  const send = rill.connection.send.bind(rill.connection);
  rill.connection.send = (data) => {
    const message = typeof data === 'string' ? JSON.parse(data) : {};
    if (message.type === 'settings') patches.push(message.patch);
    return send(data);
  }"""

BORROW = """const back = document.activeElement;
  const box = document.body.appendChild(document.createElement('textarea'));
  Object.assign(box, { id: 'rill-clipboard', value: arguments[0], back, range: [back.selectionStart, back.selectionEnd] });
  box.select()"""
GIVE_BACK = """const { back, range } = document.querySelector('#rill-clipboard');
  document.querySelector('#rill-clipboard').remove();
  back.focus();
  if (range[0] === null) back.select();
  else back.setSelectionRange(...range)"""


class Hands:
    """Acts on the controls of a page, and reads the settings that the server has received."""

    def __init__(self, page: Page, studio: Studio) -> None:
        self.page, self.studio = page, studio
        page.js(LISTEN)

    def settings(self) -> Settings:
        """The session's settings at the server."""
        seat = self.studio.hub.seats._seats[self.page.js("return rill.welcome.session")]
        return seat.session.settings

    def received(self, key: str, value: object) -> None:
        """Waits until the server has this value."""
        self.page.wait(f"{key} = {value!r} at the server", lambda: self.settings().flat()[key] == value)

    def sent(self, key: str) -> list[Any]:
        """Every value of a setting that left the page so far."""
        return [patch[key] for patch in self.page.js("return patches") if key in patch]

    def element(self, key: str, kind: str = ":is(textarea, input)") -> Any:
        """The control's element, scrolled into view and with the focus."""
        element = self.page.driver.find_element(By.CSS_SELECTOR, f"#{element_id(key)} {kind}")
        self.page.js("arguments[0].scrollIntoView({ block: 'center' }); arguments[0].focus()", element)
        return element

    def press(self, *keys: str, holding: str | None = None) -> None:
        chain = ActionChains(self.page.driver)
        if holding:
            chain.key_down(holding)
        chain.send_keys(*keys)
        if holding:
            chain.key_up(holding)
        chain.perform()

    def cdp(self, method: str, **parameters: object) -> Any:
        return self.page.driver.execute_cdp_cmd(method, parameters)

    def command(self, name: str, key: str) -> None:
        """An editing command of the browser with its keys: copy, cut, paste, undo, selectAll."""
        code = {"code": f"Key{key.upper()}", "key": key, "windowsVirtualKeyCode": ord(key.upper()), "modifiers": 2}
        self.cdp("Input.dispatchKeyEvent", type="rawKeyDown", commands=[name], **code)
        self.cdp("Input.dispatchKeyEvent", type="keyUp", **code)

    def paste(self, text: str) -> None:
        """Replaces what is selected by the clipboard's text."""
        self.page.js(BORROW, text)
        self.command("copy", "c")
        self.page.js(GIVE_BACK)
        self.command("paste", "v")

    def compose(self, *texts: str) -> None:
        """Steps of an input method: each text takes the place of the one before, none is final."""
        for text in texts:
            self.cdp("Input.imeSetComposition", text=text, selectionStart=len(text), selectionEnd=len(text))

    def dictate(self, text: str) -> None:
        """Text without keys, as dictation and emoji panels insert it; it also ends a composition with this text."""
        self.cdp("Input.insertText", text=text)

    def drop(self, text: str, element: Any) -> None:
        """Drags a text from outside into an element."""
        box = element.rect
        offset = self.page.js("return [scrollX, scrollY]")
        place = {"x": box["x"] - offset[0] + box["width"] / 2, "y": box["y"] - offset[1] + box["height"] / 2}
        data = {"items": [{"mimeType": "text/plain", "data": text}], "dragOperationsMask": 1}
        for step in ("dragEnter", "dragOver", "drop"):
            self.cdp("Input.dispatchDragEvent", type=step, data=data, **place)

    def touch(self, *points: tuple[float, float]) -> None:
        """One finger from the first point to the last, in CSS pixels of the window."""
        for index, (x, y) in enumerate(points):
            self.cdp("Input.dispatchTouchEvent", type="touchMove" if index else "touchStart", touchPoints=[{"x": x, "y": y}])
        self.cdp("Input.dispatchTouchEvent", type="touchEnd", touchPoints=[])

    def tap(self, selector: str) -> None:
        """One finger on the middle of an element. After a drag Chromium's emulation sees no taps any more: tap first."""
        box = self.page.box(selector)
        self.touch((box["x"] + box["width"] / 2, box["y"] + box["height"] / 2))

    @contextmanager
    def touchscreen(self) -> Iterator[None]:
        self.cdp("Emulation.setTouchEmulationEnabled", enabled=True)
        try:
            yield
        finally:
            self.cdp("Emulation.setTouchEmulationEnabled", enabled=False)

    def clear(self) -> None:
        self.press("a", holding=Keys.CONTROL)
        self.press(Keys.BACKSPACE)
