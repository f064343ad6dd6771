// The table with its filters, the plot that selects, the gallery, and the selected row one by one.

const PAGE = 15, TILES = 24, BINS = 48;
const table = { order: [], page: 0, sort: { column: null, down: false }, ranges: new Map(), group: null, onlyPart: false, gallery: false };
const numbers = columns.filter((column) => !column.values && column !== ids);
const axes = places.map((cells, i) => ({ name: AXES[i], label: `${AXES[i]} (${data.unit})`, cells }));
const plotted = [...numbers, ...axes];
const shownColumns = [...columns.slice(0, ids ? 1 : 0), ...axes, ...columns.slice(ids ? 1 : 0)];
const groups = columns.filter((column) => column.values)
  .flatMap((column) => column.values.map((value, code) => ({ column, code, label: `${column.label}: ${value.name}` })));

function passes(row) {
  for (const [column, [low, high]] of table.ranges) {
    if (!(column.cells[row] >= low && column.cells[row] <= high)) return false;
  }
  if (table.group && table.group.column.cells[row] !== table.group.code) return false;
  return table.onlyPart ? inPart(row) !== null : row < data.sample;
}

/** Choose and order the rows anew, and show what depends on them. */
function applyTable() {
  table.order = [...rowNumbers.keys()].filter(passes);
  const { column, down } = table.sort;
  if (column) {
    const last = (value) => (Number.isNaN(value) ? 1 : 0); // missing values, in either direction
    table.order.sort((a, b) => {
      const [one, other] = [column.cells[a], column.cells[b]];
      return last(one) - last(other) || (down ? other - one : one - other) || a - b;
    });
  }
  table.page = 0;
  const of = table.onlyPart ? rowNumbers.length : data.sample;
  $("table-count").textContent = `${table.order.length.toLocaleString("en")} of ${of.toLocaleString("en")} rows`;
  showFilters();
  showPage();
  drawPlot();
}

const pageSize = () => (table.gallery ? (window.innerWidth < 640 ? TILES / 2 : TILES) : PAGE);
const listed = () => (table.gallery ? table.order.filter((row) => around(row)) : table.order);

function showPage() {
  const rows = listed();
  const pages = Math.max(1, Math.ceil(rows.length / pageSize()));
  table.page = Math.min(Math.max(table.page, 0), pages - 1);
  const some = rows.slice(table.page * pageSize(), (table.page + 1) * pageSize());
  $("table-page").textContent = `page ${table.page + 1} of ${pages}`;
  for (const id of ["table-first", "table-previous"]) $(id).disabled = table.page === 0;
  for (const id of ["table-next", "table-last"]) $(id).disabled = table.page === pages - 1;
  $("live-rows").hidden = table.gallery;
  $("live-gallery").hidden = !table.gallery;
  if (table.gallery) showGallery(some);
  else $("live-body").replaceChildren(...some.map(tableRow));
}

function tableRow(row) {
  const button = element("button", { type: "button", className: "row", textContent: ids ? ids.cells[row] : rowNumbers[row] + 1 });
  button.setAttribute("aria-label", capital(nameOf(row)));
  button.addEventListener("click", () => select(row, "table"));
  const made = element("tr", {}, element("th", { scope: "row" }, button));
  for (const column of ids ? shownColumns.slice(1) : shownColumns) {
    const text = element("td", { textContent: cell(column, row) });
    const tint = column === classes && column.values[column.cells[row]].colour;
    if (tint) {
      const swatch = element("span", { className: "swatch" });
      swatch.style.background = tint;
      text.prepend(swatch);
    }
    made.append(text);
  }
  made.dataset.row = row;
  if (row === selection.row) made.setAttribute("aria-current", "true");
  made.addEventListener("click", (event) => { if (event.target !== button) select(row, "table"); });
  return made;
}

function showGallery(rows) {
  $("live-gallery").replaceChildren(...rows.map((row) => {
    const canvas = element("canvas");
    drawOverlay(canvas, row, 92);
    const button = element("button", { type: "button", className: "tile" }, canvas, element("span", { textContent: capital(nameOf(row)) }));
    if (row === selection.row) button.setAttribute("aria-current", "true");
    button.dataset.row = row;
    button.addEventListener("click", () => select(row, "table"));
    return button;
  }));
  if (!rows.length) $("live-gallery").textContent = "The page holds no voxels of these rows.";
}

