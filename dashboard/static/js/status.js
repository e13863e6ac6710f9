// One glance: is the swarm healthy, how fast is it, what is weakest, what fails next.
import { figure, whole } from "/static/js/format.js";
import { html } from "/static/js/html.js";
import { Icon } from "/static/js/icon.js";
import { currentModel, peersOf } from "/static/js/store.js";
import { next, verdict, weakest } from "/static/js/words.js";

export function Status({ state }) {
  if (!state.swarm) {
    const failed = state.failed;
    const text = failed ? "No answer from the dashboard's server. Trying again." : "Looking at the swarm …";
    return html`<section class="status empty" aria-labelledby="verdict">
      <h1 id="verdict" role="status"><${Icon} name="ring" /><span><b>${failed ? "No picture" : "One moment"}</b> <span class="sentence">${text}</span></span></h1>
    </section>`;
  }
  const model = currentModel();
  const peers = peersOf(model);
  const { state: word, title, sentence } = verdict(model, peers);
  const lost = state.link === "lost" ? html` <span class="unseen">The live picture is lost, reconnecting.</span>` : null;
  return html`
    <section class=${`status ${word}`} aria-labelledby="verdict">
      <h1 id="verdict">
        <${Icon} name=${word} />
        <span role="status"><b>${title}:</b> <span class="sentence">${sentence}</span>${lost}</span>
      </h1>
      ${model && html`<${Facts} model=${model} peers=${peers} />`}
    </section>`;
}

function Facts({ model, peers }) {
  const ready = peers.filter((peer) => peer.state === "ready" && peer.reachable).length;
  const weak = weakest(model);
  const after = next(model, peers);
  return html`
    <dl class="facts">
      <div class="fact"><dt>Speed now</dt><dd><b>${figure(model.tokens_per_s)}</b> tokens/s</dd></div>
      <div class="fact"><dt>Sessions</dt><dd><b>${whole(model.sessions)}</b> running</dd></div>
      <div class="fact"><dt>Peers</dt><dd><b>${whole(ready)}</b> ready${peers.length > ready ? ` of ${whole(peers.length)}` : ""}</dd></div>
      <div class="fact wide"><dt>Weakest</dt><dd class=${weak.level}>${weak.text}</dd></div>
      <div class="fact wide"><dt>What fails next</dt><dd class=${after.level}>${after.text}</dd></div>
    </dl>`;
}
