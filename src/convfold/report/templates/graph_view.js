// Zoom, pan, the two panes' common height, and the map. Scrolling is the browser's own.
const data = JSON.parse(document.getElementById("data").textContent);
const all = (selector, from = document) => [...from.querySelectorAll(selector)];
const one = (selector, from = document) => from.querySelector(selector);
const sides = ["before", "after"];
const LEAST = 0.05, MOST = 3, READABLE = 0.75;
const panes = Object.fromEntries(sides.map((side) => {
  const canvas = one(`.canvas[data-side="${side}"]`), svg = one("svg.graph", canvas);
  const map = one(`.pane[data-side="${side}"] .map`);
  return [side, { side, canvas, svg, map, sight: one(".sight", map),
    width: Number(svg.dataset.width), height: Number(svg.dataset.height) }];
}));
let scale = 1;

const visible = () => sides.map((side) => panes[side]).filter((pane) => pane.canvas.clientWidth > 0);

function showSight(pane) {
  const tall = pane.map.viewBox.baseVal.height;
  pane.map.style.visibility = pane.canvas.scrollHeight > pane.canvas.clientHeight ? "visible" : "hidden";
  pane.sight.setAttribute("y", Math.min(pane.canvas.scrollTop / scale, tall));
  pane.sight.setAttribute("height", Math.min(pane.canvas.clientHeight / scale, tall));
}

// `anchor` is a point of a canvas, in its window, that stays where it is.
function zoom(wanted, anchor) {
  const next = Math.min(MOST, Math.max(LEAST, wanted));
  const shown = visible();
  if (!shown.length) return;
  const centres = shown.map((pane) => {
    const x = anchor && anchor.canvas === pane.canvas ? anchor.x : pane.canvas.clientWidth / 2;
    const y = anchor ? anchor.y : pane.canvas.clientHeight / 2;
    return { pane, x, y, atX: (pane.canvas.scrollLeft + x) / scale, atY: (pane.canvas.scrollTop + y) / scale };
  });
  scale = next;
  // One height for both, so that both scroll as far.
  const tall = Math.max(...sides.map((side) => panes[side].height));
  for (const pane of sides.map((side) => panes[side])) {
    pane.svg.style.width = `${pane.width * scale}px`;
    pane.svg.style.height = `${pane.height * scale}px`;
    pane.svg.style.marginBottom = `${(tall - pane.height) * scale}px`;
    pane.svg.classList.toggle("far", scale < 0.42);
    pane.svg.classList.toggle("further", scale < 0.26);
  }
  for (const { pane, x, y, atX, atY } of centres) {
    pane.canvas.scrollLeft = atX * scale - x;
    pane.canvas.scrollTop = atY * scale - y;
    showSight(pane);
  }
  one("#scale").textContent = `${Math.round(scale * 100)} %`;
}

const fitting = () => Math.min(1, ...visible().map((pane) => (pane.canvas.clientWidth - 2) / pane.width));
const fit = () => zoom(fitting());

// Brings a node (or several) to the middle; the other pane follows.
function reveal(side, nodes) {
  if (!nodes.length) return;
  if (panes[side].canvas.clientWidth === 0) show(side);
  if (scale < READABLE) zoom(Math.max(READABLE, fitting()));
  const { canvas } = panes[side], window = canvas.getBoundingClientRect();
  const boxes = nodes.map((node) => node.getBoundingClientRect());
  const left = Math.min(...boxes.map((box) => box.left)), right = Math.max(...boxes.map((box) => box.right));
  const top = Math.min(...boxes.map((box) => box.top)), bottom = Math.max(...boxes.map((box) => box.bottom));
  const middle = bottom - top < canvas.clientHeight * 0.9 ? (top + bottom) / 2 : top + canvas.clientHeight * 0.4;
  canvas.scrollTop += middle - window.top - canvas.clientHeight / 2;
  if (left < window.left || right > window.left + canvas.clientWidth) {
    canvas.scrollLeft += (left + right) / 2 - window.left - canvas.clientWidth / 2;
  }
}

function show(which) {
  one(".panes").dataset.shown = which;
  for (const button of all("[data-show]")) button.setAttribute("aria-pressed", button.dataset.show === which);
  fitReadable();
}

