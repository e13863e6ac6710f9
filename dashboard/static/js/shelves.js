// Where Peers stand in the topology: on shelves in the order of their Spans, side by side where Spans are alike. Pure.
//
// ``along`` runs with the Blocks, ``across`` with the replicas. On a wide page along is left to right, on a narrow one top
// to bottom; the same shelves serve both.
import { range } from "/static/js/format.js";

const PILL = { length: 122, breadth: 46, gap: 78, aside: 28 };
const PILL_TALL = { length: 46, breadth: 118, gap: 54, aside: 14 };
const PILL_SLIM = { length: 46, breadth: 88, gap: 54, aside: 10 };
const DOT = { length: 14, breadth: 14, gap: 26, aside: 8 };
const MOST_PILLS = 18;
const MOST_ROWS = 24; // of dots

/** { nodes: Map of id → box, width, height, upright, pills, clients }, for a picture ``width`` pixels wide. */
export function arrange(peers, width) {
  const upright = width < 480;
  const pills = peers.length <= MOST_PILLS;
  const size = pills ? (upright ? (width < 420 ? PILL_SLIM : PILL_TALL) : PILL) : DOT;
  const room = upright ? width - 112 : 430; // across
  const perShelf = Math.max(1, Math.floor((room + size.aside) / (size.breadth + size.aside)));
  const length = width - 216; // along, beside the clients; upright it grows as it must
  const most = upright ? (pills ? Infinity : MOST_ROWS) : Math.max(1, Math.floor((length + size.gap) / (size.length + size.gap)));
  const shelves = shelve(peers, perShelf, most);
  const across = Math.max(1, ...shelves.map((shelf) => shelf.length)) * (size.breadth + size.aside) - size.aside;
  const margin = { before: 58, after: 64 }; // across: where links go back

  const nodes = new Map();
  const step = upright ? size.length + size.gap : Math.min((length - size.length) / Math.max(1, shelves.length - 1), 320);
  const used = step * (shelves.length - 1) + size.length;
  const first = upright ? 96 : 132 + Math.max(0, (length - used) / 2);
  shelves.forEach((shelf, index) => {
    const taken = shelf.length * (size.breadth + size.aside) - size.aside;
    shelf.forEach((peer, place) => {
      const along = first + index * step + size.length / 2;
      const offset = (across - taken) / 2 + place * (size.breadth + size.aside) + size.breadth / 2;
      nodes.set(peer.id, box(along, (upright ? (width - across) / 2 : margin.before) + offset, size, upright));
    });
  });
  const far = upright ? first + used + 46 : margin.before + across + margin.after;
  const middle = upright ? width / 2 : margin.before + across / 2;
  const clients = box(upright ? 32 : 48, middle, { length: upright ? 40 : 84, breadth: upright ? 96 : 40 }, upright);
  return { nodes, clients, upright, pills, width, height: Math.max(far, upright ? 120 : 190) };
}

function box(along, across, { length, breadth }, upright) {
  return upright
    ? { x: across, y: along, width: breadth, height: length }
    : { x: along, y: across, width: length, height: breadth };
}

/** Groups of Peers whose Spans have their middle in the same place, merged and split until they fit. */
function shelve(peers, perShelf, most) {
  const middle = (peer) => range(peer.span).start + range(peer.span).end;
  const sorted = [...peers].sort((a, b) => middle(a) - middle(b) || range(a.span).start - range(b.span).start || (a.id < b.id ? -1 : 1));
  const groups = [];
  for (const peer of sorted) {
    const last = groups.at(-1);
    if (last && middle(last[0]) === middle(peer)) last.push(peer);
    else groups.push([peer]);
  }
  while (groups.length > most) {
    let at = 1;
    for (let i = 2; i < groups.length; i += 1) {
      if (groups[i].length + groups[i - 1].length < groups[at].length + groups[at - 1].length) at = i;
    }
    groups.splice(at - 1, 2, [...groups[at - 1], ...groups[at]]);
  }
  const whole = most === Infinity ? perShelf : Math.max(perShelf, Math.ceil(peers.length / most));
  return groups.flatMap((group) => {
    const parts = Math.ceil(group.length / whole);
    const each = Math.ceil(group.length / parts);
    return Array.from({ length: parts }, (_, i) => group.slice(i * each, (i + 1) * each));
  });
}
