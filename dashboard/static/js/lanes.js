// Which Peer's bar goes into which row of the coverage, and which Blocks need a mark. Pure.
import { range } from "/static/js/format.js";

/** Bars in as few rows as it takes: longest first among those that begin together, each into the first row with room. */
export function pack(peers) {
  const bars = peers.map((peer) => ({ peer, ...range(peer.span) }));
  bars.sort((a, b) => a.start - b.start || b.end - a.end || (a.peer.id < b.peer.id ? -1 : 1));
  const ends = []; // of every row: where its last bar stops
  for (const bar of bars) {
    const free = ends.findIndex((end) => end <= bar.start);
    bar.lane = free < 0 ? ends.length : free;
    ends[bar.lane] = bar.end;
  }
  return { bars, lanes: ends.length };
}

/** Runs of Blocks with equal replicas: [{ start, end, replicas }]. */
export function runs(coverage) {
  const found = [];
  coverage.forEach((replicas, block) => {
    const last = found.at(-1);
    if (last && last.replicas === replicas) last.end = block + 1;
    else found.push({ start: block, end: block + 1, replicas });
  });
  return found;
}

/** Every how many Blocks the axis has a number: about ``most`` of them. */
export function tickStep(numBlocks, most) {
  return [1, 2, 4, 8, 16, 32, 64].find((step) => numBlocks / step <= most) ?? Math.ceil(numBlocks / most);
}
