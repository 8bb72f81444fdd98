// What the end of a connection means, and the page's words for it. Pure.

const PAUSES = [0.5, 1, 2, 4, 8]; // seconds between attempts, each with some chance in it

const ENDS = {
  1009: "The server refused a message as too large. Please reload the page.",
  4400: "The server did not understand this page. Please reload it: it may be older than the server.",
  4401: "This server asks you to sign in. Please reload the page.",
  4409: "This session went on in another tab or window.",
  4500: "The model cannot be loaded",
};

/** Seconds; `chance` in 0..1 spreads clients that lost the same server. */
export function pauseBefore(attempt, chance) {
  return PAUSES[Math.min(attempt, PAUSES.length - 1)] * (0.75 + 0.5 * chance);
}

/**
 * After a close: `again` (retry by itself), `resume` (with the old token), `state` and `reason` in words. `fatal`: the server's last
 * error.
 */
export function afterClose(code, { welcomed = false, fatal = null } = {}) {
  if (code === 4503) return { again: true, resume: true, state: "full", reason: "All places are taken." };
  if (code === 4460) return { again: true, resume: false, state: "full", reason: "Your turn is over, because others were waiting." };
  if (code === 4429) return { again: true, resume: true, state: "lost", reason: "The server asked for a break: too many messages." };
  if (code === 4410) return { again: true, resume: false, state: "connecting", reason: "" };
  if (code === 4440) return { again: false, resume: true, state: "ended", reason: "The session ended because no picture came for a while." };
  if (code === 1000) return { again: false, resume: false, state: "ended", reason: "The session is closed." };
  if (code in ENDS) {
    const detail = code === 4500 && fatal ? `: ${fatal}` : code === 4500 ? "." : "";
    return { again: false, resume: false, state: "ended", reason: ENDS[code] + detail };
  }
  const reason = code === 1012 ? "The server is restarting." : welcomed ? "The connection was lost." : "The server does not answer.";
  return { again: true, resume: true, state: "lost", reason };
}

/** { tone: good | busy | warn | bad, text, action: "retry" or nothing }; times in ms of one clock. */
export function words(link, now) {
  const seconds = link.retryAt ? Math.max(0, Math.ceil((link.retryAt - now) / 1000)) : 0;
  const again = seconds > 0 ? `Trying again in ${seconds} s.` : "Trying again now.";
  switch (link.state) {
    case "connecting":
      return { tone: "busy", text: "Connecting …" };
    case "loading":
      return { tone: "busy", text: `Preparing the model (first time only): ${Math.round(link.elapsed ?? 0)} s` };
    case "queue":
      return { tone: "busy", text: `${waitingWords(link, now)} Turns are ${Math.round(link.turn)} s when busy.` };
    case "live":
      return liveWords(link, now);
    case "lost":
    case "full":
      return { tone: "warn", text: `${link.reason} ${again}`, action: "retry" };
    default:
      return { tone: "bad", text: link.reason || "Ended.", action: "retry" };
  }
}

function waitingWords({ place, of, seatAt }, now) {
  const seconds = Math.ceil((seatAt - now) / 1000);
  const about = seconds > 0 ? `about ${seconds} s` : "any moment now";
  return place === 1 ? `You're next: ${about}.` : `You are number ${place} of ${of}: ${about}.`;
}

function liveWords(link, now) {
  if (link.paused) return { tone: "warn", text: "Paused" };
  if (!link.source) return { tone: "warn", text: "Connected. Choose an input to begin." };
  if (link.turnEnds) return { tone: "warn", text: `Live. Others are waiting${link.watched ? " and see your picture" : ""}: your turn ends in ${Math.max(0, Math.ceil((link.turnEnds - now) / 1000))} s.` };
  const silent = link.waitingSince === null ? 0 : (now - link.waitingSince) / 1000;
  if (!link.seenPicture) {
    const since = silent > 3 ? `, ${Math.round(silent)} s so far` : ""; // a model's first step prepares what later ones reuse
    return { tone: "busy", text: `Connected. The first picture is on its way${since}.` };
  }
  if (silent > 3) return { tone: "warn", text: `The server has not answered for ${Math.round(silent)} s.` };
  return { tone: "good", text: link.resumed ? "Live again, session restored" : "Live" };
}
