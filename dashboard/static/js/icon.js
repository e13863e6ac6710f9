// Small pictures that say with their shape what colour says too. All are drawn on 24 × 24.
import { html } from "/static/js/html.js";

const PATHS = {
  healthy: html`<path d="M12 2.2a9.8 9.8 0 1 0 0 19.6 9.8 9.8 0 0 0 0-19.6Zm-1.4 14.3-4-4 1.6-1.6 2.4 2.4 5.3-5.3 1.6 1.6Z" />`,
  fragile: html`<path d="M12 2.5 1.5 21h21Zm-1.2 6.8h2.4v6h-2.4Zm0 7.6h2.4v2.3h-2.4Z" />`,
  broken: html`<path d="M8 2h8l6 6v8l-6 6H8l-6-6V8Zm.4 4.9L6.9 8.4l3.6 3.6-3.6 3.6 1.5 1.5 3.6-3.6 3.6 3.6 1.5-1.5-3.6-3.6 3.6-3.6-1.5-1.5-3.6 3.6Z" />`,
  empty: html`<path d="M12 2.2a9.8 9.8 0 1 0 0 19.6 9.8 9.8 0 0 0 0-19.6Zm0 2.3a7.5 7.5 0 1 1 0 15 7.5 7.5 0 0 1 0-15Z" />`,
  dot: html`<circle cx="12" cy="12" r="6.5" />`,
  ring: html`<path d="M12 5a7 7 0 1 0 0 14 7 7 0 0 0 0-14Zm0 2.4a4.6 4.6 0 1 1 0 9.2 4.6 4.6 0 0 1 0-9.2Z" />`,
  half: html`<path d="M12 5a7 7 0 1 0 0 14 7 7 0 0 0 0-14Zm0 2.4v9.2a4.6 4.6 0 0 1 0-9.2Z" />`,
  cross: html`<path d="m7.2 5.5 4.8 4.8 4.8-4.8 1.7 1.7-4.8 4.8 4.8 4.8-1.7 1.7-4.8-4.8-4.8 4.8-1.7-1.7 4.8-4.8-4.8-4.8Z" />`,
  down: html`<path d="M6 9.5h12l-6 6.5Z" />`,
  up: html`<path d="M6 15h12l-6-6.5Z" />`,
  both: html`<path d="M7 10.5h10L12 5.2ZM7 13.5h10l-5 5.3Z" />`,
  bracket: html`<path d="M3 6v8h7.9v4.5h2.2V14H21V6h-2.2v5.8H5.2V6Z" />`,
  sun: html`<path d="M12 7.3a4.7 4.7 0 1 0 0 9.4 4.7 4.7 0 0 0 0-9.4ZM11 1.5h2v3.4h-2Zm0 17.6h2v3.4h-2ZM1.5 11h3.4v2H1.5Zm17.6 0h3.4v2h-3.4ZM4 5.4 5.4 4l2.4 2.4-1.4 1.4Zm12.2 12.2 1.4-1.4L20 18.6 18.6 20ZM4 18.6l2.4-2.4 1.4 1.4L5.4 20ZM16.2 6.4 18.6 4 20 5.4l-2.4 2.4Z" />`,
  moon: html`<path d="M20.5 14.2A8.7 8.7 0 0 1 9.8 3.5a8.9 8.9 0 1 0 10.7 10.7Z" />`,
  copy: html`<path d="M8 2.5h11A1.5 1.5 0 0 1 20.5 4v13H18V5H8Zm-3 4h9.5A1.5 1.5 0 0 1 16 8v12a1.5 1.5 0 0 1-1.5 1.5H5A1.5 1.5 0 0 1 3.5 20V8A1.5 1.5 0 0 1 5 6.5ZM6 9v10h7.5V9Z" />`,
  back: html`<path d="m14.5 4.5 1.8 1.8L10.6 12l5.7 5.7-1.8 1.8L7 12Z" />`,
};

/** ``label`` for one that stands alone; without it the text beside it says the same. */
export function Icon({ name, label, class: extra = "" }) {
  const said = label ? { role: "img", "aria-label": label } : { "aria-hidden": "true" };
  return html`<svg class=${`icon ${extra}`} viewBox="0 0 24 24" fill="currentColor" fill-rule="evenodd" ...${said}>${PATHS[name]}</svg>`;
}

export function Brand() {
  return html`<svg viewBox="0 0 32 32" aria-hidden="true" class="fish">
    <path d="M3 9.5c3.6-4.3 9.4-4.3 13 0l3.6-2.7v5.4L16 9.5c-3.6 4.3-9.4 4.3-13 0Z" />
    <path class="second" d="M11.4 17c3.6-4.3 9.4-4.3 13 0l3.6-2.7v5.4L24.4 17c-3.6 4.3-9.4 4.3-13 0Z" />
    <path class="third" d="M4.5 24.5c3.6-4.3 9.4-4.3 13 0l3.6-2.7v5.4l-3.6-2.7c-3.6 4.3-9.4 4.3-13 0Z" />
  </svg>`;
}