/** The section of a row's centroid, its channels added up in colour. */
function drawOverlay(canvas, row, across) {
  const near = around(row);
  const [depth, height, width] = data.voxels.window;
  const [, yUm, xUm] = data.voxelUm || [1, 1, 1];
  const stepX = across / width, stepY = (stepX * yUm) / xUm, section = Math.floor(depth / 2);
  const context = sharp(canvas, across, height * stepY);
  const layers = voxels.channels.filter((channel) => channel.shown)
    .map((channel) => ({ sheet: channel[near.kind], shade: shades(channel), tint: rgb(channel.colour) }));
  const pick = (y, x) => {
    const sum = [0, 0, 0];
    for (const { sheet, shade, tint } of layers) {
      const place = near.at(sheet, section, y, x);
      if (place < 0) return null;
      for (let i = 0; i < 3; i++) sum[i] += (shade[sheet.bytes[place]] * tint[i]) / 255;
    }
    return sum.map((value) => Math.min(255, Math.round(value)));
  };
  drawTile(context, pick, height, width, 0, 0, stepX, stepY);
  strokeMasks(context, near, section, height, width, 0, 0, stepX, stepY);
}

function showFilters() {
  const chip = (text, remove) => {
    const button = element("button", { type: "button", className: "chip", textContent: `${text} ✕` });
    button.setAttribute("aria-label", `Remove the filter ${text}`);
    button.addEventListener("click", () => { remove(); applyTable(); $("table-group").focus(); });
    return button;
  };
  const chips = [...table.ranges].map(([column, [low, high]]) =>
    chip(`${column.label} ${written(low)} to ${written(high)}`, () => table.ranges.delete(column)));
  $("table-filters").replaceChildren(...chips);
  $("table-clear").hidden = !chips.length && !table.group;
  const range = table.ranges.get(plotted[$("plot-x").value]);
  $("plot-from").value = range && Number.isFinite(range[0]) ? Number(range[0].toPrecision(4)) : "";
  $("plot-to").value = range && Number.isFinite(range[1]) ? Number(range[1].toPrecision(4)) : "";
}

// ---- the plot

let plot = null;

const axis = (label, size = 26) => ({
  label, size, stroke: () => colour("--quiet"), grid: { stroke: () => colour("--line"), width: 1 }, ticks: { show: false },
  font: "12px system-ui, sans-serif", labelFont: "12px system-ui, sans-serif", labelSize: 20, labelGap: 0, gap: 4,
});

function extent(cells) {
  let [low, high] = [Infinity, -Infinity];
  for (const value of cells.subarray(0, data.sample)) {
    if (value < low) low = value;
    if (value > high) high = value;
  }
  return low < high ? [low, high] : [low - 0.5, low + 0.5];
}

/** Counts in bins: of all rows, and of those that pass the filters. */
function histogram(column) {
  const [low, high] = extent(column.cells);
  const whole = column.cells.every?.((value) => Number.isInteger(value)) && high - low < BINS;
  const [first, step, bins] = whole ? [low - 0.5, 1, high - low + 1] : [low, (high - low) / BINS, BINS];
  const counts = (rows) => {
    const found = new Array(bins).fill(0);
    for (const row of rows) {
      const bin = Math.floor((column.cells[row] - first) / step);
      if (bin >= 0) found[Math.min(bin, bins - 1)]++;
    }
    return found;
  };
  const middles = Array.from({ length: bins }, (_, i) => first + (i + 0.5) * step);
  const bars = uPlot.paths.bars({ size: [0.92, Infinity] });
  return {
    values: [middles, counts(Array(data.sample).keys()), counts(table.order)],
    series: [{}, { fill: () => colour("--line"), width: 0, paths: bars, points: { show: false } },
      { fill: () => colour("--link"), width: 0, paths: bars, points: { show: false } }],
    scales: { x: { time: false, range: [first, first + bins * step] }, y: { range: (_, __, most) => [0, Math.max(1, most * 1.05)] } },
  };
}

