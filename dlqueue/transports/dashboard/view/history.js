// What was done, and what failed, over time.
import { showHistory } from "../feed.js";
import { count } from "../format.js";
import { html } from "../html.js";
import { changed, state } from "../state.js";
import { Chart, axis } from "./chart.js";

const options = (colour) => ({
  cursor: { show: false },
  legend: { show: false },
  padding: [6, 2, 0, 0],
  scales: { x: { time: true, range: (plot, low, high) => pad(plot, low, high) }, y: { range: (_, __, most) => [0, Math.max(most ?? 0, 4)] } },
  axes: [axis(colour, { size: 18, space: 56, values: (plot, at) => at.map((x) => when(x, plot)) }), axis(colour, { size: 34, space: 30, incrs: [1, 2, 5, 10, 20, 50, 100, 200, 500, 1000, 5000, 10000, 50000, 100000] })],
  series: [
    {},
    // Failed ones stand on top of the completed: drawn first, as the sum of both.
    { fill: colour("--bad"), width: 0, points: { show: false }, paths: window.uPlot.paths.bars({ size: [0.72, 40] }) },
    { fill: colour("--good"), width: 0, points: { show: false }, paths: window.uPlot.paths.bars({ size: [0.72, 40] }) },
  ],
});

function pad(plot, low, high) {
  const half = ((plot.data[0][1] ?? 0) - (plot.data[0][0] ?? 0)) / 2;
  return [low - half, high + half];
}

function when(seconds, plot) {
  const at = new Date(seconds * 1000);
  const days = plot.data[0][1] - plot.data[0][0] > 3600;
  return days ? `${at.getMonth() + 1}/${at.getDate()}` : `${String(at.getHours()).padStart(2, "0")}:${String(at.getMinutes()).padStart(2, "0")}`;
}

let drawn = [null, null];

function series(history) {
  if (drawn[0] !== history) {
    const both = history.completed.map((number, index) => number + history.failed[index]);
    drawn = [history, [history.at, both, history.completed]];
  }
  return drawn[1];
}

export function History() {
  const { history, span } = state;
  const sum = (numbers) => numbers.reduce((all, one) => all + one, 0);
  const choice = (value, label) => html`<button type="button" class="link" aria-pressed=${span === value} onClick=${() => {
    state.span = value;
    changed();
    showHistory();
  }}>${label}</button>`;
  return html`<section class="card history" aria-labelledby="history">
    <h2 id="history">History</h2>
    <p class="spans" role="group" aria-label="Time">${choice("24h", "24 hours")}${choice("30d", "30 days")}</p>
    ${history &&
    html`<p class="now num"><span class="key good"></span>${count(sum(history.completed))} done<span class="key bad"></span>${count(sum(history.failed))} failed</p>
      <${Chart} options=${options} data=${series(history)} height=${112} label=${`${sum(history.completed)} done and ${sum(history.failed)} failed in ${span}`} />`}
  </section>`;
}
