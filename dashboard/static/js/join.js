// Join: the exact command for this swarm and the Span it needs most, ready to be copied.
import { blocks } from "/static/js/format.js";
import { Component, createRef, html } from "/static/js/html.js";
import { Icon } from "/static/js/icon.js";

const SHOWN_MS = 2500;

export function Join({ model }) {
  if (!model) {
    return html`<section class="panel join" aria-labelledby="join">
      <div class="head"><h2 id="join">Join</h2></div>
      <p>Be the first: start a peer, and this page shows it within seconds.</p>
      <${Command} command="shoal serve" />
    </section>`;
  }
  const { command, blocks: needed, why, complete } = model.join;
  return html`
    <section class="panel join" aria-labelledby="join">
      <div class="head"><h2 id="join">Join</h2></div>
      <p>Most needed: <b>${blocks(needed)}</b><span class="quiet">${why ? `, because ${why}` : ""}.</span></p>
      <${Command} command=${command} key=${command} />
      ${!complete && html`<p class="small">For <code>MADDR</code>, take an address of any peer of this swarm: its ready line has it. Whoever runs this page has published none.</p>`}
      <p class="quiet small">Your machine needs an address that others reach. It will compute for strangers, and could read what passes through it.</p>
    </section>`;
}

class Command extends Component {
  constructor() {
    super();
    this.state = { said: "" };
    this.text = createRef();
  }

  componentWillUnmount() {
    clearTimeout(this.timer);
  }

  async copy() {
    const done = (await byClipboard(this.props.command)) || bySelection(this.text.current);
    this.setState({ said: done ? "Copied" : "Selected: press Ctrl+C" });
    clearTimeout(this.timer);
    this.timer = setTimeout(() => this.setState({ said: "" }), SHOWN_MS);
  }

  render({ command }, { said }) {
    return html`
      <div class="command">
        <pre tabindex="0" role="region" aria-label="Command to join"><code ref=${this.text}>${command}</code></pre>
        <button type="button" class="copy" onClick=${() => this.copy()}><${Icon} name="copy" />${said || "Copy"}</button>
      </div>`;
  }
}

async function byClipboard(text) {
  try {
    await navigator.clipboard.writeText(text);
    return true;
  } catch {
    return false; // not a secure context, or not allowed
  }
}

/** The old way; where even that is refused, the text stays selected for the reader's own keys. */
function bySelection(element) {
  getSelection().selectAllChildren(element);
  return document.execCommand("copy");
}
