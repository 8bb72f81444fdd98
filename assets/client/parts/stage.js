// The picture; the input as an inset, beside it or wiped over it; what is wrong, said on top of it.

import { words } from "../wire/link.js";
import { link as linkButton, make, write } from "./dom.js";
import { later, sheet } from "../flow/later.js";
import { mjpeg } from "../wire/connection.js";
import { idle, tools } from "./tools.js";

const BRIEF = 8000; // ms

export function stage(host, studio, trigger) {
  const canvas = make("canvas", { className: "rill-canvas", id: "rill-output", width: 2, height: 2, aria: { role: "img", label: "Transformed picture" } });
  const picture = make("div", { className: "rill-picture" }, canvas);
  const holder = make("div", { className: "rill-holder" });
  const inset = make("div", { className: "rill-inset", aria: { label: "Input", role: "group" } }, holder);
  const said = make("span");
  const retry = linkButton("Connect now", () => studio.connection.connect()); // full screen has no other one
  const veil = make("div", { className: "rill-veil" }, said, retry);
  const notice = make("div", { className: "rill-notice", hidden: true, aria: { role: "alert" } });
  const recording = make("div", { className: "rill-recording", hidden: true, aria: { hidden: "true" } });
  const slide = wiper();
  const frame = make("div", { className: "rill-frame", dataset: { view: "inset" } }, picture, inset, slide, veil, recording, notice);
  const box = make("div", { className: "rill-stagebox" }, frame);
  host.append(box, make("div", { id: "rill-nursery", aria: { hidden: "true" } }));
  const whole = document.getElementById("rill-left") ?? box; // with the prompt
  frame.after(tools(studio, { frame, setView, setPainting, whole }));
  studio.on("paint", (detail) => setPainting(detail));
  studio.on("unmask", () => wanted === "mask" && setPainting(null));

  let before = "inset"; // to go back to after painting
  let wanted = null; // once its tools have loaded
  let plain = null; // to go back to after a peek
  let asked = "inset"; // the view chosen last; what it needs may still load
  const showShare = (share) => {
    plain ??= frame.dataset.view;
    setView(share === null ? plain : "wipe");
    if (share === null) plain = null;
    else place(100 * share);
  };
  studio.afterwards.then(({ peek }) => frame.append(peek(frame, picture, studio, showShare)));
  idle(whole, studio);
  let paper = null; // a new canvas shows its tools once
  studio.bridge = () => trigger("change");
  studio.on("source", () => {
    showInput(inset, holder, studio);
    if (studio.source?.kind === "paint" && studio.source !== paper) setPainting(wanted ?? "colour");
    if (studio.source?.element === null && !studio.opening) setPainting(null);
    paper = studio.source;
  });
  studio.on("recording", ({ active = false, seconds = 0 }) => {
    recording.hidden = !active;
    write(recording, `Recording ${seconds.toFixed(0)} s`);
  });
  notices(notice, studio);
  studio.on("welcome", ({ spec }) => {
    const { style } = document.body; // the page is laid out around the picture
    style.setProperty("--shape", `${spec.width} / ${spec.height}`);
    style.setProperty("--ratio", spec.width / spec.height);
    document.body.dataset.shape = spec.width > 1.2 * spec.height ? "wide" : spec.height > 1.2 * spec.width ? "tall" : "square";
  });
  const others = make("img", { className: "rill-others", hidden: true, alt: "Live: the picture of who is on", onerror: () => (others.hidden = true), onload: () => (others.hidden = false) });
  picture.append(others);
  /** While this client waits, the picture of who is on, where the server shows it. */
  const watch = (view) => {
    if (others.dataset.token === (view?.token ?? "")) return;
    others.dataset.token = view?.token ?? "";
    others.hidden = true;
    if (view) others.src = mjpeg(view.at, view.token);
    else others.removeAttribute("src"); // ends the connection
  };
  const paint = () => {
    const { link } = studio;
    watch(link.state === "queue" ? link.watch : null);
    frame.dataset.watching = String(!others.hidden);
    const calm = link.state === "live" && link.seenPicture;
    veil.hidden = calm && !link.paused;
    frame.dataset.calm = String(calm);
    const { text, action } = words(link, performance.now());
    write(said, calm ? "Paused" : text);
    retry.hidden = action !== "retry";
  };
  studio.on("link", paint);
  studio.on("summary", paint); // the seconds of a countdown
  acceptDrops(frame, studio);
  studio.start(canvas);

  async function setView(view) {
    asked = view;
    if (view === "wipe") later(studio, () => sheet("afterwards"));
    if (view === "reference" && !(await comparison())) return;
    if (view === frame.dataset.view || view !== asked) return;
    if (frame.dataset.painting && view !== "beside") setPainting(null);
    frame.dataset.view = view;
    studio.say("view", view);
  }

  /** The full quality picture beside the one shown, made on its first use. */
  async function comparison() {
    const loaded = await later(studio, () => Promise.all([import("./pair.js"), sheet("afterwards")]));
    if (loaded && !picture.querySelector(".rill-pair")) canvas.after(loaded[0].pair(studio));
    return loaded;
  }

  /** The tools for painting, made on their first use. */
  async function easel() {
    const loaded = await later(studio, () => Promise.all([import("./easel.js"), sheet("easel")]));
    if (loaded) studio.easel ??= loaded[0].easel(studio, { frame, inset, box, close: () => setPainting(null) });
    return loaded && studio.easel;
  }

  /** Shows the tools for "colour" or "mask"; null puts them away. A later call holds. */
  async function setPainting(what) {
    wanted = what;
    if (what) {
      const tools = await easel();
      if (!tools || wanted !== what) return;
      if (studio.source?.element === null) await studio.choose("paint");
      if (wanted !== what) return;
      tools.bar.hidden = false;
      if (!frame.dataset.painting) {
        before = frame.dataset.view;
        setView("beside");
      }
      frame.dataset.painting = what;
      tools.turn(what);
    } else if (frame.dataset.painting) {
      studio.easel.bar.hidden = true;
      delete frame.dataset.painting;
      setView(before);
    }
    studio.say("view", frame.dataset.view);
  }

  function wiper() {
    const range = make("input", { type: "range", className: "rill-wiper", min: 0, max: 100, step: 0.5, value: 50, aria: { label: "Where the wipe stands" } });
    range.addEventListener("input", () => place(range.value));
    return range;
  }

  function place(percent) {
    slide.value = percent;
    frame.style.setProperty("--wipe", `${percent}%`);
  }
}

