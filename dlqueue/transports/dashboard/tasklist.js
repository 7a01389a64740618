// A window on the tasks that match a filter: pages around what is in sight are kept, all others are only counted.
// The tasks that run come first.
import { batch, call } from "./rpc.js";
import { FILTERS, isFinal } from "./words.js";

const PAGE = 50;
const NEAR = 2; // pages on either side of the sight that are kept
const PINNED = 50;

export const filterOf = (key) => FILTERS.find((one) => one.key === key) ?? FILTERS[0];

// The conditions of tasks.list; `tag:linux queue:downloads owner:me` in the text are conditions of their own.
export function conditions({ key, text }) {
  const found = {};
  const { status } = filterOf(key);
  if (status) found.status = status;
  const words = [];
  const labels = {};
  for (const word of text.trim().split(/\s+/).filter(Boolean)) {
    const [, what, value] = /^(tag|queue|owner|type):(.+)$/.exec(word) ?? [];
    if (what === "tag") labels.tag = value;
    else if (what) found[what] = value;
    else words.push(word);
  }
  if (words.length) found.text = words.join(" ");
  if (Object.keys(labels).length) found.label = labels;
  return found;
}

const blank = (cursor) => ({ cursor, all: null, rows: null, count: 0, loading: false });

const keepsRunning = (filter) => ["active", "going", "all"].includes(filter.key) && !filter.text.trim();

export class TaskList {
  constructor(changed, failed) {
    this.changed = changed;
    this.failed = failed;
    this.pinned = [];
    this.reset({ key: "active", text: "", order: "-id" });
  }

  // Another filter: begin at the top.
  reset(filter) {
    this.filter = filter;
    this.turn = (this.turn ?? 0) + 1;
    this.pages = [blank(null)];
    this.ended = false;
    this.total = null;
    this.loaded = false;
    this.sight = [0, 20];
    this.stale = false;
    if (!keepsRunning(filter)) this.pinned = [];
  }

  clear() {
    this.pinned = [];
    this.reset(this.filter);
  }

  // Rows that are known of; one more page may follow.
  get length() {
    return this.pinned.length + this.pages.reduce((sum, page) => sum + page.count, 0);
  }

  at(index) {
    if (index < this.pinned.length) return this.pinned[index];
    let rest = index - this.pinned.length;
    for (const page of this.pages) {
      if (rest < page.count) return page.rows?.[rest] ?? null;
      rest -= page.count;
    }
    return null;
  }

  *rows() {
    yield* this.pinned;
    for (const page of this.pages) yield* page.rows ?? [];
  }

  find(id) {
    for (const task of this.rows()) if (task.id === id) return task;
    return null;
  }

  indexOf(id) {
    const index = this.pinned.findIndex((task) => task.id === id);
    if (index >= 0) return index;
    let before = this.pinned.length;
    for (const page of this.pages) {
      const place = page.rows?.findIndex((task) => task.id === id) ?? -1;
      if (place >= 0) return before + place;
      before += page.count;
    }
    return -1;
  }

  // The rows from `first` to `last` are in sight: have them, and let go of what is far away.
  look(first, last) {
    this.sight = [first, last];
    const [low, high] = this.pagesInSight();
    this.pages.forEach((page, number) => {
      if (number < low - NEAR || number > high + NEAR) page.all = page.rows = null;
      else if (page.rows === null && number >= low && number <= high) this.load(number);
    });
  }

  pagesInSight() {
    let before = this.pinned.length;
    let low = this.pages.length - 1;
    let high = 0;
    this.pages.forEach((page, number) => {
      const after = before + page.count;
      if (after >= this.sight[0]) low = Math.min(low, number);
      if (before <= this.sight[1]) high = number;
      before = after;
    });
    return [low, Math.max(high, low)];
  }

  async load(number) {
    const page = this.pages[number];
    if (!page || page.loading) return;
    page.loading = true;
    const turn = this.turn;
    try {
      const counted = number === 0 && this.needsCount();
      const params = { ...conditions(this.filter), order: this.filter.order, limit: PAGE };
      if (page.cursor !== null) params.cursor = page.cursor;
      if (counted) params.count = true;
      const answer = await call("tasks.list", params);
      if (turn !== this.turn || this.pages[number] !== page) return;
      if (counted) this.total = answer.total;
      this.place(number, page, answer);
    } catch (error) {
      if (turn === this.turn) this.failed(error);
    } finally {
      page.loading = false;
    }
  }

  // The counters of the overview tell how many there are, unless it is asked for more than a status.
  needsCount() {
    return Object.keys(conditions(this.filter)).some((name) => name !== "status");
  }

  place(number, page, answer) {
    page.all = answer.items;
    this.sift([page]);
    this.loaded = true;
    const following = this.pages[number + 1];
    if (answer.next_cursor === null) {
      this.pages.length = number + 1;
      this.ended = true;
    } else if (following?.cursor !== answer.next_cursor) {
      // What follows begins elsewhere now.
      this.pages.length = number + 1;
      this.pages.push(blank(answer.next_cursor));
      this.ended = false;
    }
    this.changed();
  }

  // What is in sight, anew.
  async refresh() {
    const turn = this.turn;
    const [low, high] = this.pagesInSight();
    for (let number = low; number <= high && number < this.pages.length; number += 1) {
      await this.load(number);
      if (turn !== this.turn) return;
    }
  }

  // The tasks that run now stand on top, whatever the order.
  async pin(ids) {
    if (!keepsRunning(this.filter)) return;
    const turn = this.turn;
    const wanted = ids.slice(0, PINNED);
    const found = wanted.length ? await batch(wanted.map((id) => ["tasks.get", { id }])) : [];
    if (turn !== this.turn) return;
    this.pinned = found.filter((task) => !(task instanceof Error) && !isFinal(task));
    this.sift(this.pages);
    this.changed();
  }

  // A page shows those of its tasks that do not stand on top. It keeps them all: who leaves the top is in its place at
  // once, whichever of the two answers comes first.
  sift(pages) {
    const above = new Set(this.pinned.map((task) => task.id));
    for (const page of pages) {
      if (page.all === null) continue;
      page.rows = page.all.filter((task) => !above.has(task.id));
      page.count = page.rows.length;
    }
  }

  // An event of topic progress.
  progress(id, progress) {
    const task = this.find(id);
    if (task === null || isFinal(task)) return;
    task.progress = progress;
    this.changed();
  }

  // A task as a call has just answered it.
  replace(task) {
    for (const rows of [this.pinned, ...this.pages.flatMap((page) => [page.all ?? [], page.rows ?? []])]) {
      const place = rows.findIndex((one) => one.id === task.id);
      if (place >= 0) rows[place] = task;
    }
    this.changed();
  }
}
