// Windows over the page: the browser's own <dialog>, which keeps the keyboard inside.
import { show } from "../actions.js";
import { html, useLayoutEffect, useRef } from "../html.js";
import { IconButton } from "../icons.js";
import { state } from "../state.js";
import { Add } from "./add.js";
import { Help } from "./help.js";

export function Dialog({ title, children, kind = "" }) {
  const element = useRef(null);
  useLayoutEffect(() => {
    const dialog = element.current;
    const before = document.activeElement;
    dialog.showModal();
    return () => {
      dialog.close();
      if (before?.isConnected) before.focus({ preventScroll: true });
    };
  }, []);
  const outside = (event) => event.target === element.current && kind !== "add" && show(null);
  return html`<dialog class=${`card ${kind}`} aria-label=${title} ref=${element} onCancel=${(event) => {
    event.preventDefault();
    show(null);
  }} onMouseDown=${outside}>
    <header><h2>${title}</h2><${IconButton} icon="cross" label="Close" onClick=${() => show(null)} /></header>
    ${children}
  </dialog>`;
}

export function Dialogs() {
  const { dialog } = state;
  switch (dialog?.kind) {
    case "add":
      return html`<${Dialog} key="add" kind="add" title="Add downloads"><${Add} /></${Dialog}>`;
    case "help":
      return html`<${Dialog} key="help" kind="help" title="Keyboard"><${Help} /></${Dialog}>`;
    case "confirm":
      return html`<${Dialog} key="confirm" kind="confirm" title=${dialog.title}><${Confirm} dialog=${dialog} /></${Dialog}>`;
  }
  return null;
}

function Confirm({ dialog }) {
  const yes = (event) => {
    event.preventDefault();
    const ticked = event.target.elements.option?.checked ?? false;
    show(null);
    dialog.yes(ticked);
  };
  return html`<form onSubmit=${yes}>
    <p>${dialog.text}</p>
    ${dialog.option && html`<label class="check"><input type="checkbox" name="option" />${dialog.option}</label>`}
    <p class="buttons"><button type="button" onClick=${() => show(null)}>Keep</button><button class="primary danger" autofocus>${dialog.verb}</button></p>
  </form>`;
}
