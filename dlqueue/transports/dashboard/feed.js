// Keeps the page true: events say that something has changed, calls say how it is now.
import { batch, call, RpcError } from "./rpc.js";
import { changed, state, toast } from "./state.js";
import { Stream } from "./stream.js";
import { TaskList } from "./tasklist.js";

const GAP = 1000; // milliseconds between two looks at the list, however many events come
const OVERVIEW = 2000;
const IDLE = 10000; // between two looks when nothing happens, or nobody looks
const HISTORY = 60000;
const SOON = 400; // what is below comes after what is looked at first
const TOPICS = ["task", "progress", "downloader", "queue", "schedule"];
const SPANS = { "24h": [24, 3600], "30d": [30, 86400] };

export const list = new TaskList(changed, (error) => failed(error));

let stream = null;
let timers = [];
let lists = null;
let views = null;

function failed(error) {
  if (error.code === -32001) return;
  if (state.reachable && error.code === 0) {
    state.reachable = false;
    changed();
  } else if (error.code !== 0) toast(error.message, "bad");
}

// Does `work` at once if it has not been done for `gap`, else when that is over; never twice at a time.
class Paced {
  constructor(gap, work) {
    this.gap = gap;
    this.work = work;
    this.timer = null;
    this.last = -Infinity;
    this.running = false;
    this.again = false;
    this.over = false;
  }

  ask() {
    if (this.over) return;
    if (this.running) this.again = true;
    else if (this.timer === null) {
      const gap = document.hidden ? Math.max(this.gap, IDLE) : this.gap;
      const wait = this.last + gap - performance.now();
      if (wait <= 0) this.run();
      else this.timer = setTimeout(() => this.run(), wait);
    }
  }

  async run() {
    this.timer = null;
    this.running = true;
    try {
      await this.work();
    } catch (error) {
      if (!this.over) failed(error);
    }
    this.running = false;
    this.last = performance.now();
    if (this.again) {
      this.again = false;
      this.ask();
    }
  }

  end() {
    this.over = true;
    clearTimeout(this.timer);
  }
}

export function start() {
  stop();
  list.clear();
  lists = new Paced(GAP, () => Promise.all([list.refresh(), list.pin(state.overview?.running ?? []), refreshDetail()]));
  views = new Paced(OVERVIEW, look);
  stream = new Stream(`events?${new URLSearchParams(TOPICS.map((topic) => ["topics", topic]))}`, told, connected);
  lists.ask();
  views.ask();
  setTimeout(showHistory, SOON);
  timers = [setInterval(() => views.ask(), OVERVIEW), setInterval(() => lists.ask(), IDLE), setInterval(showHistory, HISTORY)];
  document.addEventListener("visibilitychange", seen);
}

export function stop() {
  stream?.close();
  lists?.end();
  views?.end();
  timers.forEach(clearInterval);
  timers = [];
  stream = lists = views = null;
  document.removeEventListener("visibilitychange", seen);
}

function seen() {
  if (!document.hidden) refresh();
}

// Look at everything soon: somebody has done something.
export function refresh() {
  lists?.ask();
  views?.ask();
}

function connected(how) {
  if (state.connection !== how) {
    state.connection = how;
    if (how === "live") refresh();
    changed();
  }
}

function told(event) {
  switch (event.topic) {
    case "progress":
      list.progress(event.task_id, event.data.progress);
      if (state.detail?.task.id === event.task_id) state.detail.task.progress = event.data.progress;
      break;
    case "task":
      lists?.ask();
      views?.ask();
      break;
    case "missed":
      refresh();
      break;
    default:
      views?.ask();
  }
}

async function look() {
  const before = (state.overview?.running ?? []).join();
  const found = await batch([["daemon.overview", {}], ["downloaders.list", {}], ["schedules.list", {}]]);
  const [overview, downloaders, schedules] = found;
  const refused = found.find((one) => one instanceof RpcError);
  if (refused) throw refused;
  state.reachable = true;
  state.overview = overview;
  state.downloaders = downloaders.items;
  state.schedules = schedules.items;
  document.title = overview.needs.length ? `(${overview.needs.length}) dlqueue` : "dlqueue";
  if (overview.running.join() !== before) lists?.ask();
  changed();
}

// -- the history chart --------------------------------------------------------------------------------------------

export async function showHistory() {
  if (state.phase !== "in" || (document.hidden && state.history)) return;
  const span = state.span;
  const [number, step] = SPANS[span];
  const end = (Math.floor(Date.now() / 1000 / step) + 1) * step;
  const starts = Array.from({ length: number }, (_, index) => end - (number - index) * step);
  const text = (seconds) => new Date(seconds * 1000).toISOString();
  try {
    const found = await batch(starts.map((at) => ["tasks.stats", { since: text(at), until: text(at + step) }]));
    if (state.span !== span) return;
    const sums = found.map((one) => (one instanceof Error ? { completed: 0, failed: 0 } : one));
    state.history = {
      span,
      step,
      at: starts,
      completed: sums.map((one) => one.completed),
      failed: sums.map((one) => one.failed),
    };
    changed();
  } catch (error) {
    failed(error);
  }
}

// -- the filter -----------------------------------------------------------------------------------------------------

export function choose(change) {
  state.filter = { ...state.filter, ...change };
  state.selected.clear();
  state.everything = false;
  list.reset(state.filter);
  list.load(0);
  list.pin(state.overview?.running ?? []).catch(failed);
  changed();
}

// -- the side panel -------------------------------------------------------------------------------------------------

export function open(id) {
  state.open = id;
  state.detail = null;
  const task = list.find(id);
  if (task) state.detail = { task, why: null, history: null };
  changed();
  refreshDetail().catch(failed);
}

export function closeDetail() {
  state.open = state.detail = null;
  changed();
}

async function refreshDetail() {
  const id = state.open;
  if (id === null) return;
  const [task, why, history] = await batch([["tasks.get", { id }], ["tasks.why", { id }], ["tasks.history", { id }]]);
  if (state.open !== id) return;
  if (task instanceof Error) {
    if (task.code === -32003) closeDetail();
    return;
  }
  state.detail = {
    task,
    why: why instanceof Error ? null : why,
    history: history instanceof Error ? null : history,
    files: state.detail?.files,
  };
  changed();
}

export async function showFiles(id) {
  try {
    const files = await call("downloads.files", { id });
    if (state.open === id && state.detail) state.detail.files = files.items;
    changed();
  } catch (error) {
    failed(error);
  }
}
