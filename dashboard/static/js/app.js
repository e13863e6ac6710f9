// The page: a bar, and below it the swarm or one Peer of it.
import { Ask } from "/static/js/ask.js";
import { Bar } from "/static/js/bar.js";
import { Coverage } from "/static/js/coverage.js";
import { Hour } from "/static/js/hour.js";
import { html } from "/static/js/html.js";
import { Join } from "/static/js/join.js";
import { PeerPage } from "/static/js/peerpage.js";
import { PeersTable } from "/static/js/peers.js";
import { Status } from "/static/js/status.js";
import { currentModel, peersOf } from "/static/js/store.js";
import { Topology } from "/static/js/topology.js";

export function App({ state }) {
  const stale = state.link === "lost";
  return html`
    <${Bar} state=${state} />
    <main id="main" tabindex="-1" class=${[state.view.name, stale && "stale", !currentModel() && "bare"].filter(Boolean).join(" ")}>${body(state)}</main>
    <footer class="foot">
      <span>Shoal ${state.swarm?.version ?? ""}</span>
      <span>Everything here as JSON: <a href="/api/v1/swarm">/api/v1/swarm</a></span>
      <span>No prompts, no addresses, no third parties.</span>
    </footer>`;
}

function body(state) {
  if (state.view.name === "peer") return html`<${PeerPage} key=${state.view.id} state=${state} />`;
  if (!state.swarm) return html`<${Status} state=${state} />`;
  const model = currentModel();
  const peers = peersOf(model);
  const offer = state.swarm.try; // null where the operator offers no answers
  const links = linksOf(state.swarm.links, peers);
  return html`
    <${Status} state=${state} />
    ${model && html`<${Coverage} model=${model} peers=${peers} />`}
    <${Join} model=${model} />
    ${model && html`<${Topology} model=${model} peers=${peers} links=${links} />`}
    <${Hour} history=${state.history} stepS=${state.stepS} now=${state.swarm.at} title="Speed" />
    ${offer && html`<${Ask} model=${model} most=${offer.max_tokens} />`}
    ${model && html`<${PeersTable} peers=${peers} state=${state} />`}`;
}

function linksOf(links, peers) {
  const ids = new Set(peers.map((peer) => peer.id));
  return links.filter((link) => ids.has(link.from) && (ids.has(link.to) || link.to === "clients"));
}
