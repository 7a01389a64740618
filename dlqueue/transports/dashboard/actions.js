// What the buttons and keys do.
import { closeDetail, list, refresh } from "./feed.js";
import { plural } from "./format.js";
import { batch, call } from "./rpc.js";
import { changed, state, toast } from "./state.js";
import { conditions } from "./tasklist.js";
import { isFinal, may, name } from "./words.js";

const TEXT = {
  "tasks.pause": "paused",
  "tasks.resume": "resumed",
  "tasks.retry": "queued again",
  "tasks.cancel": "canceled",
  "tasks.remove": "forgotten",
};

// Which of the verbs fit a task as it is.
export function fits(method, task) {
  switch (method) {
    case "tasks.pause":
      return !isFinal(task) && task.status !== "paused" && task.want === "run";
    case "tasks.resume":
      return task.status === "paused";
    case "tasks.retry":
      return task.status === "error" || task.status === "canceled";
    case "tasks.cancel":
      return !isFinal(task);
  }
  return true;
}

async function busy(key, work) {
  if (state.busy.has(key)) return;
  state.busy.add(key);
  changed();
  try {
    await work();
  } catch (error) {
    if (error.code !== -32001) toast(error.message, "bad");
  } finally {
    state.busy.delete(key);
    changed();
    refresh();
  }
}

// One task.
export function steer(method, id, more = {}) {
  return busy(`${method} ${id}`, async () => {
    const task = await call(method, { id, ...more });
    if (method === "tasks.remove") {
      if (state.open === id) closeDetail();
    } else list.replace(task);
  });
}

// What is selected: a list of ids, or all that the filter matches.
export function steerSelected(method, more = {}) {
  return busy(method, async () => {
    let done = 0;
    if (state.everything) {
      const wanted = conditions(state.filter);
      const params = Object.keys(wanted).length ? wanted : { all: true };
      done = (await call(method, { ...params, ...more })).count;
    } else {
      const ids = [...state.selected].filter((id) => {
        const task = list.find(id);
        return task === null || fits(method, task);
      });
      const answers = await batch(ids.map((id) => [method, { id, ...more }]));
      const refused = answers.filter((answer) => answer instanceof Error);
      done = answers.length - refused.length;
      if (refused.length) toast(`${plural(refused.length, "task")} refused: ${refused[0].message}`, "bad");
    }
    toast(`${plural(done, "task")} ${TEXT[method]}`);
    unselect();
  });
}

export const selectedCount = () => (state.everything ? matching() : state.selected.size);

// How many tasks the filter matches; null = not known.
export function matching() {
  if (list.total !== null) return list.total;
  const counts = state.overview?.counts.status;
  if (!counts) return null;
  const wanted = conditions(state.filter).status ?? Object.keys(counts);
  return wanted.reduce((sum, status) => sum + (counts[status] ?? 0), 0);
}

export function select(id, on = !state.selected.has(id)) {
  state.everything = false;
  if (on) state.selected.add(id);
  else state.selected.delete(id);
  changed();
}

export function selectLoaded() {
  for (const task of list.rows()) state.selected.add(task.id);
  changed();
}

export function selectAll() {
  selectLoaded();
  state.everything = true;
  changed();
}

export function unselect() {
  state.selected.clear();
  state.everything = false;
  changed();
}

const ASKED = {
  "tasks.cancel": ["Cancel", "It stops; a retry begins anew.", "Delete what was fetched, too"],
  "tasks.remove": ["Forget", "It leaves the list; what is unfinished is canceled first.", "Delete the files that it brought, too"],
};

// Verbs that take something away ask first.
export function askFirst(method, id) {
  const [verb, text, option] = ASKED[method];
  const task = id === null ? null : (list.find(id) ?? state.detail?.task);
  const what = id === null ? several(fitting(method)) : task ? name(task) : `task ${id}`;
  const yes = (ticked) => {
    const more = ticked ? { delete_data: true } : {};
    return id === null ? steerSelected(method, more) : steer(method, id, more);
  };
  show({ kind: "confirm", title: `${verb} ${what}?`, text, verb, option, yes });
}

// How many of the selected the verb fits; null = not known.
function fitting(method) {
  if (state.everything) return matching();
  const tasks = [...state.selected].map((id) => list.find(id));
  return tasks.filter((task) => task === null || fits(method, task)).length;
}

const several = (number) => (number === null ? "all tasks that match" : plural(number, "task"));

// The button of something that needs a person, or of an error group.
export function perform({ label, method, params }, ids = null) {
  const act = () =>
    busy(`${method} ${JSON.stringify(params)}`, async () => {
      if (ids) {
        const answers = await batch(ids.map((id) => [method, { id }]));
        toast(`${plural(answers.filter((one) => !(one instanceof Error)).length, "task")} ${TEXT[method]}`);
        return;
      }
      const answer = await call(method, params);
      if (method === "downloaders.test") tested(params.name, answer);
      else if (typeof answer.count === "number") toast(`${plural(answer.count, "task")} ${TEXT[method]}`);
    });
  if (method in ASKED) show({ kind: "confirm", title: `${label}?`, text: ASKED[method][1], verb: ASKED[method][0], yes: act });
  else act();
}

function tested(name, answer) {
  const bad = answer.checks.filter((check) => !check.ok);
  state.tests = { ...state.tests, [name]: answer };
  toast(bad.length ? `${name}: ${bad[0].message}` : `${name} is as it should be`, bad.length ? "bad" : "good");
}

export const test = (name) => perform({ label: "Test", method: "downloaders.test", params: { name } });

export const named = (method, name) => busy(`${method} ${name}`, () => call(method, { name }));

export const can = (role) => may(state.overview?.you, role);

export const isAdmin = () => can("admin");

export function show(dialog) {
  state.dialog = dialog;
  changed();
}
