// Tasks that come by the clock.
import { can, named } from "../actions.js";
import { relative } from "../format.js";
import { html } from "../html.js";
import { IconButton } from "../icons.js";
import { state } from "../state.js";

const TONE = { completed: "good", error: "bad", refused: "bad", canceled: "calm", skipped: "calm" };

export function Schedules() {
  const { schedules } = state;
  return html`<section class="card schedules" aria-labelledby="schedules">
    <h2 id="schedules">Schedules</h2>
    ${!schedules.length && html`<p class="muted">None. <code>dlqueue schedule create</code> makes one.</p>`}
    <ul>
      ${schedules.map(
        (one) => html`<li key=${one.name}>
          <div class="line">
            <span class=${`dot ${one.active ? (TONE[one.last_status] ?? "calm") : "calm"}`} title=${one.last_status ?? "never run"}></span>
            <span class="name"><strong>${one.name}</strong> <span class="muted num">${one.cron ?? `every ${one.every}`}</span></span>
            ${can("operate") &&
            html`<span class="acts">
              <button type="button" class="link" onClick=${() => named("schedules.run", one.name)}>Run now</button>
              ${one.active
                ? html`<${IconButton} icon="pause" label=${`Pause ${one.name}`} onClick=${() => named("schedules.pause", one.name)} />`
                : html`<${IconButton} icon="play" label=${`Resume ${one.name}`} onClick=${() => named("schedules.resume", one.name)} />`}
            </span>`}
          </div>
          <p class="small muted">${one.active ? `next ${relative(one.next_run)}` : "paused"} · ${one.last_status ? `last ${one.last_status} ${relative(one.previous_run)}` : "never run"}</p>
        </li>`,
      )}
    </ul>
  </section>`;
}
