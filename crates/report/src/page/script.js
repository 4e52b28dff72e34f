"use strict";
// Sorts by a column: numbers by value, text alphabetically; empty cells come last.
function sortable(table) {
  const body = table.tBodies[0];
  const original = [...body.rows];
  const headings = [...table.tHead.rows[0].cells];
  headings.forEach((heading, column) => {
    const button = document.createElement("button");
    button.type = "button";
    button.append(...heading.childNodes);
    heading.append(button);
    const numeric = heading.classList.contains("n");
    const key = (row) => {
      const cell = row.cells[column];
      if (!numeric) return cell.textContent;
      const value = Number.parseFloat(cell.dataset.value ?? cell.textContent);
      return Number.isNaN(value) ? null : value;
    };
    button.addEventListener("click", () => {
      const before = heading.getAttribute("aria-sort");
      // Numbers sort in descending order first; a third click restores the order of the report.
      const steps = numeric ? ["descending", "ascending"] : ["ascending", "descending"];
      const next = before === null ? steps[0] : before === steps[0] ? steps[1] : null;
      headings.forEach((other) => other.removeAttribute("aria-sort"));
      const rows = [...original];
      if (next) {
        heading.setAttribute("aria-sort", next);
        const sign = next === "ascending" ? 1 : -1;
        rows.sort((left, right) => {
          const [a, b] = [key(left), key(right)];
          if (a === null || b === null) return (a === null) - (b === null);
          return sign * (numeric ? a - b : a.localeCompare(b, "en", { numeric: true }));
        });
      }
      body.append(...rows);
    });
  });
}

// Adds a search field that keeps the rows containing all of its words, and lists for text columns with few values.
function filterable(table, controls) {
  const rows = [...table.tBodies[0].rows];
  const name = table.caption ? table.caption.textContent : "table";
  const field = document.createElement("input");
  field.type = "search";
  field.placeholder = "Filter rows";
  field.setAttribute("aria-label", "Filter rows of " + name);
  const count = document.createElement("span");
  count.className = "count";
  count.setAttribute("aria-live", "polite");
  const choices = [];
  const apply = () => {
    const words = field.value.toLowerCase().split(/\s+/).filter(Boolean);
    let shown = 0;
    rows.forEach((row) => {
      const text = row.textContent.toLowerCase();
      const kept = words.every((word) => text.includes(word))
        && choices.every(([list, column]) => !list.value || row.cells[column].textContent === list.value);
      row.hidden = !kept;
      shown += kept;
    });
    count.textContent = shown === rows.length ? rows.length + " rows" : shown + " of " + rows.length + " rows";
  };
  controls.append(field);
  if ("choices" in controls.dataset) {
    [...table.tHead.rows[0].cells].forEach((heading, column) => {
      if (heading.classList.contains("n")) return;
      const values = [...new Set(rows.map((row) => row.cells[column].textContent))];
      if (values.length < 2 || values.length > 40) return;
      const list = document.createElement("select");
      list.setAttribute("aria-label", heading.textContent);
      list.append(new Option("any " + heading.textContent, ""), ...values.map((value) => new Option(value, value)));
      list.addEventListener("change", apply);
      choices.push([list, column]);
      controls.append(list);
    });
  }
  field.addEventListener("input", apply);
  controls.append(count);
  apply();
}

document.querySelectorAll(".table").forEach((part) => {
  const table = part.querySelector("table");
  if (!table) return;
  const controls = part.querySelector(".controls");
  if ("filter" in controls.dataset) filterable(table, controls);
  sortable(table);
});

// Shows one model at a time.
document.querySelectorAll(".detail").forEach((detail) => {
  const panels = [...detail.querySelectorAll(".panel")];
  const list = detail.querySelector("select");
  const choose = () => panels.forEach((panel) => { panel.hidden = panel.dataset.row !== list.value; });
  // The list names the chosen model; on paper the list is hidden and the heading names it.
  detail.classList.add("chosen");
  detail.querySelector(".chooser").hidden = false;
  list.addEventListener("change", choose);
  choose();
});

// Light, dark, or the system's theme.
const theme = document.querySelector(".theme");
const themes = ["system", "light", "dark"];
function setTheme(name) {
  if (name === "system") delete document.documentElement.dataset.theme;
  else document.documentElement.dataset.theme = name;
  theme.textContent = "Theme: " + name;
  theme.dataset.now = name;
}
let stored = null;
try { stored = localStorage.getItem("etcbench-theme"); } catch (error) { /* Pages from disk may have no storage. */ }
setTheme(themes.includes(stored) ? stored : "system");
theme.hidden = false;
theme.addEventListener("click", () => {
  const next = themes[(themes.indexOf(theme.dataset.now) + 1) % themes.length];
  setTheme(next);
  try { localStorage.setItem("etcbench-theme", next); } catch (error) { /* As above. */ }
});

// Highlights the current section in the contents.
const links = new Map([...document.querySelectorAll("nav a")].map((link) => [link.hash.slice(1), link]));
const seen = new IntersectionObserver((entries) => entries.forEach((entry) => {
  if (!entry.isIntersecting) return;
  links.forEach((link) => link.removeAttribute("aria-current"));
  links.get(entry.target.id)?.setAttribute("aria-current", "true");
}), { rootMargin: "-10% 0px -80% 0px" });
links.forEach((_, id) => { const part = document.getElementById(id); if (part) seen.observe(part); });

// On paper everything is unfolded except the models that were not chosen and long sections that the reader left folded:
// checksums of all captures would fill a hundred pages, and the leaks of a sweep one page per point.
let folded = [];
const long = (part) => part.querySelectorAll(":scope > details").length > 3 || [...part.querySelectorAll("tbody")]
  .some((body) => body.closest("details") === part && body.rows.length > 40);
addEventListener("beforeprint", () => {
  folded = [...document.querySelectorAll("details:not([open])")].filter((part) => !long(part));
  folded.forEach((part) => { part.open = true; });
});
addEventListener("afterprint", () => folded.forEach((part) => { part.open = false; }));

// "/" focuses the filter of all results.
addEventListener("keydown", (event) => {
  if (event.key !== "/" || event.ctrlKey || event.metaKey || /^(input|select|textarea)$/i.test(event.target.tagName)) return;
  const field = document.querySelector("#results input");
  if (field) { event.preventDefault(); field.focus(); field.scrollIntoView({ block: "center" }); }
});
