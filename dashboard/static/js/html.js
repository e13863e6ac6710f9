// Templates: htm writes Preact's elements. Whatever stands in ${…} becomes a text node or a property, never markup.
import htm from "/static/vendor/htm.mjs";
import { Component, createRef, h, render } from "/static/vendor/preact.mjs";

export const html = htm.bind(h);
export { Component, createRef, render };
