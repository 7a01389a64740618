// The keyboard. Nothing here when somebody types, or a window is open.
import { askFirst, can, fits, select, selectAll, show, steer, steerSelected, unselect } from "./actions.js";
import { choose, closeDetail, list, open } from "./feed.js";
import { changed, state } from "./state.js";
import { rowHeight } from "./view/rows.js";
import { FILTERS } from "./words.js";

const current = () => (state.cursor === null ? null : list.find(state.cursor));

function move(by) {
  const before = state.cursor === null ? -1 : list.indexOf(state.cursor);
  const index = Math.min(Math.max(before + by, 0), list.length - 1);
  const task = list.at(index);
  if (!task) return;
  state.cursor = task.id;
  const box = document.getElementById("list");
  const height = rowHeight();
  if (index * height < box.scrollTop) box.scrollTop = index * height;
  else if ((index + 1) * height > box.scrollTop + box.clientHeight) box.scrollTop = (index + 1) * height - box.clientHeight;
  changed();
  // Once it is drawn; by then the next key may have moved on.
  requestAnimationFrame(() => requestAnimationFrame(() => state.cursor === task.id && focus(task.id)));
}

const focus = (id) => document.querySelector(`[data-id="${Number(id)}"]`)?.focus({ preventScroll: true });

function act(method) {
  const asks = method === "tasks.cancel" || method === "tasks.remove";
  if (state.everything || state.selected.size) return asks ? askFirst(method, null) : steerSelected(method);
  const task = current();
  if (task && fits(method, task)) return asks ? askFirst(method, task.id) : steer(method, task.id);
}

function pauseOrResume() {
  const task = current();
  const paused = state.selected.size ? [...state.selected].every((id) => (list.find(id)?.status ?? "paused") === "paused") : task?.status === "paused";
  act(paused ? "tasks.resume" : "tasks.pause");
}

function escape() {
  if (state.open !== null) closeDetail();
  else unselect();
}

const VERBS = {
  p: pauseOrResume,
  r: () => act("tasks.retry"),
  c: () => act("tasks.cancel"),
  Delete: () => act("tasks.remove"),
  "*": selectAll,
  x: () => current() && select(state.cursor),
};

const KEYS = {
  "?": () => show({ kind: "help" }),
  "/": () => document.getElementById("search")?.focus(),
  j: () => move(1),
  k: () => move(-1),
  ArrowDown: () => move(1),
  ArrowUp: () => move(-1),
  PageDown: () => move(10),
  PageUp: () => move(-10),
  Home: () => move(-list.length),
  Enter: () => current() && open(state.cursor),
  Escape: escape,
};

export function pressed(event) {
  if (state.phase !== "in" || state.dialog || event.ctrlKey || event.metaKey || event.altKey) return;
  const typing = event.target.closest("input:not([type=checkbox]), textarea, select");
  if (typing) {
    if (event.key === "Escape") typing.blur();
    return;
  }
  if (event.key === "Enter" && event.target.closest("button, a")) return;
  if (/^(Arrow|Page|Home)/.test(event.key) && event.target.closest(".side, .detail, [role=tablist]")) return;
  const shown = [...document.querySelectorAll(".chips button")];
  let work = KEYS[event.key] ?? (can("operate") ? VERBS[event.key] : undefined);
  if (event.key === "a" && can("submit")) work = () => show({ kind: "add" });
  if (/^[1-9]$/.test(event.key) && shown[event.key - 1]) {
    const key = FILTERS.find((one) => shown[event.key - 1].classList.contains(one.key))?.key;
    work = key && (() => choose({ key }));
  }
  if (!work) return;
  event.preventDefault();
  work();
}
