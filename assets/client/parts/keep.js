// What is taken away and brought back: the buttons. What they do comes on their first use (exchange.js, others.js).

import { fileInput, make, plain, press } from "./dom.js";
import { later, sheet } from "../flow/later.js";
import { kept } from "../pure/storage.js";

export function keep(host, studio) {
  const button = (text, title, click) => plain(text, click, { title });
  const files = fileInput("Settings file or snapshot", (file) => studio.exchange(async (opened) => {
    if (!(await opened.open(file))) studio.notice(`${file.name} holds no settings of Rill.`, true);
  }), { accept: ".json,.png" });
  const exchange = (name) => () => studio.exchange((files) => files[name]());
  const others = async (act) => {
    const loaded = await later(studio, () => Promise.all([import("./others.js"), sheet("afterwards")]));
    if (loaded) await act(loaded[0]);
  };
  const record = button("Record", "Record the output as a video (v)", exchange("record"));
  const moves = button("Save moves", "What you changed while it was recorded, to be played again", exchange("saveMoves"));
  const stop = button("Stop the replay", "", exchange("stopReplay"));
  moves.hidden = stop.hidden = true;
  const panel = make("div", {});
  let asked = 0;
  /** Fills the panel with what is asked for last. */
  const show = (fill) => others(async (loaded) => {
    const mine = ++asked;
    const rows = await fill(loaded);
    if (rows && mine === asked) panel.replaceChildren(...rows);
  });
  const said = make("p", { className: "rill-remark", aria: { live: "polite" } });
  host.append(make("div", { className: "rill-buttons" },
    record,
    button("Save picture", "A PNG with the settings inside (s)", exchange("snapshot")),
    button("Copy link", "A link that restores these settings (l)", () => document.querySelector(".rill-tools button[aria-label^='Copy']").click()),
    button("Save settings", "All settings as a file", exchange("saveSettings")),
    button("Load…", "A settings file, a snapshot or recorded moves", () => files.click()),
    button("Share picture", "The picture and a link that makes it again", () => others(({ share }) => studio.exchange((files) => share(studio, files)))),
    button("Join by phone", "A code that brings a phone here", () => show(({ join }) => join())),
    button("Output for OBS or projector", "Addresses that show the output, and nothing more", () => show(({ output }) => output(studio))),
    moves, stop), said, panel, files);
  studio.on("recording", ({ active = false, seconds = 0, moves: made }) => {
    record.textContent = active ? `Stop ${seconds.toFixed(0)} s` : "Record";
    press(record, active);
    if (made) moves.hidden = made.moves.length === 0;
  });
  studio.on("welcome", () => kept("rill.output") && others(({ goOn }) => goOn(studio)));
  studio.on("replay", (detail) => {
    stop.hidden = detail === null;
    said.textContent = detail ? `Replaying ${detail.moves} moves in ${detail.seconds.toFixed(0)} s.` : "";
  });
}
