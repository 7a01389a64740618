// Small pictures, drawn with the colour of the text around them.
import { html } from "./html.js";

const PATHS = {
  plus: "M8 3v10M3 8h10",
  pause: "M5.5 3.5v9M10.5 3.5v9",
  play: "M5 3.2v9.6L12.5 8z",
  retry: "M12.8 6A5 5 0 1 0 13 9.2M13 2.8V6H9.8",
  cross: "M4 4l8 8M12 4l-8 8",
  trash: "M3 4.5h10M6.5 4.5V3h3v1.5M4.5 4.5 5 13h6l.5-8.5",
  search: "M7 11.5a4.5 4.5 0 1 0 0-9 4.5 4.5 0 0 0 0 9zM10.4 10.4 14 14",
  down: "M8 3v9M4.5 8.5 8 12l3.5-3.5",
  up: "M8 13V4M4.5 7.5 8 4l3.5 3.5",
  test: "M2.5 8.5 6 12l7.5-8",
  help: "M6 6.2a2 2 0 1 1 2.7 1.9c-.5.2-.7.5-.7 1.1M8 12v.1",
  out: "M9.5 3H4v10h5.5M7.5 8H14m-2.3-2.5L14 8l-2.3 2.5",
  file: "M4 2.5h5l3 3v8H4zM9 2.5v3h3",
};

export const Icon = ({ name }) => html`<svg class="icon" viewBox="0 0 16 16" aria-hidden="true" focusable="false"><path d=${PATHS[name]} /></svg>`;

export const IconButton = ({ icon, label, onClick, disabled = false, kind = "" }) =>
  html`<button type="button" class=${`icon-button ${kind}`} title=${label} aria-label=${label} disabled=${disabled} onClick=${onClick}><${Icon} name=${icon} /></button>`;