function showInput(inset, holder, studio) {
  const element = studio.source?.element ?? null;
  inset.hidden = element === null;
  inset.dataset.mirror = String(studio.pump.mirror);
  if (element && element.parentElement !== holder) {
    holder.replaceChildren(element);
    element.play?.().catch(() => {}); // moving a playing video in the document pauses it
  }
}

/** Notices on top of the picture: a lasting one returns after a brief one. */
function notices(place, studio) {
  const texts = { brief: "", lasting: "" };
  const set = (kind, text) => {
    texts[kind] = text;
    const shown = texts.brief ? "brief" : "lasting";
    showNotice(place, texts[shown], () => set(shown, ""));
  };
  let timer = null;
  studio.on("notice", ({ text, brief }) => {
    if (brief || text) clearTimeout(timer);
    if (!brief && text) texts.brief = "";
    if (brief) timer = setTimeout(() => set("brief", ""), BRIEF);
    set(brief ? "brief" : "lasting", text);
  });
}

function showNotice(notice, text, end) {
  if (text === (notice.firstChild?.textContent ?? "")) return null;
  notice.hidden = !text;
  if (!text) return notice.replaceChildren();
  const close = linkButton("Dismiss", end);
  const children = [make("span", { textContent: text }), close];
  if (self !== top && text.includes("own tab")) {
    children.splice(1, 0, make("a", { className: "rill-link", href: location.href, target: "_blank", rel: "noopener", textContent: "Open in a new tab" }));
  }
  return notice.replaceChildren(...children);
}

function acceptDrops(frame, studio) {
  frame.addEventListener("dragover", (event) => event.preventDefault());
  frame.addEventListener("drop", async (event) => {
    event.preventDefault();
    const file = event.dataTransfer?.files?.[0];
    if (file && !(await studio.exchange((files) => files.open(file)))) studio.choose("clip", { file }); // or a picture
  });
}
