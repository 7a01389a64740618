// Charts: uPlot in the colours of the page.
import { html, useEffect, useRef } from "../html.js";

const DARK = window.matchMedia("(prefers-color-scheme: dark)");

const colour = (name) => getComputedStyle(document.documentElement).getPropertyValue(name).trim();

// `options(colour)` makes uPlot's options without the width; `data` is what uPlot takes.
export function Chart({ options, data, label, height }) {
  const box = useRef(null);
  const plot = useRef(null);
  const newest = useRef(data);
  newest.current = data;
  useEffect(() => {
    const draw = () => {
      plot.current?.destroy();
      const width = Math.max(box.current.clientWidth, 80);
      plot.current = new window.uPlot({ width, height, ...options(colour) }, newest.current, box.current);
    };
    const watch = new ResizeObserver(() => plot.current?.setSize({ width: Math.max(box.current.clientWidth, 80), height }));
    draw();
    watch.observe(box.current);
    DARK.addEventListener("change", draw);
    return () => {
      watch.disconnect();
      DARK.removeEventListener("change", draw);
      plot.current?.destroy();
    };
  }, [options]);
  useEffect(() => {
    if (!document.hidden) plot.current?.setData(data);
  }, [data]);
  return html`<div class="chart" ref=${box} role="img" aria-label=${label}></div>`;
}

export const axis = (colour, more) => ({
  stroke: colour("--muted"),
  font: "11px system-ui, sans-serif",
  grid: { stroke: colour("--line"), width: 1 },
  ticks: { show: false },
  gap: 4,
  ...more,
});
