// Elements without HTML: whatever is put in is text, so that no word of a model's can become markup.

export const $ = (id) => document.getElementById(id);

/** An element with properties (`class`, `on…`, ARIA, any attribute) and children; null and undefined are left out. */
export function el(tag, properties = {}, ...children) {
  return fill(document.createElement(tag), properties, children);
}

const SVG = "http://www.w3.org/2000/svg";

/** The same for SVG. */
export function svg(tag, properties = {}, ...children) {
  return fill(document.createElementNS(SVG, tag), properties, children);
}

function fill(element, properties, children) {
  for (const [name, value] of Object.entries(properties)) {
    if (value === null || value === undefined || value === false) continue;
    if (name.startsWith("on")) element.addEventListener(name.slice(2), value);
    else element.setAttribute(name, value === true ? "" : value);
  }
  element.append(...children.flat(Infinity).filter((child) => child !== null && child !== undefined));
  return element;
}

/** Draw one part; when that fails, so that it does not stop the others, `instead` gets the error. */
export function attempt(draw, instead) {
  try {
    return draw();
  } catch (error) {
    console.error(error);
    return instead(error);
  }
}

/** What went wrong, for all to see. */
export const problem = (error) => el("p", { class: "notice error", role: "alert" }, error.message);

/** A list of names and values. */
export function facts(pairs) {
  const shown = pairs.filter(([, value]) => value !== null && value !== undefined && value !== "");
  return el("dl", {}, shown.map(([name, value]) => el("div", {}, el("dt", {}, name), el("dd", {}, value))));
}
