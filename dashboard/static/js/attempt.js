// One answer of "Try it", from the button to its last number. Holds no picture: ``changed`` is called when something came.
import { events } from "/static/js/events.js";
import { duration } from "/static/js/format.js";

export class Attempt {
  constructor(prompt, changed) {
    this.prompt = prompt;
    this.text = "";
    this.tokens = 0;
    this.route = null; // { hops, shape }
    this.done = null; // the numbers at the end
    this.problem = null;
    this.running = true;
    this.stopped = false;
    this.changed = changed;
    this.control = new AbortController();
  }

  async run(maxTokens, model) {
    try {
      const answer = await fetch("/api/v1/try", {
        method: "POST",
        headers: { "Content-Type": "application/json" },
        body: JSON.stringify({ prompt: this.prompt, max_tokens: maxTokens, model }),
        signal: this.control.signal,
      });
      if (answer.ok) await this.listen(answer.body);
      else this.problem = await refusal(answer);
    } catch {
      if (!this.stopped) this.problem = "The connection was lost before the answer was complete.";
    }
    if (!this.done && !this.problem && !this.stopped) this.problem = "The answer ended without its last event.";
    this.running = false;
    this.changed();
  }

  async listen(body) {
    for await (const { event, data } of events(body)) {
      if (event === "route") this.route = data;
      else if (event === "text") {
        this.text += data.text;
        this.tokens = data.tokens;
      } else if (event === "done") this.done = data;
      else if (event === "error") this.problem = again(data.message, data.retry_after_s);
      this.changed();
    }
  }

  stop() {
    this.stopped = true;
    this.control.abort();
  }
}

async function refusal(answer) {
  try {
    const { error } = await answer.json();
    return again(error.message, error.retry_after_s);
  } catch {
    return `The server refused with status ${answer.status}.`;
  }
}

function again(message, retryAfterS) {
  const said = String(message).replace(/[.\s]*$/, "");
  return typeof retryAfterS === "number" ? `${said}. Try again in ${duration(Math.ceil(retryAfterS))}.` : `${said}.`;
}
