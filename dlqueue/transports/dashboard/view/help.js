// The keys.
import { html } from "../html.js";
import { state } from "../state.js";

const KEYS = [
  ["/", "Search"],
  ["a", "Add downloads"],
  ["j k ↓ ↑", "Next task, task before"],
  ["Enter", "Show the task, and why it waits"],
  ["x", "Select"],
  ["* ", "Select all that match the filter"],
  ["p", "Pause or resume"],
  ["r", "Retry"],
  ["c", "Cancel"],
  ["Delete", "Forget"],
  ["1 … 9", "Filters, in their order"],
  ["Esc", "Close, clear the selection"],
  ["?", "This help"],
];

export const Help = () => html`<dl class="keys">${KEYS.map(([keys, text]) => html`<div key=${keys}><dt>${keys.split(" ").filter(Boolean).map((key) => html`<kbd key=${key}>${key}</kbd>`)}</dt><dd>${text}</dd></div>`)}</dl>
  <p class="muted small">p, r, c and Delete act on the selected tasks, if any are. Search knows <code>tag:</code>, <code>queue:</code>, <code>owner:</code> and <code>type:</code>.</p>
  <p class="muted small">dlqueue ${state.overview?.version}, signed in as ${state.overview?.you.name} (${state.overview?.you.role})</p>`;
