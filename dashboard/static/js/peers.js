// The table of Peers: sorted by any column, also by keyboard; a name leads to the Peer's page.
import { called, count, duration, figure, milliseconds, range, whole } from "/static/js/format.js";
import { html } from "/static/js/html.js";
import { Icon } from "/static/js/icon.js";
import { follow, peerPath } from "/static/js/place.js";
import { set } from "/static/js/store.js";
import { condition } from "/static/js/words.js";

const FIRST = 40; // rows shown before somebody asks for all
const order = new Intl.Collator("en", { numeric: true, sensitivity: "base" });

// key, heading, value to sort by, what stands in the cell, class: "number" is set right, "p2" … "p4" leave first on narrow pages
const COLUMNS = [
  ["name", "Peer", called, Name, ""],
  ["span", "Blocks", (peer) => range(peer.span).start * 1e5 + range(peer.span).end, (peer) => peer.span, ""],
  ["state", "State", (peer) => condition(peer).word, State, ""],
  ["speed", "Tokens/s", (peer) => peer.tokens_per_s, (peer) => figure(peer.tokens_per_s), "number p2"],
  ["sessions", "Sessions", (peer) => peer.sessions, (peer) => whole(peer.sessions), "number p2"],
  ["pages", "Pages used", fill, Pages, "number p3"],
  ["queue", "Queue", (peer) => peer.queue_tokens, (peer) => whole(peer.queue_tokens), "number p4"],
  ["block", "A Block takes", (peer) => peer.block_ms, (peer) => milliseconds(peer.block_ms), "number p4"],
  ["rtt", "Latency", (peer) => peer.rtt_ms, (peer) => milliseconds(peer.rtt_ms), "number p3"],
  ["age", "Heard of", (peer) => peer.age_s, Age, "number p3"],
  ["profile", "Profile", (peer) => peer.profile, (peer) => peer.profile, "p4"],
  ["version", "Version", (peer) => peer.version, (peer) => peer.version, "p4"],
];

export function PeersTable({ peers, state }) {
  const { key, down } = state.sort;
  const sorted = sort(peers, key, down);
  const shown = state.allPeers ? sorted : sorted.slice(0, FIRST);
  const elapsed = Math.max(0, (state.now - state.freshAt) / 1000);
  return html`
    <section class="panel peers" aria-labelledby="peers">
      <div class="head"><h2 id="peers">Peers</h2><p class="quiet small">${count(peers.length, "peer")}</p></div>
      <div class="scroll">
        <table class="wide">
          <caption class="unseen">Peers of this model. The buttons in the headings sort.</caption>
          <thead><tr>${COLUMNS.map((column) => html`<${Heading} key=${column[0]} column=${column} sort=${state.sort} />`)}</tr></thead>
          <tbody>${shown.map((peer) => html`
            <tr key=${peer.id}>${COLUMNS.map(([name, , , Cell, kind], index) => {
              const content = html`<${Wrap} cell=${Cell} peer=${peer} elapsed=${elapsed} />`;
              return index === 0 ? html`<th key=${name} scope="row">${content}</th>` : html`<td key=${name} class=${kind}>${content}</td>`;
            })}</tr>`)}
          </tbody>
        </table>
      </div>
      ${shown.length < sorted.length && html`<button type="button" class="more" onClick=${() => set({ allPeers: true })}>Show all ${sorted.length}</button>`}
    </section>`;
}

function Wrap({ cell, peer, elapsed }) {
  return cell(peer, elapsed);
}

/** Peers without a value come last, whichever way it goes. */
export function sort(peers, key, down) {
  const value = COLUMNS.find(([name]) => name === key)?.[2] ?? called;
  const sign = down ? -1 : 1;
  const unknown = (it) => it === null || it === undefined;
  return [...peers].sort((a, b) => {
    const [x, y] = [value(a), value(b)];
    if (unknown(x) || unknown(y)) return unknown(x) - unknown(y) || order.compare(a.id, b.id);
    return sign * (typeof x === "number" ? x - y : order.compare(x, y)) || order.compare(a.id, b.id);
  });
}

function Heading({ column: [key, heading, , , kind], sort: now }) {
  const here = now.key === key;
  const next = here ? !now.down : kind.includes("number"); // of numbers, the largest are asked for first
  return html`
    <th scope="col" class=${kind} aria-sort=${here ? (now.down ? "descending" : "ascending") : undefined}>
      <button type="button" class="sort" onClick=${() => set({ sort: { key, down: next } })}>${heading}<${Icon} name=${here ? (now.down ? "down" : "up") : "both"} /></button>
    </th>`;
}

function Name(peer) {
  return html`<a href=${peerPath(peer.id)} onClick=${follow} class="peername" title=${peer.name ? `${peer.name} (${peer.id.slice(0, 8)})` : peer.id}>${called(peer)}</a>`;
}

function State(peer) {
  const { word, level, icon } = condition(peer);
  return html`<span class=${`condition ${level}`}><${Icon} name=${icon} /><span>${word}</span></span>`;
}

function fill(peer) {
  return peer.pages?.total ? peer.pages.used / peer.pages.total : null;
}

export function Pages(peer) {
  const share = fill(peer);
  if (share === null) return "–";
  return html`<span class="pages"><span class="meter" aria-hidden="true"><span style=${{ width: `${Math.min(100, share * 100)}%` }}></span></span><span>${whole(peer.pages.used)} of ${whole(peer.pages.total)}</span></span>`;
}

function Age(peer, elapsed) {
  return `${duration(peer.age_s + elapsed)} ago`;
}
