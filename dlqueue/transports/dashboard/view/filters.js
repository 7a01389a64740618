// Counts by state, which are the filters too; search; order; what to do with the selected.
import { askFirst, can, matching, selectAll, selectedCount, steerSelected, unselect } from "../actions.js";
import { choose } from "../feed.js";
import { count } from "../format.js";
import { html, useEffect, useRef } from "../html.js";
import { Icon } from "../icons.js";
import { state } from "../state.js";
import { FILTERS } from "../words.js";

const ALWAYS = ["active", "failed", "done", "all"];
const ORDERS = [
  ["-id", "Newest"],
  ["id", "Oldest"],
  ["-priority", "Priority"],
  ["-finished_at", "Finished"],
];

function number(filter) {
  const counts = state.overview?.counts.status;
  if (!counts) return null;
  return (filter.status ?? Object.keys(counts)).reduce((sum, status) => sum + (counts[status] ?? 0), 0);
}

export function Filters() {
  const { key, order } = state.filter;
  const shown = FILTERS.filter((one) => ALWAYS.includes(one.key) || one.key === key || number(one) > 0);
  const some = state.overview && !state.overview.counts.whole;
  return html`<div class="filters">
    <div class="chips" role="group" aria-label="Status">
      ${shown.map(
        (one) => html`<button type="button" key=${one.key} class=${one.key} aria-pressed=${one.key === key} onClick=${() => choose({ key: one.key })}>
          ${one.label}<span class="num">${number(one) === null ? "" : count(number(one))}${some ? "+" : ""}</span>
        </button>`,
      )}
    </div>
    <${Search} />
    <select class="order" aria-label="Order" value=${order} onChange=${(event) => choose({ order: event.target.value })}>
      ${ORDERS.map(([value, label]) => html`<option key=${value} value=${value} selected=${value === order}>${label}</option>`)}
    </select>
  </div>`;
}

const PAUSE = 250; // milliseconds after the last key

function Search() {
  const field = useRef(null);
  const timer = useRef(null);
  useEffect(() => {
    if (field.current && document.activeElement !== field.current) field.current.value = state.filter.text;
  }, [state.filter.text]);
  const typed = (event) => {
    clearTimeout(timer.current);
    const text = event.target.value;
    timer.current = setTimeout(() => choose({ text }), PAUSE);
  };
  return html`<label class="search">
    <${Icon} name="search" />
    <input type="search" id="search" placeholder="Search, or tag:linux" aria-label="Search tasks" autocomplete="off" spellcheck="false" ref=${field} onInput=${typed} />
  </label>`;
}

export function Selected() {
  const number = selectedCount();
  if (!state.everything && !state.selected.size) return null;
  const total = matching();
  const more = !state.everything && total !== null && total > state.selected.size;
  const act = (label, method) => html`<button type="button" disabled=${state.busy.has(method)} onClick=${() => steerSelected(method)}>${label}</button>`;
  return html`<div class="selected" role="toolbar" aria-label="Selected tasks">
    <strong class="num">${number === null ? "All matching" : count(number)} selected</strong>
    ${more && html`<button type="button" class="link" onClick=${selectAll}>Select all ${count(total)} that match</button>`}
    <span class="buttons">
      ${can("operate") && [act("Pause", "tasks.pause"), act("Resume", "tasks.resume"), act("Retry", "tasks.retry")]}
      ${can("operate") && html`<button type="button" onClick=${() => askFirst("tasks.cancel", null)}>Cancel</button>`}
      ${can("operate") && html`<button type="button" onClick=${() => askFirst("tasks.remove", null)}>Forget</button>`}
      <button type="button" class="link" onClick=${unselect}>Clear</button>
    </span>
  </div>`;
}
