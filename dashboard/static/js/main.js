// The beginning: listen, read the address, draw, and draw again whenever something is learnt.
import { App } from "/static/js/app.js";
import * as feed from "/static/js/feed.js";
import { html, render } from "/static/js/html.js";
import * as place from "/static/js/place.js";
import { currentModel, peersOf, set, state, subscribe } from "/static/js/store.js";
import { onSystemChange } from "/static/js/theme.js";
import { called } from "/static/js/format.js";
import { verdict } from "/static/js/words.js";

const root = document.getElementById("app");

function draw() {
  render(html`<${App} state=${state} />`, root);
  document.title = title();
}

function title() {
  if (state.view.name === "peer") {
    const peer = state.swarm?.peers.find((candidate) => candidate.id === state.view.id);
    return `${peer ? called(peer) : "Peer"} · Shoal`;
  }
  if (!state.swarm) return "Shoal";
  const model = currentModel();
  const word = state.link === "lost" ? "Reconnecting" : verdict(model, peersOf(model)).title;
  return `${word} · Shoal`;
}

root.replaceChildren();
subscribe(draw);
onSystemChange(() => set({}));
place.start();
feed.start();
draw();
