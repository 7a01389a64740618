// Everything about one task.
import { can } from "../actions.js";
import { closeDetail, showFiles } from "../feed.js";
import { instant, relative, size } from "../format.js";
import { html, useEffect, useRef } from "../html.js";
import { IconButton } from "../icons.js";
import { state } from "../state.js";
import { eta, name, percent, state as stateOf } from "../words.js";
import { Acts, Progress } from "./rows.js";

const EVENTS = 50;

export function Detail() {
  const panel = useRef(null);
  useEffect(() => {
    if (state.open !== null) panel.current?.focus({ preventScroll: true });
  }, [state.open]);
  if (state.open === null) return null;
  const { task, why, history, files } = state.detail ?? {};
  return html`<aside class="detail card" aria-label="Task" tabindex="-1" ref=${panel}>
    <header>
      <h2>${task ? name(task) : `Task ${state.open}`}</h2>
      <${IconButton} icon="cross" label="Close (Esc)" onClick=${closeDetail} />
    </header>
    ${task && html`<${Body} task=${task} why=${why} history=${history} files=${files} />`}
  </aside>`;
}

function Body({ task, why, history, files }) {
  const [short, tone] = stateOf(task);
  const download = task.download;
  const fact = (label, value) => value !== null && value !== undefined && value !== "" && html`<dt>${label}</dt><dd>${value}</dd>`;
  return html`
    <p class="state"><span class=${`why ${tone}`}>${short}</span>${can("operate") && html`<span class="acts"><${Acts} task=${task} /></span>`}</p>
    <p class="reason" role="status">${why?.message ?? task.error?.message ?? " "}</p>
    <${Progress} task=${task} done=${percent(task)} />
    <dl>
      ${fact("From", download?.url)}
      ${fact("To", download?.location ?? download?.destination)}
      ${fact("Downloader", download?.downloader)}
      ${fact("Time left", eta(task))}
      ${fact("Next look", why?.next_check_at && relative(why.next_check_at))}
      ${fact("Status", `${task.status}${task.want === "run" ? "" : `, to ${task.want}`}`)}
      ${fact("Queue", `${task.queue}, priority ${task.priority}`)}
      ${fact("Owner", task.owner)}
      ${fact("Tags", (task.labels.tag ?? []).join(", "))}
      ${fact("After", task.depends_on.join(", "))}
      ${fact("Added", instant(task.created_at))}
      ${fact("Finished", task.finished_at && instant(task.finished_at))}
      ${fact("Retries", task.retries ? `${task.retries} of ${task.max_retry}` : null)}
    </dl>
    ${download?.attempts.length > 0 && html`<h3>Attempts</h3><ol class="attempts">${download.attempts.map((one) => html`<${Attempt} key=${one.key} attempt=${one} />`)}</ol>`}
    ${download && html`<h3>Files</h3>${files ? html`<${Files} files=${files} />` : html`<button type="button" onClick=${() => showFiles(task.id)}>Show the files</button>`}`}
    ${history && html`<h3>Events</h3><ol class="events">${history.items.slice(-EVENTS).reverse().map(
      (event) => html`<li key=${event.sequence}><time class="num" datetime=${event.at}>${instant(event.at)}</time><span>${event.kind.replaceAll("_", " ")}${event.message ? `: ${event.message}` : ""}${event.error ? `: ${event.error.message}` : ""}</span></li>`,
    )}</ol>`}
  `;
}

const Attempt = ({ attempt }) => html`<li>
  <strong>${attempt.downloader}</strong> <span class="num">${size(attempt.bytes)}</span> <span class="muted">${relative(attempt.started_at)}</span>
  ${attempt.message && html`<p class=${attempt.error_class ? "bad" : ""}>${attempt.message}${attempt.next ? ` → ${attempt.next}` : ""}</p>`}
</li>`;

const FILES = 200;

const Files = ({ files }) => files.length === 0
  ? html`<p class="muted">Not known yet.</p>`
  : html`<ul class="files">${files.slice(0, FILES).map((file) => html`<li key=${file.index} class=${file.selected ? "" : "muted"}><span>${file.path}</span><span class="num">${size(file.size)}</span></li>`)}
      ${files.length > FILES && html`<li class="muted">and ${files.length - FILES} more</li>`}</ul>`;
