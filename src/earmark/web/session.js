/** Who is signed in, in this tab. */

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
