// The top of the page: whose it is, which model, whether the picture is live, light or dark.
import { duration } from "/static/js/format.js";
import { html } from "/static/js/html.js";
import { Brand, Icon } from "/static/js/icon.js";
import { choose, follow } from "/static/js/place.js";
import { currentModel, pictureAge, set } from "/static/js/store.js";
import { isDark, toggle } from "/static/js/theme.js";

export function Bar({ state }) {
  const dark = isDark();
  return html`
    <header class="bar">
      <a class="brand" href="/" onClick=${follow}><${Brand} />Shoal</a>
      <${Models} state=${state} />
      <${Connection} state=${state} />
      <button type="button" class="icon-only theme" onClick=${() => (toggle(), set({}))}
        aria-label=${dark ? "Use the light theme" : "Use the dark theme"} title=${dark ? "Light" : "Dark"}>
        <${Icon} name=${dark ? "sun" : "moon"} />
      </button>
    </header>`;
}

function Models({ state }) {
  const models = state.swarm?.models ?? [];
  const model = currentModel();
  if (!model) return null;
  if (models.length === 1) {
    return html`<span class="models"><strong title=${model.fingerprint}>${model.name}</strong></span>`;
  }
  const twice = (name) => models.filter((other) => other.name === name).length > 1;
  return html`
    <label class="models">Model
      <select value=${model.fingerprint} onChange=${(event) => choose(event.currentTarget.value)}>
        ${models.map(
          (other) => html`<option key=${other.fingerprint} value=${other.fingerprint} selected=${other === model}>
            ${other.name}${twice(other.name) ? ` @${other.fingerprint.slice(0, 4)}` : ""} (${other.state})</option>`,
        )}
      </select>
    </label>`;
}

/** Says what is so: live, how old the picture is, and when the next attempt comes. */
function Connection({ state }) {
  if (state.link === "connecting") return html`<span class="connection waits"><${Icon} name="ring" />connecting</span>`;
  if (state.link !== "lost") {
    const age = pictureAge();
    if (age < 8) return html`<span class="connection live"><${Icon} name="dot" />${state.link === "live" ? "live" : "every 5 s"}</span>`;
    return html`<span class="connection lost"><${Icon} name="fragile" />picture is ${duration(age)} old</span>`;
  }
  return html`<span class="connection lost"><${Icon} name="fragile" />reconnecting, picture is ${duration(pictureAge())} old</span>`;
}
