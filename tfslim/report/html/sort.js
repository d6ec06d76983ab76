// Sorts a table by the column whose title was pressed; empty values stay last.
for (const table of document.querySelectorAll("table.sortable")) {
  const heads = [...table.tHead.rows[0].cells];
  heads.forEach((head, column) => {
    head.querySelector("button").addEventListener("click", () => {
      const up = head.getAttribute("aria-sort") !== "ascending";
      for (const other of heads) other.setAttribute("aria-sort", "none");
      head.setAttribute("aria-sort", up ? "ascending" : "descending");
      const value = (row) => row.cells[column].dataset.value ?? "";
      const isNumber = head.dataset.kind === "number";
      const rows = [...table.tBodies[0].rows].sort((one, two) => {
        const [a, b] = [value(one), value(two)];
        if (a === "" || b === "") return (a === "") - (b === "");
        const order = isNumber ? Number(a) - Number(b) : a.localeCompare(b);
        return up ? order : -order;
      });
      table.tBodies[0].append(...rows);
      table.closest(".scroll").parentElement.querySelector("[role=status]").textContent =
        `Sorted by ${head.dataset.title}, ${up ? "ascending" : "descending"}.`;
    });
  });
}
