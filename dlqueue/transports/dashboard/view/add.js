// The add box: paste many addresses, drop files; it shows which downloader would fetch each.
import { refresh } from "../feed.js";
import { plural } from "../format.js";
import { html, useEffect, useRef, useState } from "../html.js";
import { Icon, IconButton } from "../icons.js";
import { batch } from "../rpc.js";
import { changed, state, toast } from "../state.js";
import { show } from "../actions.js";

const PREVIEWED = 30;
const PAUSE = 350; // milliseconds after the last key
const FILE_MOST = 3 << 20; // bytes: as base64 a line of at most 4 MiB

// {name, torrent | metalink} for a dropped file.
async function read(file) {
  const kind = /\.torrent$/i.test(file.name) ? "torrent" : /\.(metalink|meta4)$/i.test(file.name) ? "metalink" : null;
  if (kind === null) throw new Error(`${file.name} is neither a .torrent nor a .metalink file`);
  if (file.size > FILE_MOST) throw new Error(`${file.name} is larger than 3 MiB`);
  const bytes = new Uint8Array(await file.arrayBuffer());
  let text = "";
  for (let at = 0; at < bytes.length; at += 8192) text += String.fromCharCode(...bytes.subarray(at, at + 8192));
  return { name: file.name, source: { [kind]: btoa(text) } };
}

export async function takeFiles(files) {
  for (const file of files) {
    try {
      const found = await read(file);
      state.dropped = [...state.dropped.filter((one) => one.name !== found.name), found];
    } catch (error) {
      toast(error.message, "bad");
    }
  }
  if (state.dropped.length) show({ kind: "add" });
}

const lines = (text) => [...new Set(text.split(/\s+/).filter(Boolean))];

