// The viewer: a part of the channels through its sections, in colours, with the outlines of the masks.

const view = { section: 0, zoom: 1, y: 0, x: 0, frame: 0, base: null };

const rgb = (hex) => [1, 3, 5].map((from) => parseInt(hex.slice(from, from + 2), 16));

/** Paint the channels of the section into a canvas of one pixel a voxel. */
function paintSection() {
  const [, height, width] = data.voxels.shape;
  view.base = view.base || element("canvas", { width, height });
  const context = view.base.getContext("2d");
  const image = context.createImageData(width, height);
  const layers = voxels.channels.filter((channel) => channel.shown)
    .map((channel) => ({ sheet: channel.part, shade: shades(channel), tint: rgb(channel.colour) }));
  for (let y = 0, to = 0; y < height; y++) {
    for (let x = 0; x < width; x++, to += 4) {
      let red = 0, green = 0, blue = 0;
      for (const { sheet, shade, tint } of layers) {
        const value = shade[sheet.bytes[sheet.at(view.section, y, x)]] / 255;
        red += value * tint[0];
        green += value * tint[1];
        blue += value * tint[2];
      }
      [image.data[to], image.data[to + 1], image.data[to + 2], image.data[to + 3]] = [red, green, blue, 255];
    }
  }
  context.putImageData(image, 0, 0);
}

/** What of the part is seen, in its voxels, and the pixels of the page of a voxel. */
function seen() {
  const [, height, width] = data.voxels.shape;
  const [, yUm, xUm] = data.voxelUm || [1, 1, 1];
  const [tall, wide] = [height / view.zoom, width / view.zoom];
  view.y = Math.min(Math.max(view.y, 0), height - tall);
  view.x = Math.min(Math.max(view.x, 0), width - wide);
  const across = Math.min($("viewer-stage").clientWidth, (0.68 * window.innerHeight * width * xUm) / (height * yUm));
  const stepX = across / wide;
  return { tall, wide, stepX, stepY: (stepX * yUm) / xUm, across, down: (across * height * yUm) / (width * xUm) };
}

function drawViewer() {
  view.frame = 0;
  const { tall, wide, stepX, stepY, across, down } = seen();
  const context = sharp($("viewer-canvas"), across, down);
  $("viewer-canvas").style.touchAction = view.zoom > 1 ? "none" : "pan-y"; // a finger moves the part, else the page
  context.drawImage(view.base, view.x, view.y, wide, tall, 0, 0, across, down);
  const [top, left] = [Math.floor(view.y), Math.floor(view.x)];
  const [rows, breadth] = [Math.min(Math.ceil(tall) + 1, data.voxels.shape[1] - top), Math.min(Math.ceil(wide) + 1, data.voxels.shape[2] - left)];
  if (voxels.partMasks) {
    const at = (sheet, section, y, x) => {
      const [row, column] = [top + y, left + x];
      return row < 0 || column < 0 || row >= data.voxels.shape[1] || column >= data.voxels.shape[2] ? -1 : sheet.at(section, row, column);
    };
    const near = { masks: voxels.partMasks, at };
    strokeMasks(context, near, view.section, rows, breadth, (left - view.x) * stepX, (top - view.y) * stepY, stepX, stepY);
  }
  drawSelected(context, stepX, stepY);
  drawScaleBar(context, stepX, down);
}

/** Corners around the selected synapse, beside its object. */
function drawSelected(context, stepX, stepY) {
  const at = selection.row < 0 ? null : inPart(selection.row);
  if (!at) return;
  const [x, y] = [(at[2] + 0.5 - view.x) * stepX, (at[1] + 0.5 - view.y) * stepY];
  const reach = Math.max(12, (data.voxels.window[2] / 2) * stepX);
  for (const [width, stroke] of [[5, "#000"], [2.5, "#fff"]]) {
    context.beginPath();
    for (const [a, b] of [[-1, -1], [-1, 1], [1, -1], [1, 1]]) {
      context.moveTo(x + a * reach, y + b * reach * 0.5);
      context.lineTo(x + a * reach, y + b * reach);
      context.lineTo(x + a * reach * 0.5, y + b * reach);
    }
    context.lineWidth = width;
    context.strokeStyle = stroke;
    context.setLineDash(at[0] === view.section ? [] : [3, 3]);
    context.stroke();
  }
  context.setLineDash([]);
}

/** A round number of micrometres, about a fifth of the width. */
function drawScaleBar(context, stepX, down) {
  if (!data.voxelUm) return;
  const perUm = stepX / data.voxelUm[2];
  const wanted = $("viewer-stage").clientWidth / 5 / perUm;
  const ten = 10 ** Math.floor(Math.log10(wanted));
  const um = ten * (wanted / ten >= 5 ? 5 : wanted / ten >= 2 ? 2 : 1);
  context.fillStyle = "rgb(0 0 0 / 0.65)";
  context.fillRect(10, down - 38, um * perUm + 16, 30);
  context.fillStyle = "#fff";
  context.fillRect(18, down - 18, um * perUm, 4);
  context.font = "600 13px system-ui, sans-serif";
  context.textAlign = "left";
  context.textBaseline = "alphabetic";
  context.fillText(`${Number(um.toPrecision(1))} µm`, 18, down - 23);
}

