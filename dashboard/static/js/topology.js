// The living picture: Peers in the order of their Spans, Links with measured latency, Sessions flowing along them.
import { blocks, called, count, milliseconds, range } from "/static/js/format.js";
import { Component, createRef, html } from "/static/js/html.js";
import { follow, peerPath } from "/static/js/place.js";
import { curve } from "/static/js/paths.js";
import { arrange } from "/static/js/shelves.js";
import { condition } from "/static/js/words.js";

const MOST_IDLE = 40; // links without Sessions that are drawn at all
const MOST_LABELS = 28;
const MOST_POSSIBLE = 40; // thin lines
const MOST_TRACKS = 3;

export class Topology extends Component {
  constructor() {
    super();
    this.state = { width: 0 };
    this.frame = createRef();
  }

  componentDidMount() {
    this.observer = new ResizeObserver(([entry]) => {
      const width = Math.round(entry.contentRect.width);
      if (width !== this.state.width) this.setState({ width });
    });
    this.observer.observe(this.frame.current);
  }

  componentWillUnmount() {
    this.observer.disconnect();
  }

  render({ peers, links }, { width }) {
    const busy = links.filter((link) => link.sessions > 0);
    return html`
      <section class="panel topology" aria-labelledby="topology">
        <div class="head">
          <h2 id="topology">Routes</h2>
          <p class="quiet small">${busy.length ? "dots flow where sessions run; the more, the thicker" : "no sessions just now; lines show who can follow whom"}</p>
        </div>
        <div class="frame" ref=${this.frame} aria-hidden="true">${width > 0 && html`<${Picture} peers=${peers} links=${links} width=${width} />`}</div>
        <${Table} peers=${peers} links=${links} />
      </section>`;
  }
}

function Picture({ peers, links, width }) {
  const scale = Math.max(1, parseFloat(getComputedStyle(document.documentElement).fontSize) / 16); // a wall's letters
  const picture = arrange(peers, width / scale);
  const drawn = trace(links, picture);
  const labels = picture.pills && drawn.length <= MOST_LABELS ? drawn.filter((link) => link.roomy) : [];
  return html`
    <svg viewBox=${`0 0 ${picture.width} ${picture.height}`} width=${width} height=${picture.height * scale} class=${picture.pills ? "pills" : "dots"}>
      <defs><marker id="tip" viewBox="0 0 8 8" refX="5" refY="4" markerWidth="7" markerHeight="7" markerUnits="userSpaceOnUse" orient="auto"><path d="M0 .8 7 4 0 7.2Z" /></marker></defs>
      ${picture.pills && possible(peers, links, picture).map((way) => html`<path key=${way.key} class="possible" d=${way.d} />`)}
      ${drawn.map((link) => html`<g key=${link.key} class=${link.sessions > 0 ? "link busy" : "link"}>
        <path class="way" d=${link.d} marker-end="url(#tip)" />
        ${link.sessions > 0 && html`<path class="flow" d=${link.d} style=${{ strokeWidth: String(Math.min(2.5 + link.sessions * 0.8, 9)) }} />`}
      </g>`)}
      ${labels.map((link) => html`<text key=${link.key} class="label" x=${Math.min(Math.max(link.x, 40), picture.width - 40)} y=${link.y + 4}>${label(link)}</text>`)}
      <${Clients} box=${picture.clients} />
      ${peers.map((peer) => html`<${Node} key=${peer.id} peer=${peer} box=${picture.nodes.get(peer.id)} pills=${picture.pills} />`)}
    </svg>`;
}

/** Who could hand over to whom, where no Link says so already: a Span that begins within or right after another and goes on. */
function possible(peers, links, picture) {
  const taken = new Set(links.map((link) => `${link.from}-${link.to}`));
  const serving = peers.filter((peer) => peer.state === "ready" && peer.reachable);
  const pairs = serving.flatMap((from) => serving.map((to) => ({ from, to, key: `${from.id}-${to.id}` })));
  return pairs
    .filter(({ from, to, key }) => {
      const [a, b] = [range(from.span), range(to.span)];
      return !taken.has(key) && a.start < b.start && b.start <= a.end && a.end < b.end;
    })
    .slice(0, MOST_POSSIBLE)
    .map(({ from, to, key }) => ({ key, ...curve(picture.nodes.get(from.id), picture.nodes.get(to.id), picture, "on", 0) }));
}

