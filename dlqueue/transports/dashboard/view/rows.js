// The list: only the rows in sight, and a few around them, are in the document.
import { askFirst, can, fits, select, selectLoaded, show, steer, unselect } from "../actions.js";
import { choose, list, open } from "../feed.js";
import { duration, rate, relative, size } from "../format.js";
import { html, useEffect, useLayoutEffect, useRef, useState } from "../html.js";
import { IconButton } from "../icons.js";
import { state } from "../state.js";
import { attempts, counters, eta, isFinal, name, percent, source, state as stateOf } from "../words.js";

const OVERSCAN = 6;
const NARROW = window.matchMedia("(max-width: 700px)");
const HEIGHT = { wide: 54, narrow: 76 }; // as in style.css

export const rowHeight = () => (NARROW.matches ? HEIGHT.narrow : HEIGHT.wide);

export function Rows() {
  const box = useRef(null);
  const [[top, tall], setView] = useState([0, 800]);
  const height = rowHeight();
  useLayoutEffect(() => {
    const measure = () => {
      const scroll = box.current;
      if (!scroll) return;
      setView([scroll.scrollTop, scroll.clientHeight]);
      // The heads end where the rows end, beside the scroll bar.
      scroll.parentElement.style.setProperty("--gutter", `${scroll.offsetWidth - scroll.clientWidth}px`);
    };
    const watch = new ResizeObserver(measure);
    watch.observe(box.current);
    watch.observe(box.current.firstElementChild);
    NARROW.addEventListener("change", measure);
    measure();
    return () => {
      watch.disconnect();
      NARROW.removeEventListener("change", measure);
    };
  }, []);
  const { filter } = state;
  useEffect(() => {
    if (box.current) box.current.scrollTop = 0;
  }, [filter]);
  // A row whose place among the others changes is moved in the document, and what is moved there loses the keyboard.
  const held = document.activeElement;
  useLayoutEffect(() => {
    if (document.activeElement === document.body && held !== document.body && box.current.contains(held)) held.focus({ preventScroll: true });
  });
  const length = list.length;
  const first = Math.max(Math.floor(top / height) - OVERSCAN, 0);
  const last = Math.min(Math.ceil((top + tall) / height) + OVERSCAN, Math.max(length, 0));
  useEffect(() => list.look(first, last));
  const rows = [];
  for (let index = first; index < last; index += 1) {
    const task = list.at(index);
    rows.push(task ? html`<${Row} key=${task.id} task=${task} index=${index} height=${height} />` : html`<${Blank} key=${`blank ${index}`} index=${index} height=${height} />`);
  }
  const more = list.ended ? 0 : height;
  return html`<div class="list">
    <${Heads} />
    <div class="scroll" id="list" ref=${box} tabindex=${length ? -1 : 0} role="list" aria-label="Tasks" onScroll=${(event) => setView([event.target.scrollTop, event.target.clientHeight])}>
      <div class="tall" style=${{ height: `${length * height + more}px` }}>${rows}</div>
      ${list.loaded && !length && list.ended && html`<${Empty} />`}
      ${!list.loaded && html`<p class="loading">Looking …</p>`}
    </div>
  </div>`;
}

function Heads() {
  const all = list.loaded && list.length > 0 && [...list.rows()].every((task) => state.selected.has(task.id));
  return html`<div class="row heads" aria-hidden=${can("operate") ? null : "true"}>
    ${can("operate") ? html`<input type="checkbox" aria-label="Select all that are loaded" checked=${all} onChange=${() => (all ? unselect() : selectLoaded())} />` : html`<span></span>`}
    <span>Name</span><span>Progress</span><span class="right">Rate</span><span>Downloader</span><span>Why</span><span></span>
  </div>`;
}

const Blank = ({ index, height }) => html`<div class="row blank" style=${{ top: `${index * height}px` }}><i></i></div>`;

function Empty() {
  const { key, text } = state.filter;
  if (text) return html`<div class="empty"><strong>Nothing matches</strong><p>No task has “${text}” in its address, name or message.</p><button type="button" onClick=${() => choose({ text: "" })}>Clear the search</button></div>`;
  if (key === "failed") return html`<div class="empty"><strong>Nothing has failed</strong></div>`;
  if (key === "active" || key === "all")
    return html`<div class="empty"><strong>Nothing to do</strong><p>Everything that was asked for has been done.</p>${can("submit") && html`<button type="button" class="primary" onClick=${() => show({ kind: "add" })}>Add a download</button>`}</div>`;
  return html`<div class="empty"><strong>No tasks here</strong></div>`;
}

