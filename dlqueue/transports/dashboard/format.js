// Numbers and times as people read them.
const UNITS = ["B", "KiB", "MiB", "GiB", "TiB", "PiB"];

export function size(bytes) {
  if (bytes === null || bytes === undefined || !Number.isFinite(bytes)) return "–";
  let unit = 0;
  while (bytes >= 1000 && unit < UNITS.length - 1) {
    bytes /= 1024;
    unit += 1;
  }
  return `${unit === 0 || bytes >= 100 ? Math.round(bytes) : bytes.toFixed(1)} ${UNITS[unit]}`;
}

export const rate = (bytes) => `${size(bytes ?? 0)}/s`;

export const count = (number) => number.toLocaleString("en");

export function duration(seconds) {
  if (!Number.isFinite(seconds)) return "–";
  const whole = Math.max(Math.round(seconds), 0);
  if (whole < 60) return `${whole} s`;
  if (whole < 3600) return `${Math.floor(whole / 60)} m ${String(whole % 60).padStart(2, "0")} s`;
  if (whole < 86400) return `${Math.floor(whole / 3600)} h ${String(Math.floor((whole % 3600) / 60)).padStart(2, "0")} m`;
  return `${Math.floor(whole / 86400)} d ${Math.floor((whole % 86400) / 3600)} h`;
}

// "in 5 m 00 s", "3 h 10 m ago"; never broken over two lines
export function relative(time, now = Date.now()) {
  if (!time) return "–";
  const seconds = (Date.parse(time) - now) / 1000;
  if (Math.abs(seconds) < 1) return "now";
  const words = seconds > 0 ? `in ${duration(seconds)}` : `${duration(-seconds)} ago`;
  return words.replaceAll(" ", "\u00a0");
}

const CLOCK = new Intl.DateTimeFormat(undefined, {
  day: "numeric", month: "short", hour: "2-digit", minute: "2-digit", second: "2-digit", hourCycle: "h23",
});

export const instant = (time) => (time ? CLOCK.format(new Date(time)) : "–");

export const plural = (number, one, many = `${one}s`) => `${count(number)} ${number === 1 ? one : many}`;
