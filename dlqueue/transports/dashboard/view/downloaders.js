// The downloaders: are they well, how busy, and since when not.
import { can, named, test } from "../actions.js";
import { rate, relative } from "../format.js";
import { html } from "../html.js";
import { IconButton } from "../icons.js";
import { state } from "../state.js";

const HEALTH = { up: "good", degraded: "warn", down: "bad", unknown: "calm" };

export function Downloaders() {
  const { downloaders } = state;
  return html`<section class="card downloaders" aria-labelledby="downloaders">
    <h2 id="downloaders">Downloaders</h2>
    ${!downloaders.length && state.overview && html`<p class="muted">None is configured.</p>`}
    <ul>${downloaders.map((one) => html`<${Downloader} key=${one.name} one=${one} />`)}</ul>
  </section>`;
}

function Downloader({ one }) {
  const mine = can("operate") && state.overview?.you.admin;
  const open = one.breaker.state !== "closed";
  const tested = state.tests[one.name];
  const failed = tested?.checks.filter((check) => !check.ok) ?? [];
  return html`<li>
    <div class="line">
      <span class=${`dot ${one.paused ? "calm" : HEALTH[one.health]}`} title=${one.health}></span>
      <span class="name"><strong>${one.name}</strong> <span class="muted" title=${`${one.kind} ${one.version ?? ""}`}>${program(one)}</span></span>
      ${mine &&
      html`<span class="acts">
        <${IconButton} icon="test" label=${`Test ${one.name}`} disabled=${state.busy.has(`downloaders.test ${JSON.stringify({ name: one.name })}`)} onClick=${() => test(one.name)} />
        ${one.paused
          ? html`<${IconButton} icon="play" label=${`Resume ${one.name}`} onClick=${() => named("downloaders.resume", one.name)} />`
          : html`<${IconButton} icon="pause" label=${`Pause ${one.name}`} onClick=${() => named("downloaders.pause", one.name)} />`}
      </span>`}
    </div>
    <div class="line small">
      <${Slots} one=${one} />
      <span class="health">${one.paused ? "paused" : one.health}${open && one.breaker.until ? `, next try ${relative(one.breaker.until)}` : open ? ", breaker open" : ""}</span>
      <span class="num speed">${one.download_speed ? rate(one.download_speed) : ""}</span>
    </div>
    ${one.last_error && one.health !== "up" && html`<p class="small bad">${one.last_error}</p>`}
    ${failed.map((check) => html`<p class="small bad" key=${check.name}>${check.name}: ${check.message}${check.cure ? ` – ${check.cure}` : ""}</p>`)}
  </li>`;
}

// "aria2 1.36.0", not "aria2 aria2 1.36.0".
function program({ kind, version }) {
  if (!version) return kind;
  return version.toLowerCase().startsWith(kind) ? version : `${kind}, ${version}`;
}

const DRAWN = 12;

function Slots({ one }) {
  const text = `${one.active} of ${one.max_active} slots`;
  if (one.max_active > DRAWN) return html`<span class="num">${text}</span>`;
  return html`<span class="slots num" title=${text}><span aria-hidden="true">${Array.from({ length: one.max_active }, (_, index) => html`<i key=${index} class=${index < one.active ? "taken" : ""}></i>`)}</span>${one.active}/${one.max_active}</span>`;
}
