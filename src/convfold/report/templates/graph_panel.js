// What is chosen, told at the side: all text is set as text, never as markup.
const byId = Object.fromEntries(sides.map((side) => [side, new Map(data.graphs[side].nodes.map((n) => [String(n.id), n]))]));
const regionOf = new Map((data.regions || []).map((region) => [String(region.id), region]));
const rowOf = new Map((data.operators || []).map((row) => [String(row.id), row]));
const drawnAt = Object.fromEntries(sides.map((side) => [side, new Map(all(".node", panes[side].svg).map((n) => [n.dataset.id, n]))]));
const above = { before: new Map(), after: new Map() }, below = { before: new Map(), after: new Map() };
for (const side of sides) {
  for (const [from, to] of data.graphs[side].edges) {
    for (const [map, key, value] of [[below, from, to], [above, to, from]]) {
      if (!map[side].has(String(key))) map[side].set(String(key), []);
      map[side].get(String(key)).push(String(value));
    }
  }
}
const regionColour = new Map((data.regions || []).map((region, k) => [String(region.id), `c${k % one("main").dataset.colours}`]));

function make(name, text, ...inner) {
  const made = document.createElement(name);
  if (text !== null && text !== undefined && text !== "") made.textContent = text;
  made.append(...inner.filter(Boolean));
  return made;
}

function quantity(number) {
  if (typeof number !== "number") return number === null || number === undefined ? "" : String(number);
  for (const [unit, size, from] of [["T", 1e12, 1e12], ["G", 1e9, 1e9], ["M", 1e6, 1e6], ["k", 1e3, 1e4]]) {
    if (Math.abs(number) < from) continue;
    const scaled = number / size;
    return `${scaled.toFixed(Math.abs(scaled) < 10 ? 3 : Math.abs(scaled) < 100 ? 2 : 1)} ${unit}`;
  }
  return Number.isInteger(number) ? number.toLocaleString("en-GB") : String(Number(number.toPrecision(4)));
}

const given = (value) => value !== null && value !== undefined && value !== "";
const shape = (dims) => Array.isArray(dims) ? (Array.isArray(dims[0]) ? dims.map(shape).join(", ") : dims.join(" × ")) : dims;
const titled = (node) => node.text || node.operator || "operator";

function facts(pairs) {
  const list = make("dl");
  for (const [name, value] of pairs) if (given(value)) list.append(make("dt", name), make("dd", value));
  return list;
}

function goTo(side, id) {
  const drawn = drawnAt[side].get(String(id));
  if (drawn) { choose(drawn); reveal(side, [drawn]); }
}

function links(side, ids, limit = 40) {
  const list = make("ul");
  list.className = "links";
  for (const id of ids.slice(0, limit)) {
    const node = byId[side].get(String(id));
    if (!node) continue;
    const button = make("button", titled(node));
    button.type = "button";
    button.className = "link";
    button.title = node.module || "";
    button.addEventListener("click", () => goTo(side, id));
    list.append(make("li", "", button));
  }
  if (ids.length > limit) list.append(make("li", `and ${ids.length - limit} more`));
  return list;
}

function section(title, ...content) {
  return [make("h4", title), ...content];
}

function chip(region) {
  const made = make("span", region.id);
  made.className = `chip ${regionColour.get(String(region.id))}`;
  return made;
}

function costs(region) {
  const rows = [["MACs", "macs"], ["Convolutions", "convolutions"], ["Operators", "operators"], ["Parameters", "params"]];
  const body = make("tbody");
  for (const [label, key] of rows) {
    const was = (region.before || {})[key], now = (region.after || {})[key];
    if (!given(was) && !given(now)) continue;
    const name = make("th", label);
    name.scope = "row";
    body.append(make("tr", "", name, make("td", quantity(was)), make("td", "→"), make("td", quantity(now))));
  }
  return make("table", "", body);
}

function tellRegion(region) {
  const told = [make("h3", "", chip(region), ` ${region.outcome || "region"}`)];
  if (given(region.result)) told.push(...section("Now", make("p", region.result)));
  told.push(...section("Cost, before → after", costs(region)));
  if ((region.laws || []).length) told.push(...section(region.laws.length > 1 ? "Laws" : "Law", make("ul", "", ...region.laws.map((law) => make("li", law)))));
  if (given(region.reason)) told.push(...section("Why", make("p", region.reason)));
  if (given(region.error)) {
    const exact = (value) => typeof value === "number" ? value.toExponential(1) : value;
    told.push(...section("Checked in float64", make("p", `relative error ${exact(region.error)}${given(region.bound) ? `, bound ${exact(region.bound)}` : ""}`)));
  }
  if ((region.modules || []).length) told.push(...section("Modules", make("ul", "", ...region.modules.map((name) => make("li", name)))));
  for (const side of sides) {
    const ids = data.graphs[side].nodes.filter((node) => given(node.region) && String(node.region) === String(region.id)).map((node) => node.id);
    if (ids.length) told.push(...section(`Operators ${side} (${ids.length})`, links(side, ids)));
  }
  return told;
}

