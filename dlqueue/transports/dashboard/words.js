// What a task is called, and what it is doing, in few words.
import { duration } from "./format.js";

export const UNFINISHED = ["queued", "blocked", "processing", "suspending", "paused"];

export const FILTERS = [
  { key: "active", label: "Active", status: UNFINISHED },
  { key: "queued", label: "Queued", status: ["queued"] },
  { key: "going", label: "In progress", status: ["processing", "suspending"] },
  { key: "blocked", label: "Blocked", status: ["blocked"] },
  { key: "paused", label: "Paused", status: ["paused"] },
  { key: "failed", label: "Failed", status: ["error"] },
  { key: "done", label: "Done", status: ["completed"] },
  { key: "canceled", label: "Canceled", status: ["canceled"] },
  { key: "all", label: "All", status: null },
];

export const isFinal = (task) => ["completed", "error", "canceled"].includes(task.status);

export const name = (task) => task.download?.name || task.download?.url || `${task.type} ${task.id}`;

export function source(task) {
  const url = task.download?.url;
  if (!url) return task.type;
  if (url.startsWith("magnet:")) return "magnet link";
  try {
    return new URL(url).host || url;
  } catch {
    return url;
  }
}

export const counters = (task) => task.progress?.counters ?? {};

export function percent(task) {
  if (task.status === "completed") return 100;
  const { downloaded, total } = counters(task);
  if (total > 0) return Math.min((100 * downloaded) / total, 100);
  return task.progress?.percent ?? null;
}

export function eta(task) {
  const { downloaded, total, download_speed: speed } = counters(task);
  if (isFinal(task) || !(speed > 0) || !(total > downloaded)) return null;
  return roughly((total - downloaded) / speed);
}

// Seconds matter at the end only.
function roughly(seconds) {
  if (seconds < 600) return duration(seconds);
  return duration(Math.ceil(seconds / 60) * 60).replace(/ 00 s$/, "");
}

export const attempts = (task) => task.download?.attempts?.length || (task.retries ? task.retries + 1 : 0);

function until(time) {
  const seconds = (Date.parse(time) - Date.now()) / 1000;
  return seconds > 0 ? duration(seconds) : null;
}

// [text, tone]: tone is one of run, wait, good, bad, calm.
export function state(task) {
  switch (task.status) {
    case "completed":
      return ["done", "good"];
    case "error":
      return [task.error?.kind?.replaceAll("_", " ") || "failed", "bad"];
    case "canceled":
      return ["canceled", "calm"];
    case "paused":
      return ["paused", "calm"];
    case "blocked":
      return [`after ${task.depends_on.map((id) => `#${id}`).join(", ")}`, "wait"];
    case "processing":
      return task.want === "run" ? ["working", "run"] : [task.want === "pause" ? "pausing" : "canceling", "calm"];
  }
  return held(task) ?? timed(task) ?? ["next in line", "wait"];
}

function held(task) {
  const [what, whose = ""] = (task.hold ?? "").split(/:(.*)/s);
  const who = whose.split(",").join(" or ");
  switch (what) {
    case "transfer":
      return transfer(task);
    case "slot":
      return [`waits for a slot · ${who}`, "wait"];
    case "downloader":
      return [`${who} is down`, "bad"];
    case "paused":
      return [`${who} is paused`, "wait"];
    case "space":
      return ["waits for space", "bad"];
    case "route":
      return ["no route", "bad"];
    case "resources":
      return ["waits for resources", "wait"];
    case "":
      return null;
  }
  return [task.hold, "wait"];
}

function transfer(task) {
  if (task.download?.phase === "seeding") return ["seeding", "good"];
  switch (task.download?.state) {
    case "metadata":
      return ["looking for metadata", "run"];
    case "checking":
      return ["checking", "run"];
    case "unknown":
      return ["out of sight", "bad"];
    case "queued":
      return ["queued there", "wait"];
    case "paused":
      return ["paused there", "wait"];
  }
  const { download_speed: speed, downloaded } = counters(task);
  if (speed === 0) return [downloaded ? "no data just now" : "connecting", "wait"];
  return ["downloading", "run"];
}

function timed(task) {
  const left = task.resume_at && until(task.resume_at);
  if (!left) return null;
  if (task.retries || task.error) return [`retry in ${left}`, "wait"];
  return [task.status === "queued" ? `begins in ${left}` : `looks again in ${left}`, "wait"];
}

const RANK = ["read", "submit", "operate", "admin"];

export const may = (you, needed) => RANK.indexOf(you?.role ?? "read") >= RANK.indexOf(needed);
