// The verdict in one line, and what needs somebody.
import { isAdmin, can, perform, show } from "../actions.js";
import { choose } from "../feed.js";
import { rate } from "../format.js";
import { html } from "../html.js";
import { Icon, IconButton } from "../icons.js";
import { changed, state } from "../state.js";

function verdict() {
  if (!state.reachable) return ["The daemon cannot be reached; trying again", "bad"];
  if (state.overview === null) return ["Looking …", "calm"];
  return [state.overview.verdict, state.overview.needs.length ? "warn" : "good"];
}

export function Header({ leave }) {
  const [text, tone] = verdict();
  const { overview } = state;
  const live = state.connection === "live" && state.reachable;
  return html`<header class="top">
    <a class="brand" href="." aria-label="dlqueue" onClick=${(event) => event.preventDefault()}><img src="icon.svg" alt="" width="24" height="24" /><span>dlqueue</span></a>
    <p class=${`verdict ${tone}`} role="status"><span class="dot" aria-hidden="true"></span><strong>${text}</strong></p>
    ${overview &&
    html`<p class="speeds num" aria-label="Rates">
      <span title="Download"><${Icon} name="down" />${rate(overview.rates.download_speed)}</span>
      <span title="Upload"><${Icon} name="up" />${rate(overview.rates.upload_speed)}</span>
    </p>`}
    <span class=${`live ${live ? "on" : ""}`} title=${live ? "Live: changes show at once" : "No live connection; trying again"}>${live ? "live" : state.connection === "connecting" ? "connecting" : "offline"}</span>
    ${can("submit") && html`<button class="primary add-button" type="button" onClick=${() => show({ kind: "add" })}><${Icon} name="plus" /><span>Add</span></button>`}
    <${IconButton} icon="help" label="Keyboard and help (?)" kind="wide-only" onClick=${() => show({ kind: "help" })} />
    <${IconButton} icon="out" label=${overview ? `Sign out ${overview.you.name}` : "Sign out"} onClick=${leave} />
  </header>`;
}

const KINDS = {
  failed: "failed",
  no_route: "active",
};

export function Needs() {
  const needs = state.overview?.needs ?? [];
  if (!needs.length) return null;
  return html`<section class="needs" aria-label="Needs you">
    <ul>
      ${needs.map(
        (need) => html`<li key=${`${need.kind} ${need.name}`} class=${need.actions.length > 1 ? "many" : ""}>
          <span class="what">${need.message}</span>
          <span class="buttons">
            ${need.kind in KINDS && html`<button type="button" onClick=${() => choose({ key: KINDS[need.kind], text: "" })}>Show</button>`}
            ${can("operate") &&
            need.actions
              .filter((action) => isAdmin() || action.method.startsWith("tasks.") || state.overview.you.admin)
              .map((action) => html`<button type="button" key=${action.label} disabled=${state.busy.has(`${action.method} ${JSON.stringify(action.params)}`)} onClick=${() => perform(action)}>${action.label}</button>`)}
          </span>
        </li>`,
      )}
    </ul>
  </section>`;
}

export function Pages() {
  const page = (key, label) =>
    html`<button type="button" role="tab" aria-selected=${state.page === key} onClick=${() => {
      state.page = key;
      changed();
    }}>${label}</button>`;
  return html`<nav class="pages" role="tablist" aria-label="Pages">${page("tasks", "Tasks")}${page("status", "Status")}</nav>`;
}
