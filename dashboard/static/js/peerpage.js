// A Peer's page: what it says of itself, where it stands, its Links, its hour.
import { blocks, called, count, duration, milliseconds, range, rate, whole } from "/static/js/format.js";
import { Component, html } from "/static/js/html.js";
import { Hour } from "/static/js/hour.js";
import { Icon } from "/static/js/icon.js";
import { Pages } from "/static/js/peers.js";
import { follow, peerPath } from "/static/js/place.js";
import { pictureAge, set, state as store } from "/static/js/store.js";
import { condition } from "/static/js/words.js";

const EVERY_MS = 5000;

export class PeerPage extends Component {
  componentDidMount() {
    set({ detail: null });
    this.load();
    this.timer = setInterval(() => document.hidden || this.load(), EVERY_MS);
  }

  componentWillUnmount() {
    clearInterval(this.timer);
    this.left = true;
  }

  async load() {
    const { id } = store.view;
    let detail;
    try {
      const answer = await fetch(`/api/v1/peers/${encodeURIComponent(id)}`, { signal: AbortSignal.timeout(8000) });
      detail = answer.ok ? { id, peer: await answer.json() } : { id, missing: answer.status === 404 };
    } catch {
      return; // what is there stays; the bar says how old the picture is
    }
    if (this.left || store.view.id !== id) return;
    if (detail.peer || detail.missing || !store.detail) set({ detail });
  }

  render({ state }) {
    const { id } = state.view;
    const live = state.swarm?.peers.find((peer) => peer.id === id);
    const detail = state.detail?.id === id ? state.detail : null;
    const peer = live ? { ...detail?.peer, ...live } : detail?.peer;
    const model = state.swarm?.models.find((candidate) => candidate.fingerprint === peer?.model);
    return html`
      <section class="panel" aria-labelledby="peer">
        <a class="back" href="/" onClick=${follow}><${Icon} name="back" />The swarm</a>
        ${peer ? html`<${Facts} peer=${peer} model=${model} present=${Boolean(live)} />` : html`<${Absent} id=${id} known=${detail !== null} />`}
      </section>
      ${peer && html`<${Hour} history=${detail?.peer?.history ?? []} stepS=${state.stepS} now=${state.swarm?.at ?? 0} title="Its speed" />`}
      ${peer && html`<${Links} links=${detail?.peer?.links ?? []} peers=${state.swarm?.peers ?? []} id=${id} />`}`;
  }
}

function Absent({ id, known }) {
  return html`<h1 id="peer">${known ? "This peer is not here" : "Looking for this peer …"}</h1><p class="id quiet">${id}</p>
    ${known && html`<p>It may have left, or its record has run out. What it served is not lost as long as others serve the same Blocks.</p>`}`;
}

function Facts({ peer, model, present }) {
  const { word, level, icon } = present ? condition(peer) : { word: "gone", level: "quiet", icon: "cross" };
  const elapsed = present ? pictureAge() : 0;
  const facts = [
    ["State", html`<span class=${`condition ${level}`}><${Icon} name=${icon} /><span>${word}</span></span>`],
    ["Blocks", model ? `${peer.span} of ${model.num_blocks}` : peer.span],
    ["Model", model?.name ?? peer.model.slice(0, 8)],
    ["Speed", rate(peer.tokens_per_s)],
    ["Sessions", whole(peer.sessions)],
    ["Pages used", Pages(peer)],
    ["Queue", count(peer.queue_tokens ?? 0, "token")],
    ["A Block takes", milliseconds(peer.block_ms)],
    ["Latency from here", milliseconds(peer.rtt_ms)],
    ["Heard of", `${duration(peer.age_s + elapsed)} ago`],
    ["Record lasts", duration(Math.max(0, peer.expires_in_s - elapsed))],
    ["Profile", peer.profile],
    ["Version", peer.version],
    ...(peer.address ? [["Address", peer.address]] : []),
  ];
  const { start, end } = range(peer.span);
  return html`
    <h1 id="peer">${called(peer)}</h1>
    <p class="id quiet">${peer.id}</p>
    ${model && html`<div class="where" role="img" aria-label=${`${blocks(peer.span)} of ${model.num_blocks}`} style=${{ gridTemplateColumns: `repeat(${model.num_blocks}, minmax(0, 1fr))` }}>
      <span style=${{ gridColumn: `${start + 1} / ${end + 1}` }}></span></div>`}
    <dl class="details">${facts.map(([name, value]) => html`<div key=${name}><dt>${name}</dt><dd>${value}</dd></div>`)}</dl>`;
}

function Links({ links, peers, id }) {
  const names = new Map(peers.map((peer) => [peer.id, called(peer)]));
  const other = (key) => {
    if (key === "clients") return "clients";
    if (key === id) return "this peer";
    return names.has(key) ? html`<a href=${peerPath(key)} onClick=${follow}>${names.get(key)}</a>` : key.slice(0, 8);
  };
  return html`
    <section class="panel" aria-labelledby="links">
      <div class="head"><h2 id="links">Links</h2></div>
      ${links.length === 0 ? html`<p class="quiet">No link to another peer has been measured yet.</p>` : html`
        <table class="plain">
          <thead><tr><th scope="col">From</th><th scope="col">To</th><th scope="col" class="number">Latency</th><th scope="col" class="number">Sessions</th></tr></thead>
          <tbody>${links.map((link) => html`<tr key=${`${link.from}-${link.to}`}><td>${other(link.from)}</td><td>${other(link.to)}</td>
            <td class="number">${milliseconds(link.rtt_ms)}</td><td class="number">${link.sessions}</td></tr>`)}</tbody>
        </table>`}
    </section>`;
}
