// Who has no token yet.
import { html, useRef, useState } from "../html.js";
import { state } from "../state.js";

export function Login({ enter }) {
  const field = useRef(null);
  const [waiting, setWaiting] = useState(false);
  const submit = async (event) => {
    event.preventDefault();
    const token = field.current.value.trim();
    if (!token || waiting) return;
    setWaiting(true);
    await enter(token, event.target.elements.stay.checked);
    setWaiting(false);
  };
  return html`<main class="login">
    <form class="card" onSubmit=${submit}>
      <h1><img src="icon.svg" alt="" width="28" height="28" /> dlqueue</h1>
      <label for="token">Token</label>
      <input id="token" name="token" type="password" autocomplete="current-password" spellcheck="false" autofocus required ref=${field} aria-describedby="how" aria-invalid=${state.problem !== null} />
      ${state.problem && html`<p class="problem" role="alert">${state.problem}</p>`}
      <label class="check"><input type="checkbox" name="stay" /> Stay signed in on this device</label>
      <button class="primary" disabled=${waiting}>${waiting ? "Signing in …" : "Sign in"}</button>
      <p class="hint" id="how">On the machine where dlqueue runs:<code>dlqueue token new NAME --role operate</code></p>
    </form>
  </main>`;
}
