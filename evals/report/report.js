"use strict";
// The page is complete without this: it adds tooltips that follow the pointer, and tables that sort by a column.
(() => {
  const tip = document.createElement("div");
  tip.id = "tip";
  tip.hidden = true;
  document.body.append(tip);
  for (const part of document.querySelectorAll("svg .tip")) {
    const title = part.querySelector("title");
    if (!title) continue;
    const said = title.textContent;
    title.remove();
    part.addEventListener("pointermove", (event) => {
      tip.textContent = said;
      tip.hidden = false;
      const x = Math.min(event.clientX + 14, innerWidth - tip.offsetWidth - 8);
      const below = event.clientY + 18;
      const y = below + tip.offsetHeight > innerHeight ? event.clientY - tip.offsetHeight - 10 : below;
      tip.style.transform = `translate(${Math.max(x, 8)}px, ${y}px)`;
    });
    part.addEventListener("pointerleave", () => { tip.hidden = true; });
  }
  // A drawing's name would show as a tooltip over all of it; as a label it stays readable to assistive software.
  for (const image of document.querySelectorAll("svg[role=img]")) {
    const title = image.querySelector(":scope > title");
    const description = image.querySelector(":scope > desc");
    if (!title) continue;
    image.setAttribute("aria-label", title.textContent);
    image.removeAttribute("aria-labelledby");
    if (description) image.setAttribute("aria-describedby", description.id);
    title.remove();
  }
  const filter = document.getElementById("mistakes-task");
  if (filter) {
    filter.parentElement.hidden = false;
    filter.addEventListener("change", () => {
      for (const one of document.querySelectorAll("details[data-task]")) {
        one.hidden = filter.value !== "" && one.dataset.task !== filter.value;
      }
    });
  }
  const value = (row, column) => {
    const cell = row.cells[column];
    return cell.dataset.value === undefined ? cell.textContent.trim() : cell.dataset.value;
  };
  const order = (a, b) => {
    if (a === "" || b === "") return 0;
    return Number.isNaN(Number(a)) || Number.isNaN(Number(b)) ? a.localeCompare(b) : Number(a) - Number(b);
  };
  for (const table of document.querySelectorAll("table.sortable")) {
    const heads = [...table.tHead.rows[0].cells];
    heads.forEach((head, column) => {
      if (!head.textContent.trim() || head.classList.contains("fixed")) return;
      const button = document.createElement("button");
      button.type = "button";
      button.append(...head.childNodes);
      head.append(button);
      button.addEventListener("click", () => {
        const sign = head.getAttribute("aria-sort") === "ascending" ? -1 : 1;
        heads.forEach((other) => other.removeAttribute("aria-sort"));
        head.setAttribute("aria-sort", sign > 0 ? "ascending" : "descending");
        const rows = [...table.tBodies[0].rows];
        // Unknown values stay at the end, whichever way the rest runs.
        rows.sort((a, b) => {
          const [x, y] = [value(a, column), value(b, column)];
          return (x === "") - (y === "") || sign * order(x, y);
        });
        table.tBodies[0].append(...rows);
      });
    });
  }
})();
