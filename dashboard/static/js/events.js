// Server-sent events out of a fetch's body: EventSource can only GET, and a prompt does not belong into an address.

const LONGEST = 1 << 20; // characters of one event; more than that is not ours

/** Yields { event, data } with data parsed from JSON. Throws what the stream throws, also when it is aborted. */
export async function* events(body) {
  const reader = body.pipeThrough(new TextDecoderStream()).getReader();
  let rest = "";
  try {
    for (;;) {
      const { value, done } = await reader.read();
      if (done) return;
      rest = (rest + value).replaceAll("\r\n", "\n");
      if (rest.length > LONGEST) throw new Error("an event longer than 1 MiB");
      const parts = rest.split("\n\n");
      rest = parts.pop();
      for (const part of parts) {
        const found = parse(part);
        if (found) yield found;
      }
    }
  } finally {
    reader.cancel().catch(() => {});
  }
}

function parse(text) {
  let event = "message";
  const data = [];
  for (const line of text.split("\n")) {
    const [, field, value] = /^([^:]*):? ?(.*)$/s.exec(line);
    if (field === "event") event = value;
    else if (field === "data") data.push(value);
  }
  return data.length ? { event, data: JSON.parse(data.join("\n")) } : null;
}
