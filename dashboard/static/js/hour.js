// Tokens/s over the last hour: uPlot draws, this gives it colours, gaps and words.
import { duration, figure, time } from "/static/js/format.js";
import { Component, createRef, html } from "/static/js/html.js";
import { isDark } from "/static/js/theme.js";

const HOUR_S = 3600;
const STEP_S = 120; // of what the plot shows of it, where less is known
const ROW_S = 600; // of the table
const MARKS_S = [60, 120, 300, 600, 900, 1200, 1800, 3600]; // between the numbers of its axis

export function Hour({ history, stepS, now, title }) {
  const points = history.filter((point) => point.at > now - HOUR_S);
  const shownS = Math.min(HOUR_S, Math.max(1, Math.ceil((now - (points[0]?.at ?? now)) / STEP_S)) * STEP_S);
  return html`
    <section class="panel hour" aria-labelledby="hour">
      <div class="head"><h2 id="hour">${title}</h2><p class="quiet small">tokens/s, ${shownS < HOUR_S ? `last ${shownS / 60} minutes` : "last hour"}</p></div>
      ${points.length > 1 ? html`<${Plot} points=${points} stepS=${stepS} now=${now} shownS=${shownS} dark=${isDark()} />` : html`<p class="hollow quiet">No measurements yet; one comes every ${stepS} s.</p>`}
      <p class="small quiet">${summary(points, stepS)}</p>
      ${points.length > 1 && html`<${Table} points=${points} />`}
    </section>`;
}

function summary(points, stepS) {
  if (points.length < 2) return null;
  const speeds = points.map((point) => point.tokens_per_s ?? 0);
  const mean = speeds.reduce((sum, speed) => sum + speed, 0) / speeds.length;
  const worst = points.map((point) => point.min_replicas).filter((least) => typeof least === "number");
  const broken = worst.filter((least) => least === 0).length;
  const health = broken ? `. Hatched: nobody served some Blocks, ${duration(broken * stepS)} in all` : "";
  return `Since ${time(points[0].at)}: ${figure(mean)} on average, ${figure(Math.max(...speeds))} at most${health}.`;
}

function Table({ points }) {
  const rows = new Map();
  for (const point of points) {
    const at = Math.floor(point.at / ROW_S) * ROW_S;
    rows.set(at, [...(rows.get(at) ?? []), point]);
  }
  const mean = (values) => values.reduce((sum, value) => sum + value, 0) / values.length;
  return html`
    <details>
      <summary>As a table</summary>
      <table class="plain">
        <thead><tr><th scope="col">From</th><th scope="col" class="number">Tokens/s</th><th scope="col" class="number">At most</th><th scope="col" class="number">Sessions</th></tr></thead>
        <tbody>${[...rows].map(([at, some]) => {
          const speeds = some.map((point) => point.tokens_per_s ?? 0);
          return html`<tr key=${at}><th scope="row">${time(at)}</th><td class="number">${figure(mean(speeds))}</td>
            <td class="number">${figure(Math.max(...speeds))}</td><td class="number">${figure(mean(some.map((point) => point.sessions ?? 0)))}</td></tr>`;
        })}</tbody>
      </table>
    </details>`;
}

class Plot extends Component {
  constructor() {
    super();
    this.frame = createRef();
  }

  componentDidMount() {
    this.observer = new ResizeObserver(([entry]) => {
      const { width, height } = entry.contentRect;
      if (!this.plot) this.build(width, height);
      else this.plot.setSize({ width, height });
    });
    this.observer.observe(this.frame.current);
  }

  componentDidUpdate(before) {
    if (before.dark !== this.props.dark) this.rebuild();
    else this.plot?.setData(columns(this.props));
  }

  componentWillUnmount() {
    this.observer.disconnect();
    this.plot?.destroy();
  }

  rebuild() {
    const { width, height } = this.frame.current.getBoundingClientRect();
    this.plot?.destroy();
    this.build(width, height);
  }

  build(width, height) {
    this.plot = new globalThis.uPlot(options(this, width, height), columns(this.props), this.frame.current);
  }

  render() {
    return html`<div class="plot" ref=${this.frame} aria-hidden="true"></div>`;
  }
}

/** uPlot's columns, with a null where measurements are missing, so that the line breaks there. */
function columns({ points, stepS }) {
  const at = [];
  const speed = [];
  points.forEach((point, index) => {
    const before = points[index - 1];
    if (before && point.at - before.at > 2.5 * stepS) {
      at.push(before.at + stepS);
      speed.push(null);
    }
    at.push(point.at);
    speed.push(point.tokens_per_s);
  });
  return [at, speed];
}

function options(owner, width, height) {
  const style = getComputedStyle(document.documentElement);
  const em = parseFloat(style.fontSize);
  const probe = (name) => resolve(owner.frame.current, name);
  const font = `${Math.round(em * 0.75)}px ${style.getPropertyValue("--face")}`;
  const axis = { stroke: probe("--quiet"), font, ticks: { show: false }, border: { show: false } };
  const line = probe("--accent");
  return {
    width, height,
    hooks: { drawClear: [(plot) => outages(plot, owner.props, probe("--alarm-mark"))] },
    padding: [8, em * 1.3, 0, 0],
    legend: { show: false },
    cursor: { y: false, drag: { x: false, y: false }, points: { size: 8 } },
    scales: {
      x: { time: true, range: () => [owner.props.now - owner.props.shownS, owner.props.now] },
      y: { range: (_, __, most) => [0, Math.max(1, (most ?? 0) * 1.15)] },
    },
    axes: [
      { ...axis, grid: { show: false }, space: em * 4.5, size: em * 1.9, incrs: MARKS_S, values: (_, marks) => marks.map(time) },
      { ...axis, grid: { stroke: probe("--line"), width: 1 }, space: em * 2.4, size: em * 2.6 },
    ],
    series: [{}, { stroke: line, width: 2, fill: fade(line), points: { show: false } }],
  };
}

/** Where Blocks had nobody, the ground is hatched. */
function outages(plot, { points, stepS }, colour) {
  const { ctx, bbox } = plot;
  ctx.save();
  ctx.beginPath();
  for (const { at, min_replicas: least } of points) {
    if (least !== 0) continue;
    const left = plot.valToPos(at - stepS / 2, "x", true);
    ctx.rect(left, bbox.top, plot.valToPos(at + stepS / 2, "x", true) - left + 1, bbox.height);
  }
  ctx.clip();
  ctx.strokeStyle = colour;
  ctx.globalAlpha = 0.45;
  ctx.lineWidth = devicePixelRatio;
  ctx.beginPath();
  const gap = 6 * devicePixelRatio;
  for (let x = bbox.left - bbox.height; x < bbox.left + bbox.width; x += gap) {
    ctx.moveTo(x, bbox.top + bbox.height);
    ctx.lineTo(x + bbox.height, bbox.top);
  }
  ctx.stroke();
  ctx.restore();
}

/** What a colour of the page is in this theme: canvas knows no custom properties. */
function resolve(element, name) {
  element.style.color = `var(${name})`;
  const colour = getComputedStyle(element).color;
  element.style.color = "";
  return colour;
}

function fade(colour) {
  return (plot) => {
    const { top, height } = plot.bbox;
    const gradient = plot.ctx.createLinearGradient(0, top, 0, top + height);
    gradient.addColorStop(0, colour.replace("rgb(", "rgba(").replace(")", ", 0.3)"));
    gradient.addColorStop(1, colour.replace("rgb(", "rgba(").replace(")", ", 0.02)"));
    return gradient;
  };
}
