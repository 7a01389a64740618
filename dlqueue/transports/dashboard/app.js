// The beginning: signs in, draws the page, listens to the keyboard and to what is dropped.
import { can } from "./actions.js";
import { start, stop } from "./feed.js";
import { html, render } from "./html.js";
import { Icon } from "./icons.js";
import { pressed } from "./keys.js";
import { call } from "./rpc.js";
import * as session from "./session.js";
import { changed, dismiss, onChange, state } from "./state.js";
import { takeFiles } from "./view/add.js";
import { Detail } from "./view/detail.js";
import { Dialogs } from "./view/dialog.js";
import { Disks } from "./view/disks.js";
import { Downloaders } from "./view/downloaders.js";
import { Errors } from "./view/errors.js";
import { Filters, Selected } from "./view/filters.js";
import { Header, Needs, Pages } from "./view/header.js";
import { History } from "./view/history.js";
import { Login } from "./view/login.js";
import { Rates } from "./view/rates.js";
import { Rows } from "./view/rows.js";
import { Schedules } from "./view/schedules.js";

function enterPage() {
  state.phase = "in";
  state.problem = null;
  start();
  changed();
}

async function enter(token, stay) {
  session.keep(token, stay);
  try {
    state.overview = await call("daemon.overview");
    enterPage();
  } catch (error) {
    session.forget();
    state.problem = error.code === -32001 ? "This token is not accepted. It may have been revoked." : error.message;
    changed();
  }
}

function leave(problem = null) {
  session.forget();
  stop();
  Object.assign(state, {
    phase: "login", problem, overview: null, downloaders: [], schedules: [], history: null, tests: {},
    cursor: null, open: null, detail: null, dialog: null, dropped: [], connection: "connecting",
  });
  state.selected.clear();
  state.everything = false;
  changed();
}

function Page() {
  if (state.phase === "login") return html`<${Login} enter=${enter} />`;
  return html`<div class=${`page on-${state.page} ${state.open === null ? "" : "has-detail"}`}>
    <${Header} leave=${() => leave()} />
    <${Needs} />
    <${Pages} />
    <main class="tasks" aria-label="Tasks"><${Filters} /><${Selected} /><${Rows} /></main>
    <div class="side"><${Rates} /><${Downloaders} /><${Disks} /><${Errors} /><${Schedules} /><${History} /></div>
    <${Detail} />
    <${Dialogs} />
    <${Toasts} />
  </div>`;
}

const Toasts = () => html`<div class="toasts" role="status" aria-live="polite">
  ${state.toasts.map((one) => html`<p key=${one.id} class=${one.tone}><span>${one.text}</span><button type="button" class="icon-button" aria-label="Dismiss" onClick=${() => dismiss(one.id)}><${Icon} name="cross" /></button></p>`)}
</div>`;

const root = document.getElementById("app");
onChange(() => render(html`<${Page} />`, root));
document.addEventListener("keydown", pressed);
for (const kind of ["dragover", "drop"]) {
  document.addEventListener(kind, (event) => {
    if (state.phase !== "in" || !event.dataTransfer?.types.includes("Files")) return;
    event.preventDefault();
    if (kind === "drop" && can("submit")) takeFiles([...event.dataTransfer.files]);
  });
}
window.addEventListener("hashchange", () => {
  if (location.hash.startsWith("#token=") && session.begin(expired)) enterPage();
});

function expired() {
  leave("This token is not accepted any more. Sign in again.");
}

if (session.begin(expired)) enterPage();
changed();
