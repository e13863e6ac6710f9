// The swarm's state in plain words. Pure: pictures in, sentences out.
import { blocks, blocksOf, called, count, figure, list, range } from "/static/js/format.js";

/** Peers that are ready and answer, and serve any of those Blocks. */
export function holders(peers, text) {
  const { start, end } = range(text);
  return peers.filter((peer) => {
    const span = range(peer.span);
    return peer.state === "ready" && peer.reachable && span.start < end && start < span.end;
  });
}

/** { state, title, sentence }: the line that everybody reads first. */
export function verdict(model, peers) {
  if (!model) return { state: "empty", title: "Nobody here", sentence: "no peer has announced itself in this swarm yet." };
  if (model.state === "broken") {
    const all = model.gaps.length === 1 && model.gaps[0] === `0:${model.num_blocks}`;
    const gap = all ? `any of the ${model.num_blocks} Blocks` : blocksOf(model.gaps);
    return { state: "broken", title: "Broken", sentence: `nobody serves ${gap}. New answers wait until somebody does.` };
  }
  if (model.state === "fragile") {
    const names = [...new Set(model.single.flatMap((text) => holders(peers, text).map(called)))];
    const have = model.single.length === 1 && one(model.single[0]) ? "has" : "have";
    const where = names.length ? `, on ${list(names)}` : "";
    const each = names.length > 1 ? "one replica each" : "one replica";
    return { state: "fragile", title: "Fragile", sentence: `${blocksOf(model.single)} ${have} ${each}${where}.` };
  }
  return { state: "healthy", title: "Healthy", sentence: `every Block has at least ${least(model)} replicas.` };
}

function one(text) {
  const { start, end } = range(text);
  return end - start === 1;
}

function least(model) {
  const fewest = Math.min(...model.coverage);
  return fewest === 2 ? "two" : fewest === 3 ? "three" : String(fewest);
}

/** What fails next, as { text, level }. */
export function next(model, peers) {
  if (!model) return { text: "Nothing to lose yet", level: "" };
  if (model.state === "broken") return { text: `Already failed: ${blocksOf(model.gaps)}`, level: "alarm" };
  if (!model.single.length) return { text: "Any one peer can go", level: "good" };
  const byPeer = new Map();
  for (const text of model.single) {
    for (const peer of holders(peers, text)) byPeer.set(peer.id, { peer, ranges: [...(byPeer.get(peer.id)?.ranges ?? []), text] });
  }
  const [first, ...more] = [...byPeer.values()].sort((a, b) => size(b.ranges) - size(a.ranges));
  if (!first) return { text: blocksOf(model.single), level: "warn" };
  const others = more.length ? `, or ${count(more.length, "other")}` : "";
  return { text: `${blocksOf(first.ranges)}, if ${called(first.peer)} leaves${others}`, level: "warn" };
}

function size(ranges) {
  return ranges.reduce((sum, text) => sum + range(text).end - range(text).start, 0);
}

/** The weakest Blocks, as { text, level }. */
export function weakest(model) {
  const weak = model?.weakest;
  if (!weak) return { text: "–", level: "" };
  const speed = typeof weak.tokens_per_s === "number" && weak.replicas > 0 ? `, ${figure(weak.tokens_per_s)} tokens/s` : "";
  const where = weak.blocks === `0:${model.num_blocks}` ? "All Blocks alike" : blocks(weak.blocks);
  const level = weak.replicas === 0 ? "alarm" : weak.replicas === 1 ? "warn" : "";
  return { text: `${where}: ${count(weak.replicas, "replica")}${speed}`, level };
}

const STATES = {
  ready: ["ready", "good", "dot"],
  joining: ["joining", "quiet", "ring"],
  draining: ["draining", "warn", "half"],
  gone: ["gone", "quiet", "cross"],
};

/** A Peer's state as { word, level, icon }. One that does not answer is called so, whatever its record says. */
export function condition(peer) {
  if (peer.reachable === false && peer.state !== "gone") return { word: "unreachable", level: "alarm", icon: "cross" };
  if (peer.reachable === null && peer.state === "ready") return { word: "announced", level: "quiet", icon: "ring" }; // nobody has asked it yet
  const [word, level, icon] = STATES[peer.state] ?? ["unknown", "quiet", "ring"];
  return { word, level, icon };
}

/** What a screen reader hears of the coverage. */
export function coverageInWords(model) {
  const parts = [`${count(model.num_blocks, "Block")}, replicas from ${Math.min(...model.coverage)} to ${Math.max(...model.coverage)}`];
  if (model.gaps.length) parts.push(`nobody serves ${blocksOf(model.gaps)}`);
  if (model.single.length) parts.push(`one replica only: ${blocksOf(model.single)}`);
  if (model.weakest) parts.push(`weakest: ${blocks(model.weakest.blocks)}`);
  return `${parts.join("; ")}.`;
}