function tellNode(side, node) {
  const id = String(node.id), row = side === "before" ? rowOf.get(id) : undefined;
  const told = [make("h3", titled(node)), facts([
    ["Module", node.module], ["Operator", node.operator], ["Class", node.kind], ["Source", node.line],
    ["Output", shape(node.shape)], ["MACs", node.macs ? quantity(node.macs) : ""], ["Graph", side],
  ])];
  if (row) {
    told.push(...section("Outcome", make("p", row.outcome)));
    if (given(row.reason)) told.push(...section("Why", make("p", row.reason)));
    if (given(row.hint)) told.push(...section("What helps", make("p", row.hint)));
  }
  const from = above[side].get(id) || [], to = below[side].get(id) || [];
  if (from.length) told.push(...section("Reads", links(side, from)));
  if (to.length) told.push(...section("Read by", links(side, to)));
  const region = given(node.region) ? regionOf.get(String(node.region)) : undefined;
  if (region) told.push(make("hr"), ...tellRegion(region));
  return told;
}

function release() {
  for (const node of all(".chosen, .near")) node.classList.remove("chosen", "near");
}

function tell(content) {
  one("#told").replaceChildren(...content);
  one("#panel").scrollTop = 0;
}

// One node is in the tab order: the one last used.
let standing = null;
function stand(node) {
  if (standing) standing.tabIndex = -1;
  standing = node;
  node.tabIndex = 0;
}

function choose(drawn) {
  const { side } = drawn.ownerSVGElement.dataset, { id } = drawn.dataset;
  release();
  stand(drawn);
  drawn.classList.add("chosen");
  const name = CSS.escape(id);
  for (const edge of all(`.edge[data-from="${name}"], .edge[data-to="${name}"]`, panes[side].svg)) {
    edge.classList.add("near");
    // Drawn last is drawn on top of the other lines.
    edge.parentNode.insertBefore(edge, one(".node", edge.parentNode));
  }
  tell(tellNode(side, byId[side].get(id)));
}

const members = (id, side) => all(`.node[data-region="${CSS.escape(id)}"]`, panes[side].svg);

function chooseRegion(id, scroll = true) {
  const region = regionOf.get(String(id));
  if (!region) return;
  release();
  for (const side of sides) for (const node of members(id, side)) node.classList.add("chosen");
  tell(tellRegion(region));
  if (!scroll) return;
  const side = members(id, "before").length && panes.before.canvas.clientWidth ? "before" : "after";
  reveal(side, members(id, side).length ? members(id, side) : members(id, "before"));
}

function heat(id) {
  for (const node of all(".hot")) node.classList.remove("hot");
  if (id !== undefined) for (const node of all(`svg.graph [data-region="${CSS.escape(id)}"]`)) node.classList.add("hot");
}

for (const side of sides) {
  const { canvas, svg } = panes[side];
  const first = one(".node", svg);
  if (first) first.tabIndex = 0;
  if (first && !standing) standing = first;
  svg.addEventListener("click", (event) => {
    const node = event.target.closest(".node"), hull = event.target.closest(".hull");
    if (node) choose(node); else if (hull) chooseRegion(hull.dataset.region, false);
  });
  svg.addEventListener("pointerover", (event) => {
    const under = event.target.closest("[data-region]");
    heat(under ? under.dataset.region : undefined);
  });
  canvas.addEventListener("pointerleave", () => heat(undefined));
  svg.addEventListener("keydown", (event) => {
    const node = event.target.closest(".node");
    if (!node) return;
    if (event.key === "Enter" || event.key === " ") {
      event.preventDefault();
      choose(node);
      return;
    }
    const { id } = node.dataset, at = node.transform.baseVal[0].matrix;
    let next;
    if (event.key === "ArrowDown") next = (below[side].get(id) || [])[0];
    if (event.key === "ArrowUp") next = (above[side].get(id) || [])[0];
    if (event.key === "ArrowLeft" || event.key === "ArrowRight") {
      const sign = event.key === "ArrowLeft" ? -1 : 1;
      const beside = [...drawnAt[side].values()].map((other) => [other, other.transform.baseVal[0].matrix])
        .filter(([, place]) => place.f === at.f && (place.e - at.e) * sign > 0)
        .sort(([, a], [, b]) => (a.e - b.e) * sign);
      if (beside.length) next = beside[0][0].dataset.id;
    }
    if (!event.key.startsWith("Arrow")) return;
    event.preventDefault();
    const target = next === undefined ? undefined : drawnAt[side].get(next);
    if (!target) return;
    stand(target);
    target.focus({ preventScroll: true });
    reveal(side, [target]);
  });
}

// Each press of an outcome in the legend goes to its next region.
const turn = new Map();
for (const button of all("[data-outcome]")) {
  button.addEventListener("click", () => {
    const such = (data.regions || []).filter((region) => String(region.outcome || "") === button.dataset.outcome);
    const k = (turn.has(button) ? turn.get(button) + 1 : 0) % such.length;
    turn.set(button, k);
    chooseRegion(such[k].id);
  });
}
addEventListener("keydown", (event) => {
  if (event.key === "Escape" && document.activeElement !== one("#query")) { release(); heat(undefined); }
});
