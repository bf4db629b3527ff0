"use strict";

// Tables: a click on a column's title sorts by it, a second click reverses the order; missing values come last.
function sorted(rows, key, order) {
  const missing = (value) => value === "" || Number.isNaN(value);
  return rows.sort((a, b) => missing(key(a)) - missing(key(b)) || order * (key(a) > key(b)) - order * (key(a) < key(b)));
}
for (const button of document.querySelectorAll("thead button")) {
  button.addEventListener("click", () => {
    const title = button.closest("th"), body = button.closest("table").tBodies[0];
    const column = title.cellIndex, falling = title.getAttribute("aria-sort") === "ascending";
    for (const other of title.parentNode.children) other.removeAttribute("aria-sort");
    title.setAttribute("aria-sort", falling ? "descending" : "ascending");
    const rows = [...body.rows], text = ({ cells }) => cells[column].dataset.sort ?? cells[column].textContent;
    const texts = rows.map(text), isNumber = title.classList.contains("number");
    const numeric = isNumber ? texts.map(parseFloat).some((value) => !isNaN(value)) : !texts.some(isNaN);
    body.append(...sorted(rows, (row) => numeric ? parseFloat(text(row)) : text(row), falling ? -1 : 1));
  });
}

// Sections: one that a link leads into is unfolded; all are for printing. The contents mark what is in sight.
function unfold(target) {
  const folded = target?.closest("details:not([open])");
  if (!folded) return;
  folded.open = true;
  target.scrollIntoView();
}
for (const event of ["load", "hashchange"]) addEventListener(event, () => unfold(document.querySelector(":target")));
let unfoldedToPrint = [];
const showInPrint = (shown) => unfoldedToPrint.forEach((section) => { section.open = shown; });
addEventListener("beforeprint", () => {
  unfoldedToPrint = document.querySelectorAll("details:not([open])");
  showInPrint(true);
  unpackShown();
});
addEventListener("afterprint", () => showInPrint(false));
const contents = document.querySelector("nav ul");
const inSight = new IntersectionObserver((entries) => {
  for (const { target, isIntersecting } of entries) {
    const link = contents.querySelector(`[href="#${CSS.escape(target.id)}"]`);
    if (isIntersecting) link.setAttribute("aria-current", "true"); else link.removeAttribute("aria-current");
  }
  const marked = contents.querySelector("[aria-current]");
  if (marked) contents.scrollLeft = marked.offsetLeft;  // on a narrow screen they are one line
}, { rootMargin: "-10% 0px -60% 0px" });
document.querySelectorAll("main > [id]").forEach((section) => inSight.observe(section));

// Filters: rows with one of the words in a cell of text, columns with one in their title. Columns of text stay.
const wordsOf = (text) => text.toLowerCase().split(/[\s:,;()]+/).filter(Boolean);
const withParts = (word) => [word, ...word.split("/")];
const has = (text, wanted) => wordsOf(text).flatMap(withParts).some((word) => wanted.includes(word));
const isText = (cell) => !cell.classList.contains("number");
function showRows({ tBodies: [body] }, wanted) {
  for (const row of body.rows) {
    row.hidden = wanted.length > 0 && ![...row.cells].some((cell) => isText(cell) && has(cell.textContent, wanted));
  }
  const shown = [...body.rows].filter((row) => !row.hidden).length;
  body.classList.toggle("empty", wanted.length > 0 && !shown);
  return shown;
}
function showColumns({ rows }, wanted) {
  const titles = [...rows[0].cells], matches = titles.map((title) => has(title.textContent, wanted));
  const some = titles.some((title, at) => !isText(title) && matches[at]);  // else it is another kind of table
  const hides = (at) => some && !isText(titles[at]) && !matches[at];
  for (const row of rows) [...row.cells].forEach((cell, at) => { cell.hidden = hides(at); });
  return some;
}
for (const filter of document.querySelectorAll(".filter")) {
  filter.addEventListener("submit", (event) => event.preventDefault());
  filter.addEventListener("input", () => {
    const [rows, columns] = ["rows", "columns"].map((name) => wordsOf(filter.elements[name].value));
    const tables = [...filter.parentElement.querySelectorAll("table")];
    const shown = tables.reduce((sum, table) => sum + showRows(table, rows), 0);
    const some = tables.map((table) => showColumns(table, columns)).includes(true);
    const found = rows.length ? [shown ? `Rows: ${shown}.` : "No row matches."] : [];
    if (columns.length && !some) found.push("No column matches.");
    filter.querySelector("[role=status]").textContent = found.join(" ");
  });
}

// Commands: a button copies the one before it. Where the browser refuses that (http), the command is selected instead.
for (const command of document.querySelectorAll("pre code, code")) {
  if (!command.closest("pre") && !command.textContent.startsWith("python ")) continue;
  const button = '<button type="button" class="copy" aria-label="Copy this command">Copy</button>';
  (command.closest("pre") ?? command).insertAdjacentHTML("afterend", `${button}<span role="status"></span>`);
}
async function copy({ previousElementSibling: command, nextElementSibling: said }) {
  try {
    await navigator.clipboard.writeText(command.textContent.trim());
    said.textContent = "Copied";
  } catch {
    getSelection().selectAllChildren(command);
    said.textContent = "Not copied, but selected";
  }
  setTimeout(() => { said.textContent = ""; }, 4000);
}

