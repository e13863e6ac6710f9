// Block × Peer: every Block a column, replicas as rows, gaps and single replicas marked over the whole height.
import { blocks, called, count, list, range } from "/static/js/format.js";
import { html } from "/static/js/html.js";
import { Icon } from "/static/js/icon.js";
import { pack, runs, tickStep } from "/static/js/lanes.js";
import { follow, peerPath } from "/static/js/place.js";
import { condition, coverageInWords, holders } from "/static/js/words.js";

const MOST_LANES = 48;

export function Coverage({ model, peers }) {
  const { bars, lanes } = pack(peers);
  const shown = Math.min(lanes, MOST_LANES);
  const density = shown <= 8 ? "roomy" : shown <= 20 ? "close" : "dense";
  return html`
    <section class="panel coverage" aria-labelledby="coverage">
      <div class="head">
        <h2 id="coverage">Coverage</h2>
        <p class="quiet small">a column for each of the ${count(model.num_blocks, "Block")}, a bar for each peer</p>
      </div>
      <p class="unseen">${coverageInWords(model)}</p>
      <div class=${`grid ${density}`} aria-hidden="true" style=${{ "--blocks": model.num_blocks }}>
        <${Strip} model=${model} />
        <${Weakest} model=${model} />
        <div class="lanes" style=${{ "--lanes": Math.max(shown, 1) }}>
          ${model.single.map((text) => html`<${Mark} key=${`s${text}`} text=${text} kind="single" lanes=${shown} />`)}
          ${model.gaps.map((text) => html`<${Mark} key=${`g${text}`} text=${text} kind="gap" lanes=${shown} />`)}
          ${bars.filter((bar) => bar.lane < shown).map((bar) => html`<${Bar} key=${bar.peer.id} bar=${bar} />`)}
        </div>
        <${Axis} numBlocks=${model.num_blocks} />
      </div>
      ${lanes > shown && html`<p class="quiet small">and ${count(lanes - shown, "more row")} of peers</p>`}
      <${Notes} model=${model} peers=${peers} />
      <${Table} model=${model} peers=${peers} />
    </section>`;
}

/** Replicas of every Block as a number, with a pattern for one and for none. */
function Strip({ model }) {
  return html`<div class=${`strip ${model.num_blocks > 40 ? "tight" : ""}`}>
    ${model.coverage.map((replicas, block) => {
      const kind = replicas === 0 ? "gap" : replicas === 1 ? "single" : "covered";
      return html`<span key=${block} class=${`cell ${kind}`} title=${`Block ${block}: ${count(replicas, "replica")}`}><span>${replicas}</span></span>`;
    })}
  </div>`;
}

/** A bracket under the Blocks that are weakest. */
function Weakest({ model }) {
  if (!model.weakest || model.weakest.blocks === `0:${model.num_blocks}`) return null;
  const { start, end } = range(model.weakest.blocks);
  const middle = (start + end) / 2 / model.num_blocks;
  const short = (end - start) / model.num_blocks < 0.25; // the word stands beside the bracket then
  const side = `${short ? "short" : ""} ${middle > 0.7 ? "right" : "left"}`;
  return html`<div class="weakest"><span class=${side} style=${{ gridColumn: `${start + 1} / ${end + 1}` }}><b>weakest</b></span></div>`;
}

function Mark({ text, kind, lanes }) {
  const { start, end } = range(text);
  const style = { gridColumn: `${start + 1} / ${end + 1}`, gridRow: `1 / ${Math.max(lanes, 1) + 1}` };
  return html`<span class=${`mark ${kind}`} style=${style}>${kind === "gap" && html`<b><${Icon} name="broken" /><span>nobody</span></b>`}</span>`;
}

/** A link for the pointer; the table below has the same one for everybody. */
function Bar({ bar }) {
  const { peer, start, end, lane } = bar;
  const { word } = condition(peer);
  const style = { gridColumn: `${start + 1} / ${end + 1}`, gridRow: `${lane + 1}` };
  return html`<a class=${`span ${word}`} style=${style} href=${peerPath(peer.id)} onClick=${follow} tabindex="-1"
    title=${`${called(peer)}, ${blocks(peer.span)}, ${word}`}><span class="name">${called(peer)}</span>${
      word === "ready" ? null : html`<span class="word">${word}</span>`}</a>`;
}

function Axis({ numBlocks }) {
  const step = tickStep(numBlocks, 12);
  const ticks = Array.from({ length: Math.ceil(numBlocks / step) }, (_, index) => index * step);
  return html`<div class="axis">${ticks.map((block) => html`<span key=${block} style=${{ gridColumn: `${block + 1} / span ${Math.min(step, numBlocks - block)}` }}>${block}</span>`)}</div>`;
}

/** The same marks in words, so that neither colour nor width matters. */
function Notes({ model, peers }) {
  const notes = [
    ...model.gaps.map((text) => html`<li key=${text} class="alarm"><${Icon} name="broken" /><span><b>${blocks(text)}</b>: nobody serves ${range(text).end - range(text).start === 1 ? "it" : "them"}</span></li>`),
    ...model.single.map((text) => html`<li key=${text} class="warn"><${Icon} name="fragile" /><span><b>${blocks(text)}</b>: one replica, ${list(holders(peers, text).map(called))}</span></li>`),
  ];
  const weak = model.weakest;
  if (weak && weak.replicas > 1) notes.push(html`<li key="weakest"><${Icon} name="bracket" /><span>Weakest: <b>${blocks(weak.blocks)}</b>, ${count(weak.replicas, "replica")}</span></li>`);
  return html`<ul class="notes">${notes}</ul>`;
}

function Table({ model, peers }) {
  return html`
    <details>
      <summary>As a table</summary>
      <table class="plain">
        <thead><tr><th scope="col">Blocks</th><th scope="col">Replicas</th><th scope="col">Peers</th></tr></thead>
        <tbody>${runs(model.coverage).map(({ start, end, replicas }) => {
          const text = `${start}:${end}`;
          return html`<tr key=${text}><th scope="row">${text}</th><td>${replicas}</td><td>${list(holders(peers, text).map(called), 8) || "nobody"}</td></tr>`;
        })}</tbody>
      </table>
    </details>`;
}
