// How fast it goes, and what keeps it from going faster.
import { rate, size } from "../format.js";
import { html } from "../html.js";
import { state } from "../state.js";
import { Chart, axis } from "./chart.js";

const SPAN = 300; // seconds

const ROUND = Array.from({ length: 42 }, (_, power) => 2 ** power); // bytes, as people count them

const options = (colour) => ({
  cursor: { show: false },
  legend: { show: false },
  padding: [6, 14, 0, 0],
  scales: {
    x: { time: false, range: () => [-SPAN, 0] },
    y: { range: (_, __, most) => [0, Math.max(most ?? 0, 1024) * 1.1] },
  },
  axes: [
    axis(colour, { size: 18, splits: () => [-240, -180, -120, -60, 0], values: (_, at) => at.map((x) => (x === 0 ? "now" : `${-x / 60} min`)) }),
    axis(colour, { size: 52, space: 28, incrs: ROUND, values: (_, at) => at.map((x) => (x ? size(x).replace(".0 ", " ") : "0")) }),
  ],
  series: [
    {},
    { stroke: colour("--accent"), width: 1.75, fill: colour("--accent-soft"), points: { show: false } },
    { stroke: colour("--good"), width: 1.25, points: { show: false } },
  ],
});

let drawn = [null, null];

// The same object as long as there is nothing new to draw.
function series(history) {
  if (drawn[0] !== history) {
    drawn = [history, [history.map(([ago]) => -ago), history.map(([, down]) => down), history.map(([, , up]) => up)]];
  }
  return drawn[1];
}

export function Rates() {
  const { overview } = state;
  if (!overview) return html`<section class="card rates"><h2>Rate</h2></section>`;
  const { rates, limit } = overview;
  const binds = limit.kind !== "none";
  return html`<section class="card rates" aria-labelledby="rates">
    <h2 id="rates">Rate</h2>
    <p class="now num"><span class="key down"></span>${rate(rates.download_speed)}<span class="key up"></span>${rate(rates.upload_speed)}</p>
    <${Chart} options=${options} data=${series(rates.history)} height=${112} label="Rates of the last five minutes" />
    <p class="limit"><span class="muted">Limit</span> <span class=${binds ? "binds" : ""}>${limit.message}</span></p>
  </section>`;
}
