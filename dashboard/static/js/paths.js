// The curve of a Link between two boxes of the topology, and where its label stands. Pure.
//
// With the Blocks a Link is a gentle S. Against them (the ring's last Hop to its first, and every way back to the clients)
// it goes round the outside: back to Peers on one side, back to the clients on the other, so that they do not cover each other.

const TRACK = 13; // between links that go the same way round

/** ``track`` numbers the Links that go round on the same side. { d, x, y } with x, y for the label, and spots where it may stand instead. */
export function curve(from, to, picture, kind, track) {
  return picture.upright ? flip(sideways(turn(from), turn(to), { height: picture.width }, kind, track)) : sideways(from, to, picture, kind, track);
}

function sideways(from, to, picture, kind, track) {
  const forward = to.x - from.x > (to.width + from.width) / 2;
  if (kind === "on" && forward) {
    const a = { x: from.x + from.width / 2, y: from.y };
    const b = { x: to.x - to.width / 2 - 4, y: to.y };
    const bend = Math.max(18, (b.x - a.x) / 2);
    return path(a, { x: a.x + bend, y: a.y }, { x: b.x - bend, y: b.y }, b);
  }
  if (kind === "on" && Math.abs(from.x - to.x) < 4) {
    const a = { x: from.x + from.width / 2, y: from.y };
    const b = { x: to.x + to.width / 2 + 4, y: to.y };
    return { ...path(a, { x: a.x + 34, y: a.y }, { x: b.x + 34, y: b.y }, b), x: a.x + 48, y: (a.y + b.y) / 2, spots: [] };
  }
  return round(from, to, picture, kind === "home", track);
}

/** Out to the right, along the rim, and in from the left; to the clients from below. */
function round(from, to, picture, home, track) {
  const side = home ? 1 : -1;
  const rim = home ? picture.height - 16 - track * TRACK : 16 + track * TRACK;
  const out = from.x + from.width / 2 + 16 + track * 6;
  const back = home ? to.x : to.x - to.width / 2 - 20 - track * 6;
  const corner = Math.min(14, Math.abs(rim - from.y) / 2, Math.abs(out - back) / 2);
  const d = [
    `M${p({ x: from.x + from.width / 2, y: from.y })}`,
    bend({ x: out, y: from.y }, { x: out, y: from.y + side * corner }),
    `L${p({ x: out, y: rim - side * corner })}`,
    bend({ x: out, y: rim }, { x: out - corner, y: rim }),
    `L${p({ x: back + corner, y: rim })}`,
    bend({ x: back, y: rim }, { x: back, y: rim - side * corner }),
    ...(home
      ? [`L${p({ x: back, y: to.y + to.height / 2 + 4 })}`]
      : [`L${p({ x: back, y: to.y - corner })}`, bend({ x: back, y: to.y }, { x: to.x - to.width / 2 - 4, y: to.y })]),
  ].join(" ");
  return { d, x: (out + back) / 2, y: rim, spots: [] };
}

/** A rounded corner at ``at``, ending in ``end``. */
function bend(at, end) {
  return `Q${p(at)} ${p(end)}`;
}

function path(a, c1, c2, b) {
  const d = `M${p(a)} C${p(c1)} ${p(c2)} ${p(b)}`;
  const t = Math.abs(a.y - b.y) < 4 ? 0.5 : 0.68; // sloping ones near their end, or those that cross would share a place
  const along = (axis, u) => (1 - u) ** 3 * a[axis] + 3 * (1 - u) ** 2 * u * c1[axis] + 3 * (1 - u) * u ** 2 * c2[axis] + u ** 3 * b[axis];
  const spots = [t, 1 - t, 0.22, 0.82].map((u) => ({ x: along("x", u), y: along("y", u) }));
  return { d, ...spots[0], spots };
}

function p({ x, y }) {
  return `${x.toFixed(1)},${y.toFixed(1)}`;
}

/** Upright is sideways with x and y exchanged. */
function turn(box) {
  return { x: box.y, y: box.x, width: box.height, height: box.width };
}

function flip({ d, x, y, spots }) {
  return { d: d.replace(/(-?[\d.]+),(-?[\d.]+)/g, "$2,$1"), x: y, y: x, spots: spots.map((spot) => ({ x: spot.y, y: spot.x })) };
}