/** Draw again, once a frame. */
function redraw(paint) {
  if (paint) paintSection();
  view.frame = view.frame || requestAnimationFrame(drawViewer);
}

function goTo(section) {
  view.section = Math.min(Math.max(section, 0), data.voxels.shape[0] - 1);
  $("viewer-section").value = view.section;
  const text = `section ${data.voxels.start[0] + view.section} (${view.section + 1} of ${data.voxels.shape[0]})`;
  $("viewer-section-name").textContent = text;
  $("viewer-section").setAttribute("aria-valuetext", text);
  redraw(true);
}

function zoomTo(zoom, y = view.y + data.voxels.shape[1] / view.zoom / 2, x = view.x + data.voxels.shape[2] / view.zoom / 2) {
  view.zoom = Math.min(Math.max(zoom, 1), 8);
  view.y = y - data.voxels.shape[1] / view.zoom / 2;
  view.x = x - data.voxels.shape[2] / view.zoom / 2;
  $("viewer-zoom").value = view.zoom;
  redraw(false);
}

/** The rows whose centroid is in the part, by section, then from top to bottom. */
function rowsInPart() {
  view.rows = view.rows || [...places[0]?.keys() ?? []].map((row) => ({ row, at: inPart(row) })).filter(({ at }) => at)
    .sort((a, b) => a.at[0] - b.at[0] || a.at[1] - b.at[1] || a.at[2] - b.at[2]);
  return view.rows;
}

/** The synapse nearest to a place of the part; -1 if none is within a synaptogram's reach. */
function nearest(y, x) {
  const um = data.voxelUm || [1, 1, 1];
  let [best, least] = [-1, um[2] * data.voxels.window[2] / 2];
  for (const { row, at } of rowsInPart()) {
    if (Math.abs(at[0] - view.section) > Math.floor(data.voxels.window[0] / 2)) continue;
    const away = Math.hypot((at[0] - view.section) * um[0], (at[1] + 0.5 - y) * um[1], (at[2] + 0.5 - x) * um[2]);
    if (away < least) [best, least] = [row, away];
  }
  return best;
}

function nextInPart(step) {
  const rows = rowsInPart();
  if (!rows.length) return;
  const now = rows.findIndex(({ row }) => row === selection.row);
  const first = rows.findIndex(({ at }) => at[0] >= view.section);
  const next = now < 0 ? Math.max(first, 0) : (now + step + rows.length) % rows.length;
  select(rows[next].row, "viewer");
}

/** The whole field from above, where the part lies in it, and the selected synapse. */
async function drawMap() {
  const canvas = $("viewer-map");
  const { whole, shape, start, origin, map } = data.voxels;
  if (!map) {
    canvas.parentNode.hidden = true;
    return;
  }
  view.map = view.map || await loaded(map);
  const across = Math.min(260, view.map.width * 2);
  const down = (across * whole[1] * (data.voxelUm?.[1] ?? 1)) / (whole[2] * (data.voxelUm?.[2] ?? 1));
  const context = sharp(canvas, across, down);
  context.drawImage(view.map, 0, 0, across, down);
  const [stepY, stepX] = [down / whole[1], across / whole[2]];
  context.strokeStyle = "#ffb000";
  context.lineWidth = 2;
  context.strokeRect((start[2] - origin[2]) * stepX + 1, (start[1] - origin[1]) * stepY + 1, shape[2] * stepX - 2, shape[1] * stepY - 2);
  if (selection.row < 0 || places.length < 3) return;
  const [, y, x] = placeOf(selection.row);
  for (const [radius, fill] of [[6, "#000"], [4, "#fff"]]) {
    context.beginPath();
    context.arc((x - origin[2] + 0.5) * stepX, (y - origin[1] + 0.5) * stepY, radius, 0, 7);
    context.fillStyle = fill;
    context.fill();
  }
}

function channelControls(channel) {
  const range = (label, key) => {
    const input = element("input", { type: "range", min: 0, max: 255, value: channel[key] });
    input.addEventListener("input", () => {
      channel[key] = Number(input.value);
      redraw(true);
      select(selection.row, "contrast");
    });
    return element("label", {}, element("span", { textContent: label }), input);
  };
  const shown = element("input", { type: "checkbox", checked: channel.shown });
  shown.addEventListener("change", () => { channel.shown = shown.checked; redraw(true); });
  const tint = element("input", { type: "color", value: channel.colour });
  tint.setAttribute("aria-label", `Colour of ${channel.name}`);
  tint.addEventListener("input", () => { channel.colour = tint.value; redraw(true); });
  const box = element("fieldset", {}, element("legend", { textContent: channel.name }));
  box.append(element("label", {}, shown, "show"), tint, range("black", "black"), range("white", "white"));
  return box;
}