export function Add() {
  const [text, setText] = useState("");
  const [options, setOptions] = useState({ directory: "", downloader: "", tags: "", paused: false });
  const [seen, setSeen] = useState(new Map());
  const [waiting, setWaiting] = useState(false);
  const picker = useRef(null);
  const common = shared(options);
  const items = [...state.dropped, ...lines(text).map((url) => ({ name: url, source: { url } }))];
  const good = items.filter((item) => !(seen.get(item.name) instanceof Error)).length; // as far as a look has said
  const key = JSON.stringify([items.map((item) => item.name), common]);
  useEffect(() => {
    let over = false;
    const timer = setTimeout(async () => {
      const wanted = items.slice(0, PREVIEWED);
      try {
        const found = wanted.length ? await batch(wanted.map((item) => ["downloads.add", { ...item.source, ...common, dry_run: true }])) : [];
        if (!over) setSeen(new Map(wanted.map((item, index) => [item.name, found[index]])));
      } catch (error) {
        if (!over && error.code !== -32001) toast(error.message, "bad");
      }
    }, PAUSE);
    return () => {
      over = true;
      clearTimeout(timer);
    };
  }, [key]);

  const submit = async (event) => {
    event.preventDefault();
    if (!items.length || waiting) return;
    setWaiting(true);
    try {
      const answers = await batch(items.map((item) => ["downloads.add", { ...item.source, ...common }]));
      const refused = items.filter((_, index) => answers[index] instanceof Error);
      const made = answers.filter((answer) => !(answer instanceof Error));
      const joined = made.filter((answer) => !answer.created).length;
      if (made.length) toast(`${plural(made.length - joined, "download")} added${joined ? `, ${joined} there already` : ""}`, "good");
      const names = new Set(refused.map((item) => item.name));
      state.dropped = state.dropped.filter((item) => names.has(item.name));
      setSeen(new Map(items.map((item, index) => [item.name, answers[index]]).filter(([name]) => names.has(name))));
      setText(refused.filter((item) => item.source.url).map((item) => item.name).join("\n"));
      if (!refused.length) show(null);
      else toast(`${plural(refused.length, "was", "were")} refused`, "bad");
      refresh();
    } catch (error) {
      if (error.code !== -32001) toast(error.message, "bad");
    }
    setWaiting(false);
  };
  const set = (name) => (event) => setOptions({ ...options, [name]: event.target.type === "checkbox" ? event.target.checked : event.target.value });
  return html`<form onSubmit=${submit} onKeyDown=${(event) => event.key === "Enter" && (event.ctrlKey || event.metaKey) && submit(event)}>
    <textarea id="urls" rows="5" autofocus spellcheck="false" placeholder="Addresses or magnet links, one per line; or drop .torrent and .metalink files here" aria-label="Addresses" value=${text} onInput=${(event) => setText(event.target.value)}></textarea>
    <p class="line"><button type="button" class="link" onClick=${() => picker.current.click()}><${Icon} name="file" /> Choose files</button>
      <input type="file" class="hidden" multiple accept=".torrent,.metalink,.meta4" tabindex="-1" aria-label="Files" ref=${picker} onChange=${(event) => {
        takeFiles([...event.target.files]);
        event.target.value = "";
      }} /></p>
    ${items.length > 0 && html`<ul class="preview" aria-label="Preview">
      ${items.slice(0, PREVIEWED).map((item) => html`<${Preview} key=${item.name} item=${item} seen=${seen.get(item.name)} />`)}
      ${items.length > PREVIEWED && html`<li class="muted">and ${items.length - PREVIEWED} more</li>`}
    </ul>`}
    <div class="fields">
      <label>Folder<input name="directory" placeholder="default" spellcheck="false" value=${options.directory} onInput=${set("directory")} /></label>
      <label>Downloader<select name="downloader" onChange=${set("downloader")}><option value="">by the routes</option>${state.downloaders.map((one) => html`<option key=${one.name} value=${one.name}>${one.name}</option>`)}</select></label>
      <label>Tags<input name="tags" placeholder="linux, iso" spellcheck="false" value=${options.tags} onInput=${set("tags")} /></label>
      <label class="check"><input type="checkbox" name="paused" checked=${options.paused} onChange=${set("paused")} />Add paused</label>
    </div>
    <p class="buttons"><button type="button" onClick=${() => show(null)}>Close</button><button class="primary" disabled=${!items.length || waiting}>${waiting ? "Adding …" : items.length > 1 && good ? `Add ${plural(good, "download")}` : "Add"}</button></p>
  </form>`;
}

function shared({ directory, downloader, tags, paused }) {
  const found = {};
  if (directory.trim()) found.directory = directory.trim();
  if (downloader) found.downloader = downloader;
  const listed = tags.split(/[,\s]+/).filter(Boolean);
  if (listed.length) found.labels = { tag: listed };
  if (paused) found.paused = true;
  return found;
}

function Preview({ item, seen }) {
  const file = !item.source.url;
  const drop = () => {
    state.dropped = state.dropped.filter((one) => one !== item);
    changed();
  };
  return html`<li>
    <span class="name" title=${item.name}>${file && html`<${Icon} name="file" />`}${item.name}</span>
    ${seen === undefined ? html`<span class="muted">…</span>` : seen instanceof Error ? html`<span class="bad">${seen.message.replace(/^(url|torrent|metalink): /, "")}</span>` : html`<${Route} seen=${seen} />`}
    ${file && html`<${IconButton} icon="cross" label=${`Leave out ${item.name}`} onClick=${drop} />`}
  </li>`;
}

function Route({ seen }) {
  const chosen = seen.route?.find((choice) => choice.chosen);
  const others = (seen.route ?? []).filter((choice) => !choice.chosen).map((choice) => `${choice.downloader}: ${choice.reason}`);
  if (!chosen) return html`<span class="warn" title=${others.join("\n")}>waits: ${others[0] ?? "nobody can fetch it now"}</span>`;
  return html`<span class="route" title=${others.join("\n")}>→ <strong>${chosen.downloader}</strong> <span class="muted">${chosen.reason}</span></span>`;
}
