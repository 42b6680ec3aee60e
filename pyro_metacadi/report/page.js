"use strict";
// Every table can be searched and sorted. Without this script all rows are there, in their order.

function valueOf(row, column) {
  const cell = row.cells[column];
  const number = cell.dataset.value;
  return number === undefined ? cell.textContent.trim() : Number(number);
}

// Blank cells come last, whichever way a column is sorted.
function compare(a, b) {
  if (typeof a === "number" && typeof b === "number") return a - b;
  return String(a).localeCompare(String(b), undefined, { numeric: true });
}

function sort(table, header) {
  const column = header.cellIndex;
  const wordy = header.classList.contains("words");
  const first = wordy ? "ascending" : "descending";
  const second = wordy ? "descending" : "ascending";
  const order = header.getAttribute("aria-sort") === first ? second : first;
  for (const other of header.parentNode.cells) other.setAttribute("aria-sort", "none");
  header.setAttribute("aria-sort", order);
  const sign = order === "ascending" ? 1 : -1;
  const keyed = Array.from(table.tBodies[0].rows, (row) => [valueOf(row, column), row]);
  keyed.sort(([a], [b]) => (a === "") - (b === "") || sign * compare(a, b));
  table.tBodies[0].append(...keyed.map(([, row]) => row));
}

// Names are looked for, not numbers.
function search(table, words, output) {
  const wanted = words.toLowerCase().split(/\s+/).filter(Boolean);
  const rows = Array.from(table.tBodies[0].rows);
  let shown = 0;
  for (const row of rows) {
    const cells = Array.from(row.cells).filter((cell) => cell.dataset.value === undefined);
    const text = cells.map((cell) => cell.textContent).join(" ").toLowerCase();
    row.hidden = !wanted.every((word) => text.includes(word));
    shown += row.hidden ? 0 : 1;
  }
  output.textContent = wanted.length ? `${shown} of ${rows.length} rows` : `${rows.length} rows`;
}

for (const block of document.querySelectorAll(".searchable")) {
  const table = block.querySelector("table");
  const tools = block.querySelector(".tools");
  const input = tools.querySelector("input");
  const output = tools.querySelector("output");
  for (const header of table.tHead.rows[0].cells) {
    const button = document.createElement("button");
    button.type = "button";
    button.textContent = header.textContent;
    header.replaceChildren(button);
    button.addEventListener("click", () => sort(table, header));
  }
  input.addEventListener("input", () => search(table, input.value, output));
  search(table, "", output);
  tools.hidden = false;
}
