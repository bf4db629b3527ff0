"use strict";

// Tables: a click on a column's title sorts by it, a second one the other way round; what is missing comes last.
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

// Cells: a click shows the runs that the number was made of.
const dialog = document.querySelector("dialog");
document.addEventListener("click", (event) => {
  const link = event.target.closest("a[data-runs]");
  if (!link) return;
  event.preventDefault();
  const runs = link.dataset.runs.split(" ").map((number) => document.getElementById(`run-${number}`).cloneNode(true));
  for (const run of runs) run.removeAttribute("id");
  dialog.querySelector(".list").replaceChildren(...runs);
  dialog.showModal();
});

// Figures: the values at the mouse.
function nearest(values, x) {
  let best = 0;
  values.forEach((value, index) => { if (Math.abs(value - x) < Math.abs(values[best] - x)) best = index; });
  return best;
}
function described(panel, x) {
  const at = Object.values(panel.arms)[0][0];
  const lines = [`${panel.title}, ${panel.xlabel} ${at[nearest(at, x)]}`];
  for (const [arm, [xs, middle, low, high]] of Object.entries(panel.arms)) {
    const i = nearest(xs, x);
    if (middle[i] !== null) lines.push(`${arm}: ${middle[i]}` + (low[i] === high[i] ? "" : `  [${low[i]}, ${high[i]}]`));
  }
  return lines.join("\n");
}
for (const plot of document.querySelectorAll(".plot")) {
  const panels = JSON.parse(plot.querySelector("script").textContent);
  const [line, values] = [plot.querySelector(".line"), plot.querySelector(".values")];
  const hide = () => { line.hidden = values.hidden = true; };
  const show = (event) => {
    const frame = plot.getBoundingClientRect();
    const x = (event.clientX - frame.left) / frame.width, y = 1 - (event.clientY - frame.top) / frame.height;
    const panel = panels.find(({ box }) => x >= box[0] && x <= box[0] + box[2] && y >= box[1] && y <= box[1] + box[3]);
    if (!panel || !Object.keys(panel.arms).length) return hide();
    const [left, bottom, width, height] = panel.box, [low, high] = panel.span;
    values.textContent = described(panel, low + (x - left) / width * (high - low));
    line.hidden = values.hidden = false;
    Object.assign(line.style, { left: `${100 * x}%`, top: `${100 * (1 - bottom - height)}%`, height: `${100 * height}%` });
    const right = x > 0.6;
    Object.assign(values.style, {
      left: right ? "auto" : `calc(${100 * x}% + 12px)`,
      right: right ? `calc(${100 * (1 - x)}% + 12px)` : "auto",
      top: `${100 * (1 - bottom - height)}%`,
    });
  };
  plot.addEventListener("pointermove", show);
  plot.addEventListener("pointerdown", show);
  plot.addEventListener("pointerleave", hide);
}
