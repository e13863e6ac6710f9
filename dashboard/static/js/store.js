// What the page knows, in one object. Everything drawn is a function of it; whoever learns something calls `set`.
export const state = {
  swarm: null, // the last /api/v1/swarm, or null before the first
  freshAt: 0, // performance.now() when that picture was new
  history: [], // points of the last hour, oldest first
  stepS: 10,
  link: "connecting", // connecting | live | polling | lost
  failed: false, // an attempt to connect has failed
  view: { name: "swarm" }, // or { name: "peer", id }
  model: null, // fingerprint that the reader chose, or null for the first
  detail: null, // { id, status: loading | here | missing | failed, peer }
  sort: { key: "span", down: false },
  allPeers: false,
  now: performance.now(),
};

const listeners = new Set();
let asked = false;

export function set(changes) {
  Object.assign(state, changes);
  if (asked) return;
  asked = true;
  queueMicrotask(() => {
    asked = false;
    for (const listener of listeners) listener(state);
  });
}

export function subscribe(listener) {
  listeners.add(listener);
}

/** Seconds since the picture on the page was new. */
export function pictureAge() {
  return state.swarm ? Math.max(0, (state.now - state.freshAt) / 1000) : 0;
}

/** The swarm's chosen model, else its first, else null. */
export function currentModel() {
  const models = state.swarm?.models ?? [];
  return models.find((model) => model.fingerprint === state.model) ?? models[0] ?? null;
}

export function peersOf(model) {
  return (state.swarm?.peers ?? []).filter((peer) => model && peer.model === model.fingerprint);
}
