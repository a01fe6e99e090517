/** Elements made from text nodes and properties only: no markup is ever parsed, so no file name can become any. */

export const find = (id) => document.getElementById(id);

/** `element("p", {className: "hint"}, "text", child)`; properties with a dash are set as attributes. */
export function element(tag, properties = {}, ...children) {
  const made = document.createElement(tag);
  for (const [name, value] of Object.entries(properties)) {
    if (name.includes("-") || name === "role") made.setAttribute(name, value);
    else made[name] = value;
  }
  made.append(...children);
  return made;
}

/** Makes `wanted` the children of `list` without moving those already in order; a lost focus goes to `fallback`. */
export function arrange(list, wanted, fallback) {
  const hadFocus = list.contains(document.activeElement);
  const keep = new Set(wanted);
  for (const child of [...list.children]) if (!keep.has(child)) child.remove();
  wanted.forEach((child, index) => {
    if (list.children[index] !== child) list.insertBefore(child, list.children[index] ?? null);
  });
  if (hadFocus && !list.contains(document.activeElement)) fallback.focus();
}

/** Shows or hides; a focus that would vanish goes to `fallback`. */
export function show(target, visible, fallback) {
  const loses = !visible && !target.hidden && target.contains(document.activeElement);
  target.hidden = !visible;
  if (loses) fallback?.focus();
}

/** Sets text only when it differs, so that a screen reader is not disturbed for nothing. */
export function setText(target, text) {
  if (target.textContent !== text) target.textContent = text;
}
