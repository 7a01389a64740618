// What the page shows, in one place; `changed()` draws it again, once per frame at most.
export const state = {
  phase: "login", // or "in"
  problem: null, // what the login form says
  connection: "connecting", // live, lost
  reachable: true,
  overview: null,
  downloaders: [],
  schedules: [],
  history: null,
  span: "24h", // of the history chart
  tests: {}, // results of downloader tests, by name
  filter: { key: "active", text: "", order: "-id" },
  selected: new Set(),
  everything: false, // selected is all that the filter matches
  cursor: null, // id of the row that has the keyboard
  open: null, // id of the task in the side panel
  detail: null,
  page: "tasks", // on a phone: tasks or status
  dialog: null, // {kind: "add" | "help" | "confirm", …}
  dropped: [], // files for the add box
  toasts: [],
  busy: new Set(),
};

let draw = () => {};
let due = false;

export function onChange(listener) {
  draw = listener;
}

export function changed() {
  if (due) return;
  due = true;
  // A hidden page gets no frames; it is drawn now and then all the same.
  if (document.hidden) setTimeout(now, 1000);
  else requestAnimationFrame(now);
}

function now() {
  due = false;
  draw();
}

const TOASTS = 4;
let toastNumber = 0;

export function toast(text, tone = "calm") {
  const made = { id: ++toastNumber, text: String(text).slice(0, 400), tone };
  state.toasts = [...state.toasts, made].slice(-TOASTS);
  setTimeout(() => dismiss(made.id), tone === "bad" ? 9000 : 4000);
  changed();
}

export function dismiss(id) {
  state.toasts = state.toasts.filter((one) => one.id !== id);
  changed();
}
