// What went wrong, by kind of error and host.
import { can, perform } from "../actions.js";
import { choose } from "../feed.js";
import { count, relative } from "../format.js";
import { html } from "../html.js";
import { state } from "../state.js";

export function Errors() {
  const groups = state.overview?.errors ?? [];
  return html`<section class="card errors" aria-labelledby="errors">
    <h2 id="errors">Errors</h2>
    ${!groups.length && html`<p class="muted">None.</p>`}
    <ul>
      ${groups.map(
        (group) => html`<li key=${`${group.kind} ${group.host}`}>
          <div class="line">
            <span class="num number">${count(group.count)}</span>
            <button type="button" class="link name" title="Show these" onClick=${() => choose({ key: "failed", text: group.host ?? "" })}><strong>${group.kind.replaceAll("_", " ")}</strong> <span class="muted">${group.host ?? ""}</span></button>
            <span class="acts">
              ${can("operate") && html`<button type="button" class="link" onClick=${() => perform({ label: "Retry", method: "tasks.retry", params: { kind: group.kind, host: group.host } }, group.task_ids)}>Retry</button>`}
            </span>
          </div>
          <p class="small muted message" title=${group.message}>${group.message} · ${relative(group.at)}</p>
        </li>`,
      )}
    </ul>
  </section>`;
}