// Clicks: on a number, they mark its cell and show the runs behind it; on another link, they unfold its section.
const dialog = document.querySelector("dialog");
function showRuns(link) {
  document.querySelector(".clicked")?.classList.remove("clicked");
  link.closest("td, th").classList.add("clicked");
  const runs = link.dataset.runs.split(" ").map((number) => document.getElementById(`run-${number}`).cloneNode(true));
  for (const run of runs) run.removeAttribute("id");
  dialog.querySelector(".list").replaceChildren(...runs);
  dialog.showModal();
}
document.addEventListener("click", (event) => {
  const button = event.target.closest(".copy"), link = event.target.closest("a[href^='#']");
  if (button) copy(button);
  if (!link || event.ctrlKey || event.metaKey || event.shiftKey || event.altKey) return;  // as for a new tab
  if (!link.dataset.runs) return unfold(document.getElementById(link.getAttribute("href").slice(1)));
  event.preventDefault();
  showRuns(link);
});

// Figures are compressed (JSON, gzip, base64): the page is half as large, and shown before they are unpacked, which is
// when their section is unfolded, or the browser is idle: printing does not wait for it. One that several sections show
// is there once, as are other pictures.
const original = (element) => document.getElementById(element.dataset.same) ?? element;
for (const picture of document.querySelectorAll("img[data-same]")) picture.src = original(picture).src;
async function unpacked(text) {
  const bytes = Uint8Array.from(atob(text), (character) => character.charCodeAt(0));
  return new Response(new Blob([bytes]).stream().pipeThrough(new DecompressionStream("gzip"))).json();
}
const packed = new Set(document.querySelectorAll(".plot"));
function unpackShown() {
  for (const plot of packed) if (!plot.closest("details:not([open])")) unpack(plot);
}
function unpack(plot) {
  packed.delete(plot);
  return unpacked(original(plot.querySelector("script")).textContent).then(({ svg, panels }) => {
    plot.querySelector("img").src = `data:image/svg+xml,${encodeURIComponent(svg)}`;
    const filled = panels.filter(({ arms }) => Object.keys(arms).length);
    if (filled.length) showValues(plot, filled);
  }).catch(() => plot.append("This browser cannot unpack the figure. It is a file in the report's folder."));
}
unpackShown();
document.addEventListener("toggle", unpackShown, true);  // the event does not bubble
const whenIdle = window.requestIdleCallback ?? setTimeout;
async function unpackRest() {
  for (const plot of packed) {
    await unpack(plot);
    await new Promise((resolve) => whenIdle(resolve));
  }
}
addEventListener("load", () => whenIdle(unpackRest));

// Figures: show the values at the mouse pointer, at a tap, or at the x that the arrow keys select.
function nearest(values, x) {
  let best = 0;
  values.forEach((value, index) => { if (Math.abs(value - x) < Math.abs(values[best] - x)) best = index; });
  return best;
}
function described(panel, x) {
  const lines = [panel.title + (panel.kind === "rows" ? "" : `, ${panel.xlabel} ${panel.labels[x] ?? x}`)];
  for (const [arm, [xs, middle, low, high]] of Object.entries(panel.arms)) {
    const i = nearest(xs, x), step = (xs.at(-1) - xs[0]) / Math.max(1, xs.length - 1);
    const isThere = Math.abs(xs[i] - x) <= (panel.kind === "lines" ? step / 2 : 0) && middle[i] !== null;
    if (isThere) lines.push(`${arm}: ${middle[i]}` + (low[i] === high[i] ? "" : `  [${low[i]}, ${high[i]}]`));
  }
  return lines.join("\n");
}
function stopsOf(panel) {
  const all = new Set(Object.values(panel.arms).flatMap(([xs]) => xs));
  return [...all].sort((a, b) => a - b).map((x) => ({ panel, x }));
}
function showValues(plot, panels) {
  const stops = panels.flatMap(stopsOf);
  const [line, values] = [plot.querySelector(".line"), plot.querySelector(".values")];
  let shown = -1;
  const hide = () => { line.hidden = values.hidden = true; };
  const show = (index) => {
    shown = Math.max(0, Math.min(index, stops.length - 1));
    const { panel, x } = stops[shown], [left, bottom, width, height] = panel.box, [low, high] = panel.span;
    const at = left + (x - low) / (high - low) * width, top = `${100 * (1 - bottom - height)}%`;
    values.textContent = described(panel, x);
    line.hidden = values.hidden = false;
    Object.assign(line.style, { left: `${100 * at}%`, top, height: `${100 * height}%` });
    const seen = plot.parentElement.scrollLeft, end = seen + plot.parentElement.clientWidth - values.offsetWidth;
    const after = at * plot.clientWidth + 12, before = after - 24 - values.offsetWidth;
    Object.assign(values.style, { left: `${after <= end ? after : Math.max(seen, Math.min(before, end))}px`, top });
  };
  const point = (event) => {
    const frame = plot.getBoundingClientRect();
    const x = (event.clientX - frame.left) / frame.width, y = 1 - (event.clientY - frame.top) / frame.height;
    const panel = panels.find(({ box }) => x >= box[0] && x <= box[0] + box[2] && y >= box[1] && y <= box[1] + box[3]);
    if (!panel) return hide();
    const [left, , width] = panel.box, [low, high] = panel.span, xs = stopsOf(panel).map((stop) => stop.x);
    show(stops.findIndex((stop) => stop.panel === panel) + nearest(xs, low + (x - left) / width * (high - low)));
  };
  plot.addEventListener("pointermove", point);
  plot.addEventListener("pointerdown", point);
  plot.addEventListener("pointerleave", (event) => { if (event.pointerType === "mouse") hide(); });
  plot.addEventListener("pointercancel", hide);  // the page is scrolled
  plot.addEventListener("blur", hide);
  document.addEventListener("pointerdown", (event) => { if (!plot.contains(event.target)) hide(); });
  plot.addEventListener("keydown", (event) => {
    const step = { ArrowLeft: -1, ArrowRight: 1 }[event.key];
    if (event.key === "Escape") hide();
    if (!step || !stops.length) return;
    event.preventDefault();
    show(shown + step);
  });
}
