// Who is signed in. The token lives in this tab, or in this browser if the person wishes.
const KEY = "dlqueue.token";

let token = null;
let expired = () => {};

// Takes the token out of `/#token=…`, and out of the address bar and the history.
export function begin(whenExpired) {
  expired = whenExpired;
  const given = new URLSearchParams(location.hash.slice(1)).get("token");
  if (given !== null) {
    history.replaceState(null, "", location.pathname + location.search);
    if (given) keep(given, false);
  }
  token = token ?? sessionStorage.getItem(KEY) ?? localStorage.getItem(KEY);
  return token !== null;
}

export function keep(given, stay) {
  forget();
  token = given;
  (stay ? localStorage : sessionStorage).setItem(KEY, given);
}

export function forget() {
  token = null;
  sessionStorage.removeItem(KEY);
  localStorage.removeItem(KEY);
}

export const headers = () => (token === null ? {} : { Authorization: `Bearer ${token}` });

// The server says that the token is not (or no longer) one of its own.
export function refused() {
  if (token === null) return;
  forget();
  expired();
}
