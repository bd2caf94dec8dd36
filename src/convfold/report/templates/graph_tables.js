// Tables: sorted by a click on a title, kept by outcome and by text; a name leads into the graph.
const collator = new Intl.Collator("en", { numeric: true });
for (const table of all("table.sortable")) {
  const [body] = table.tBodies, heads = all("thead th", table);
  heads.forEach((head, column) => {
    one(".sort", head).addEventListener("click", () => {
      const sign = head.getAttribute("aria-sort") === "ascending" ? -1 : 1;
      for (const other of heads) other.removeAttribute("aria-sort");
      head.setAttribute("aria-sort", sign > 0 ? "ascending" : "descending");
      const keyed = [...body.rows].map((row) => {
        const { value } = row.cells[column].dataset;
        return [row, value === undefined ? row.cells[column].textContent : value === "" ? NaN : Number(value)];
      });
      // What has no figure comes last either way.
      keyed.sort(([, a], [, b]) => typeof a === "string" ? sign * collator.compare(a, b)
        : (Number.isNaN(a) - Number.isNaN(b)) || sign * (a - b) || 0);
      body.append(...keyed.map(([row]) => row));
    });
  });
}

const sift = one("#sift");
let keep = "all";
function keepRows() {
  const wanted = sift.value.trim().toLowerCase();
  const rows = [...one("#table").tBodies[0].rows];
  for (const row of rows) {
    row.hidden = (keep !== "all" && row.dataset.kind !== keep) || !row.textContent.toLowerCase().includes(wanted);
  }
  one("#kept").textContent = keep === "all" && wanted === "" ? "" : `${rows.filter((row) => !row.hidden).length} shown`;
}
if (sift) {
  sift.addEventListener("input", keepRows);
  for (const button of all("[data-keep]")) {
    button.addEventListener("click", () => {
      keep = button.dataset.keep;
      for (const other of all("[data-keep]")) other.setAttribute("aria-pressed", other === button);
      keepRows();
    });
  }
}

for (const button of all(".jump")) {
  button.addEventListener("click", () => {
    const { id, region, module } = button.dataset;
    one("#graph").scrollIntoView({ block: "start" });
    if (id !== undefined) goTo("before", id);
    if (region !== undefined) chooseRegion(region);
    if (module) goToModule(module);
  });
}
