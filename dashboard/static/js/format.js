// Numbers for people: units last, no more digits than anyone reads, a dash where nobody knows.
const UNKNOWN = "–";
const clock = new Intl.DateTimeFormat(undefined, { hour: "2-digit", minute: "2-digit", hourCycle: "h23" });

function known(value) {
  return typeof value === "number" && Number.isFinite(value);
}

/** How many of something that comes whole. */
export function whole(value) {
  return known(value) ? value.toLocaleString("en") : UNKNOWN;
}

/** Three digits at most: 0.42, 4.2, 42, 420. */
export function figure(value) {
  if (!known(value)) return UNKNOWN;
  const size = Math.abs(value);
  return size >= 10 || size === 0 ? Math.round(value).toLocaleString("en") : value.toFixed(size >= 1 ? 1 : 2);
}

export function rate(value) {
  return known(value) ? `${figure(value)} tokens/s` : UNKNOWN;
}

export function milliseconds(value) {
  return known(value) ? `${figure(value)} ms` : UNKNOWN;
}

export function duration(seconds) {
  if (!known(seconds)) return UNKNOWN;
  if (seconds < 100) return `${Math.round(seconds)} s`;
  return seconds < 5400 ? `${Math.round(seconds / 60)} min` : `${Math.round(seconds / 3600)} h`;
}

export function time(atSeconds) {
  return clock.format(new Date(atSeconds * 1000));
}

export function count(number, one, many = `${one}s`) {
  return `${number.toLocaleString("en")} ${number === 1 ? one : many}`;
}

/** "a", "a and b", "a, b and c", "a, b and 4 more". */
export function list(words, most = 3) {
  if (words.length > most + 1) return `${words.slice(0, most).join(", ")} and ${words.length - most} more`;
  return words.length < 2 ? (words[0] ?? "") : `${words.slice(0, -1).join(", ")} and ${words.at(-1)}`;
}

/** What a Peer is called: its own name, or the beginning of its id. */
export function called(peer) {
  return peer.name || peer.id.slice(0, 8);
}

export function range(text) {
  const [start, end] = text.split(":").map(Number);
  return { start, end };
}

/** "Block 12" or "Blocks 12:20". */
export function blocks(text) {
  const { start, end } = range(text);
  return end - start === 1 ? `Block ${start}` : `Blocks ${text}`;
}

/** "Block 3", "Blocks 0:4", "Blocks 0:4, 8:9 and 12:20". */
export function blocksOf(ranges) {
  return ranges.length === 1 ? blocks(ranges[0]) : `Blocks ${list(ranges)}`;
}
