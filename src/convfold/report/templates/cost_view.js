// Tables: sorted by a click on a title, filtered by text and by status.
const all = (selector, from = document) => [...from.querySelectorAll(selector)];
const one = (selector, from = document) => from.querySelector(selector);
const collator = new Intl.Collator("en", { numeric: true });
for (const table of all("table.sortable")) {
  const [body] = table.tBodies, heads = all("thead th", table);
  heads.forEach((head, column) => {
    one(".sort", head).addEventListener("click", () => {
      // A figure's largest is what one looks for first.
      const first = head.classList.contains("figure") ? "descending" : "ascending";
      const other = first === "ascending" ? "descending" : "ascending";
      const order = head.getAttribute("aria-sort") === first ? other : first, sign = order === "ascending" ? 1 : -1;
      for (const each of heads) each.removeAttribute("aria-sort");
      head.setAttribute("aria-sort", order);
      const keyed = [...body.rows].map((row) => {
        const { value } = row.cells[column].dataset;
        return [row, value === undefined ? row.cells[column].textContent : value === "" ? NaN : Number(value)];
      });
      const figures = keyed.some(([, key]) => typeof key === "number");
      // What has no figure comes last either way.
      const key = (found) => figures && typeof found === "string" ? NaN : found;
      keyed.sort(([, a], [, b]) => !figures ? sign * collator.compare(a, b)
        : (Number.isNaN(key(a)) - Number.isNaN(key(b))) || sign * (key(a) - key(b)) || 0);
      body.append(...keyed.map(([row]) => row));
    });
  });
}

function sift(input) {
  const table = one(`#${input.dataset.table}`), wanted = input.value.trim().toLowerCase();
  const { keep = "all" } = table.dataset, rows = [...table.tBodies[0].rows];
  for (const row of rows) {
    const kept = keep === "all" || row.dataset.kind === keep || (keep === "different" && row.dataset.kind !== "same");
    // Modules and types are looked at, figures are not.
    const text = [...row.cells].filter((cell) => cell.classList.contains("name")).map((cell) => cell.textContent).join(" ");
    row.hidden = !kept || !text.toLowerCase().includes(wanted);
  }
  const shown = rows.filter((row) => !row.hidden).length;
  one(".kept", input.parentElement).textContent = shown === rows.length ? "" : `${shown} of ${rows.length} shown`;
}
for (const input of all(".sift")) input.addEventListener("input", () => sift(input));
for (const button of all("[data-keep]")) {
  button.addEventListener("click", () => {
    for (const other of all("[data-keep]")) other.setAttribute("aria-pressed", other === button);
    one("#pairs").dataset.keep = button.dataset.keep;
    sift(one("#sift-diff"));
  });
}
if (one("[data-keep]")) one("[data-keep]").click();

// The tree: what is below a module is hidden with it; bars show the share of one figure.
const nodes = all(".modules tbody tr").map((row) => ({
  row, depth: Number(row.dataset.depth), values: row.dataset.values.split(" ").map(Number), toggle: one("button.toggle", row),
}));
const isOpen = (node) => node.toggle && node.toggle.getAttribute("aria-expanded") === "true";
function showTree() {
  let closed = Infinity;
  for (const node of nodes) {
    if (node.depth <= closed) closed = Infinity;
    node.row.hidden = closed < Infinity;
    if (closed === Infinity && node.toggle && !isOpen(node)) closed = node.depth;
  }
}
function open(wanted) {
  for (const node of nodes) if (node.toggle) node.toggle.setAttribute("aria-expanded", wanted(node));
  showTree();
}
for (const node of nodes) {
  if (node.toggle) node.toggle.addEventListener("click", () => {
    node.toggle.setAttribute("aria-expanded", !isOpen(node));
    showTree();
  });
}
one("#unfold").addEventListener("click", () => open(() => true));
one("#fold").addEventListener("click", () => open((node) => node.depth < 1));
// A large model opens to its stages.
open((node) => nodes.length <= 40 || node.depth < 1);

const buttons = all("[data-bar]");
function showBars(which) {
  const most = nodes.length ? nodes[0].values[which] : 0;
  for (const { row, values } of nodes) {
    const share = most ? values[which] / most : 0;
    one(".bar i", row).style.width = `${100 * share}%`;
    one(".percent", row).textContent = share ? (share < 0.0005 ? "<0.1 %" : `${(100 * share).toFixed(1)} %`) : "";
  }
  one("#shown").textContent = buttons[which].textContent;
  buttons.forEach((button, at) => button.setAttribute("aria-pressed", at === which));
}
buttons.forEach((button, which) => button.addEventListener("click", () => showBars(which)));
showBars(0);