/** A point a row, one series a class; rows that do not pass are pale. */
function scatter(across, up) {
  const rows = [...Array(data.sample).keys()].filter((row) => !Number.isNaN(across.cells[row])).sort((a, b) => across.cells[a] - across.cells[b]);
  const passing = new Set(table.order);
  const tints = classes ? classes.values.map((value) => value.colour || colour("--link")) : [colour("--link")];
  const kinds = [null, ...tints.keys()];
  const kindOf = (row) => (!passing.has(row) ? null : classes ? classes.cells[row] : 0);
  const point = (tint) => ({ paths: () => null, points: { show: true, size: 4, width: 0, fill: tint, stroke: tint } });
  return {
    values: [rows.map((row) => across.cells[row]),
      ...kinds.map((kind) => rows.map((row) => (kindOf(row) === kind && !Number.isNaN(up.cells[row]) ? up.cells[row] : null)))],
    series: [{}, point(colour("--line")), ...tints.map(point)],
    scales: { x: { time: false, range: extent(across.cells) }, y: { range: extent(up.cells) } },
  };
}

function drawPlot() {
  plot?.destroy();
  const across = plotted[$("plot-x").value], up = plotted[$("plot-y").value];
  if (!across) return;
  const kinds = up && classes ? classes.values : [];
  $("plot-legend").replaceChildren(...kinds.map((kind) => {
    const swatch = element("span", { className: "swatch" });
    swatch.style.background = kind.colour || colour("--link");
    return element("span", {}, swatch, kind.name);
  }));
  const { values, series, scales } = up ? scatter(across, up) : histogram(across);
  plot = new uPlot({
    width: $("plot").clientWidth, height: 240, series, scales, legend: { show: false },
    axes: [axis(across.label), axis(up ? up.label : "synapses", 56)],
    cursor: { drag: { x: true, y: Boolean(up), setScale: false }, points: { show: false }, y: Boolean(up) },
    hooks: { setSelect: [(made) => brushed(made, across, up)] },
  }, values, $("plot"));
  const range = table.ranges.get(across), height = table.ranges.get(up);
  if (!range && !height) return;
  const within = (value, scale) => plot.valToPos(value, scale);
  const [left, right] = range ? range.map((value) => Math.min(Math.max(within(value, "x"), 0), plot.over.clientWidth)) : [0, plot.over.clientWidth];
  const [bottom, top] = height ? height.map((value) => Math.min(Math.max(within(value, "y"), 0), plot.over.clientHeight)) : [plot.over.clientHeight, 0];
  plot.setSelect({ left, width: right - left, top, height: bottom - top }, false);
}

function brushed(made, across, up) {
  const { left, width, top, height } = made.select;
  if (width < 2) return;
  table.ranges.set(across, [made.posToVal(left, "x"), made.posToVal(left + width, "x")]);
  if (up) table.ranges.set(up, [made.posToVal(top + height, "y"), made.posToVal(top, "y")]);
  applyTable();
}

function typedRange() {
  const column = plotted[$("plot-x").value];
  const [from, to] = [$("plot-from").value, $("plot-to").value];
  if (from === "" && to === "") table.ranges.delete(column);
  else table.ranges.set(column, [from === "" ? -Infinity : Number(from), to === "" ? Infinity : Number(to)]);
  applyTable();
}

// ---- the selected row

function showDetail(row) {
  $("detail").hidden = row < 0;
  if (row < 0) return;
  $("detail-heading").textContent = capital(nameOf(row));
  const canvas = $("detail-canvas");
  canvas.hidden = !drawSynaptogram(canvas, row, Math.min(560, $("detail").clientWidth - 32));
  canvas.setAttribute("aria-label", `Synaptogram of ${nameOf(row)}: channels from top to bottom, sections from left to right`);
  $("detail-none").hidden = !canvas.hidden;
  $("detail-place").textContent = placeOf(row).map(written).join(", ");
  $("detail-command-line").hidden = !ids || !data.voxels;
  $("detail-command").textContent = ids ? `nd-synapse view ${folder()} --at ${ids.cells[row]}` : "";
  for (const other of document.querySelectorAll("[data-row][aria-current]")) other.removeAttribute("aria-current");
  document.querySelector(`[data-row="${row}"]`)?.setAttribute("aria-current", "true");
}

