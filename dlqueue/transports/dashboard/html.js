// One place that knows the libraries: `html` builds elements from templates, and every text in them is set as text.
import { h, render } from "./vendor/preact.js";
import htm from "./vendor/htm.js";

export const html = htm.bind(h);
export { render };
export { useEffect, useLayoutEffect, useRef, useState } from "./vendor/hooks.js";
