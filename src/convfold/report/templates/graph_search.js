// Search by name, and the outline of modules.
const query = one("#query"), found = one("#found");
let hits = [], current = -1;

function search() {
  const wanted = query.value.trim().toLowerCase();
  hits = [];
  current = -1;
  for (const side of sides) {
    const drawnHere = [];
    for (const [id, drawn] of drawnAt[side]) {
      const node = byId[side].get(id);
      const hit = wanted !== "" && [node.module, node.text, node.operator].some((text) => given(text) && String(text).toLowerCase().includes(wanted));
      drawn.classList.toggle("hit", hit);
      drawn.classList.remove("current");
      if (hit) drawnHere.push(drawn);
    }
    for (const dot of all(".map rect[data-id]", one(`.pane[data-side="${side}"]`))) {
      dot.classList.toggle("hit", drawnAt[side].get(dot.dataset.id).classList.contains("hit"));
    }
    const top = (drawn) => drawn.transform.baseVal[0].matrix;
    drawnHere.sort((a, b) => top(a).f - top(b).f || top(a).e - top(b).e);
    hits.push(...drawnHere.map((drawn) => ({ side, drawn })));
    panes[side].svg.classList.toggle("searching", wanted !== "");
  }
  for (const id of ["previous", "next"]) one(`#${id}`).disabled = hits.length === 0;
  const before = hits.filter((hit) => hit.side === "before").length;
  found.textContent = wanted === "" ? "" : hits.length === 0 ? "no match" : `${hits.length} found`;
  found.title = hits.length ? `${before} before, ${hits.length - before} after` : "";
  tree(wanted);
}

function step(by) {
  if (!hits.length) return;
  if (current >= 0) hits[current].drawn.classList.remove("current");
  current = current < 0 && by < 0 ? hits.length - 1 : (current + by + hits.length) % hits.length;
  const { side, drawn } = hits[current];
  drawn.classList.add("current");
  choose(drawn);
  reveal(side, [drawn]);
  found.textContent = `${current + 1} of ${hits.length}`;
}

query.addEventListener("input", search);
query.addEventListener("keydown", (event) => {
  if (event.key === "Enter" && event.shiftKey) { event.preventDefault(); step(-1); }
  if (event.key === "Escape") { query.value = ""; search(); query.blur(); }
});
one(".search").addEventListener("submit", (event) => { event.preventDefault(); step(1); });
one("#previous").addEventListener("click", () => step(-1));
addEventListener("keydown", (event) => {
  if (event.key !== "/" || event.target.closest("input, textarea")) return;
  event.preventDefault();
  query.focus();
  query.select();
});

// name -> how many operators each graph has there, and the modules inside; a lone child stands in its parent's line.
const root = { name: "", path: "", count: { before: 0, after: 0 }, inner: new Map() };
for (const side of sides) {
  for (const node of data.graphs[side].nodes) {
    let place = root;
    place.count[side] += 1;
    for (const part of String(node.module || "").split(".").filter(Boolean)) {
      if (!place.inner.has(part)) {
        place.inner.set(part, { name: part, path: place.path ? `${place.path}.${part}` : part, count: { before: 0, after: 0 }, inner: new Map() });
      }
      place = place.inner.get(part);
      place.count[side] += 1;
    }
  }
}

const under = (module, path) => String(module || "") === path || String(module || "").startsWith(`${path}.`);

function goToModule(path) {
  release();
  const drawn = Object.fromEntries(sides.map((side) => [side, [...drawnAt[side]].filter(([id]) => under(byId[side].get(id).module, path)).map(([, node]) => node)]));
  for (const side of sides) for (const node of drawn[side]) node.classList.add("chosen");
  const side = drawn.before.length && panes.before.canvas.clientWidth ? "before" : drawn.after.length ? "after" : "before";
  reveal(side, drawn[side]);
  const inside = data.graphs.before.nodes.filter((node) => under(node.module, path));
  const touched = [...new Set(inside.filter((node) => given(node.region)).map((node) => String(node.region)))];
  const told = [make("h3", path), facts([["Operators", `${drawn.before.length} → ${drawn.after.length}`],
    ["MACs", `${quantity(inside.reduce((sum, node) => sum + (node.macs || 0), 0))} before`]])];
  if (touched.length) {
    const list = make("ul");
    list.className = "links";
    for (const id of touched.slice(0, 40)) {
      const region = regionOf.get(id);
      if (!region) continue;
      const button = make("button", "", chip(region), ` ${region.outcome}`);
      button.type = "button";
      button.className = "link";
      button.addEventListener("click", () => chooseRegion(id));
      list.append(make("li", "", button));
    }
    told.push(...section(`Regions (${touched.length})`, list));
  }
  tell(told);
}

function branch(place, wanted) {
  let end = place, name = place.name;
  while (end.inner.size === 1) {
    const [only] = end.inner.values();
    if (only.count.before !== end.count.before || only.count.after !== end.count.after) break;
    end = only;
    name += `.${end.name}`;
  }
  const inner = [...end.inner.values()].filter((child) => matches(child, wanted));
  const go = make("button", name), count = make("span", `${place.count.before} → ${place.count.after}`);
  go.type = "button";
  go.className = "go";
  go.title = end.path;
  count.className = "count";
  count.title = "operators before → after";
  go.addEventListener("click", () => goToModule(end.path));
  const toggle = make("button", inner.length ? "▸" : "");
  toggle.type = "button";
  toggle.className = "toggle";
  toggle.disabled = !inner.length;
  toggle.setAttribute("aria-label", inner.length ? `Modules inside ${end.path}` : "nothing inside");
  const line = make("div", "", toggle, go, count);
  line.className = "branch";
  const item = make("li", "", line);
  let list = null;
  // A branch is made when it is opened: a large model has thousands.
  const open = (wide) => {
    if (!list) {
      list = make("ul", "", ...inner.map((child) => branch(child, wanted)));
      item.append(list);
    }
    list.hidden = !wide;
    toggle.textContent = wide ? "▾" : "▸";
    toggle.setAttribute("aria-expanded", wide);
  };
  if (inner.length) {
    toggle.setAttribute("aria-expanded", false);
    toggle.addEventListener("click", () => open(!list || list.hidden));
    if (wanted !== "" && !end.path.toLowerCase().includes(wanted)) open(true);
  }
  return item;
}

const matches = (place, wanted) => wanted === "" || place.path.toLowerCase().includes(wanted)
  || [...place.inner.values()].some((child) => matches(child, wanted));

function tree(wanted) {
  const shown = [...root.inner.values()].filter((child) => matches(child, wanted));
  one("#tree").replaceChildren(...shown.map((child) => branch(child, wanted)));
}
tree("");
