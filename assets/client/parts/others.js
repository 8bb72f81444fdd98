// For others: the output's addresses, a picture with its link, a code for a phone. It comes on its first use.

import { make } from "./dom.js";
import { HERE } from "../pure/pacer.js";
import { VIEW, mjpeg } from "../wire/connection.js";
import { keep, kept } from "../pure/storage.js";

const OUTPUT = "rill.output"; // its secret key

/** Puts this session at its output place; { clean, mjpeg }, or null without a session. */
async function putOut({ connection: { at, resume } }) {
  const where = at ? `?at=${encodeURIComponent(at)}` : "";
  if (!kept(OUTPUT)) keep(OUTPUT, btoa(String.fromCharCode(...crypto.getRandomValues(new Uint8Array(24)))).replaceAll("+", "-").replaceAll("/", "_"));
  const headers = { "X-Rill-Resume": resume ?? "", "X-Rill-Output": kept(OUTPUT) };
  const answer = await fetch(VIEW + where, { method: "POST", headers }).catch(() => null);
  if (!answer?.ok) return null;
  const { token } = await answer.json();
  return { clean: `${VIEW}${where}#${token}`, mjpeg: mjpeg(at, token) };
}

/** The addresses of the output, as rows of a panel; null without a session. */
export async function output(studio) {
  const found = await putOut(studio);
  if (!found) return studio.notice("There is no session to show yet. Try again when it is live.", true) ?? null;
  const open = make("a", { className: "rill-link", href: found.clean, target: "_blank", rel: "noopener", textContent: "Open it" });
  const words = make("p", { className: "rill-remark", textContent: "These addresses stay good: after a reload or a restart of the server they go on, and hold the last picture until then." });
  return [row("Clean page: OBS browser source, projector", found.clean), row("MJPEG: OBS media source", found.mjpeg), open, words];
}

/** Whoever watches this browser's output goes on with a new session. */
export const goOn = putOut;

const row = (label, url) => make("label", { className: "rill-view" }, label, make("input", { type: "text", readOnly: true, value: url, onfocus: ({ target }) => target.select() }));

const local = () => (HERE.includes(location.hostname) ? " The link works on this computer only." : "");

/** The picture with its settings inside and the link that restores them: to what the device shares with, else to the clipboard. */
export async function share(studio, exchange) {
  const { address } = studio;
  if (!studio.seenPicture) return studio.notice("There is no picture to share yet.", true);
  const picture = new File([await exchange.picture()], `${exchange.name}.png`, { type: "image/png" });
  const data = { files: [picture], title: "Rill", url: address };
  try {
    if (navigator.canShare?.(data)) return await navigator.share(data);
  } catch (error) {
    if (error.name === "AbortError") return null; // closed without a choice
  }
  try {
    await navigator.clipboard.write([new ClipboardItem({ "image/png": picture, "text/plain": new Blob([address], { type: "text/plain" }) })]);
    return studio.notice(`The picture and its link are copied: paste them where you like.${local()}`, true);
  } catch {
    history.replaceState(null, "", address);
    return exchange.snapshot(`with its settings inside; its link is in the address bar.${local()}`);
  }
}

/** A code that a phone's camera reads, and the address in it, as rows of a panel. */
export function join() {
  const here = new URL(".", location.href);
  if (HERE.includes(here.hostname)) {
    const words = "This address works on this computer only. Start the server with --host 0.0.0.0 and open the page by this computer's name or number in the network; then the code is here.";
    return [make("p", { className: "rill-remark", textContent: words })];
  }
  const src = `${new URL("../../join.svg", import.meta.url)}?${new URLSearchParams({ path: here.pathname })}`;
  const words = isSecureContext ? "" : "Over HTTP a phone's camera stays closed; its other inputs work.";
  return [make("img", { className: "rill-qr", src, alt: `QR code: ${here.href}` }), row("Address of this page", here.href), make("p", { className: "rill-remark", textContent: words })];
}