function maskControls(mask) {
  const shown = element("input", { type: "checkbox", checked: mask.shown });
  shown.addEventListener("change", () => {
    mask.shown = shown.checked;
    redraw(false);
    select(selection.row, "contrast");
  });
  const swatch = element("span", { className: "swatch" });
  swatch.style.background = mask.colour;
  return element("label", {}, shown, swatch, `outlines of ${mask.name}`);
}

const VIEWER_KEYS = {
  ArrowUp: () => { view.y -= data.voxels.shape[1] / view.zoom / 8; redraw(false); },
  ArrowDown: () => { view.y += data.voxels.shape[1] / view.zoom / 8; redraw(false); },
  ArrowLeft: () => { view.x -= data.voxels.shape[2] / view.zoom / 8; redraw(false); },
  ArrowRight: () => { view.x += data.voxels.shape[2] / view.zoom / 8; redraw(false); },
  PageUp: () => goTo(view.section - 1),
  PageDown: () => goTo(view.section + 1),
  "+": () => zoomTo(view.zoom * 1.5),
  "-": () => zoomTo(view.zoom / 1.5),
  n: () => nextInPart(1),
  p: () => nextInPart(-1),
};

function listenToCanvas(canvas) {
  let drag = null;
  canvas.addEventListener("keydown", (event) => {
    const act = event.ctrlKey || event.metaKey || event.altKey ? null : VIEWER_KEYS[event.key];
    if (!act) return;
    event.preventDefault();
    act();
  });
  canvas.addEventListener("pointerdown", (event) => {
    drag = { x: event.offsetX, y: event.offsetY, viewX: view.x, viewY: view.y, moved: false };
    if (view.zoom > 1) canvas.setPointerCapture(event.pointerId);
  });
  canvas.addEventListener("pointermove", (event) => {
    if (!drag || view.zoom <= 1) return;
    const { stepX, stepY } = seen();
    drag.moved = drag.moved || Math.hypot(event.offsetX - drag.x, event.offsetY - drag.y) > 4;
    view.x = drag.viewX - (event.offsetX - drag.x) / stepX;
    view.y = drag.viewY - (event.offsetY - drag.y) / stepY;
    redraw(false);
  });
  canvas.addEventListener("pointercancel", () => { drag = null; });
  canvas.addEventListener("pointerup", (event) => {
    const moved = drag?.moved;
    drag = null;
    if (moved) return;
    const { stepX, stepY } = seen();
    const row = nearest(view.y + event.offsetY / stepY, view.x + event.offsetX / stepX);
    if (row >= 0) select(row, "viewer");
    else $("viewer-selected").textContent = "No synapse of the table is here.";
  });
}

function showSelected(row, from) {
  if (from === "contrast") return;
  const at = row < 0 ? null : inPart(row);
  if (at) {
    const { tall, wide } = seen();
    const hidden = at[1] < view.y || at[1] >= view.y + tall || at[2] < view.x || at[2] >= view.x + wide;
    if (hidden) zoomTo(view.zoom, at[1], at[2]);
    if (at[0] !== view.section) goTo(at[0]);
  }
  const note = $("viewer-selected");
  note.textContent = row < 0 ? "" : at ? `${capital(nameOf(row))} is selected: ` : `${capital(nameOf(row))} lies outside of this part; the map shows where. `;
  if (row >= 0) note.append(element("a", { href: "#detail", textContent: "its row and synaptogram" }));
  redraw(false);
  drawMap();
}

async function startViewer() {
  await decodeVoxels();
  $("live-viewer").hidden = false;
  $("viewer-section").max = data.voxels.shape[0] - 1;
  $("viewer-section").addEventListener("input", (event) => goTo(Number(event.target.value)));
  $("viewer-zoom").addEventListener("input", (event) => zoomTo(Number(event.target.value)));
  $("viewer-next").addEventListener("click", () => nextInPart(1));
  $("viewer-channels").append(...voxels.channels.map(channelControls));
  $("viewer-masks").append(...voxels.masks.map(maskControls));
  const ranges = AXES.map((axis, i) => `${axis} ${data.voxels.start[i]}–${data.voxels.start[i] + data.voxels.shape[i] - 1}`);
  $("viewer-where").textContent = `A part of the volume (${ranges.join(", ")})`;
  listenToCanvas($("viewer-canvas"));
  goTo(Math.floor(data.voxels.shape[0] / 2));
  drawMap();
  new ResizeObserver(() => redraw(false)).observe($("viewer-stage"));
  selection.listeners.push(showSelected);
}