// Fit to width, but not so small that nothing can be read; then start from the graph's own top, not from an empty edge.
function fitReadable() {
  zoom(Math.max(READABLE, fitting()));
  for (const pane of visible()) {
    const first = one(".node", pane.svg);
    if (!first || pane.canvas.scrollWidth <= pane.canvas.clientWidth) continue;
    const box = first.getBoundingClientRect(), window = pane.canvas.getBoundingClientRect();
    pane.canvas.scrollLeft += (box.left + box.right) / 2 - window.left - pane.canvas.clientWidth / 2;
  }
}

for (const pane of Object.values(panes)) {
  const { canvas, map } = pane, other = panes[pane.side === "before" ? "after" : "before"].canvas;
  canvas.addEventListener("scroll", () => {
    if (other.clientWidth > 0 && Math.abs(other.scrollTop - canvas.scrollTop) > 1) other.scrollTop = canvas.scrollTop;
    showSight(pane);
  }, { passive: true });
  canvas.addEventListener("wheel", (event) => {
    if (!event.ctrlKey && !event.metaKey) return;
    event.preventDefault();
    const window = canvas.getBoundingClientRect();
    const anchor = { canvas, x: event.clientX - window.left, y: event.clientY - window.top };
    zoom(scale * Math.exp(-Math.max(-60, Math.min(60, event.deltaY)) / 240), anchor);
  }, { passive: false });
  let grip = null;
  canvas.addEventListener("pointerdown", (event) => {
    if (event.button !== 0 || event.pointerType !== "mouse") return;
    grip = { x: event.clientX, y: event.clientY, left: canvas.scrollLeft, top: canvas.scrollTop, moved: false };
  });
  canvas.addEventListener("pointermove", (event) => {
    if (!grip || !(event.buttons & 1)) { grip = null; return; }
    if (!grip.moved && Math.hypot(event.clientX - grip.x, event.clientY - grip.y) < 5) return;
    if (!grip.moved) { canvas.setPointerCapture(event.pointerId); canvas.classList.add("dragged"); }
    grip.moved = true;
    canvas.scrollLeft = grip.left - (event.clientX - grip.x);
    canvas.scrollTop = grip.top - (event.clientY - grip.y);
  });
  // The click that ends a drag is not a choice.
  const swallow = (event) => event.stopPropagation();
  const drop = () => {
    if (grip && grip.moved) {
      canvas.addEventListener("click", swallow, { capture: true });
      setTimeout(() => {
        canvas.removeEventListener("click", swallow, { capture: true });
        canvas.classList.remove("dragged");
      });
    }
    grip = null;
  };
  canvas.addEventListener("pointerup", drop);
  canvas.addEventListener("pointercancel", drop);
  const toMap = (event) => {
    const box = map.getBoundingClientRect(), tall = map.viewBox.baseVal.height;
    canvas.scrollTop = (event.clientY - box.top) / box.height * tall * scale - canvas.clientHeight / 2;
  };
  map.addEventListener("pointerdown", (event) => { map.setPointerCapture(event.pointerId); toMap(event); });
  map.addEventListener("pointermove", (event) => { if (event.buttons & 1) toMap(event); });
}

const steps = { in: () => zoom(scale * 1.25), out: () => zoom(scale / 1.25), fit };
for (const button of all("[data-zoom]")) button.addEventListener("click", () => steps[button.dataset.zoom]());
for (const button of all("[data-show]")) button.addEventListener("click", () => show(button.dataset.show));
one(".work").addEventListener("keydown", (event) => {
  const step = { "+": "in", "=": "in", "-": "out", "0": "fit" }[event.key];
  if (!step || event.ctrlKey || event.metaKey || event.altKey) return;
  event.preventDefault();
  steps[step]();
});
let resized = 0;
addEventListener("resize", () => {
  cancelAnimationFrame(resized);
  resized = requestAnimationFrame(() => { zoom(scale); });
});
// On a phone, one graph at a time and the outline closed.
if (innerWidth < 860) one(".outline").open = false;
if (innerWidth < 560) show("before"); else fitReadable();