function Row({ task, index, height }) {
  const element = useRef(null);
  const here = state.cursor === task.id;
  useEffect(() => {
    // The keyboard stays on its row, wherever that goes; it is not taken away from a field or a button.
    if (here && document.activeElement?.closest(".list") && !element.current.contains(document.activeElement)) element.current.focus({ preventScroll: true });
  });
  const [why, tone] = stateOf(task);
  const done = percent(task);
  const chosen = state.selected.has(task.id);
  const opened = (event) => {
    if (event.target.closest("button, input, a")) return;
    state.cursor = task.id;
    open(task.id);
  };
  return html`<div
    class=${`row task ${task.status} ${chosen ? "chosen" : ""} ${state.open === task.id ? "open" : ""}`}
    style=${{ top: `${index * height}px` }}
    role="listitem" data-id=${task.id} tabindex=${here || (state.cursor === null && index === 0) ? 0 : -1} ref=${element}
    onClick=${opened}
    onFocus=${() => {
      state.cursor = task.id;
    }}>
    ${can("operate") ? html`<input type="checkbox" tabindex="-1" aria-label=${`Select ${name(task)}`} checked=${chosen} onChange=${() => select(task.id)} />` : html`<span></span>`}
    <div class="what"><span class="name" title=${name(task)}>${name(task)}</span><${Facts} task=${task} /></div>
    <${Progress} task=${task} done=${done} />
    <span class="speed num right"><b>${speed(task)}</b><span>${left(task)}</span></span>
    <span class="who" title=${task.download?.downloader ?? ""}>${task.download?.downloader ?? ""}</span>
    <button type="button" tabindex="-1" class=${`why ${tone}`} title=${`Why: ${why}`} onClick=${() => open(task.id)}>${why}</button>
    <span class="acts"><${Acts} task=${task} /></span>
  </div>`;
}

function speed(task) {
  const { download_speed: down, upload_speed: up } = counters(task);
  if (isFinal(task)) return "";
  if (task.download?.phase === "seeding" && up > 0) return `↑ ${rate(up)}`;
  return down > 0 ? rate(down) : "";
}

function left(task) {
  const time = eta(task);
  return time === null ? "" : `${time} left`;
}

function Facts({ task }) {
  const tags = task.labels?.tag ?? [];
  const tries = attempts(task);
  return html`<span class="facts">
    <span class="num">#${task.id}</span>
    ${tries > 1 && html`<span class="tries">${tries} attempts</span>`}
    <span class="from">${source(task)}</span>
    ${isFinal(task) && html`<span>${relative(task.finished_at)}</span>`}
    ${task.priority !== 0 && html`<span>priority ${task.priority}</span>`}
    ${tags.slice(0, 3).map((tag) => html`<button type="button" tabindex="-1" class="tag" key=${tag} onClick=${() => choose({ text: `tag:${tag}` })}>${tag}</button>`)}
  </span>`;
}

export function Progress({ task, done }) {
  const { downloaded, total } = counters(task);
  const bytes = total > 0 ? `${size(task.status === "completed" ? total : downloaded)} of ${size(total)}` : downloaded > 0 ? size(downloaded) : "";
  const tone = task.status === "error" ? "bad" : task.status === "completed" ? "good" : ["paused", "canceled", "blocked"].includes(task.status) ? "calm" : "run";
  const shown = done === null ? "" : `${Math.floor(done)} %`;
  return html`<div class="progress">
    <div class=${`bar ${tone} ${done === null ? "none" : ""}`} role="progressbar" aria-label="Progress" aria-valuemin="0" aria-valuemax="100" aria-valuenow=${done === null ? null : Math.floor(done)}><i style=${{ width: `${done ?? 0}%` }}></i></div>
    <span class="num amount"><span>${bytes || (isFinal(task) && task.executed_seconds ? duration(task.executed_seconds) : "")}</span><span>${shown}</span></span>
  </div>`;
}

export function Acts({ task }) {
  if (!can("operate")) return null;
  const act = (method, icon, label) => html`<${IconButton} key=${method} icon=${icon} label=${label} disabled=${state.busy.has(`${method} ${task.id}`)} onClick=${() => steer(method, task.id)} />`;
  return [
    fits("tasks.pause", task) && act("tasks.pause", "pause", "Pause"),
    fits("tasks.resume", task) && act("tasks.resume", "play", "Resume"),
    fits("tasks.retry", task) && act("tasks.retry", "retry", "Retry"),
    fits("tasks.cancel", task) && html`<${IconButton} icon="cross" label="Cancel" onClick=${() => askFirst("tasks.cancel", task.id)} />`,
    isFinal(task) && html`<${IconButton} icon="trash" label="Forget" onClick=${() => askFirst("tasks.remove", task.id)} />`,
  ];
}
