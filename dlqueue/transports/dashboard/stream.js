// One stream of server-sent events, read by fetch: EventSource cannot send a bearer token.
import { headers, refused } from "./session.js";

const FIRST = 500;
const LONGEST = 15000; // milliseconds between two attempts
const SILENCE = 60000; // without a byte, not even a ping: the connection is dead
const LINE = 1 << 20; // no event is that long

export class Stream {
  // `told` is given each event's params, `state` "live" or "lost".
  constructor(path, told, state) {
    this.path = path;
    this.told = told;
    this.state = state;
    this.lastId = null;
    this.failures = 0;
    this.closed = false;
    this.hold = null;
    this.timer = null;
    this.run();
  }

  close() {
    this.closed = true;
    clearTimeout(this.timer);
    this.hold?.abort();
  }

  async run() {
    this.hold = new AbortController();
    let watchdog = null;
    const alive = () => {
      clearTimeout(watchdog);
      watchdog = setTimeout(() => this.hold.abort(), SILENCE);
    };
    try {
      alive();
      const resume = this.lastId === null ? {} : { "Last-Event-ID": this.lastId };
      const answer = await fetch(this.path, {
        headers: { Accept: "text/event-stream", ...headers(), ...resume },
        cache: "no-store",
        credentials: "omit",
        signal: this.hold.signal,
      });
      if (answer.status === 401) {
        this.closed = true;
        refused();
        return;
      }
      if (!answer.ok) throw new Error(`the gateway answered ${answer.status}`);
      this.failures = 0;
      this.state("live");
      await this.read(answer.body, alive);
    } catch {
      // It is tried again, whatever it was.
    } finally {
      clearTimeout(watchdog);
      if (!this.closed) this.again();
    }
  }

  again() {
    this.state("lost");
    const wait = Math.min(FIRST * 2 ** this.failures++, LONGEST) * (0.8 + 0.4 * Math.random());
    this.timer = setTimeout(() => this.run(), wait);
  }

  async read(body, alive) {
    const reader = body.pipeThrough(new TextDecoderStream()).getReader();
    let rest = "";
    let data = [];
    let id = null;
    for (;;) {
      const { value, done } = await reader.read();
      if (done) return;
      alive();
      const lines = (rest + value).split(/\r\n|\n|\r(?!$)/);
      rest = lines.pop();
      if (rest.length > LINE) throw new Error("an event is too long");
      for (const line of lines) {
        if (line === "") {
          if (id !== null) this.lastId = id;
          if (data.length) this.tell(data.join("\n"));
          data = [];
          id = null;
        } else if (line.startsWith("data:")) data.push(line.slice(5).replace(/^ /, ""));
        else if (line.startsWith("id:")) id = line.slice(3).trim();
      }
    }
  }

  tell(text) {
    let event;
    try {
      event = JSON.parse(text);
    } catch {
      return; // not one of ours
    }
    if (event && typeof event === "object") this.told(event);
  }
}
