"use strict";

// Tables: a click on a column's title sorts by it, a second click reverses the order; missing values come last.
function sorted(rows, key, order) {
  const missing = (value) => value === "" || Number.isNaN(value);
  return rows.sort((a, b) => missing(key(a)) - missing(key(b)) || order * (key(a) > key(b)) - order * (key(a) < key(b)));
}
for (const button of document.querySelectorAll("th button")) {
  button.addEventListener("click", () => {
    const title = button.closest("th"), body = button.closest("table").tBodies[0];
    const column = title.cellIndex, falling = title.getAttribute("aria-sort") === "ascending";
    for (const other of title.parentNode.children) other.removeAttribute("aria-sort");
    title.setAttribute("aria-sort", falling ? "descending" : "ascending");
    const rows = [...body.rows], text = (row) => row.cells[column].dataset.sort;
    const numeric = title.classList.contains("number") || !rows.map(text).some(isNaN);
    body.append(...sorted(rows, (row) => numeric ? parseFloat(text(row)) : text(row), falling ? -1 : 1));
  });
}

// Sections: one that a link leads into is unfolded; all are for printing. The contents mark what is in sight.
function unfold() {
  const target = document.getElementById(decodeURIComponent(location.hash.slice(1)));
  const folded = target?.closest("details");
  if (!folded || folded.open) return;
  folded.open = true;
  target.scrollIntoView();
}
addEventListener("hashchange", unfold);
unfold();
addEventListener("beforeprint", () => document.querySelectorAll("details").forEach((each) => { each.open = true; }));
const inSight = new IntersectionObserver((entries) => {
  for (const { target, isIntersecting } of entries) {
    const link = document.querySelector(`nav a[href="#${CSS.escape(target.id)}"]`);
    if (isIntersecting) link.setAttribute("aria-current", "true"); else link.removeAttribute("aria-current");
  }
}, { rootMargin: "-10% 0px -60% 0px" });
document.querySelectorAll("main > [id]").forEach((section) => inSight.observe(section));

// Filters: rows and columns with one of the words in their titles.
for (const filter of document.querySelectorAll(".filter")) {
  const words = (name) => filter.elements[name].value.toLowerCase().split(/[\s,]+/).filter(Boolean);
  const has = (title, wanted) => !wanted.length || title.toLowerCase().split(/[\s:,]+/).some((word) => wanted.includes(word));
  filter.addEventListener("submit", (event) => event.preventDefault());
  filter.addEventListener("input", () => {
    for (const { tHead, tBodies } of filter.parentElement.querySelectorAll("table")) {
      const titles = [...tHead.rows[0].cells];
      const shown = titles.map((title, index) => !index || has(title.textContent, words("columns")));
      const columns = shown.filter(Boolean).length > 1 ? shown : titles.map(() => true);  // another kind of table
      const rows = [...tBodies[0].rows], matching = rows.filter((row) => has(row.cells[0].textContent, words("rows")));
      for (const row of rows) row.hidden = matching.length > 0 && !matching.includes(row);
      for (const row of [tHead.rows[0], ...rows]) [...row.cells].forEach((cell, at) => { cell.hidden = !columns[at]; });
    }
  });
}

// Commands: a button copies them.
for (const command of document.querySelectorAll("pre code, code")) {
  if (!command.closest("pre") && !command.textContent.startsWith("python ")) continue;
  const button = document.createElement("button");
  Object.assign(button, { type: "button", className: "copy", textContent: "Copy" });
  button.setAttribute("aria-label", "Copy this command");
  button.addEventListener("click", async () => {
    await navigator.clipboard.writeText(command.textContent.trim());
    button.textContent = "Copied";
    setTimeout(() => { button.textContent = "Copy"; }, 2000);
  });
  (command.closest("pre") ?? command).after(button);
}

// Cells: a click marks the cell and shows the runs behind its number.
const dialog = document.querySelector("dialog");
document.addEventListener("click", (event) => {
  const link = event.target.closest("a[data-runs]");
  if (!link) return;
  event.preventDefault();
  document.querySelector(".clicked")?.classList.remove("clicked");
  link.closest("td").classList.add("clicked");
  const runs = link.dataset.runs.split(" ").map((number) => document.getElementById(`run-${number}`).cloneNode(true));
  for (const run of runs) run.removeAttribute("id");
  dialog.querySelector(".list").replaceChildren(...runs);
  dialog.showModal();
});

// Figures are compressed (JSON, gzip, base64): the page is half as large and shown before they are unpacked. One that
// several sections show is there once, as are other pictures.
const original = (element) => document.getElementById(element.dataset.same) ?? element;
for (const picture of document.querySelectorAll("img[data-same]")) picture.src = original(picture).src;
async function unpacked(text) {
  const bytes = Uint8Array.from(atob(text), (character) => character.charCodeAt(0));
  return new Response(new Blob([bytes]).stream().pipeThrough(new DecompressionStream("gzip"))).json();
}
for (const plot of document.querySelectorAll(".plot")) {
  unpacked(original(plot.querySelector("script")).textContent).then(({ svg, panels }) => {
    plot.querySelector("img").src = `data:image/svg+xml,${encodeURIComponent(svg)}`;
    const filled = panels.filter(({ arms }) => Object.keys(arms).length);
    if (filled.length) showValues(plot, filled);
  }).catch(() => plot.append("This browser cannot unpack the figure. It is a file in the report's folder."));
}

// Figures: show the values at the mouse pointer, at a tap, or at the x that the arrow keys select.
function nearest(values, x) {
  let best = 0;
  values.forEach((value, index) => { if (Math.abs(value - x) < Math.abs(values[best] - x)) best = index; });
  return best;
}
function described(panel, x) {
  const lines = [`${panel.title}, ${panel.xlabel} ${panel.labels[x] ?? x}`];
  for (const [arm, [xs, middle, low, high]] of Object.entries(panel.arms)) {
    const i = nearest(xs, x);
    if (middle[i] !== null) lines.push(`${arm}: ${middle[i]}` + (low[i] === high[i] ? "" : `  [${low[i]}, ${high[i]}]`));
  }
  return lines.join("\n");
}
function showValues(plot, panels) {
  const stops = panels.flatMap((panel) => Object.values(panel.arms)[0][0].map((x) => ({ panel, x })));
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
    const [left, , width] = panel.box, [low, high] = panel.span, xs = Object.values(panel.arms)[0][0];
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
