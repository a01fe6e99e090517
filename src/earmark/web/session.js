/** Who is signed in, in this tab, and what is shown when nobody is. */

import { find, setText, show } from "./dom.js";

const TOKEN = "earmark.token";

/** Where the service is: beside the page, also where a proxy gives it a path of its own. */
export const SERVICE = new URL(".", location.href).href.slice(0, -1);

/** The sign-in link carries the token in its fragment; it leaves the address bar at once. Answers whether there was one. */
export function takeToken() {
  const token = new URLSearchParams(location.hash.slice(1)).get("token");
  if (token) {
    sessionStorage.setItem(TOKEN, token);
    history.replaceState(null, "", location.pathname + location.search);
  }
  return Boolean(token);
}

export function currentToken() {
  return sessionStorage.getItem(TOKEN);
}

/** Only to offer what would not be refused; what is refused, the service decides. */
export function isService(token) {
  try {
    const claims = JSON.parse(atob(token.split(".")[1].replaceAll("-", "+").replaceAll("_", "/")));
    return claims.role === "service_role";
  } catch {
    return false;
  }
}

/** `first` is where one who has just signed in goes on. */
export function showContent(first) {
  show(find("loading"), false);
  show(find("content"), true);
  show(find("sign-in"), false, first);
  setText(find("connection"), "");
}

/** The focus follows from what is taken away, wherever in it that was: a screen reader would be left nowhere. */
export function showSignIn(reason) {
  const takesAway = !find("content").hidden;
  for (const dialog of document.querySelectorAll("dialog[open]")) dialog.close();
  show(find("loading"), false);
  show(find("content"), false);
  show(find("sign-in"), true);
  setText(find("connection"), "");
  setText(find("sign-in-reason"), reason);
  if (takesAway) find("sign-in-heading").focus();
}

export function whyNotSignedIn() {
  return currentToken() ? "This sign-in has expired or is not valid." : "You are not signed in.";
}
