// The address bar: "/" is the swarm, "/peer/ID" a Peer, "?model=FINGERPRINT" a choice. Back and forward work.
import { set, state } from "/static/js/store.js";

function read() {
  const match = /^\/peer\/([0-9a-f]{1,64})\/?$/.exec(location.pathname);
  const model = new URLSearchParams(location.search).get("model");
  return { view: match ? { name: "peer", id: match[1] } : { name: "swarm" }, model };
}

export function start() {
  set(read());
  addEventListener("popstate", () => set(read()));
}

export function peerPath(id) {
  return `/peer/${encodeURIComponent(id)}`;
}

function swarmPath() {
  return state.model ? `/?model=${encodeURIComponent(state.model)}` : "/";
}

export function choose(model) {
  history.replaceState(null, "", model ? `/?model=${encodeURIComponent(model)}` : "/");
  set({ model });
}

/** For links inside the page: goes there without loading it again, unless a new tab is wanted. */
export function follow(event) {
  if (event.defaultPrevented || event.button !== 0 || event.metaKey || event.ctrlKey || event.shiftKey || event.altKey) return;
  event.preventDefault();
  const path = event.currentTarget.getAttribute("href");
  const before = state.model;
  history.pushState(null, "", path === "/" ? swarmPath() : path);
  set({ ...read(), model: before });
  scrollTo(0, 0);
  requestAnimationFrame(() => requestAnimationFrame(() => document.getElementById("main")?.focus({ preventScroll: true })));
}