/** Links with their curves, the idle ones only as long as they do not hide the rest. */
function trace(links, picture) {
  const idle = links.filter((link) => !link.sessions);
  const wanted = [...(idle.length <= MOST_IDLE ? idle : []), ...links.filter((link) => link.sessions > 0)];
  const tracks = { back: 0, home: 0 };
  return wanted.flatMap((link) => {
    const from = picture.nodes.get(link.from);
    const to = link.to === "clients" ? picture.clients : picture.nodes.get(link.to);
    if (!from || !to) return [];
    const along = picture.upright ? "y" : "x";
    const kind = link.to === "clients" ? "home" : to[along] < from[along] - 4 ? "back" : "on";
    const track = kind === "on" ? 0 : tracks[kind]++ % MOST_TRACKS;
    const roomy = !picture.upright || kind !== "on" || Math.abs(from.x - to.x) < 4; // for a label
    const way = curve(from, to, picture, kind, track);
    const { x, y } = way.spots.find((spot) => clear(spot, picture)) ?? way;
    return [{ ...link, ...way, x, y, roomy, key: `${link.from}-${link.to}` }];
  });
}

/** Whether a label there lies beside all Peers. */
function clear(spot, picture) {
  return [...picture.nodes.values()].every(
    (box) => Math.abs(spot.x - box.x) > box.width / 2 + 34 || Math.abs(spot.y - box.y) > box.height / 2 + 6,
  );
}

function label(link) {
  const latency = link.rtt_ms === null ? "" : milliseconds(link.rtt_ms);
  const crowd = link.sessions > 0 ? `×${link.sessions}` : "";
  return [latency, crowd].filter(Boolean).join("  ");
}

function Clients({ box }) {
  return html`<g class="clients" transform=${`translate(${box.x} ${box.y})`}>
    <rect x=${-box.width / 2} y=${-box.height / 2} width=${box.width} height=${box.height} rx=${box.height / 2} />
    <text y="4.5">Clients</text>
  </g>`;
}

function Node({ peer, box, pills }) {
  const { word, level } = condition(peer);
  const name = called(peer);
  const title = `${name}, ${blocks(peer.span)}, ${word}, ${count(peer.sessions, "session")}`;
  if (!pills) {
    return html`<a class=${`node ${word}`} href=${peerPath(peer.id)} onClick=${follow} tabindex="-1"><circle cx=${box.x} cy=${box.y} r=${peer.sessions ? 7 : 5.5}><title>${title}</title></circle></a>`;
  }
  return html`
    <a class=${`node ${word}`} href=${peerPath(peer.id)} onClick=${follow} tabindex="-1" transform=${`translate(${box.x} ${box.y})`}>
      <title>${title}</title>
      <rect x=${-box.width / 2} y=${-box.height / 2} width=${box.width} height=${box.height} rx="10" />
      <text class="name" y="-3">${clip(name, Math.floor(box.width / 8.2))}</text>
      <text class=${`under ${level}`} y="14">${word === "ready" ? blocks(peer.span) : word}</text>
    </a>`;
}

function clip(text, most) {
  const letters = [...text];
  return letters.length > most ? `${letters.slice(0, most - 1).join("")}…` : text;
}

function Table({ peers, links }) {
  const names = new Map(peers.map((peer) => [peer.id, called(peer)]));
  return html`
    <details>
      <summary>As a table</summary>
      ${links.length === 0 ? html`<p class="quiet small">No links have been measured yet.</p>` : html`
      <table class="plain">
        <thead><tr><th scope="col">From</th><th scope="col">To</th><th scope="col" class="number">Latency</th><th scope="col" class="number">Sessions</th></tr></thead>
        <tbody>${links.map((link) => html`<tr key=${`${link.from}-${link.to}`}>
          <th scope="row">${names.get(link.from)}</th><td>${link.to === "clients" ? "clients" : names.get(link.to)}</td>
          <td class="number">${milliseconds(link.rtt_ms)}</td><td class="number">${link.sessions}</td></tr>`)}</tbody>
      </table>`}
    </details>`;
}
