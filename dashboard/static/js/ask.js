// "Try it": a prompt, an answer as it comes, and where its time went.
import { Attempt } from "/static/js/attempt.js";
import { count, figure, milliseconds, whole } from "/static/js/format.js";
import { Component, html } from "/static/js/html.js";
import { Icon } from "/static/js/icon.js";
import { Waterfall } from "/static/js/waterfall.js";

const LENGTHS = [32, 64, 128];
const LONGEST_PROMPT = 2000;

export class Ask extends Component {
  constructor() {
    super();
    this.state = { prompt: "", length: 64, attempt: null };
  }

  componentWillUnmount() {
    this.state.attempt?.stop();
  }

  start(event) {
    event.preventDefault();
    const { prompt, length, attempt: before } = this.state;
    if (before?.running || !prompt.trim() || !this.props.model) return;
    const attempt = new Attempt(prompt, () => this.setState({}));
    this.setState({ attempt });
    attempt.run(Math.min(length, this.props.most), this.props.model.fingerprint);
  }

  render({ model, most }, { prompt, length, attempt }) {
    const running = attempt?.running ?? false;
    const ready = model !== null && model.state !== "broken";
    return html`
      <section class="panel ask" aria-labelledby="ask">
        <div class="head"><h2 id="ask">Try it</h2><p class="quiet small">the peers read what you type; nothing is kept here</p></div>
        <form onSubmit=${(event) => this.start(event)}>
          <label for="prompt" class="unseen">Prompt</label>
          <textarea id="prompt" rows="2" placeholder="Ask the swarm something" maxlength=${LONGEST_PROMPT} value=${prompt} spellcheck="false"
            onInput=${(event) => this.setState({ prompt: event.currentTarget.value })}
            onKeyDown=${(event) => event.key === "Enter" && (event.ctrlKey || event.metaKey) && this.start(event)}></textarea>
          <div class="row">
            ${running
              ? html`<button key="stop" type="button" class="stop" onClick=${() => attempt.stop()}><${Icon} name="cross" />Stop</button>`
              : html`<button key="run" type="submit" class="main" disabled=${!ready || !prompt.trim()}>Send</button>`}
            <label class="small quiet">at most <select value=${length} onChange=${(event) => this.setState({ length: Number(event.currentTarget.value) })}>
              ${LENGTHS.filter((tokens) => tokens <= most).map((tokens) => html`<option key=${tokens} value=${tokens} selected=${tokens === length}>${tokens} tokens</option>`)}
            </select></label>
            ${!ready && html`<p class="small warn">${model ? "Blocks are missing: no answer can be made now." : "There is nobody to ask yet."}</p>`}
          </div>
        </form>
        ${attempt && html`<${Answer} attempt=${attempt} />`}
      </section>`;
  }
}

function Answer({ attempt }) {
  const { prompt, text, tokens, route, done, problem, running, stopped } = attempt;
  return html`
    <div class="answer" aria-busy=${running ? "true" : "false"}>
      <div class="text">
        <pre tabindex="0" role="region" aria-label="Answer"><span class="asked">${prompt}</span><span class="said">${text}</span>${running && html`<span class="caret"></span>`}</pre>
        ${problem && html`<p class="problem alarm"><${Icon} name="broken" /><span>${problem}</span></p>`}
        ${stopped && html`<p class="quiet small">Stopped after ${count(tokens, "token")}.</p>`}
      </div>
      <div class="account">
        ${(done?.route ?? route) && html`<${Route} route=${done?.route ?? route} />`}
        ${done && html`<${Numbers} done=${done} />`}
        ${done?.waterfall?.length > 0 && html`<${Waterfall} hops=${done.waterfall} />`}
      </div>
    </div>`;
}

function Route({ route }) {
  return html`
    <div class="route"><h3 class="quiet">Route</h3>
      <ol>${route.hops.map((hop, index) => html`<li key=${index}><span><b>${hop.name || hop.peer.slice(0, 8)}</b> ${hop.blocks}</span></li>`)}</ol>
      ${route.shape && html`<span class="quiet small">${route.shape}</span>`}
    </div>`;
}

function Numbers({ done }) {
  const facts = [
    ["First token after", milliseconds(done.ttft_ms)],
    ["Speed", html`${figure(done.tokens_per_s)} <small>tokens/s</small>`],
    ["Length", html`${whole(done.tokens)} <small>tokens</small>`],
    ["Fail-overs", whole(done.failovers)],
  ];
  return html`<dl class="facts numbers">${facts.map(([name, value]) => html`<div class="fact" key=${name}><dt>${name}</dt><dd>${value}</dd></div>`)}</dl>`;
}
