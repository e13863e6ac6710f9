// The live picture: server-sent events, watched for silence, tried again with growing pauses; where the server has no stream to
// give, the same picture is asked for every few seconds. What it hears goes to the store.
import { set, state } from "/static/js/store.js";

const SILENCE_MS = 12000; // the server speaks at least every 5 s
const FIRST_PAUSE_MS = 1000;
const LONGEST_PAUSE_MS = 20000;
const POLL_MS = 5000;
const HOUR_S = 3600;

let source = null;
let pauseMs = FIRST_PAUSE_MS;
let heardAt = 0;
let polledAt = 0;
let historyAt = 0;
let timer = 0;

export function start() {
  connect();
  setInterval(tick, 1000);
  addEventListener("online", hurry);
  document.addEventListener("visibilitychange", () => document.hidden || hurry());
  addEventListener("pagehide", () => source?.close());
  addEventListener("pageshow", (event) => event.persisted && connect());
}

function connect() {
  clearTimeout(timer);
  source?.close();
  heardAt = performance.now();
  source = new EventSource("/api/v1/events");
  source.addEventListener("swarm", (event) => hear(event, (swarm) => picture(swarm, "live")));
  source.addEventListener("history", (event) => hear(event, point));
  source.addEventListener("error", lose);
}

function hear(event, take) {
  let value;
  try {
    value = JSON.parse(event.data);
  } catch {
    return; // half an event of a dying connection: silence will be noticed
  }
  heardAt = performance.now();
  if (source) pauseMs = FIRST_PAUSE_MS;
  take(value);
}

function picture(swarm, link) {
  const now = performance.now();
  const renewed = swarm.at !== state.swarm?.at; // a server that repeats an old picture does not make it new
  if (state.link !== link || (link === "polling" && now - historyAt > 30000)) loadHistory(now);
  set({ swarm, link, now, freshAt: renewed ? now : state.freshAt });
}

function point(value) {
  const since = value.at - HOUR_S;
  const kept = state.history.filter((old) => old.at > since && old.at < value.at);
  set({ history: [...kept, value] });
}

function lose() {
  source?.close();
  source = null;
  const wait = pauseMs * (0.75 + Math.random() / 2); // not all pages of a wall at once
  pauseMs = Math.min(pauseMs * 2, LONGEST_PAUSE_MS);
  clearTimeout(timer);
  timer = setTimeout(connect, wait);
  const now = performance.now();
  if (state.link !== "polling") set({ link: state.swarm ? "lost" : "connecting", failed: true, now });
  poll(now);
}

/** Somebody is looking, or the network is back: no reason to wait out the pause. */
function hurry() {
  if (source) return;
  pauseMs = FIRST_PAUSE_MS;
  connect();
}

function tick() {
  const now = performance.now();
  set({ now });
  if (source && now - heardAt > SILENCE_MS) lose();
  else if (state.link !== "live") poll(now);
}

/** The picture by itself, at most every 5 s, where the stream does not come. */
async function poll(now) {
  if (now - polledAt < POLL_MS || document.hidden) return;
  polledAt = now;
  try {
    const answer = await fetch("/api/v1/swarm", { signal: AbortSignal.timeout(POLL_MS) });
    if (!answer.ok) throw new Error(String(answer.status));
    const swarm = await answer.json();
    if (state.link !== "live") picture(swarm, "polling");
  } catch {
    if (state.link === "polling") set({ link: "lost" });
  }
}

async function loadHistory(now) {
  historyAt = now;
  try {
    const answer = await fetch("/api/v1/history?minutes=60", { signal: AbortSignal.timeout(10000) });
    if (!answer.ok) return;
    const { step_s: stepS, points } = await answer.json();
    const last = points.at(-1)?.at ?? 0;
    set({ stepS, history: [...points, ...state.history.filter((later) => later.at > last)] });
  } catch {
    // The plot says "no measurements yet"; points come with the events.
  }
}