/** Select a row, and turn to the page of the table that shows it. */
function turnTo(row, from) {
  if (from === "viewer") {
    const at = listed().indexOf(row);
    if (at >= 0) {
      table.page = Math.floor(at / pageSize());
      showPage();
    }
  }
  showDetail(row);
  if (row >= 0 && from !== "contrast") say(`${capital(nameOf(row))} is selected.`);
}

/** Arrows lead from row to row, over the ends of pages as well. */
function arrows(event) {
  const step = { ArrowDown: 1, ArrowUp: -1 }[event.key];
  const here = event.target.closest("[data-row]");
  if (!step || !here) return;
  event.preventDefault();
  const rows = listed();
  const at = rows.indexOf(Number(here.dataset.row)) + step;
  if (at < 0 || at >= rows.length) return;
  if (Math.floor(at / pageSize()) !== table.page) {
    table.page = Math.floor(at / pageSize());
    showPage();
  }
  select(rows[at], "table");
  const next = document.querySelector(`#table [data-row="${rows[at]}"]`);
  (next.querySelector("button") ?? next).focus();
}

function heading(column) {
  const button = element("button", { type: "button", textContent: column.label });
  const made = element("th", { scope: "col" }, button);
  button.addEventListener("click", () => {
    table.sort = { column, down: table.sort.column === column && !table.sort.down };
    for (const other of made.parentNode.children) other.removeAttribute("aria-sort");
    made.setAttribute("aria-sort", table.sort.down ? "descending" : "ascending");
    applyTable();
  });
  return made;
}

function options(list, first) {
  return [...(first ? [element("option", { value: "", textContent: first })] : []),
    ...list.map((one, i) => element("option", { value: i, textContent: one.label }))];
}

function startTable() {
  const named = ids ? [] : [{ label: "row", cells: Float64Array.from(rowNumbers) }];
  $("live-head").append(...[...named, ...shownColumns].map(heading));
  $("plot-x").append(...options(plotted));
  $("plot-y").append(...options(plotted, "number of synapses"));
  const first = plotted.findIndex((column) => column === scores);
  $("plot-x").value = Math.max(first, 0);
  $("table-group").append(...options(groups, "all"));
  $("table-group").closest("label").hidden = !groups.length;
  $("table-group").addEventListener("change", (event) => { table.group = groups[event.target.value] ?? null; applyTable(); });
  for (const id of ["plot-x", "plot-y"]) $(id).addEventListener("change", () => { showFilters(); drawPlot(); });
  for (const id of ["plot-from", "plot-to"]) $(id).addEventListener("change", typedRange);
  $("table-part")?.addEventListener("change", (event) => { table.onlyPart = event.target.checked; applyTable(); });
  $("table-gallery")?.addEventListener("change", (event) => { table.gallery = event.target.checked; table.page = 0; showPage(); });
  const turn = { "table-first": () => 0, "table-previous": () => table.page - 1, "table-next": () => table.page + 1, "table-last": () => Infinity };
  for (const [id, to] of Object.entries(turn)) $(id).addEventListener("click", () => { table.page = to(); showPage(); });
  $("table-clear").addEventListener("click", () => {
    table.ranges.clear();
    table.group = null;
    $("table-group").value = "";
    applyTable();
    $("table-group").focus();
  });
  for (const id of ["detail-copy-place", "detail-copy-command"]) {
    $(id).addEventListener("click", (event) => copy($(event.target.dataset.copies).textContent, event.target));
  }
  $("live-rows").addEventListener("keydown", arrows);
  $("live-gallery").addEventListener("keydown", arrows);
  selection.listeners.push(turnTo);
  $("live-table").hidden = false;
  applyTable();
  let width = $("plot").clientWidth;
  new ResizeObserver(() => {
    if ($("plot").clientWidth !== width) drawPlot();
    width = $("plot").clientWidth;
  }).observe($("plot"));
  matchMedia("(prefers-color-scheme: dark)").addEventListener("change", () => { drawPlot(); showDetail(selection.row); });
}
