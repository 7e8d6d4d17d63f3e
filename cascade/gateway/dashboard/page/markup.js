// Elements are made here and filled by textContent alone: nothing that a model or a client said is ever read as markup.
export const $ = (id) => document.getElementById(id);

export function make(name, text, ...classes) {
  const element = document.createElement(name);
  if (text !== undefined && text !== null) element.textContent = text;
  element.classList.add(...classes);
  return element;
}

export function write(id, text) {
  const element = $(id);
  // A screen reader would announce an unchanged text again, and a selection would be lost.
  if (element.textContent !== text) element.textContent = text;
}

export function show(id, shown) {
  $(id).hidden = !shown;
}

/** Rows of a label, a bar and a figure; `parts` are {label, value, text, kind?}, `whole` is the value of a full bar. */
export function bars(id, parts, whole) {
  const list = make("div", null, "bars");
  for (const { label, value, text, kind } of parts) {
    const track = make("div", null, "track");
    const fill = make("div", null, "fill", ...(kind ? [kind] : []));
    fill.style.width = `${whole > 0 ? Math.min(100, (100 * value) / whole) : 0}%`;
    if (value > 0) track.append(fill);
    const name = make("span", typeof label === "string" ? label : null);
    if (typeof label !== "string") name.append(label);
    list.append(name, track, make("span", text));
  }
  $(id).replaceChildren(list);
}

/** Fills a table, an element or the id of one; each column is {head, number?, minor?}, each row a list of texts or elements. */
export function table(target, columns, rows) {
  const head = make("tr");
  const classes = (column) => [...(column.number ? ["number"] : []), ...(column.minor ? ["minor"] : [])];
  for (const column of columns) {
    const cell = make("th", column.head, ...classes(column));
    cell.scope = "col";
    head.append(cell);
  }
  const body = rows.map((cells) => {
    const row = make("tr");
    cells.forEach((given, i) => {
      const cell = make("td", null, ...classes(columns[i]));
      cell.append(given);
      row.append(cell);
    });
    return row;
  });
  const top = make("thead");
  top.append(head);
  const rest = make("tbody");
  rest.append(...body);
  (typeof target === "string" ? $(target) : target).replaceChildren(top, rest);
}

export function facts(pairs) {
  const list = make("dl", null, "facts");
  for (const [name, value] of pairs) {
    list.append(make("dt", name));
    const definition = make("dd");
    definition.append(value);
    list.append(definition);
  }
  return list;
}

export function pill(text, kind) {
  return make("span", text, "pill", ...(kind ? [kind] : []));
}
