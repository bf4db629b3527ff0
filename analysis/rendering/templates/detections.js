"use strict";

const page = JSON.parse(document.getElementById("data").textContent);
const controls = document.getElementById("controls"), value = (name) => controls.elements[name].value;
const [MISSED, CORRECT, IGNORED] = ["missed", "correct", "ignored"].map((name) => page.kinds.indexOf(name));

function add(parent, name, properties, ...children) {
  const made = parent.appendChild(document.createElement(name));
  made.append(...children);
  return Object.assign(made, properties);
}
function draw(parent, name, attributes, ...children) {
  const made = parent.appendChild(document.createElementNS("http://www.w3.org/2000/svg", name));
  for (const [key, text] of Object.entries(attributes)) made.setAttribute(key, text);
  made.append(...children);
  return made;
}

// What the controls choose.
function choose() {
  const allows = (name, box) => value(name) === "" || box[name] === Number(value(name));
  return {
    arms: [...value("arms")].map(Number),
    truth: controls.elements.truth.checked,
    kind: value("kind") === "" ? null : Number(value("kind")),
    iou: Number(value("iou")),
    passes: (box) => allows("class", box) && allows("size", box),
  };
}

// The boxes of one arm on an image: its detections, and the objects with what it made of them.
function boxesOf(image, arm, { iou, passes }) {
  const found = image.found[arm].filter(passes).map((box) => ({ ...box, kind: box.kind[iou], layer: `arm${arm}` }));
  const objects = image.objects.filter(passes).map((box) => ({ ...box, kind: box.kind[arm][iou], layer: "truth" }));
  return { found, objects, missed: objects.filter(({ kind }) => kind === MISSED) };
}

function described(image, arm, choice) {
  const { found, missed } = boxesOf(image, arm, choice), all = [...found, ...missed];
  const counts = page.kinds.map((name, kind) => [all.filter((box) => box.kind === kind).length, name]);
  return `${page.arms[arm]}: ${counts.filter(([n]) => n).map((count) => count.join(" ")).join(", ") || "no boxes"}`;
}

function drawBox(svg, image, box) {
  const [x, y, width, height] = box.box, wrong = box.kind !== CORRECT;
  const isCrowd = box.layer === "truth" && box.kind === IGNORED;
  const group = draw(svg, "g", { class: `${box.layer} ${isCrowd ? "crowd" : wrong ? "error" : ""}` });
  for (const style of ["casing", "line"]) draw(group, "rect", { x, y, width, height, class: style });
  const what = isCrowd ? "crowd" : wrong ? page.kinds[box.kind] : "";
  const label = [page.names[box.class], box.score?.toFixed(2), what].filter(Boolean).join(" ");
  draw(group, "title", {}, label);
  if (!what) return;
  const end = x + width / 2 > image.width / 2, isBelow = box.layer === "arm1", edge = isBelow ? y + height : y;
  const [low, high] = [0.06 * image.height, 0.94 * image.height];  // a label does not fit outside of this
  const isInside = box.layer === "truth" || (isBelow ? edge > high : edge < low);
  const text = draw(group, "text", { y: isBelow === isInside ? -5 : 14, "text-anchor": end ? "end" : "start" }, label);
  const at = [end ? Math.min(x + width, image.width) : Math.max(x, 0), Math.max(0, Math.min(edge, image.height))];
  text.style.transform = `translate(${at[0]}px, ${at[1]}px) scale(var(--unit, 1))`;  // the same size in all images
}

// Draw the chosen boxes of an image. Returns how many match, or 0, and the image is hidden, if none does.
function show({ image, figure, picture, svg, counts }, choice) {
  const arms = choice.arms.map((arm) => boxesOf(image, arm, choice)), found = arms.flatMap((each) => each.found);
  const matches = ({ kind }) => choice.kind === null || kind === choice.kind;
  const missedByOne = (at) => arms.map(({ objects }) => objects[at]).find(({ kind }) => kind === MISSED);
  const objects = arms[0].objects.map((box, at) => missedByOne(at) ?? box);
  const matching = [...found.filter(matches), ...(choice.kind === null ? objects : objects.filter(matches))];
  figure.hidden = !matching.length;
  if (figure.hidden) return 0;
  svg.replaceChildren();
  const truth = choice.truth || choice.kind === MISSED ? objects : [];
  const plain = truth.map((box) => matches(box) || box.kind === IGNORED ? box : { ...box, kind: CORRECT });
  for (const box of [...plain, ...found.filter(matches)]) drawBox(svg, image, box);
  const lines = choice.arms.map((arm) => described(image, arm, choice));
  counts.replaceChildren();
  choice.arms.forEach((arm, at) => add(counts, "span", { className: `arm${arm}` }, lines[at]));
  picture.alt = `Image ${image.id}, objects: ${image.objects.filter(choice.passes).length}; ${lines.join("; ")}`;
  return matching.length;
}

const sizes = new ResizeObserver((entries) => {
  for (const { target, contentRect } of entries) {
    if (contentRect.width) target.style.setProperty("--unit", target.viewBox.baseVal.width / contentRect.width);
  }
});
const cards = page.images.map((image) => {
  const figure = add(document.getElementById("images"), "figure", {}), frame = add(figure, "div", { className: "image" });
  frame.style.aspectRatio = `${image.width} / ${image.height}`;
  const picture = add(frame, "img", { src: image.source });
  const svg = draw(frame, "svg", { viewBox: `0 0 ${image.width} ${image.height}`, "aria-hidden": true });
  const caption = add(figure, "figcaption", {}), f1 = image.f1.map((score) => score.toFixed(2)).join(" → ");
  add(caption, "div", {}, `${image.file}: F1 ${f1}`);
  sizes.observe(svg);
  return { image, figure, picture, svg, counts: add(caption, "div", { className: "counts" }) };
});

function update() {
  document.getElementById("images").style.setProperty("--width", `${value("width")}rem`);
  const choice = choose(), matching = cards.map((card) => show(card, choice)).filter(Boolean);
  const boxes = matching.reduce((sum, count) => sum + count, 0);
  document.getElementById("count").textContent = `${matching.length} of ${cards.length} images, matching boxes: ${boxes}`;
}
document.addEventListener("input", update);
controls.addEventListener("reset", () => setTimeout(update));  // after the values are reset
update();
