// Where a step of one answer spent its time: Hop after Hop, waiting, computing, and on the way to the next.
import { figure, milliseconds } from "/static/js/format.js";
import { html } from "/static/js/html.js";

const PARTS = [
  ["queue", "waiting", "queue_ms"],
  ["compute", "computing", "compute_ms"],
  ["network", "on the way", "network_ms"],
];

export function Waterfall({ hops }) {
  const total = hops.reduce((sum, hop) => sum + PARTS.reduce((part, [, , key]) => part + (hop[key] ?? 0), 0), 0);
  if (!(total > 0)) return null;
  let at = 0;
  const rows = hops.map((hop, index) => {
    const bars = PARTS.map(([kind, , key]) => {
      const bar = { kind, from: at / total, share: (hop[key] ?? 0) / total };
      at += hop[key] ?? 0;
      return bar;
    });
    return html`
      <li key=${index}>
        <span class="who"><b>${hop.name || hop.peer.slice(0, 8)}</b> <span class="quiet">${hop.blocks}</span></span>
        <span class="track" aria-hidden="true">${bars.map(({ kind, from, share }) => html`<span key=${kind} class=${`part ${kind}`} style=${{ left: percent(from), width: percent(share) }}></span>`)}</span>
        <span class="unseen">${PARTS.map(([, word, key]) => `${milliseconds(hop[key])} ${word}`).join(", ")}</span>
        <span class="sum small" aria-hidden="true">${figure(PARTS.reduce((sum, [, , key]) => sum + (hop[key] ?? 0), 0))} ms</span>
      </li>`;
  });
  return html`
    <div class="waterfall">
      <h3>A token takes ${milliseconds(total)} <span class="quiet">(median step)</span></h3>
      <ol>${rows}</ol>
      <p class="legend small quiet" aria-hidden="true">${PARTS.map(([kind, word]) => html`<span key=${kind}><span class=${`part ${kind}`}></span>${word}</span>`)}</p>
    </div>`;
}

function percent(share) {
  return `${(share * 100).toFixed(2)}%`;
}
